"""The store over one state in memory: one class for blocking callers, one for async ones."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TypeVar, cast

from cnstra.orchestrator.store import Operation
from cnstra.stores.memory.applying import Applying
from cnstra.stores.memory.claiming import Claiming
from cnstra.stores.memory.littering import Littering
from cnstra.stores.memory.mirroring import Mirroring
from cnstra.stores.memory.moments import Moments
from cnstra.stores.memory.operations import MemoryOperation
from cnstra.stores.memory.reading import Reading
from cnstra.stores.memory.retaining import Retaining
from cnstra.stores.memory.sending import Sending
from cnstra.stores.memory.state import Clock, State
from cnstra.stores.memory.submitting import Submitting
from cnstra.stores.memory.supervising import Supervising

T = TypeVar("T")


class MemoryOperations(Submitting, Claiming, Applying, Supervising, Retaining, Reading, Mirroring, Littering, Sending):
    """All operations of a store of runs, as functions of its state."""


class MemoryStore(MemoryOperations, Moments):
    """Runs in memory, for blocking callers. Threads share it; ``now`` tells an aware time, the system's by default."""

    def __init__(self, now: Clock | None = None) -> None:
        self._state = State(now or _system_time)
        self._lock = threading.Lock()

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation, alone."""
        with self._lock:
            return cast("MemoryOperation[T]", operation).carry_out(self._state)

    def close(self) -> None:
        """Nothing is held outside of memory."""


class AsyncMemoryStore(MemoryOperations):
    """The same for async callers. No operation waits for anything, so that none suspends."""

    def __init__(self, now: Clock | None = None) -> None:
        self._store = MemoryStore(now)

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation, alone."""
        return self._store.run(operation)

    async def close(self) -> None:
        """Nothing is held outside of memory."""


def _system_time() -> datetime:
    return datetime.now(UTC)

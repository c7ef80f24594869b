"""Client flows in a lab: over the store in memory, where waiting for a run is driving the lab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.orchestrator.flows import Flow, Flows
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.ports import Entropy, Ring
from cnstra.orchestrator.store import Operation
from cnstra.stores.memory import MemoryStore
from cnstra.testing.clock import LabClock
from cnstra.testing.driving import AsyncDriver, BlockingDriver, Drive

T = TypeVar("T")


class LabWorld:
    """Flows run in the calling thread, and nothing waits for real time."""

    def __init__(self, store: MemoryStore, clock: LabClock, drive: Drive, driver: BlockingDriver) -> None:
        self._store, self._clock, self._drive, self._driver = store, clock, drive, driver

    def run(self, operation: Operation[T], /) -> T:
        return self._store.run(operation)

    def run_in(self, _connection: Any, _operation: Any, /) -> NoReturn:
        raise _no_database()

    def ring(self, rings: Sequence[Ring], /) -> None: ...

    def call(self, blocking: Callable[[], T], /) -> T:
        return blocking()

    def sleep(self, seconds: float, /) -> None: ...

    def monotonic(self) -> float:
        return self._clock.seconds()

    def until_ended(self, run_id: UUID, timeout: float | None) -> None:
        self._driver.drive(self._drive.until_ended(run_id, timeout))


class AsyncLabWorld:
    """The same, awaited."""

    def __init__(self, store: MemoryStore, clock: LabClock, drive: Drive, driver: AsyncDriver) -> None:
        self._store, self._clock, self._drive, self._driver = store, clock, drive, driver

    async def run(self, operation: Operation[T], /) -> T:
        return self._store.run(operation)

    def run_in(self, _connection: Any, _operation: Any, /) -> NoReturn:
        raise _no_database()

    async def ring(self, rings: Sequence[Ring], /) -> None: ...

    async def call(self, blocking: Callable[[], T], /) -> T:
        return blocking()

    async def sleep(self, seconds: float, /) -> None: ...

    def monotonic(self) -> float:
        return self._clock.seconds()

    async def until_ended(self, run_id: UUID, timeout: float | None) -> None:  # noqa: ASYNC109
        await self._driver.drive(self._drive.until_ended(run_id, timeout))


class LabFlows(Flows):
    """All that clients ask for, in a lab."""

    def __init__(self, cns: CNS, store: MemoryStore, world: LabWorld | AsyncLabWorld, entropy: Entropy) -> None:
        super().__init__(cns, store, world, entropy)
        self._lab = world

    def ended(self, run_id: UUID, timeout: float | None) -> Flow[None]:
        """Drive the lab until the run has ended. ``timeout`` is in seconds of the lab's time."""
        yield self._lab.until_ended(run_id, timeout)


def _no_database() -> ConfigurationError:
    return ConfigurationError(
        "connection= was given, and a lab has no database whose transaction it could join; leave it out here, and test "
        "that on a server (cnstra.testing.fixtures)"
    )

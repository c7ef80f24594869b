"""Points in a worker's life at which a test can let it die, freeze, or wait: the boundaries of a hop, above all.

The worker program arms them, in a process of its own; everywhere else reaching a point does nothing. A fault that was
armed happens once. The test is told of it before it happens, over the process's channel.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

POINTS = (
    "doorbell.heard",  # a doorbell came, and was not answered yet
    "doorbell.answered",
    "claim.begin",  # before the claim's transaction
    "claim.commit",  # in it, with all its statements done
    "claim.done",  # it is committed, its reply is not taken in
    "call.begin",  # before the handler
    "call.inside",  # where the handler says so
    "call.stuck",  # where it is to be beyond its max_duration
    "call.reported",  # where it has reported its progress; the number is that of the row
    "call.end",  # it has returned, its settlement is not made
    "keep.begin",  # before a hop's blob is put, where its context is kept elsewhere
    "keep.done",  # it is put, and nothing refers to it yet
    "settle.begin",  # before the settlement's transaction
    "settle.commit",  # in it, with all its statements done
    "settle.done",  # it is committed, its reply is not taken in
    "ring.begin",  # before doorbells are rung for what became ready
    "ring.done",
    "look.begin",  # before the supervisor's look around
    "look.commit",  # in its transaction, with all its statements done
    "renew.begin",  # before the lease's renewal
    "expire.begin",  # before a transaction of the retention
    "expire.commit",  # in it, with all its statements done
    "expire.done",  # it is committed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens at a point: SIGKILL, SIGSTOP, or waiting until the test lets it go on.

    ``activation`` narrows it to what is about an activation of this number, ``after`` lets so many pass before.
    """

    point: str
    action: Literal["kill", "stop", "block"]
    activation: int | None = None
    after: int = 0

    def __post_init__(self) -> None:
        if self.point not in POINTS:
            raise ValueError(f"{self.point!r} is no point; there are {', '.join(POINTS)}")


class Tell(Protocol):
    """Sends to the test."""

    def __call__(self, what: str, **details: Any) -> None: ...


class Points:
    """The points of one process."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._tell: Tell | None = None
        self._lock = threading.Lock()
        self._passed: Counter[Fault] = Counter()
        self._waiting: defaultdict[str, deque[threading.Event]] = defaultdict(deque)

    def listen(self, tell: Tell) -> None:
        """Tell the test of what happens from now on."""
        self._tell = tell

    def arm(self, fault: Fault) -> None:
        """Let a fault happen."""
        with self._lock:
            self._faults.append(fault)

    def armed(self, point: str) -> bool:
        """Whether a fault waits at a point."""
        return any(fault.point == point for fault in self._faults)

    def release(self, point: str) -> None:
        """Let the first that waits at a point go on."""
        with self._lock:
            self._waiting[point].popleft().set()

    def reach(self, point: str, activations: int | Sequence[int] = ()) -> None:
        """A thread is at this point, on behalf of these activations."""
        if not self._faults:
            return
        numbers = [activations] if isinstance(activations, int) else list(activations)
        fault = self._due(point, numbers)
        if fault is None or self._tell is None:
            return
        gate = threading.Event()
        if fault.action == "block":
            with self._lock:
                self._waiting[point].append(gate)
        self._tell("reached", point=point, activations=numbers)
        if fault.action == "block":
            gate.wait()
        else:  # sent to this very thread: sent to the process, it would let this one go on for a moment
            signal.pthread_kill(threading.get_ident(), signal.SIGKILL if fault.action == "kill" else signal.SIGSTOP)

    def _due(self, point: str, numbers: Sequence[int]) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.point == point and (fault.activation is None or fault.activation in numbers):
                    self._passed[fault] += 1
                    if self._passed[fault] > fault.after:
                        self._faults.remove(fault)
                        return fault
        return None


points = Points()
"""Those of this process."""

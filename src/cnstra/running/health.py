"""Whether a worker lives, and whether it takes work: what each of its processes tells of itself, and what that comes to.

A process lives while its main thread turns and the threads that it works with are there. That Postgres or the broker is away,
or that a handler takes long, is no reason against it: an outage must not end all workers. It takes work when it has taken
its lease, has renewed that in time, and was not told to stop. Refuses to read a clock: times come as arguments, in monotonic
seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["starting", "ready", "draining"]

_LEASES = 3
_SHORTEST_BOUND = 5.0
_LONGEST_INTERVAL = 1.0

_VITAL = frozenset(
    {
        *("cnstra-claimer", "cnstra-committer-1", "cnstra-committer-2", "cnstra-lease", "cnstra-supervisor"),
        *("cnstra-loop", "cnstra-watch", "cnstra-progress", "cnstra-retention"),
    }
)
"""The threads without which a process that takes work does none of it, or does not all that it should: they claim, commit,
keep its lease, find what nobody holds; call async handlers, end those that take too long, tell progress, delete what is due. They
end by themselves in a drain only."""


def interval(lease: float) -> float:
    """Seconds from one word of a process to the next; a lease is renewed three times, and each time is told of."""
    return min(_LONGEST_INTERVAL, lease / 3)


def bound(lease: float) -> float:
    """Seconds of silence after which a process is taken for wedged. After one lease its work is others': nothing that it
    still does counts, and what is left is to wait for a while whether it comes back."""
    return max(_LEASES * lease, _SHORTEST_BOUND)


def lost_threads() -> tuple[str, ...]:
    """Those of the threads that this process works with that are not there."""
    return tuple(sorted(_VITAL - {thread.name for thread in threading.enumerate()}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What a process tells of itself. ``renewed`` is how many seconds ago it took its lease or renewed it, None before;
    ``lost`` are its threads that have ended, and should not have.
    """

    state: State
    renewed: float | None = None
    lost: tuple[str, ...] = ()

    def packed(self) -> dict[str, Any]:
        """For a report in JSON."""
        return asdict(self)

    @classmethod
    def unpacked(cls, told: Mapping[str, Any]) -> Pulse:
        """What ``packed`` made."""
        return cls(state=told["state"], renewed=told["renewed"], lost=tuple(told["lost"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as its parent knows it: what it told last, and when. ``pulse`` is None of one that has told nothing yet."""

    number: int
    pulse: Pulse | None = None
    heard: float = 0.0


def against_life(processes: Iterable[Process], *, lease: float, now: float) -> list[str]:
    """Why a worker of these would have to be started again; nothing when it lives."""
    reasons = []
    for process in processes:
        if process.pulse is None:  # it loads its graph, which may take long
            continue
        silence = now - process.heard
        if silence > bound(lease):
            reasons.append(f"process {process.number} has not turned for {silence:.0f} s")
        elif process.pulse.lost:
            reasons.append(f"process {process.number} has lost {', '.join(process.pulse.lost)}")
    return reasons


def against_work(processes: Iterable[Process], *, lease: float, now: float) -> list[str]:
    """Why not all of these take work; nothing when they do."""
    reasons = []
    for process in processes:
        pulse = process.pulse
        if pulse is None or pulse.state == "starting" or pulse.renewed is None:
            reasons.append(f"process {process.number} does not take work yet")
        elif pulse.state == "draining":
            reasons.append(f"process {process.number} drains")
        elif (ago := pulse.renewed + now - process.heard) > lease:
            reasons.append(f"process {process.number} has not renewed its lease for {ago:.0f} s")
    return reasons

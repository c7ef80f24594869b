"""What a test wants to go wrong: which call, and how. Owns the counting; what then happens is the business of the hops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from cnstra.orchestrator.graph import CNS
from cnstra.testing.calls import HandlerCall, Which, check, is_of
from cnstra.testing.errors import LabError

CrashPoint = Literal["before_call", "after_call", "after_commit"]
"""Where a worker dies: before the handler is called; after it, before anything was committed; or after the commit, before the
worker learns of it."""

CRASH_POINTS: tuple[CrashPoint, ...] = get_args(CrashPoint)

Doom = CrashPoint | Literal["stall"]
"""The worker's fate in one call. A worker that stalls is taken for lost, and then goes on where it was."""

When = Callable[[HandlerCall], bool]


@dataclass(frozen=True, slots=True)
class Failing:
    """The call is not made; its try fails with this error, or with what this gives."""

    error: BaseException | Callable[[], BaseException]

    def raised(self) -> BaseException:
        return self.error if isinstance(self.error, BaseException) else self.error()


@dataclass(slots=True, kw_only=True)
class Fault:
    """Strikes ``times`` calls that fit, from the ``nth`` on."""

    which: Which
    when: When | None
    what: Doom | Failing
    nth: int
    times: int
    met: int = 0

    def strikes(self, call: HandlerCall) -> bool:
        """Whether it strikes this call; each call is asked about once."""
        if not is_of(call, self.which) or not (self.when is None or self.when(call)):
            return False
        self.met += 1
        return self.nth <= self.met < self.nth + self.times


class Faults:
    """All faults of a lab. Of several that strike one call, the first that was asked for does."""

    def __init__(self, cns: CNS) -> None:
        self._cns = cns
        self._faults: list[Fault] = []

    def add(self, which: Which, what: Doom | Failing, *, nth: int, times: int, when: When | None) -> None:
        """Raises ``LabError`` for what can never strike."""
        check(self._cns, which)
        for name, number in (("nth", nth), ("times", times)):
            if number < 1:
                raise LabError(f"{name}={number} must be at least 1: calls are counted from 1")
        if what not in CRASH_POINTS and isinstance(what, str) and what != "stall":
            raise LabError(f"a worker cannot crash at {what!r}; the points are {', '.join(CRASH_POINTS)}")
        self._faults.append(Fault(which=which, when=when, what=what, nth=nth, times=times))

    def meet(self, call: HandlerCall) -> Doom | Failing | None:
        """What goes wrong with a call that is about to be made."""
        striking = [fault.what for fault in self._faults if fault.strikes(call)]
        return striking[0] if striking else None

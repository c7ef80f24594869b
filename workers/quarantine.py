"""When this process is to run a poison suspect, and nothing beside it.

An activation that has lost nearly as many workers as make it poisoned is a suspect: the next one that dies with it must
not take others along, nor must it be blamed for a neighbour. So a process empties itself, takes one suspect, and takes
nothing else until that has ended. Emptying takes as long as the running handlers do, and meanwhile nothing is claimed
here; so it is given up after a while, and not tried again too soon. Refuses to read a clock: times come as arguments,
in monotonic seconds.
"""

from __future__ import annotations

PATIENCE = 30.0
"""Seconds that a process may be emptying itself."""

REST = 300.0
"""Seconds before it begins again, after it gave up."""


class Quarantine:
    """Whether this process is in quarantine. Its owner's lock guards it."""

    def __init__(self) -> None:
        self.open = False
        """Nothing but a suspect may be claimed, and that only when nothing else is held."""
        self._occupied = False
        self._until = 0.0
        self._rest_until = 0.0

    def ask(self, now: float) -> bool:
        """A suspect waits: begin, unless it was given up lately. Whether it is open."""
        if not self.open and now >= self._rest_until:
            self.open, self._occupied, self._until = True, False, now + PATIENCE
        return self.open

    def patience(self, now: float) -> float | None:
        """Seconds that are left for emptying; None where nothing limits."""
        return max(self._until - now, 0.0) if self.open and not self._occupied else None

    def claimed(self, suspects: int) -> None:
        """It is occupied; or there was none left to claim, and it ends."""
        self.open = self._occupied = suspects > 0

    def overdue(self, now: float) -> bool:
        """Whether running handlers took too long to end: then it is given up, and rests for a while."""
        given_up = self.patience(now) == 0.0
        if given_up:
            self.open, self._rest_until = False, now + REST
        return given_up

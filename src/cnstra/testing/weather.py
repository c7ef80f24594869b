"""How hops meet and what befalls their workers: calm weather, one hop at a time, or a storm out of a seed."""

from __future__ import annotations

import random
from typing import Protocol

from cnstra.testing.errors import LabError
from cnstra.testing.faults import CRASH_POINTS, Doom

_HANDS = 3
_ROOM = 3
_WEIGHTS = {"before_call": 1, "after_call": 2, "after_commit": 1}
"""How likely each point is: it is the second call of a handler that finds what is wrong with a saga."""


class Weather(Protocol):
    """``hands`` is how many workers there are, ``room`` how much each may hold."""

    hands: int
    room: int

    def choose(self, count: int) -> int:
        """Which of so many turns comes next."""
        ...

    def doom(self) -> Doom | None:
        """What befalls the worker in a call that is about to be made."""
        ...

    def stays(self) -> bool:
        """Whether a single successor goes on in the same worker."""
        ...


class Calm:
    """One worker, one hop at a time; what goes on in the worker comes first, else what is claimed first."""

    hands = 1
    room = 1

    def choose(self, count: int) -> int:  # noqa: ARG002
        return 0

    def doom(self) -> Doom | None:
        return None

    def stays(self) -> bool:
        return True


class Storm:
    """Several workers, whose hops meet in any order, and who die and stall; the same for the same seed."""

    hands = _HANDS
    room = _ROOM

    def __init__(self, seed: int, crash: float, stall: float) -> None:
        for name, chance in (("crash", crash), ("stall", stall)):
            if not 0 <= chance <= 1:
                raise LabError(f"{name}={chance} is no chance; give a number from 0 to 1")
        if crash + stall > 1:
            raise LabError(f"crash={crash} and stall={stall} come to more than 1, the chance of either")
        self._chance = random.Random(seed)
        self._crash = crash
        self._stall = stall
        self.name = f"lab.storm(seed={seed}, crash={crash}, stall={stall})"

    def choose(self, count: int) -> int:
        return self._chance.randrange(count)

    def doom(self) -> Doom | None:
        drawn = self._chance.random()
        if drawn < self._crash:
            return self._chance.choices(CRASH_POINTS, [_WEIGHTS[point] for point in CRASH_POINTS])[0]
        return "stall" if drawn < self._crash + self._stall else None

    def stays(self) -> bool:
        return self._chance.random() < 0.5

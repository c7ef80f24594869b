"""Takes figures that can be compared on a machine that does other things, too.

What is to be compared takes turns: A B C, A B C, and so on; so what slows the machine for a while slows all of them. A
ratio is taken within each round, and quoted as the median over the rounds, with the least and the most.

It knows no engine, no clock and no server: a contestant does its work, times it, checks it, and gives a figure. It refuses
a contestant that is compared with one that does not run, and lets through whatever a contestant raises: a figure of work
that went wrong is none.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


class WrongResult(Exception):
    """A measured run did not come to what it should have: its figure would mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure: how many rounds, and the factor on every size of work."""

    rounds: int
    scale: float
    is_quick: bool = False
    """Only what compares with others."""
    has_peers: bool = True
    """Other engines run, too, each in an environment that is made for it."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; at least one round is needed for a figure")
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale}; it is a factor above 0")

    def size(self, amount: int) -> int:
        """An amount of work, scaled; at least 1."""
        return max(1, round(amount * self.scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure or a ratio should be: at least, or at most, so much."""

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a goal is either at_least= or at_most=")

    def is_met_by(self, value: float) -> bool:
        """Whether a median is good enough."""
        if self.at_least is not None:
            return value >= self.at_least
        assert self.at_most is not None
        return value <= self.at_most


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Another contestant of the race, which a contestant's figure is divided by."""

    other: str
    goal: Goal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to do a race's work."""

    name: str
    says: str
    """A sentence for who reads the figures: what exactly is done."""
    take: Callable[[], float]
    """Does the work once, checks what came of it, and gives the figure. Raises ``WrongResult``."""
    goal: Goal | None = None
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Contestants that take turns, with figures of one unit."""

    name: str
    unit: str
    contestants: tuple[Contestant, ...]
    warm_ups: int = 1
    """Rounds before the first that counts: interpreters and caches need them."""
    most_rounds: int | None = None
    """For what varies little and takes long."""

    def __post_init__(self) -> None:
        names = [contestant.name for contestant in self.contestants]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"race {self.name!r}: its contestants need names of their own, got {names}")
        for contestant in self.contestants:
            for beside in contestant.beside:
                if beside.other not in names or beside.other == contestant.name:
                    raise ValueError(
                        f"race {self.name!r}: {contestant.name!r} is beside {beside.other!r}, which is no other contestant"
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The same figure, round by round."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def least(self) -> float:
        return min(self.samples)

    @property
    def most(self) -> float:
        return max(self.samples)

    def over(self, other: Spread) -> Spread:
        """The ratio within each round."""
        pairs = zip(self.samples, other.samples, strict=True)
        return Spread(samples=tuple(mine / its for mine, its in pairs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A race that was run."""

    race: Race
    figures: dict[str, Spread]
    """By contestant."""

    def ratio(self, contestant: str, other: str) -> Spread:
        """How many times the figure of ``other`` a contestant's figure is."""
        return self.figures[contestant].over(self.figures[other])


def run(race: Race, rounds: int) -> Outcome:
    """Have the contestants take turns. Lets through what one of them raises."""
    rounds = min(rounds, race.most_rounds or rounds)
    taken: dict[str, list[float]] = {contestant.name: [] for contestant in race.contestants}
    for number in range(-race.warm_ups, rounds):
        for contestant in race.contestants:
            gc.collect()  # nobody pays for the garbage of who was before
            figure = contestant.take()
            if number >= 0:
                taken[contestant.name].append(figure)
    return Outcome(race=race, figures={name: Spread(samples=tuple(samples)) for name, samples in taken.items()})

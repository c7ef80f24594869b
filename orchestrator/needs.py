"""What a run's events need to be loaded, beside the run itself: for stores, which load it under the run's lock.

Decides nothing: it says where to look, and how much of it may be needed at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec import Struct, field

from cnstra.orchestrator.machine.events import (
    CancelAsked,
    DeadlineDue,
    Due,
    Event,
    ExpectationDue,
    FailedTry,
    GaveWay,
    Lost,
    Returned,
    Sent,
    Succeeded,
)
from cnstra.orchestrator.machine.records import Group, Path

K = TypeVar("K")


class Needs(Struct):
    """What the events of one run need.

    ``activations`` are those that the events name; ``everything_open`` says that all that is open of the run may be cancelled.
    ``writes`` says that the context is written. ``sent`` are signals from outside, and ``wanted`` how many expectations
    of a collateral, with a key or with any (None), they may feed; ``expectations`` are those whose time may be over. ``letters``
    and ``posted`` count the signals that are expected, by collateral, and by key and collateral. ``count`` is how many events
    there are: each brings at most one member of a group to its end.
    """

    activations: set[int] = field(default_factory=set)
    everything_open: bool = False
    writes: bool = False
    sent: list[Sent] = field(default_factory=list)
    wanted: dict[tuple[str, str | None], int] = field(default_factory=dict)
    expectations: list[int] = field(default_factory=list)
    letters: dict[str, int] = field(default_factory=dict)
    posted: dict[tuple[str, str], int] = field(default_factory=dict)
    count: int = 0


def needs_of(events: Iterable[Event]) -> Needs:
    """What these events of one run need."""
    needs = Needs()
    for event in events:
        needs.count += 1
        match event:
            case Succeeded() | FailedTry() | GaveWay() | Returned() | Lost():
                needs.activations.add(event.fence.activation_id)
            case Due():
                needs.activations.add(event.activation_id)
            case CancelAsked() | DeadlineDue():
                needs.everything_open = True
            case Sent():
                needs.sent.append(event)
                _count(needs.wanted, (event.collateral, event.key))
            case ExpectationDue():
                needs.expectations.append(event.expectation_id)
            case _:
                pass
        if isinstance(event, Succeeded):
            needs.writes = needs.writes or bool(event.changes)
            for expected in event.expected:
                _count(needs.letters, expected.collateral)
                if expected.key is not None:
                    _count(needs.posted, (expected.key, expected.collateral))
    return needs


def _count(counts: dict[K, int], key: K) -> None:
    counts[key] = counts.get(key, 0) + 1


def places_of(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """The groups and members that paths lead through."""
    return {place for path in paths for place in path}


def may_fire(groups: Iterable[Group], needs: Needs) -> Iterator[int]:
    """The gathers of groups that may end by so many events."""
    for group in groups:
        if not group.closed and group.ended + needs.count >= group.size:
            yield from (gathering.activation_id for gathering in group.gatherings)


def may_begin(groups: Iterable[Group], needs: Needs) -> Iterator[tuple[int, int, int]]:
    """The members that may begin by so many events: the group, the first one, and how many."""
    for group in groups:
        left = group.size - group.started
        if left:
            yield group.group_id, group.started, min(left, needs.count)

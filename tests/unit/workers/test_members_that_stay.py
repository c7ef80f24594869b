"""When a worker keeps the members of a scatter: it has threads for them, or there is plenty to do for everybody else."""

from __future__ import annotations

from typing import Any

import pytest

from cnstra import CNS, Axon, collateral, neuron
from cnstra.orchestrator.store import Work
from cnstra.stores.memory import MemoryStore
from cnstra.workers.holding import Holdings
from support.quiet import completed, kept, serving

begin = collateral("begin", int)


class DealerAxon(Axon):
    card = collateral("card", int)


dealer, player = neuron("dealer", DealerAxon), neuron("player", {})


@dealer.dendrite(begin)
def deal(count: int, axon: DealerAxon) -> Any:
    return axon.card.scatter(list(range(count)))


@player.dendrite(DealerAxon.card)
def play(card: int) -> None:
    """Ends its member."""


cns = CNS([dealer, player], name="cards")


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was said of the work for others, scatter by scatter."""
    said: list[bool] = []
    promise = Holdings.promise

    def spied(self: Holdings, work: Work, wanted: int, *, is_async: bool, plenty: bool = False) -> int:
        said.append(plenty)
        return promise(self, work, wanted, is_async=is_async, plenty=plenty)

    monkeypatch.setattr(Holdings, "promise", spied)
    return said


def test_who_could_not_take_all_there_is_knows_of_plenty(plenty: list[bool]) -> None:
    """Whoever else is idle has that to do, and none of these members."""
    store = MemoryStore()
    runs = kept(store, cns, [begin.create_signal(3) for _ in range(100)])
    with serving(store, cns):
        completed(store, runs)
    assert plenty[0] is True


def test_who_has_taken_all_there_is_does_not(plenty: list[bool]) -> None:
    """Others may have nothing to do."""
    store = MemoryStore()
    runs = kept(store, cns, [begin.create_signal(3)])
    with serving(store, cns):
        completed(store, runs)
    assert plenty == [False]

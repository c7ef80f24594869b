"""When a worker keeps the members of a scatter: it has threads for them, or there is plenty to do for everybody else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from cnstra import CNS, Axon, collateral, neuron
from cnstra.orchestrator.machine.events import Succeeded
from cnstra.orchestrator.machine.records import Target
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.store import RunEvent, Work
from cnstra.stores.memory import MemoryStore
from cnstra.workers import holding
from cnstra.workers.holding import Holdings
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.worker import Worker
from support.quiet import NEVER, PATIENCE, Quiet, completed, kept, serving
from support.waiting import eventually

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

    def spied(self: Holdings, work: Work, target: Target, wanted: int, *, is_async: bool, plenty: bool = False) -> int:
        said.append(plenty)
        return promise(self, work, target, wanted, is_async=is_async, plenty=plenty)

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


def test_members_that_come_while_the_worker_stops_go_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not wait for a thread until the time to drain is over: others may take them."""
    committing, commits, sits, rises = (threading.Event() for _ in range(4))

    class Slow(MemoryStore):
        def apply(self, events: Sequence[RunEvent]) -> Any:
            if any(isinstance(one.event, Succeeded) and one.event.scattered for one in events):
                committing.set()
                commits.wait(PATIENCE)
            return super().apply(events)

    def sit(_minutes: int) -> None:
        sits.set()
        rises.wait(PATIENCE)

    dealing, waiting_room, sitting = (
        neuron("dealing", DealerAxon),
        neuron("waiting_room", {}),
        collateral("sitting", int),
    )
    waiting_room.dendrite(sitting)(sit)

    @dealing.dendrite(begin)
    def deal_and_be_followed(count: int, axon: DealerAxon) -> Any:
        kept(store, graph, [sitting.create_signal(1)])
        worker._hops.nudge()
        eventually(worker._hops._holdings.some_wait)
        return axon.card.scatter(list(range(count)))

    graph = CNS([dealing, player, waiting_room], name="cards-and-chairs")
    monkeypatch.setattr(holding, "_MOMENT", 1_000.0)
    store = Slow()
    (dealt,) = kept(store, graph, [begin.create_signal(50)])
    settings = WorkerSettings(threads=1, look_every=NEVER, lease=NEVER, drain=timedelta(seconds=PATIENCE))
    worker = Worker(graph, store, Quiet(), lambda _queues, _rung: Quiet(), settings, SystemEntropy())
    worker.start()
    assert committing.wait(PATIENCE)
    assert sits.wait(PATIENCE)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    eventually(lambda: worker._hops._holdings.wants_none, what="what waited for a thread was given back")
    commits.set()
    try:
        eventually(
            lambda: (
                [row["neuron"] for row in store.run(store.activation_rows(dealt)) if row["status"] == "ready"]
                == ["player"] * 50
            ),
            10,
        )
    finally:
        rises.set()
        stopping.join()

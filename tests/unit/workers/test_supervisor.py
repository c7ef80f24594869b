"""The supervisor's turns, on a store in memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cnstra.orchestrator.errors import DataRefused
from cnstra.orchestrator.store import RunEvent
from cnstra.stores.memory import MemoryStore
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.supervisor import Supervisor
from support.clocks import ManualClock
from support.worlds import LEASE, World, expects, succeeded, target


class RefusesOne(MemoryStore):
    """Cannot hold what becomes of one run."""

    spoiler: UUID | None = None
    refusals = 0

    def apply(self, events: Sequence[RunEvent]) -> Any:
        if any(event.run_id == self.spoiler for event in events):
            self.refusals += 1
            if self.refusals > 100:
                pytest.fail("it asks for ever")  # no Exception: the supervisor carries on after those
            raise DataRefused("apply: it is too large")
        return super().apply(events)


class Silent:
    """A bell that nobody hears."""

    def ring(self, _rings: Any) -> None:
        """Nothing."""


def supervising(store: MemoryStore) -> Supervisor:
    return Supervisor(
        store, Silent(), WorkerSettings(), uuid4, nudge=lambda: None, suspects=lambda: None, retention=lambda: None
    )


def test_g15_a_run_that_cannot_be_carried_on_holds_up_no_others_timers(caplog: pytest.LogCaptureFixture) -> None:
    """All that is due is told to the store at once: what spoils that is found, told of once, and left to itself."""
    clock = ManualClock()
    store = RefusesOne(clock.now)
    world = World(store, clock)
    worker = world.worker()
    timed = [world.submit(target("stock")) for _ in range(3)]
    for work in worker.claim():
        world.settle(succeeded(work, expected=[expects(timeout=timedelta(seconds=5), late=[target("bank")])]))
    clock.advance(5)
    store.spoiler = timed[1]
    supervisor = supervising(store)

    with caplog.at_level(logging.ERROR, logger="cnstra.supervisor"):
        supervisor._fire(world.look(worker))
        supervisor._fire(world.look(worker))

    assert [work.run_id for work in worker.claim()] == [timed[0], timed[2]]
    [told] = [record.getMessage() for record in caplog.records]
    assert str(timed[1]) in told
    assert "activation 2" in told


def test_lost_work_that_cannot_be_taken_back_does_not_keep_the_turn_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much of it there is: timers and deadlines have their turn after it."""
    clock = ManualClock()
    store = RefusesOne(clock.now)
    world = World(store, clock)
    store.spoiler = world.submit("stock")
    world.worker().claim_one()
    clock.advance(LEASE + 1)
    looks = world.worker()
    monkeypatch.setattr("cnstra.workers.supervisor.MOST_PER_LOOK", 1)

    assert world.look(looks).workers_lost
    supervising(store)._take_back()

    assert store.refusals
    assert world.look(looks).workers_lost

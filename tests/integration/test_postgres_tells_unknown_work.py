"""What the doctor is told of work that no worker could run: the same as ``cnstra.runs`` says of its runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.events import Lost
from cnstra.orchestrator.store import RunEvent
from cnstra.stores.postgres.diagnosing import Diagnosing
from support.worlds import GONE, PostgresWorld

PLACE = "archive"


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    world = PostgresWorld(database_url)
    yield world
    world.close()


def _told(world: PostgresWorld) -> set[UUID]:
    """The runs of which the doctor is told."""
    health = world.postgres.run(Diagnosing().health(timedelta(minutes=1)))
    return {run_id for row in health.unknown_work for run_id in row["runs"]}


def _suspect(world: PostgresWorld) -> UUID:
    """A run whose one activation is a poison suspect that lives elsewhere."""
    run_id = world.submit("ship", place=PLACE)
    worker = world.worker(("ship", "order"), places=(PLACE,))
    claimed = worker.claim_one(places=(PLACE,)).fence
    world.apply(RunEvent(run_id=run_id, event=Lost(fence=claimed, failure=GONE, backoff=1.0, suspect_at=1)))
    world.clock.advance(2)
    world.fire(run_id, 1)
    world.store.run(world.store.leave(worker.info.worker))
    return run_id


def test_g1_work_of_a_pin_a_place_or_a_neuron_that_nobody_has_is_told(world: PostgresWorld) -> None:
    """Each of them while a worker serves its queue that lacks just that; and none of it once somebody has everything."""
    suspect = _suspect(world)
    world.worker(("stock", "order"))
    fine = world.submit("stock")
    unknown = {
        suspect,
        world.submit("stock", place=PLACE),
        world.submit("stock", pinned=True, graph_version="v2"),
        world.submit("stock", pinned=True, place=PLACE),
        world.submit("bank"),
    }
    world.clock.advance(2)
    world.set_unknown_aside()
    assert _told(world) == unknown
    assert {run_id for run_id in unknown | {fine} if world.row(run_id)["blocked"] == "unknown"} == unknown
    world.worker(places=(PLACE,), graph_version="v2")
    world.worker(places=(PLACE,))
    assert _told(world) == set()
    assert all(world.row(run_id)["blocked"] is None for run_id in unknown)

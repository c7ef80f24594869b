"""Signals that wait: scheduled with the hop that emits them, ready when their time has come by the store's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cnstra.orchestrator.machine.plans import Verdict
from support.worlds import World, due, failed, succeeded, target

MINUTE = timedelta(minutes=1)


def test_g8_a_signal_with_a_delay_waits_from_the_commit_of_its_hop(world: World) -> None:
    """The run shows as waiting; nobody can claim it a second before its time, and everybody at it."""
    run_id = world.submit("stock")
    world.clock.advance(7)
    worker = world.worker()

    world.apply(succeeded(worker.claim_one(), targets=[target("bank", delay=MINUTE)]))

    assert world.status(run_id) == "waiting"
    waiting = world.activations(run_id)[2]
    assert (waiting["status"], waiting["available_at"]) == ("scheduled", world.clock.now() + MINUTE)
    world.clock.advance(59)
    assert world.look(worker).due == ()
    assert world.worker().claim() == []
    world.clock.advance(1)
    assert world.look(worker).due == ((run_id, 2),)
    world.apply(due(run_id, 2))
    assert world.status(run_id) == "running"
    world.apply(succeeded(world.worker().claim_one()))
    assert world.status(run_id) == "completed"


def test_g8_a_supervisor_that_comes_too_early_fires_nothing(world: World) -> None:
    """Whatever clock it went by: the store's counts, at the settlement that fires the timer."""
    run_id = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one(), targets=[target("bank", delay=MINUTE)]))

    world.clock.advance(59)

    assert world.settle(due(run_id, 2)).verdict is Verdict.VOID
    assert (world.status(run_id), world.activations(run_id)[2]["status"]) == ("waiting", "scheduled")
    world.clock.advance(1)
    assert world.settle(due(run_id, 2)).verdict is Verdict.APPLIED


@pytest.mark.parametrize("seconds", [-3600.0, 0.0])
def test_a_time_that_has_passed_is_now(world: World, seconds: float) -> None:
    """Nothing waits for it, and its doorbell rings with the hop."""
    run_id = world.submit("stock")
    worker = world.worker()
    at = world.clock.now() + timedelta(seconds=seconds)

    batch = world.apply(succeeded(worker.claim_one(), targets=[target("bank", at=at)]))

    assert [ring.activations for ring in batch.rings] == [((run_id, 2),)]
    assert world.worker().claim_one().neuron == "bank"


def test_g8_a_signal_waits_until_a_time(world: World) -> None:
    """Whenever its hop commits; the time is kept as it was given."""
    run_id = world.submit("stock")
    at = world.clock.now() + timedelta(days=400)
    world.clock.advance(50)

    world.apply(succeeded(world.worker().claim_one(), targets=[target("bank", at=at)]))

    assert world.activations(run_id)[2]["available_at"] == at


def test_a_successor_that_waits_is_not_kept_by_the_worker(world: World) -> None:
    """Whatever it asked for: waiting holds no worker. Its sibling that need not wait is kept."""
    run_id = world.submit("stock")
    worker = world.worker()
    targets = [target("bank", here=True, delay=MINUTE), target("ship", here=True, ordinal=1)]

    answer = world.settle(succeeded(worker.claim_one(), targets=targets))

    assert [work.neuron for work in answer.kept] == ["ship"]
    assert {number: row["status"] for number, row in world.activations(run_id).items()} == {
        1: "done",
        2: "scheduled",
        3: "running",
    }


def test_a_timer_keeps_its_run_from_ending(world: World) -> None:
    """While it is pending the run goes on, also where another branch has failed for good; then it fails."""
    run_id = world.submit("stock", "bank")
    worker = world.worker()
    works = worker.claim_by_neuron()
    world.apply(succeeded(works["stock"], targets=[target("ship", delay=MINUTE)]))
    world.apply(failed(works["bank"]))
    assert world.status(run_id) == "waiting"

    world.clock.advance(60)
    world.apply(due(run_id, 3))
    world.apply(succeeded(worker.claim_one()))

    assert world.status(run_id) == "failed"


def test_a_run_may_begin_at_a_time(world: World) -> None:
    """As with a delay; a time that has passed starts it at once."""
    later = world.submit("stock", at=world.clock.now() + MINUTE)
    now = world.submit("stock", at=world.clock.now() - MINUTE)

    assert world.status(later) == "waiting"
    assert world.activations(later)[1]["available_at"] == world.clock.now() + MINUTE
    assert world.status(now) == "running"

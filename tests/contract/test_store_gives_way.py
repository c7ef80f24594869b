"""The store port: a handler's own transaction was undone, and its activation gives way, to run again (G2, G3, G4, G6)."""

from __future__ import annotations

import pytest

from cnstra.orchestrator.machine.fold import CONFLICTS_BEFORE_ALONE
from cnstra.orchestrator.machine.plans import Verdict
from support.worlds import World, bare, failed, gave_way, lost, succeeded, target


def test_what_gives_way_runs_again_after_its_backoff_and_is_no_failed_try(world: World) -> None:
    """The call is on record; what policies are asked with has not grown."""
    run_id = world.submit("stock")
    worker = world.worker()
    assert world.settle(gave_way(worker.claim_one(), backoff=2.0)).verdict is Verdict.APPLIED
    row = world.activations(run_id)[1]
    assert (row["status"], row["tries"], world.status(run_id)) == ("scheduled", 1, "waiting")
    assert world.fire(run_id, 1).verdict is Verdict.VOID

    world.clock.advance(2)
    assert world.fire(run_id, 1).verdict is Verdict.APPLIED
    work = worker.claim_one()

    assert (work.try_number, work.failures, work.crashes, work.idled) == (2, 0, 0, 0.0)
    world.settle(succeeded(work))
    assert world.status(run_id) == "completed"


def test_g6_a_conflict_that_was_undone_is_ready_at_once_and_runs_alone_after_three(world: World) -> None:
    """Nobody else of the run is claimed until it has ended."""
    run_id = world.submit("stock", "bank")
    worker = world.worker()
    works = worker.claim_by_neuron()
    bank, work = works["bank"], works["stock"]
    for _ in range(CONFLICTS_BEFORE_ALONE):
        assert world.settle(gave_way(work)).verdict is Verdict.CONFLICTED
        assert world.activations(run_id)[1]["status"] == "ready"
        found = worker.claim()
        work = found[0] if found else work
    assert found == []  # it waits for the other one

    world.settle(failed(bank, retry_after=0.0))
    alone = worker.claim_one()

    assert alone.neuron == "stock"
    assert world.fire(run_id, 2).verdict is Verdict.APPLIED
    assert worker.claim() == []
    world.settle(succeeded(alone))
    assert worker.claim_one().neuron == "bank"


def test_g4_one_that_had_been_committed_after_all_learns_so(world: World) -> None:
    """Its worker lost the reply: nothing is undone, and it is told of the successor that it holds."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    (kept,) = world.settle(succeeded(work, lambda ctx: ctx.set({"a": 1}), targets=[target("ship", here=True)])).kept

    for backoff in (None, 1.0):
        answer = world.settle(gave_way(work, backoff=backoff))
        assert answer.verdict is Verdict.REPEATED
        assert bare(*answer.kept) == bare(kept)

    assert world.activations(run_id)[1]["status"] == "done"
    assert world.values(run_id) == {"a": 1}


@pytest.mark.parametrize("backoff", [None, 1.0])
def test_g3_g4_one_that_gave_way_is_never_done_by_the_same_claim(world: World, backoff: float | None) -> None:
    """Told twice it gives way once, and a settlement of the claim that comes later is not applied."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    operation = world.store.apply([gave_way(work, backoff=backoff)])

    (answer,) = world.replayed(operation).answers

    assert (answer.verdict, answer.kept) == (Verdict.REPEATED, ())
    assert world.settle(succeeded(work)).verdict is Verdict.REPEATED
    assert world.activations(run_id)[1]["status"] == ("ready" if backoff is None else "scheduled")


@pytest.mark.parametrize("backoff", [None, 1.0])
def test_g3_a_zombie_gives_no_way(world: World, backoff: float | None) -> None:
    """Its claim was taken away: nothing changes."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    world.settle(lost(run_id, work.fence))
    before = world.activations(run_id)

    assert world.settle(gave_way(work, backoff=backoff)).verdict is Verdict.FENCED

    assert world.activations(run_id) == before

"""Stores of runs: somebody cancels, pauses and resumes runs, and deadlines pass."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Compensable
from cnstra.orchestrator.store import RunChoice
from support.worlds import (
    World,
    attempt_due,
    cancel_asked,
    deadline_due,
    failed,
    lost,
    pause_asked,
    resume_asked,
    retry_asked,
    returned,
    succeeded,
    target,
)


def statuses(world: World, run_id: object) -> dict[str, str]:
    """The activations' statuses, by neuron."""
    return {row["neuron"]: row["status"] for row in world.activations(run_id).values()}  # type: ignore[arg-type]


# -- cancel ----------------------------------------------------------------------------------------------------


def test_a_run_that_is_cancelled_ends_at_once_where_nothing_runs(world: World) -> None:
    """What is ready and what is scheduled is cancelled; nothing of it can be claimed, and no timer fires."""
    worker = world.worker()
    run_id = world.submit("stock", target("bank"))
    work = worker.claim_by_neuron()["stock"]
    world.settle(failed(work, retry_after=60.0))
    bank = world.submit("bank")

    assert world.settle(cancel_asked(run_id)).verdict is Verdict.APPLIED

    # "bank" of the first run had been claimed: it may come to its end.
    assert world.status(run_id) == "running"
    assert statuses(world, run_id) == {"stock": "cancelled", "bank": "running"}
    assert world.status(bank) == "running"
    world.clock.advance(61)
    assert not world.look(worker).due


def test_what_runs_while_its_run_is_cancelled_counts_and_starts_nothing(world: World) -> None:
    """Its writes are committed; what it emits is kept as cancelled; then the run has ended."""
    worker = world.worker()
    run_id = world.submit("stock")
    work = worker.claim_one()
    world.settle(cancel_asked(run_id))

    done = succeeded(work, lambda ctx: ctx.set({"a": 1}), targets=[target("bank", here=True)], outputs=["7"])
    applied = world.settle(done)

    assert (applied.verdict, applied.kept) == (Verdict.APPLIED, ())
    assert world.values(run_id) == {"a": 1}
    assert statuses(world, run_id) == {"stock": "done", "bank": "cancelled"}
    row = world.row(run_id)
    assert (row["status"], row["outstanding"], row["ending"]) == ("cancelled", 0, "cancelled")
    assert row["finished_at"] == world.clock.now()
    assert [output["payload"] for output in row["outputs"]] == [7]
    assert worker.claim() == []


def test_a_try_that_does_not_succeed_is_the_last_one_of_a_run_that_is_cancelled(world: World) -> None:
    """Whether it failed, was given back, lost its worker or was in conflict: none is tried again, and each says why."""
    worker = world.worker()
    run_id = world.submit("stock", "bank", "ship", "report")
    works = worker.claim_by_neuron()
    world.settle(cancel_asked(run_id))

    world.apply(failed(works["stock"], retry_after=1.0), returned(works["bank"]), lost(run_id, works["ship"].fence))
    assert world.status(run_id) == "running"
    world.settle(failed(works["report"]))

    assert set(statuses(world, run_id).values()) == {"cancelled"}
    assert world.status(run_id) == "cancelled"
    errors = {row["neuron"]: row["error_type"] for row in world.activations(run_id).values()}
    assert errors == {"stock": "shop.Boom", "bank": None, "ship": "cnstra.WorkerLost", "report": "shop.Boom"}


def test_a_conflict_in_a_run_that_is_cancelled_runs_nothing_again(world: World) -> None:
    """The one that lost the conflict is cancelled, and its write is not there."""
    worker = world.worker()
    run_id = world.submit("stock", "bank")
    works = worker.claim_by_neuron()
    world.settle(cancel_asked(run_id))
    world.settle(succeeded(works["stock"], lambda ctx: ctx.set({"a": 1})))

    assert world.settle(succeeded(works["bank"], lambda ctx: ctx.set({"a": 2}))).verdict is Verdict.CONFLICTED

    assert statuses(world, run_id) == {"stock": "done", "bank": "cancelled"}
    assert (world.status(run_id), world.values(run_id)) == ("cancelled", {"a": 1})


def test_a_run_is_cancelled_once_and_never_again_moved(world: World) -> None:
    """Neither a second cancel, nor a retry, a pause or a resume changes one that has ended, or is ending."""
    worker = world.worker()
    run_id = world.submit("stock")
    work = worker.claim_one()
    world.settle(cancel_asked(run_id))
    asked = (cancel_asked(run_id), cancel_asked(run_id, compensate=True), pause_asked(run_id), retry_asked(run_id))
    for event in asked:
        assert world.settle(event).verdict is Verdict.VOID
    world.settle(succeeded(work))
    before = world.row(run_id)
    for event in (*asked, resume_asked(run_id)):
        assert world.settle(event).verdict is Verdict.VOID
    assert world.row(run_id) == before


def test_a_run_that_waits_for_its_next_attempt_can_be_cancelled(world: World) -> None:
    """The attempt never begins."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(failed(worker.claim_one(), revive_after=5.0))
    assert world.status(run_id) == "waiting"
    world.settle(cancel_asked(run_id))
    assert (world.status(run_id), world.row(run_id)["next_retry_at"]) == ("cancelled", None)
    world.clock.advance(6)
    assert world.look(worker).attempts_due == ()
    assert world.settle(attempt_due(run_id)).verdict is Verdict.VOID


def test_what_an_earlier_event_of_the_batch_begins_is_cancelled_with_the_rest(world: World) -> None:
    """A hop, and an attempt, that come in the same transaction as the cancel, begin nothing after it."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.apply(
        succeeded(worker.claim_one(), targets=[target("bank"), target("ship", delay=timedelta(1), ordinal=1)]),
        cancel_asked(run_id),
    )
    assert statuses(world, run_id) == {"stock": "done", "bank": "cancelled", "ship": "cancelled"}
    assert world.status(run_id) == "cancelled"

    again = world.submit("stock")
    world.settle(failed(worker.claim_one()))
    world.apply(retry_asked(again), cancel_asked(again))
    assert (world.status(again), statuses(world, again)) == ("cancelled", {"stock": "failed"})


# -- pause and resume ------------------------------------------------------------------------------------------


def test_nothing_of_a_paused_run_is_claimed_until_it_is_resumed(world: World) -> None:
    """Neither what was ready, nor what becomes ready meanwhile: by a hop, a timer, a backoff, or a claim given back."""
    worker = world.worker()
    run_id = world.submit("stock", "bank", "ship")
    works = worker.claim_by_neuron()
    late = succeeded(works["stock"], targets=[target("report"), target("stock", delay=timedelta(seconds=2), ordinal=1)])
    world.settle(pause_asked(run_id))
    assert world.status(run_id) == "paused"
    world.apply(late, failed(works["bank"], retry_after=1.0), returned(works["ship"]))
    world.clock.advance(3)
    for due_run, number in world.look(worker).due:
        world.fire(due_run, number)

    assert worker.claim() == []
    assert world.look(worker).unclaimed == ()
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("paused", 4)

    resumed = world.apply(resume_asked(run_id))
    assert sum(len(ring.activations) for ring in resumed.rings) == 4
    assert world.status(run_id) == "running"
    world.apply(*(succeeded(work) for work in worker.claim()))
    assert world.status(run_id) == "completed"


def test_what_runs_while_its_run_is_paused_comes_to_its_end_and_the_run_with_it_when_it_goes_on(world: World) -> None:
    """A paused run stays paused even with nothing left to do; resumed, it completes, or its next attempt is due."""
    worker = world.worker()
    run_id = world.submit("stock")
    work = worker.claim_one()
    world.settle(pause_asked(run_id))
    world.settle(succeeded(work, targets=()))
    assert world.status(run_id) == "paused"
    world.settle(resume_asked(run_id))
    assert world.status(run_id) == "completed"

    waiting = world.submit("stock")
    world.settle(failed(worker.claim_one(), revive_after=5.0))
    due = world.row(waiting)["next_retry_at"]
    world.settle(pause_asked(waiting))
    world.clock.advance(6)
    assert world.look(worker).attempts_due == ()
    assert world.settle(attempt_due(waiting)).verdict is Verdict.VOID
    world.settle(resume_asked(waiting))
    assert (world.status(waiting), world.row(waiting)["next_retry_at"]) == ("waiting", due)
    assert world.look(worker).attempts_due == (waiting,)


def test_a_pause_leaves_who_runs_alone_and_who_is_a_suspect_as_they_were(world: World) -> None:
    """After the resume the one that was to run alone does, and a suspect still is one."""
    worker = world.worker()
    run_id = world.submit("stock", "bank")
    for _ in range(3):
        works = worker.claim_by_neuron()
        world.settle(succeeded(works["stock"], lambda ctx: ctx.set({"a": 1}), targets=[target("stock")]))
        world.settle(succeeded(works["bank"], lambda ctx: ctx.set({"a": 2})))
    world.settle(pause_asked(run_id))
    assert worker.claim() == []
    world.settle(resume_asked(run_id))
    assert [work.neuron for work in worker.claim()] == ["bank"]

    suspect = world.submit("ship")
    for _ in range(4):
        [work] = [work for work in worker.claim() if work.run_id == suspect]
        world.settle(lost(suspect, work.fence, backoff=0.0))
        for due_run, number in world.look(worker).due:
            world.fire(due_run, number)
    assert world.look(worker).suspects
    world.settle(pause_asked(suspect))
    assert worker.claim(suspects=True) == []
    assert not world.store.run(world.store.suspects_wait(worker.request(suspects=True)))
    assert not world.look(worker).suspects
    world.settle(resume_asked(suspect))
    assert [work.run_id for work in worker.claim(suspects=True)] == [suspect]


def test_work_that_nobody_knew_is_not_claimed_while_its_run_is_paused(world: World) -> None:
    """Also when a worker comes that knows it."""
    world.worker(("bank", "order"))
    run_id = world.submit("stock")
    world.clock.advance(2)
    world.set_unknown_aside()
    assert world.row(run_id)["blocked"] == "unknown"
    world.settle(pause_asked(run_id))
    newcomer = world.worker()
    assert newcomer.claim() == []
    world.settle(resume_asked(run_id))
    assert [work.run_id for work in newcomer.claim()] == [run_id]


def test_a_paused_run_can_be_cancelled(world: World) -> None:
    """It ends as if it had not been paused; what still runs may come to its end."""
    worker = world.worker()
    idle, busy = world.submit("stock"), world.submit("bank")
    work = worker.claim_by_neuron()["bank"]
    for run_id in (idle, busy):
        world.settle(pause_asked(run_id))
    world.settle(cancel_asked(idle))
    world.settle(cancel_asked(busy))
    assert world.status(busy) == "running"
    world.settle(succeeded(work, targets=[target("ship")]))
    assert world.status(busy) == "cancelled"


# -- deadlines -------------------------------------------------------------------------------------------------


def test_a_run_that_has_not_ended_at_its_deadline_fails(world: World) -> None:
    """Not before, and once; its error says why; it cannot be retried."""
    worker = world.worker()
    run_id = world.submit("stock", target("bank", delay=timedelta(days=1)), deadline=timedelta(seconds=5))
    assert world.row(run_id)["deadline_at"] == world.clock.now() + timedelta(seconds=5)
    world.clock.advance(4.9)
    assert world.look(worker).deadlines_due == ()
    assert world.settle(deadline_due(run_id)).verdict is Verdict.VOID
    world.clock.advance(0.2)
    assert world.look(worker).deadlines_due == (run_id,)

    assert world.settle(deadline_due(run_id)).verdict is Verdict.APPLIED

    row = world.row(run_id)
    assert (row["status"], row["error_type"]) == ("failed", "cnstra.DeadlineExceeded")
    assert world.look(worker).deadlines_due == ()
    assert worker.claim() == []
    for event in (deadline_due(run_id), retry_asked(run_id)):
        assert world.settle(event).verdict is Verdict.VOID


def test_a_failed_run_whose_deadline_passes_cannot_be_retried_any_more(world: World) -> None:
    """The attempt would be ended at once, and for good. What had failed stays as it is, to be looked at, and cloned."""
    worker = world.worker()
    run_id = world.submit("stock", deadline=timedelta(seconds=5))
    world.settle(failed(worker.claim_one()))

    def retriable() -> list[UUID]:
        return world.store.run(world.store.failed_runs(RunChoice(), None, 10))

    assert retriable() == [run_id]
    before = world.row(run_id)
    world.clock.advance(5)

    assert retriable() == []
    assert world.settle(retry_asked(run_id)).verdict is Verdict.VOID
    assert world.row(run_id) == before


def test_a_compensation_that_failed_is_retried_after_the_deadline_too(world: World) -> None:
    """The deadline is that of the work, and not of its undoing."""
    worker = world.worker()
    run_id = world.submit("stock", "bank", deadline=timedelta(seconds=5))
    works = worker.claim_by_neuron()
    world.settle(succeeded(works["stock"], compensable=Compensable.DONE))
    world.settle(failed(works["bank"]))
    world.settle(failed(worker.claim_one()))
    assert (world.status(run_id), world.row(run_id)["ending"]) == ("failed", "failed")
    world.clock.advance(6)

    assert world.store.run(world.store.failed_runs(RunChoice(), None, 10)) == [run_id]
    assert world.settle(retry_asked(run_id)).verdict is Verdict.APPLIED
    assert world.look(worker).deadlines_due == ()
    world.settle(succeeded(worker.claim_one()))
    assert world.status(run_id) == "compensated"


def test_what_runs_at_the_deadline_comes_to_its_end_first(world: World) -> None:
    """Its writes count; then the run has failed."""
    worker = world.worker()
    run_id = world.submit("stock", deadline=world.clock.now() + timedelta(seconds=5))
    work = worker.claim_one()
    assert work.deadline == world.row(run_id)["deadline_at"]
    world.clock.advance(6)
    world.settle(deadline_due(run_id))
    assert world.status(run_id) == "compensating"
    world.settle(succeeded(work, lambda ctx: ctx.set({"a": 1}), targets=[target("bank")]))
    assert (world.status(run_id), world.values(run_id)) == ("failed", {"a": 1})


def test_the_deadline_of_a_run_that_has_ended_or_is_paused_is_nobodys_business(world: World) -> None:
    """A paused run's passes when it goes on."""
    worker = world.worker()
    done, paused = (world.submit("stock", deadline=timedelta(seconds=5)) for _ in range(2))
    world.settle(pause_asked(paused))
    world.settle(succeeded(worker.claim_one()))
    world.clock.advance(6)
    assert world.look(worker).deadlines_due == ()
    for run_id in (done, paused):
        assert world.settle(deadline_due(run_id)).verdict is Verdict.VOID
    world.settle(resume_asked(paused))
    assert world.look(worker).deadlines_due == (paused,)


def test_renewals_tell_which_claims_are_of_runs_that_end(world: World) -> None:
    """So that a worker can tell its handlers."""
    worker = world.worker()
    ends, goes_on = world.submit("stock"), world.submit("bank")
    worker.claim()
    world.settle(cancel_asked(ends))
    held = world.store.run(world.store.renew(worker.info.worker))
    assert held is not None
    assert {claim.run_id: claim.ending for claim in held} == {ends: True, goes_on: False}


def test_a_pause_and_a_resume_in_one_batch_come_to_what_they_come_to_one_by_one(world: World) -> None:
    """What becomes ready between them is claimable after a resume, and is not after a pause."""
    worker = world.worker()
    run_id = world.submit("stock", "bank", "ship")
    works = worker.claim_by_neuron()
    world.apply(pause_asked(run_id), succeeded(works["stock"], targets=[target("report")]), resume_asked(run_id))
    assert [work.neuron for work in worker.claim()] == ["report"]

    world.settle(pause_asked(run_id))
    world.apply(resume_asked(run_id), succeeded(works["bank"], targets=[target("stock")]), pause_asked(run_id))
    assert (world.status(run_id), worker.claim()) == ("paused", [])
    world.settle(resume_asked(run_id))
    assert [work.neuron for work in worker.claim()] == ["stock"]


@pytest.mark.parametrize("ends", ["succeeds", "fails", "is in conflict"])
@pytest.mark.parametrize("compensate", [False, True])
def test_a_last_settlement_that_is_sent_again_learns_that_it_counted(world: World, ends: str, compensate: bool) -> None:
    """Its reply was lost, and meanwhile its activation was cancelled, or is being undone: nobody is told that it was refused."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=Compensable.UNCERTAIN), "bank")
    works = worker.claim_by_neuron()
    world.settle(succeeded(works["bank"], lambda ctx: ctx.set({"a": 1})))
    world.settle(cancel_asked(run_id, compensate=compensate))
    event = {
        "succeeds": succeeded(works["stock"], compensable=Compensable.UNCERTAIN),
        "fails": failed(works["stock"], compensable=Compensable.UNCERTAIN),
        "is in conflict": succeeded(works["stock"], lambda ctx: ctx.set({"a": 2}), compensable=Compensable.UNCERTAIN),
    }[ends]
    applied = world.store.apply([event])
    assert world.replayed(applied).answers[0].verdict is Verdict.REPEATED
    assert world.status(run_id) == ("compensating" if compensate else "cancelled")


def test_what_waited_for_one_that_ran_alone_goes_on_after_a_pause_in_which_that_has_ended(world: World) -> None:
    """Nobody is left to let it go: the resume does."""
    worker = world.worker()
    run_id = world.submit("stock", "bank")
    for _ in range(3):
        works = worker.claim_by_neuron()
        world.settle(succeeded(works["stock"], lambda ctx: ctx.set({"a": 1}), targets=[target("stock")]))
        world.settle(succeeded(works["bank"], lambda ctx: ctx.set({"a": 2})))
    alone = worker.claim_one()
    assert alone.neuron == "bank"
    world.settle(pause_asked(run_id))
    world.settle(succeeded(alone))
    assert worker.claim() == []
    world.settle(resume_asked(run_id))
    assert [work.neuron for work in worker.claim()] == ["stock"]

"""Stores of runs: what was done is undone, one compensation at a time, the last that finished first (G10)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Compensable, Failure
from support.worlds import (
    Worker,
    World,
    attempt_due,
    cancel_asked,
    context_of,
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

DONE, UNCERTAIN = Compensable.DONE, Compensable.UNCERTAIN
STUCK = Failure(error_type="bank.Closed", error="cannot pay back")


def statuses(world: World, run_id: UUID) -> list[str]:
    """The activations' statuses, in the order of their numbers."""
    return [row["status"] for row in world.activations(run_id).values()]


def bought(world: World, worker: Worker) -> UUID:
    """A run that has reserved and charged, both with a compensation, and is about to ship."""
    run_id = world.submit(target("stock", payload='{"n":1}', compensable=DONE))
    world.settle(
        succeeded(
            worker.claim_one(),
            lambda ctx: ctx.set({"reserved": True}),
            targets=[target("bank", payload='{"n":2}', compensable=DONE)],
            outputs=["17"],
            compensable=DONE,
        )
    )
    world.settle(succeeded(worker.claim_one(), targets=[target("ship")], compensable=DONE))
    return run_id


def test_g10_a_run_that_fails_for_good_is_undone_in_reverse_order_of_finishing(world: World) -> None:
    """One at a time: the second begins when the first has committed; then the run is compensated, and says why."""
    worker = world.worker()
    run_id = bought(world, worker)
    applied = world.apply(failed(worker.claim_one()))
    assert [ring.activations for ring in applied.rings] == [((run_id, 2),)]
    assert (world.status(run_id), statuses(world, run_id)) == ("compensating", ["done", "ready", "failed"])

    [undo] = worker.claim()
    assert (undo.undo, undo.neuron, undo.payload.replace(" ", ""), undo.try_number) == (True, "bank", '{"n":2}', 2)
    assert undo.failures == 0
    assert worker.claim() == []
    world.settle(succeeded(undo))
    assert statuses(world, run_id) == ["ready", "compensated", "failed"]
    [undo] = worker.claim()
    world.settle(succeeded(undo, lambda ctx: ctx.set({"reserved": False})))

    row = world.row(run_id)
    assert (row["status"], row["outstanding"], row["error_type"]) == ("compensated", 0, "shop.Boom")
    assert (row["compensation_error"], row["outputs"]) == (None, [])
    assert statuses(world, run_id) == ["compensated", "compensated", "failed"]
    assert world.values(run_id) == {"reserved": False}
    for event in (retry_asked(run_id), cancel_asked(run_id, compensate=True)):
        assert world.settle(event).verdict is Verdict.VOID


def test_a_compensation_is_told_what_the_call_emitted(world: World) -> None:
    """Heard signals and outputs alike, in their order, each once; and has a key of its own."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=DONE))
    two_hear = [target("bank", payload='"x"'), target("ship", payload='"x"')]
    world.settle(succeeded(worker.claim_one(), targets=two_hear, outputs=["17", "[18]"], compensable=DONE))
    world.apply(*(failed(work) for work in worker.claim()))
    [undo] = worker.claim()
    emitted = [(output.collateral, output.payload) for output in undo.emitted]
    assert emitted == [("order", '"x"'), ("told", "17"), ("told", "[18]")]
    assert len(emitted) == 3
    assert context_of(undo).idempotency_key == f"{run_id}:1:undo"


def test_what_has_no_compensation_stays_done_and_a_run_without_any_fails(world: World) -> None:
    """Nothing is undone that nobody can undo."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(succeeded(worker.claim_one(), targets=[target("bank")]))
    world.settle(failed(worker.claim_one()))
    assert (world.status(run_id), statuses(world, run_id)) == ("failed", ["done", "failed"])


def test_the_code_that_ran_says_whether_there_is_a_compensation(world: World) -> None:
    """A release that brought one counts for what it ran; one that has dropped it, too."""
    worker = world.worker()
    brought = world.submit("stock")
    world.settle(succeeded(worker.claim_one(), targets=[target("bank")], compensable=DONE))
    world.settle(failed(worker.claim_one()))
    assert world.status(brought) == "compensating"
    worker.claim()
    dropped = world.submit(target("stock", compensable=DONE))
    world.settle(succeeded(worker.claim_one(), targets=[target("bank")]))
    world.settle(failed(worker.claim_one()))
    assert world.status(dropped) == "failed"


def test_the_runs_policy_has_its_attempts_before_anything_is_undone(world: World) -> None:
    """While it wants another attempt, what is done stays done."""
    worker = world.worker()
    run_id = bought(world, worker)
    world.settle(failed(worker.claim_one(), revive_after=1.0))
    assert (world.status(run_id), statuses(world, run_id)) == ("waiting", ["done", "done", "failed"])
    world.clock.advance(1)
    world.apply(attempt_due(run_id))
    world.settle(failed(worker.claim_one()))
    assert world.status(run_id) == "compensating"


def test_a_compensation_is_tried_again_and_its_tries_are_told_apart(world: World) -> None:
    """By its own policy; its tries go on counting, and the call that it undoes stays among them."""
    worker = world.worker()
    run_id = bought(world, worker)
    world.settle(failed(worker.claim_one()))
    world.settle(failed(worker.claim_one(), retry_after=5.0, failure=STUCK))
    assert (world.status(run_id), statuses(world, run_id)[1]) == ("compensating", "scheduled")
    world.clock.advance(5)
    world.fire(run_id, 2)
    [undo] = worker.claim()
    assert (undo.undo, undo.try_number, undo.failures) == (True, 3, 1)
    world.settle(lost(run_id, undo.fence, backoff=0.0))
    world.fire(run_id, 2)
    [undo] = worker.claim()
    world.settle(succeeded(undo))
    row = world.activations(run_id)[2]
    assert (row["status"], row["tries"], row["undo"], row["error"]) == ("compensated", 4, True, None)


def test_a_compensation_begins_with_counts_of_its_own(world: World) -> None:
    """What its activation lost and failed before it was done neither poisons it nor uses up its policy."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=DONE))
    world.settle(lost(run_id, worker.claim_one().fence, backoff=0.0))
    world.fire(run_id, 1)
    world.settle(failed(worker.claim_one(), retry_after=4.0, compensable=DONE))
    world.clock.advance(4)
    world.fire(run_id, 1)
    before = worker.claim_one()
    assert (before.crashes, before.failures, before.idled) == (1, 1, 4.0)
    world.settle(succeeded(before, targets=[target("bank")], compensable=DONE))
    world.settle(failed(worker.claim_one()))
    undo = worker.claim_one()
    assert (undo.undo, undo.try_number) == (True, 4)
    assert (undo.crashes, undo.failures, undo.idled, undo.elapsed) == (0, 0, 0.0, 0.0)


def test_one_that_fails_for_good_leaves_the_run_failed_with_both_errors_and_a_retry_takes_it_up(world: World) -> None:
    """What failed first is not run again; what is undone stays undone; the order goes on where it was."""
    worker = world.worker()
    run_id = bought(world, worker)
    world.settle(failed(worker.claim_one()))
    world.settle(failed(worker.claim_one(), failure=STUCK))

    row = world.row(run_id)
    assert (row["status"], row["error"], row["error_type"]) == ("failed", "it broke", "shop.Boom")
    assert (row["compensation_error"], row["compensation_error_type"]) == ("cannot pay back", "bank.Closed")
    assert statuses(world, run_id) == ["done", "failed", "failed"]
    assert worker.claim() == []

    assert world.settle(retry_asked(run_id)).verdict is Verdict.APPLIED
    row = world.row(run_id)
    assert (row["status"], row["attempt"], row["compensation_error"]) == ("compensating", 2, None)
    assert row["error_type"] == "shop.Boom"
    [undo] = worker.claim()
    assert (undo.activation_id, undo.undo, undo.attempt, undo.failures) == (2, True, 2, 0)
    world.settle(succeeded(undo))
    [undo] = worker.claim()
    assert (undo.activation_id, undo.attempt) == (1, 2)
    world.settle(succeeded(undo))
    assert (world.status(run_id), statuses(world, run_id)) == ("compensated", ["compensated", "compensated", "failed"])


def test_the_order_is_that_of_finishing_and_goes_on_over_attempts(world: World) -> None:
    """Not that of starting: what finished in a later attempt is undone first."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=DONE), target("bank", compensable=DONE), "ship")
    works = worker.claim_by_neuron()
    world.settle(succeeded(works["bank"], compensable=DONE))
    world.settle(failed(works["stock"]))
    world.settle(failed(works["ship"]))
    # bank can be undone, so that the run is.
    [undo] = worker.claim()
    assert undo.neuron == "bank"
    world.settle(succeeded(undo))
    assert world.status(run_id) == "compensated"

    again = world.submit(target("stock", compensable=DONE), target("bank", compensable=DONE), "ship")
    works = worker.claim_by_neuron()
    world.apply(failed(works["stock"], revive_after=0.0), succeeded(works["bank"], compensable=DONE))
    world.settle(succeeded(works["ship"]))
    world.apply(attempt_due(again))
    world.settle(succeeded(worker.claim_one(), targets=[target("report")], compensable=DONE))
    world.settle(failed(worker.claim_one()))
    order = []
    while world.status(again) == "compensating":
        [undo] = worker.claim()
        order.append(undo.neuron)
        world.settle(succeeded(undo))
    assert order == ["stock", "bank"]


@pytest.mark.parametrize("ends", ["fails", "is cancelled", "is too late"])
def test_uncertain_tries_are_undone_too_where_the_compensation_says_so(world: World, ends: str) -> None:
    """Those that started and never committed; one that was never called is not."""
    worker = world.worker()
    run_id = world.submit(
        target("stock", compensable=UNCERTAIN),
        target("bank", compensable=DONE),
        target("ship", compensable=UNCERTAIN),
        deadline=timedelta(hours=1),
    )
    works = worker.claim_by_neuron()
    world.settle(returned(works["ship"]))
    if ends == "fails":
        world.settle(failed(works["bank"], compensable=DONE))
        world.settle(failed(works["stock"], compensable=UNCERTAIN))
        world.settle(succeeded(worker.claim_one()))
    else:
        world.settle(failed(works["stock"], retry_after=3.0, compensable=UNCERTAIN))
        world.settle(failed(works["bank"], retry_after=3.0, compensable=DONE))
        world.clock.advance(3_601 if ends == "is too late" else 0)
        late = deadline_due(run_id) if ends == "is too late" else cancel_asked(run_id, compensate=True)
        assert world.settle(late).verdict is Verdict.APPLIED
    [undo] = worker.claim()
    assert (undo.neuron, undo.undo, undo.emitted) == ("stock", True, ())
    world.settle(succeeded(undo))
    assert world.status(run_id) == "compensated"
    assert {"stock": "compensated"}.items() <= {
        row["neuron"]: row["status"] for row in world.activations(run_id).values()
    }.items()


def test_an_uncertain_failure_that_is_tried_again_and_succeeds_is_undone_once(world: World) -> None:
    """A retry of the run takes it out of what is to be undone, until it has finished."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=UNCERTAIN))
    world.settle(failed(worker.claim_one(), revive_after=0.0, compensable=UNCERTAIN))
    world.apply(attempt_due(run_id))
    world.settle(succeeded(worker.claim_one(), targets=[target("bank")], compensable=UNCERTAIN))
    world.settle(failed(worker.claim_one()))
    undone = 0
    while world.status(run_id) == "compensating":
        [undo] = worker.claim()
        undone += 1
        world.settle(succeeded(undo))
    assert (undone, world.status(run_id)) == (1, "compensated")


def test_an_uncertain_failure_is_undone_too_where_the_next_attempt_and_the_deadline_are_due_at_once(
    world: World,
) -> None:
    """The attempt does not begin, so that the failure is the last of its tries."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=UNCERTAIN), deadline=timedelta(hours=1))
    world.settle(failed(worker.claim_one(), revive_after=60.0, compensable=UNCERTAIN))
    world.clock.advance(3_601)
    answers = world.apply(attempt_due(run_id), deadline_due(run_id)).answers
    assert [answer.verdict for answer in answers] == [Verdict.APPLIED, Verdict.APPLIED]
    undo = worker.claim_one()
    assert (undo.neuron, undo.undo) == ("stock", True)
    world.settle(succeeded(undo))
    assert world.status(run_id) == "compensated"


def test_a_cancel_with_compensation_waits_for_what_runs_and_undoes_that_too(world: World) -> None:
    """Its end counts, so that it is the first to be undone."""
    worker = world.worker()
    run_id = bought(world, worker)
    ship = worker.claim_one()
    world.settle(cancel_asked(run_id, compensate=True))
    assert world.status(run_id) == "compensating"
    assert worker.claim() == []
    world.settle(succeeded(ship, targets=[target("report")], compensable=DONE))
    order = []
    while world.status(run_id) == "compensating":
        [undo] = worker.claim()
        order.append(undo.neuron)
        world.settle(succeeded(undo))
    row = world.row(run_id)
    assert (order, row["status"], row["error"]) == (["ship", "bank", "stock"], "compensated", None)


def test_a_cancel_with_compensation_of_a_run_that_has_nothing_to_undo_is_a_cancel(world: World) -> None:
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(cancel_asked(run_id, compensate=True))
    assert (world.status(run_id), worker.claim()) == ("cancelled", [])


def test_undoing_can_be_paused_and_goes_on_where_it_was(world: World) -> None:
    """Also where the pause comes while a compensation runs: the next one waits."""
    worker = world.worker()
    run_id = bought(world, worker)
    world.settle(failed(worker.claim_one()))
    [undo] = worker.claim()
    world.settle(pause_asked(run_id))
    world.settle(succeeded(undo))
    assert (world.status(run_id), worker.claim()) == ("paused", [])
    world.settle(resume_asked(run_id))
    assert world.status(run_id) == "compensating"
    world.settle(pause_asked(run_id))
    assert (world.status(run_id), worker.claim()) == ("paused", [])
    world.settle(resume_asked(run_id))
    world.settle(succeeded(worker.claim_one()))
    assert world.status(run_id) == "compensated"


def test_a_worker_without_the_compensation_leaves_it_for_one_that_has_it(world: World) -> None:
    """Unknown is not failed (G13): it waits, shows as unknown, and goes on when somebody comes that knows it."""
    worker = world.worker()
    without = world.worker(compensations=())
    run_id = bought(world, worker)
    world.settle(failed(worker.claim_one()))
    assert without.claim() == []
    world.store.run(world.store.leave(worker.info.worker))
    world.clock.advance(2)
    world.set_unknown_aside()
    row = world.row(run_id)
    assert (row["status"], row["blocked"]) == ("compensating", "unknown")
    [undo] = world.worker().claim()
    assert undo.undo


def test_a_zombie_commits_neither_over_its_compensation_nor_after_it(world: World) -> None:
    """The call's fence does not hold for the compensation, nor that of an earlier try of it."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=DONE))
    call = worker.claim_one()
    done = succeeded(call, targets=[target("bank")], compensable=DONE)
    world.settle(done)
    world.settle(failed(worker.claim_one()))
    [undo] = worker.claim()
    for event in (done, failed(call), lost(run_id, call.fence)):
        assert world.settle(event).verdict is Verdict.FENCED
    world.settle(lost(run_id, undo.fence, backoff=0.0))
    world.fire(run_id, 1)
    [second] = worker.claim()
    assert world.settle(succeeded(undo)).verdict is Verdict.FENCED
    assert world.settle(succeeded(second)).verdict is Verdict.APPLIED
    assert world.settle(succeeded(second)).verdict is Verdict.REPEATED
    assert world.status(run_id) == "compensated"


def test_the_history_says_when_the_call_wrote_and_when_the_compensation_did(world: World) -> None:
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=DONE))
    began = world.clock.now()
    world.settle(
        succeeded(worker.claim_one(), lambda ctx: ctx.set({"a": 1}), targets=[target("bank")], compensable=DONE)
    )
    world.clock.advance(5)
    world.settle(failed(worker.claim_one()))
    world.settle(succeeded(worker.claim_one(), lambda ctx: ctx.set({"a": 0})))
    history = world.store.run(world.store.history(run_id))
    assert [(row["activation_id"], row["at"], row["written"]) for row in history] == [
        (1, began, {"a": 1}),
        (1, began + timedelta(seconds=5), {"a": 0}),
    ]

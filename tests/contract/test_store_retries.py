"""The store port: backoffs and timers (G8, G12), attempts of a run (G9), and workers that are lost (rule 8)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.ports import door
from cnstra.orchestrator.store import RunChoice
from support.worlds import (
    GONE,
    GRAPH,
    LEASE,
    Worker,
    World,
    attempt_due,
    due,
    failed,
    gave_way,
    lost,
    retry_asked,
    succeeded,
    target,
)


def in_seconds(world: World, seconds: float) -> object:
    return world.clock.now() + timedelta(seconds=seconds)


# -- tries -----------------------------------------------------------------------------------------------------


def test_g12_a_retry_and_its_time_are_in_the_store(world: World) -> None:
    """A failed try leaves its error, its count and the time of the next one, and holds no worker."""
    run_id = world.submit("stock")
    worker = world.worker()
    batch = world.apply(failed(worker.claim_one(), retry_after=3600.0))
    assert batch.rings == ()
    row = world.activations(run_id)[1]
    assert (row["status"], row["tries"], row["worker"]) == ("scheduled", 1, None)
    assert (row["error"], row["error_type"]) == ("it broke", "shop.Boom")
    assert row["available_at"] == in_seconds(world, 3600)
    assert world.status(run_id) == "waiting"
    assert worker.claim() == []
    assert world.store.run(world.store.renew(worker.info.worker)) == []


@pytest.mark.parametrize("early", [60.0, 1.0, 0.001])
def test_g8_a_timer_is_never_early(world: World, early: float) -> None:
    """Told of it before its time by the store's clock, a scheduled activation stays scheduled."""
    run_id = world.submit("stock")
    world.apply(failed(world.worker().claim_one(), retry_after=60.0))
    world.clock.advance(60 - early)
    assert world.fire(run_id, 1).verdict is Verdict.VOID
    assert world.activations(run_id)[1]["status"] == "scheduled"
    world.clock.advance(early)
    batch = world.apply(due(run_id, 1))
    assert batch.answers[0].verdict is Verdict.APPLIED
    assert [ring.activations for ring in batch.rings] == [((run_id, 1),)]
    assert world.worker().claim_one().try_number == 2


def test_g8_a_timer_fires_once(world: World) -> None:
    """However often it is told, by however many supervisors, and also when it is running or has ended."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(failed(worker.claim_one(), retry_after=1.0))
    world.clock.advance(1)
    verdicts = [answer.verdict for answer in world.apply(due(run_id, 1), due(run_id, 1)).answers]
    assert verdicts == [Verdict.APPLIED, Verdict.VOID]
    assert world.fire(run_id, 1).verdict is Verdict.VOID
    work = worker.claim_one()
    assert world.fire(run_id, 1).verdict is Verdict.VOID
    world.apply(succeeded(work))
    assert world.fire(run_id, 1).verdict is Verdict.VOID
    assert world.fire(run_id, 9).verdict is Verdict.VOID


def test_a_delayed_run_begins_when_its_time_has_come(world: World) -> None:
    """The delay of a submit is a timer like any other."""
    run_id = world.submit("stock", "bank", delay=timedelta(seconds=30))
    world.clock.advance(30)
    assert world.look(world.worker()).due == ((run_id, 1), (run_id, 2))
    world.apply(due(run_id, 1), due(run_id, 2))
    assert world.status(run_id) == "running"
    assert len(world.worker().claim()) == 2


@pytest.mark.parametrize(
    ("asked", "waits"), [(-5.0, 0.0), (0.0, 0.0), (float("inf"), 36_525 * 86_400), (1e300, 36_525 * 86_400)]
)
def test_backoffs_are_kept_within_what_a_calendar_has(world: World, asked: float, waits: float) -> None:
    """A policy may ask for any number of seconds; the time that is stored is a time."""
    run_id = world.submit("stock")
    world.apply(failed(world.worker().claim_one(), retry_after=asked))
    assert world.activations(run_id)[1]["available_at"] == in_seconds(world, waits)


# -- attempts --------------------------------------------------------------------------------------------------


def test_a_run_fails_when_its_other_branches_have_ended(world: World) -> None:
    """A failure for good lets the others go on to their end, and their successors, too."""
    run_id = world.submit("stock", "bank")
    worker = world.worker()
    works = worker.claim_by_neuron()
    world.apply(failed(works["stock"]))
    assert world.activations(run_id)[works["stock"].activation_id]["status"] == "failed"
    assert world.status(run_id) == "running"
    world.apply(succeeded(works["bank"], targets=[target("ship")]))
    assert world.status(run_id) == "running"
    world.clock.advance(1)
    world.apply(succeeded(worker.claim_one()))
    run = world.row(run_id)
    assert (run["status"], run["outstanding"], run["finished_at"]) == ("failed", 0, world.clock.now())
    assert (run["error"], run["error_type"]) == ("it broke", "shop.Boom")


def test_the_runs_policy_brings_the_next_attempt(world: World) -> None:
    """Where the run's policy wants another attempt, the run waits for it, and the failed frontier begins anew then."""
    run_id = world.submit("stock", "bank")
    worker = world.worker()
    works = worker.claim_by_neuron()
    world.apply(succeeded(works["bank"], lambda ctx: ctx.set({"paid": True})))
    world.apply(failed(works["stock"], revive_after=60.0))
    run = world.row(run_id)
    assert (run["status"], run["attempt"], run["finished_at"]) == ("waiting", 1, None)
    assert run["next_retry_at"] == in_seconds(world, 60)
    world.clock.advance(59.9)
    assert world.look(worker).attempts_due == ()
    assert world.settle(attempt_due(run_id)).verdict is Verdict.VOID
    world.clock.advance(0.1)
    assert world.look(worker).attempts_due == (run_id,)
    batch = world.apply(attempt_due(run_id))
    assert batch.answers[0].verdict is Verdict.APPLIED
    number = works["stock"].activation_id
    assert [ring.activations for ring in batch.rings] == [((run_id, number),)]
    run = world.row(run_id)
    assert (run["status"], run["attempt"], run["outstanding"]) == ("running", 2, 1)
    assert (run["error"], run["next_retry_at"]) == (None, None)
    work = worker.claim_one()
    assert (work.activation_id, work.attempt, work.failures, work.idled, work.elapsed) == (number, 2, 0, 0.0, 0.0)
    assert (work.try_number, work.run_idled) == (2, 60.0)
    assert work.snapshot.slots["s:paid"].text == "true"


def test_an_attempt_fires_once(world: World) -> None:
    """A supervisor that is late, or one of two, begins no attempt that has begun."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(failed(worker.claim_one(), revive_after=0.0))
    verdicts = [answer.verdict for answer in world.apply(attempt_due(run_id), attempt_due(run_id)).answers]
    assert verdicts == [Verdict.APPLIED, Verdict.VOID]
    assert world.row(run_id)["attempt"] == 2
    world.apply(succeeded(worker.claim_one()))
    assert world.settle(attempt_due(run_id)).verdict is Verdict.VOID
    assert world.status(run_id) == "completed"


def test_one_failure_without_another_attempt_fails_the_run(world: World) -> None:
    """The run's policy is asked at every failure; where it gives up at one, the run has failed."""
    for answers in ([5.0, None], [None, 5.0]):
        run_id = world.submit("stock", "bank")
        for work, revive_after in zip(world.worker().claim(), answers, strict=True):
            world.apply(failed(work, revive_after=revive_after))
        assert world.status(run_id) == "failed"
        assert world.row(run_id)["next_retry_at"] is None


def test_the_longest_wait_of_a_runs_policy_counts(world: World) -> None:
    """Of several failures, each with its own wait, the next attempt waits for all."""
    run_id = world.submit("stock", "bank")
    for work, seconds in zip(world.worker().claim(), (7.0, 3.0), strict=True):
        world.apply(failed(work, revive_after=seconds))
    assert world.row(run_id)["next_retry_at"] == in_seconds(world, 7)


def test_g9_only_a_failed_run_can_be_asked_to_retry(world: World) -> None:
    """A retry is void while the run goes on or waits, and after it has completed."""
    run_id = world.submit("stock", "bank")
    worker = world.worker()

    def ask() -> Verdict:
        return world.settle(retry_asked(run_id)).verdict

    assert ask() is Verdict.VOID
    works = worker.claim_by_neuron()
    world.apply(failed(works["stock"]))
    assert ask() is Verdict.VOID
    world.apply(failed(works["bank"]))
    assert ask() is Verdict.APPLIED
    assert ask() is Verdict.VOID
    assert world.row(run_id)["attempt"] == 2
    world.apply(*(succeeded(work) for work in worker.claim()))
    run = world.row(run_id)
    assert run["status"] == "completed"
    assert ask() is Verdict.VOID
    assert world.row(run_id) == run


@pytest.mark.parametrize("revive_after", [None, 0.0])
def test_a_batch_in_which_a_run_fails_and_is_taken_up_again(world: World, revive_after: float | None) -> None:
    """Events count in their order, also within one batch: the failure ends the attempt, and what follows begins the next."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    again = retry_asked(run_id) if revive_after is None else attempt_due(run_id)
    batch = world.apply(failed(work, revive_after=revive_after), again, again)
    assert [answer.verdict for answer in batch.answers] == [Verdict.APPLIED, Verdict.APPLIED, Verdict.VOID]
    run = world.row(run_id)
    assert (run["status"], run["attempt"], run["outstanding"], run["finished_at"]) == ("running", 2, 1, None)
    assert world.worker().claim_one().try_number == 2


def test_a_retry_takes_up_the_failed_frontier_only(world: World) -> None:
    """What is done stays done, and every activation that failed becomes ready, in the next attempt."""
    run_id = world.submit("stock", target("bank", queue="bank"), "ship")
    worker = world.worker(queues=("default", "bank"))
    works = worker.claim_by_neuron()
    world.apply(succeeded(works["ship"]), failed(works["stock"]), failed(works["bank"]))
    world.clock.advance(5)
    batch = world.apply(retry_asked(run_id))
    assert {ring.door for ring in batch.rings} == {door(GRAPH, "default"), door(GRAPH, "bank")}
    rows = world.activations(run_id)
    assert [rows[number]["status"] for number in (1, 2, 3)] == ["ready", "ready", "done"]
    assert [rows[number]["attempt"] for number in (1, 2, 3)] == [2, 2, 1]
    for number in (1, 2):
        assert rows[number]["available_at"] == world.clock.now()
        assert (rows[number]["error"], rows[number]["finished_at"]) == (None, None)
    run = world.row(run_id)
    assert (run["status"], run["outstanding"], run["finished_at"], run["error"]) == ("running", 2, None, None)
    assert {work.neuron for work in worker.claim()} == {"stock", "bank"}


def test_a_successor_of_the_next_attempt_belongs_to_it(world: World) -> None:
    """An activation's attempt is that of the run when it began."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(failed(worker.claim_one()))
    world.apply(retry_asked(run_id))
    world.apply(succeeded(worker.claim_one(), targets=[target("bank")]))
    assert world.activations(run_id)[2]["attempt"] == 2


def test_g9_a_retry_of_one_attempt_begins_no_later_one(world: World) -> None:
    """Who saw the run fail in one attempt, and asks again when it has failed in the next one, does not retry that one."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(failed(worker.claim_one()))
    assert world.settle(retry_asked(run_id, attempt=2)).verdict is Verdict.VOID
    assert world.settle(retry_asked(run_id, attempt=1)).verdict is Verdict.APPLIED
    world.apply(failed(worker.claim_one()))
    assert world.settle(retry_asked(run_id, attempt=1)).verdict is Verdict.VOID
    assert (world.status(run_id), world.row(run_id)["attempt"]) == ("failed", 2)
    assert world.settle(retry_asked(run_id, attempt=2)).verdict is Verdict.APPLIED


def test_retries_that_meet_begin_one_attempt(world: World) -> None:
    """Two people who ask for a retry at the same time get one."""
    run_id = world.submit("stock")
    world.apply(failed(world.worker().claim_one()))
    batches = world.at_once(*[world.store.apply([retry_asked(run_id)])] * 2)
    assert sorted(batch.answers[0].verdict.name for batch in batches) == ["APPLIED", "VOID"]
    assert world.row(run_id)["attempt"] == 2


def test_failed_runs_are_listed_page_by_page(world: World) -> None:
    """In the order of their ids, of one graph or of all, after a given one."""
    runs = []
    for graph in ("shop", "other", "shop"):
        runs.append(world.submit("stock", graph=graph))
        world.clock.advance(1)
        world.apply(failed(world.worker(graph=graph).claim_one()))
    world.submit("stock")

    def listed(graph: str | None = None, after: UUID | None = None, limit: int = 100) -> list[UUID]:
        return world.store.run(world.store.failed_runs(RunChoice(graph=graph), after, limit))

    assert listed() == runs
    assert listed("shop") == [runs[0], runs[2]]
    assert listed(limit=2) == runs[:2]
    assert listed(after=runs[1]) == runs[2:]


def test_failed_runs_are_listed_by_a_tag(world: World) -> None:
    """By its key, or by its value too; with a graph both must fit; an empty key fits none, rather than all."""
    tags = ({"shop": "berlin"}, {"shop": "wien"}, {})
    runs = [world.submit("stock", tags=of_run) for of_run in tags]
    world.apply(*(failed(work) for work in world.worker().claim()))
    world.submit("stock", tags={"shop": "berlin"})

    def listed(tag: tuple[str, str | None], graph: str | None = None) -> list[UUID]:
        return world.store.run(world.store.failed_runs(RunChoice(graph=graph, tag=tag), None, 100))

    assert listed(("shop", "berlin")) == runs[:1]
    assert listed(("shop", None)) == runs[:2]
    assert listed(("shop", None), "another") == []
    assert listed(("berlin", None)) == []
    assert listed(("", None)) == []


# -- workers that are lost -------------------------------------------------------------------------------------


def lose(world: World, worker: Worker) -> None:
    """Let a worker's lease run out, and tell the machine of its claims, as a supervisor does."""
    world.clock.advance(LEASE + 1)
    for claim in world.store.run(world.store.lost_claims(100)):
        assert claim.worker == worker.info.worker
        world.apply(lost(claim.run_id, claim.fence))


def test_a_lost_workers_activation_is_tried_again_after_a_while(world: World) -> None:
    """A crash counts as a crash, not as a failure, and has its own backoff, whatever the policy says."""
    run_id = world.submit("stock")
    worker = world.worker()
    work = worker.claim_one()
    lose(world, worker)
    row = world.activations(run_id)[1]
    assert (row["status"], row["tries"], row["worker"]) == ("scheduled", 1, None)
    assert row["error_type"] == GONE.error_type
    assert row["available_at"] == in_seconds(world, 1)
    assert world.settle(succeeded(work)).verdict is Verdict.FENCED
    world.clock.advance(1)
    world.fire(run_id, 1)
    again = world.worker().claim_one()
    assert (again.crashes, again.failures, again.try_number, again.fence.epoch) == (1, 0, 2, 2)
    assert world.settle(succeeded(work)).verdict is Verdict.FENCED
    assert world.settle(succeeded(again)).verdict is Verdict.APPLIED
    assert world.status(run_id) == "completed"


def test_crashes_are_counted_up_to_a_retry_of_the_run(world: World) -> None:
    """Who claims next sees how many workers it took with it; a new attempt counts anew."""
    run_id = world.submit("stock")
    for crashes in range(3):
        worker = world.worker()
        assert worker.claim_one().crashes == crashes
        lose(world, worker)
        world.clock.advance(1)
        world.fire(run_id, 1)
    world.apply(failed(world.worker().claim_one()))
    world.apply(retry_asked(run_id))
    work = world.worker().claim_one()
    assert (work.crashes, work.try_number) == (0, 5)


def test_a_lost_workers_kept_successor_is_found_too(world: World) -> None:
    """A successor that stayed with its worker is a claim of that worker like any other."""
    run_id = world.submit("stock")
    worker = world.worker()
    (kept,) = world.settle(succeeded(worker.claim_one(), targets=[target("bank", here=True)])).kept
    world.clock.advance(LEASE + 1)
    (claim,) = world.store.run(world.store.lost_claims(100))
    assert (claim.run_id, claim.fence) == (run_id, kept.fence)


def test_a_settlement_that_comes_before_the_loss_is_applied_counts(world: World) -> None:
    """A worker that comes back in time has ended its activation; the loss finds it done, and changes nothing."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    world.clock.advance(LEASE + 1)
    (claim,) = world.store.run(world.store.lost_claims(100))
    assert world.settle(succeeded(work)).verdict is Verdict.APPLIED
    assert world.settle(lost(claim.run_id, claim.fence)).verdict is Verdict.REPEATED
    row = world.activations(run_id)[1]
    assert (row["status"], row["error"]) == ("done", None)
    assert world.status(run_id) == "completed"


def test_g12_a_policy_counts_anew_in_each_attempt(world: World) -> None:
    """Failures, lost workers, the time since the first try and the time of waiting; the number of the try goes on."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(lost(run_id, worker.claim_one().fence, backoff=0.0))
    world.fire(run_id, 1)
    world.settle(gave_way(worker.claim_one()))
    world.settle(failed(worker.claim_one(), retry_after=4.0))
    world.clock.advance(4)
    world.fire(run_id, 1)
    last = worker.claim_one()
    assert (last.crashes, last.failures, last.idled, last.elapsed) == (1, 1, 4.0, 4.0)
    world.settle(failed(last, revive_after=0.0))
    world.apply(attempt_due(run_id))
    world.settle(failed(worker.claim_one(), retry_after=0.5))
    world.clock.advance(0.5)
    world.fire(run_id, 1)
    again = worker.claim_one()
    assert (again.attempt, again.try_number) == (2, 6)
    assert (again.crashes, again.failures, again.idled, again.elapsed) == (0, 1, 0.5, 0.5)

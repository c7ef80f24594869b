"""Runs that are cancelled, paused, too late and undone, while others change them: what waits for what, and what comes of it.

Operations meet because one is held open, or because all of them wait for a run in a known order; nothing here is left to
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cnstra.orchestrator.footholds import without_footholds
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Compensable
from cnstra.orchestrator.store import AppliedBatch, Operation, RunEvent
from support.waiting import eventually
from support.worlds import (
    PostgresWorld,
    Threads,
    Worker,
    attempt_due,
    cancel_asked,
    deadline_due,
    due,
    failed,
    lost,
    pause_asked,
    resume_asked,
    retry_asked,
    succeeded,
    target,
)

DONE = Compensable.DONE


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    postgres = PostgresWorld(database_url)
    yield postgres
    postgres.close()


def applying(world: PostgresWorld, *events: RunEvent) -> Operation[AppliedBatch]:
    """The settlements of workers that know nothing of the run: they lock it, and look."""
    return world.store.apply(without_footholds(events))


def verdicts(world: PostgresWorld, run_id: UUID, *events: RunEvent) -> list[Verdict]:
    """What becomes of events, each of its own transaction, that wait for the run in this order."""
    with world.in_line(run_id, *(applying(world, event) for event in events)) as threads:
        pass
    return [batch.answers[0].verdict for batch in threads.results()]


def statuses(world: PostgresWorld, run_id: UUID) -> list[str]:
    return [row["status"] for row in world.activations(run_id).values()]


def waits(world: PostgresWorld, *events: RunEvent) -> Threads:
    """Apply events on a thread, which waits for somebody's locks."""
    threads = Threads([lambda: world.apply(*events)])
    eventually(world.waiting, what="it waits for what another transaction has locked")
    return threads


# -- cancel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compensate", [False, True])
def test_a_cancel_waits_for_a_claim_and_finds_it_running(world: PostgresWorld, compensate: bool) -> None:
    """What is being claimed is not cancelled as well: it is running, comes to its end, and nothing follows."""
    worker = world.worker()
    run_id = world.submit("stock", "bank")
    with world.under_way(world.store.claim(worker.request(1))) as [work]:
        threads = waits(world, cancel_asked(run_id, compensate=compensate))
    threads.results()
    assert sorted(statuses(world, run_id)) == ["cancelled", "running"]
    row = world.row(run_id)
    assert (row["status"], row["outstanding"]) == ("compensating" if compensate else "running", 1)
    assert world.settle(succeeded(work, targets=[target("ship")])).verdict is Verdict.APPLIED
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("cancelled", 0)


def test_a_claim_passes_over_what_is_being_cancelled(world: PostgresWorld) -> None:
    """It waits for nothing, and gets what is not; after the cancel there is nothing to claim."""
    worker = world.worker()
    cancelled, free = world.submit("stock", "bank"), world.submit("ship")
    with world.under_way(applying(world, cancel_asked(cancelled))):
        assert [work.run_id for work in worker.claim()] == [free]
    assert worker.claim() == []
    assert statuses(world, cancelled) == ["cancelled", "cancelled"]


def test_a_settlement_before_a_cancel_counts_and_what_it_started_is_cancelled(world: PostgresWorld) -> None:
    """The cancel, let in second, sees the successors that were committed while it waited."""
    worker = world.worker()
    run_id = world.submit("stock", "bank")
    works = worker.claim_by_neuron()
    world.settle(succeeded(works["bank"]))
    goes_on = succeeded(works["stock"], targets=[target("ship"), target("bank", delay=timedelta(1), ordinal=1)])
    assert verdicts(world, run_id, goes_on, cancel_asked(run_id)) == [Verdict.APPLIED] * 2
    assert statuses(world, run_id) == ["done", "done", "cancelled", "cancelled"]
    assert (world.status(run_id), worker.claim()) == ("cancelled", [])


def test_a_settlement_after_a_cancel_counts_and_starts_nothing(world: PostgresWorld) -> None:
    """The settlement, let in second, sees the cancel that was committed while it waited."""
    worker = world.worker()
    run_id = world.submit("stock")
    goes_on = succeeded(worker.claim_one(), targets=[target("ship", here=True)])
    assert verdicts(world, run_id, cancel_asked(run_id), goes_on) == [Verdict.APPLIED] * 2
    assert (statuses(world, run_id), world.status(run_id)) == (["done", "cancelled"], "cancelled")


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_of_two_cancels_one_counts(world: PostgresWorld, first: bool, second: bool) -> None:
    """The first that is let in, whichever kind it is: nothing is undone twice, or after it was said that nothing would be."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=DONE))
    world.settle(succeeded(worker.claim_one(), targets=[target("bank")], compensable=DONE))
    asked = [cancel_asked(run_id, compensate=kind) for kind in (first, second)]
    assert verdicts(world, run_id, *asked) == [Verdict.APPLIED, Verdict.VOID]
    assert world.status(run_id) == ("compensating" if first else "cancelled")
    assert statuses(world, run_id) == ["ready" if first else "done", "cancelled"]


def test_a_cancel_and_the_attempt_that_it_meets(world: PostgresWorld) -> None:
    """Whether the next attempt begins before the cancel or not, nothing of it is claimed after."""
    worker = world.worker()
    for order in (1, -1):
        run_id = world.submit("stock", "bank")
        world.apply(*(failed(work) for work in worker.claim()))
        events = [retry_asked(run_id), cancel_asked(run_id)][::order]
        expected = [Verdict.APPLIED, Verdict.APPLIED] if order == 1 else [Verdict.VOID, Verdict.APPLIED]
        assert verdicts(world, run_id, *events) == expected
        assert worker.claim() == [] if order == 1 else len(worker.claim()) == 2


# -- pause ---------------------------------------------------------------------------------------------------------


def test_a_pause_waits_for_a_claim_and_holds_the_rest(world: PostgresWorld) -> None:
    """What is being claimed runs on; what it starts is held."""
    worker = world.worker()
    run_id = world.submit("stock", "bank")
    with world.under_way(world.store.claim(worker.request(1))) as [work]:
        threads = waits(world, pause_asked(run_id))
    threads.results()
    assert (world.status(run_id), worker.claim()) == ("paused", [])
    world.settle(succeeded(work, targets=[target("ship")]))
    assert worker.claim() == []
    world.settle(resume_asked(run_id))
    assert len(worker.claim()) == 2


def test_a_claim_passes_over_what_is_being_paused(world: PostgresWorld) -> None:
    worker = world.worker()
    paused, free = world.submit("stock"), world.submit("ship")
    with world.under_way(applying(world, pause_asked(paused))):
        assert [work.run_id for work in worker.claim()] == [free]
    assert worker.claim() == []


def _unknown(world: PostgresWorld) -> UUID:
    """A run of which nobody knows the only activation, which was set aside."""
    world.worker(("bank", "order"))
    run_id = world.submit("stock")
    world.clock.advance(2)
    world.set_unknown_aside()
    assert world.row(run_id)["blocked"] == "unknown"
    return run_id


def _is_held(world: PostgresWorld, run_id: UUID, knows: Worker) -> None:
    """Nothing of the run is claimed until it is resumed; then everything."""
    assert (world.status(run_id), knows.claim()) == ("paused", [])
    world.settle(resume_asked(run_id))
    assert [work.run_id for work in knows.claim()] == [run_id]


def test_a_pause_that_meets_a_worker_that_comes_holds_what_it_readmits(world: PostgresWorld) -> None:
    """It waits for the newcomer, and finds the row as that leaves it."""
    run_id = _unknown(world)
    newcomer = world.worker()
    info = newcomer.info
    with world.connect() as connection:  # as before it came
        connection.execute("update cnstra.activation set blocked = 'unknown'")
    with world.under_way(world.store.readmit(info)):
        threads = waits(world, pause_asked(run_id))
    threads.results()
    _is_held(world, run_id, newcomer)


def test_a_worker_that_comes_while_a_run_is_paused_readmits_nothing_of_it(world: PostgresWorld) -> None:
    """The other way round: the newcomer waits, and what it waited for is not unknown any more."""
    run_id = _unknown(world)
    with world.under_way(applying(world, pause_asked(run_id))):
        threads = Threads([world.worker])
        eventually(world.waiting, what="the newcomer waits for the pause")
    [newcomer] = threads.results()
    _is_held(world, run_id, newcomer)


def test_a_pause_that_meets_work_being_set_aside_holds_it(world: PostgresWorld) -> None:
    """Else a newcomer that knows it would let it loose while its run is paused."""
    world.worker(("bank", "order"))
    run_id = world.submit("stock")
    world.clock.advance(2)
    with world.under_way(world.store.set_unknown_aside(timedelta(seconds=1), 100)) as aside:
        assert aside == 1
        threads = waits(world, pause_asked(run_id))
    threads.results()
    _is_held(world, run_id, world.worker())


def test_what_is_being_paused_is_not_set_aside(world: PostgresWorld) -> None:
    """The sweep passes over it."""
    world.worker(("bank", "order"))
    run_id = world.submit("stock")
    world.clock.advance(2)
    with world.under_way(applying(world, pause_asked(run_id))):
        assert world.store.run(world.store.set_unknown_aside(timedelta(seconds=1), 100)) == 0
    _is_held(world, run_id, world.worker())


def test_a_settlement_and_a_pause_hold_what_the_settlement_started(world: PostgresWorld) -> None:
    """In both orders."""
    worker = world.worker()
    for order in (1, -1):
        run_id = world.submit("stock")
        goes_on = succeeded(worker.claim_one(), targets=[target("bank", here=True)] if order < 0 else [target("bank")])
        assert verdicts(world, run_id, *[goes_on, pause_asked(run_id)][::order]) == [Verdict.APPLIED] * 2
        assert (world.status(run_id), worker.claim()) == ("paused", [])
        assert world.activations(run_id)[2]["status"] == "ready"


# -- deadlines -----------------------------------------------------------------------------------------------------


def test_a_deadline_passes_over_a_run_that_is_being_settled(world: PostgresWorld) -> None:
    """The sweep waits for nobody: others' deadlines pass, and this one's at the next look."""
    worker = world.worker()
    busy, idle = (world.submit("stock", deadline=timedelta(seconds=5)) for _ in range(2))
    works = {work.run_id: work for work in worker.claim()}
    world.clock.advance(6)
    with world.under_way(applying(world, succeeded(works[busy], targets=[target("bank")]))):
        answers = world.apply(deadline_due(busy), deadline_due(idle), due(idle, 1), attempt_due(busy)).answers
        assert [answer.verdict for answer in answers] == [Verdict.VOID, Verdict.APPLIED, Verdict.VOID, Verdict.VOID]
    assert world.status(busy) == "running"
    assert world.look(worker).deadlines_due == (busy,)
    assert world.settle(deadline_due(busy)).verdict is Verdict.APPLIED
    assert (world.status(busy), statuses(world, busy)) == ("failed", ["done", "cancelled"])


def test_a_deadline_waits_for_a_claim_and_finds_it_running(world: PostgresWorld) -> None:
    """As a cancel does: a claim holds no run, so that the sweep does not pass it over."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=DONE), deadline=timedelta(seconds=5))
    world.clock.advance(6)
    with world.under_way(world.store.claim(worker.request())) as [work]:
        threads = waits(world, deadline_due(run_id))
    threads.results()
    assert (world.status(run_id), statuses(world, run_id)) == ("compensating", ["running"])
    world.settle(succeeded(work, compensable=DONE))
    assert worker.claim_one().undo


# -- undoing -------------------------------------------------------------------------------------------------------


def _drains(world: PostgresWorld, worker: Worker, *neurons: str) -> tuple[UUID, dict[str, Any]]:
    """A run that is to be undone once these have come to their end."""
    run_id = world.submit(*(target(name, compensable=DONE) for name in neurons))
    works = worker.claim_by_neuron()
    world.settle(cancel_asked(run_id, compensate=True))
    return run_id, works


def test_the_last_two_that_drain_begin_one_compensation(world: PostgresWorld) -> None:
    """Whoever comes second sees that nothing runs any more; the first one's end is undone after its own."""
    worker = world.worker()
    run_id, works = _drains(world, worker, "stock", "bank")
    ends = [succeeded(works[name], compensable=DONE) for name in ("stock", "bank")]
    assert verdicts(world, run_id, *ends) == [Verdict.APPLIED] * 2
    assert (world.row(run_id)["outstanding"], statuses(world, run_id)) == (1, ["done", "ready"])
    order = []
    while world.status(run_id) == "compensating":
        work = worker.claim_one()
        order.append(work.neuron)
        world.settle(succeeded(work))
    assert order == ["bank", "stock"]


@pytest.mark.parametrize("zombie_first", [False, True])
def test_the_end_of_the_last_that_drains_and_the_loss_of_its_worker_begin_undoing_once(
    world: PostgresWorld, zombie_first: bool
) -> None:
    """One of them counts: either it is done and undone, or it was never done, and nothing is."""
    worker = world.worker()
    run_id, works = _drains(world, worker, "stock")
    work = works["stock"]
    ends = [lost(run_id, work.fence), succeeded(work, compensable=DONE)]
    found = verdicts(world, run_id, *(reversed(ends) if zombie_first else ends))
    assert found == [Verdict.APPLIED, Verdict.REPEATED if zombie_first else Verdict.FENCED]
    assert (world.status(run_id), statuses(world, run_id)) == (
        ("compensating", ["ready"]) if zombie_first else ("cancelled", ["cancelled"])
    )


@pytest.mark.parametrize("zombie_first", [False, True])
def test_a_compensation_and_the_loss_of_its_worker_move_the_run_once(world: PostgresWorld, zombie_first: bool) -> None:
    """It has committed, and the next one begins; or it is tried again, and its first worker commits nothing."""
    worker = world.worker()
    run_id, works = _drains(world, worker, "stock", "bank")
    world.apply(*(succeeded(works[name], compensable=DONE) for name in ("stock", "bank")))
    undo = worker.claim_one()
    ends = [lost(run_id, undo.fence, backoff=0.0), succeeded(undo)]
    found = verdicts(world, run_id, *(reversed(ends) if zombie_first else ends))
    second = Verdict.REPEATED if zombie_first else Verdict.FENCED
    assert found == [Verdict.APPLIED, second]
    assert statuses(world, run_id) == (["ready", "compensated"] if zombie_first else ["done", "scheduled"])
    assert world.row(run_id)["outstanding"] == 1


def test_a_failed_compensation_is_taken_up_once_however_many_ask(world: PostgresWorld) -> None:
    """Two people, or one whose reply was lost, ask for the attempt after the one that failed."""
    worker = world.worker()
    run_id, works = _drains(world, worker, "stock")
    world.settle(succeeded(works["stock"], compensable=DONE))
    world.settle(failed(worker.claim_one()))
    assert (world.status(run_id), world.row(run_id)["attempt"]) == ("failed", 1)
    asked = [retry_asked(run_id, attempt=1)] * 2
    assert verdicts(world, run_id, *asked) == [Verdict.APPLIED, Verdict.VOID]
    row = world.row(run_id)
    assert (row["status"], row["attempt"], row["outstanding"]) == ("compensating", 2, 1)
    world.settle(failed(worker.claim_one()))
    assert world.settle(retry_asked(run_id, attempt=1)).verdict is Verdict.VOID
    assert (world.status(run_id), world.row(run_id)["attempt"]) == ("failed", 2)


def test_a_pause_that_meets_the_end_of_a_compensation_holds_the_next(world: PostgresWorld) -> None:
    """In both orders: nothing is claimed, and a resume goes on with it."""
    worker = world.worker()
    for order in (1, -1):
        run_id, works = _drains(world, worker, "stock", "bank")
        world.apply(*(succeeded(works[name], compensable=DONE) for name in ("stock", "bank")))
        events = [succeeded(worker.claim_one()), pause_asked(run_id)][::order]
        assert verdicts(world, run_id, *events) == [Verdict.APPLIED] * 2
        assert (world.status(run_id), worker.claim()) == ("paused", [])
        world.settle(resume_asked(run_id))
        world.settle(succeeded(worker.claim_one()))
        assert world.status(run_id) == "compensated"

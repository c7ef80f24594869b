"""The locks of the store: what waits for what, proved by what Postgres says of its backends, not by time."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from cnstra.orchestrator.machine.plans import Verdict
from support.waiting import eventually
from support.worlds import PostgresWorld, Threads, attempt_due, due, failed, retry_asked, succeeded


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    postgres = PostgresWorld(database_url)
    yield postgres
    postgres.close()


def locked_run(run_id: UUID) -> str:
    return f"select from cnstra.run where run_id = '{run_id}' for no key update"


def is_free(world: PostgresWorld, run_id: UUID) -> bool:
    """Whether nobody holds the run's row."""
    with world.connect() as connection:
        found = connection.execute((locked_run(run_id) + " skip locked").encode()).fetchall()
    return len(found) == 1


def test_runs_are_locked_in_the_order_of_their_ids(world: PostgresWorld) -> None:
    """A batch that waits for its first run holds none of the later ones, in whatever order its events came.

    So two batches over the same runs cannot each hold what the other one wants.
    """
    first, second = world.submit("stock", "bank"), world.submit("stock", "bank")
    works = {(work.run_id, work.neuron): work for work in world.worker().claim()}
    batches = [
        [succeeded(works[first, "stock"]), succeeded(works[second, "stock"])],
        [succeeded(works[second, "bank"]), succeeded(works[first, "bank"])],
    ]
    with world.held(locked_run(first)):
        threads = Threads([lambda one=one: world.apply(*one) for one in batches])  # type: ignore[misc]
        eventually(lambda: len(world.waiting()) == 2, what="both batches wait for the first run")
        assert is_free(world, second)
    threads.results()
    assert [world.status(run_id) for run_id in (first, second)] == ["completed", "completed"]


def test_the_second_of_two_settlements_sees_the_first(world: PostgresWorld) -> None:
    """The last two branches of a run that wait for its row at the same time: whoever comes second ends the run.

    What it decides from is read after it has the lock; read with the lock, it would be what was true before the wait.
    """
    run_id = world.submit("stock", "bank", "ship")
    works = world.worker().claim()
    with world.held(locked_run(run_id)):
        threads = Threads([lambda one=work: world.settle(succeeded(one)) for work in works])  # type: ignore[misc]
        eventually(lambda: len(world.waiting()) == 3, what="all three wait for the run")
    assert [applied.verdict for applied in threads.results()] == [Verdict.APPLIED] * 3
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("completed", 0)


def test_claims_wait_for_nobody(world: PostgresWorld) -> None:
    """What another transaction has locked is passed over, and the rest is handed out."""
    held, free = world.submit("stock"), world.submit("stock")
    worker = world.worker()
    with world.held(f"select from cnstra.activation where run_id = '{held}' for no key update"):
        assert [work.run_id for work in worker.claim()] == [free]
    assert [work.run_id for work in worker.claim()] == [held]


def test_a_claim_waits_for_no_run(world: PostgresWorld) -> None:
    """While a settlement holds a run's row, its ready activations can be claimed."""
    run_id = world.submit("stock")
    with world.held(locked_run(run_id)):
        assert world.worker().claim_one().run_id == run_id


def test_sweeps_pass_over_runs_that_are_being_changed(world: PostgresWorld) -> None:
    """A supervisor's timers do not wait behind a settlement: they fire at the next look."""
    held, free = world.submit("stock"), world.submit("stock")
    world.apply(*(failed(work, retry_after=1.0) for work in world.worker().claim()))
    world.clock.advance(1)
    with world.held(locked_run(held)):
        answers = world.apply(due(held, 1), due(free, 1), attempt_due(held)).answers
    assert [answer.verdict for answer in answers] == [Verdict.VOID, Verdict.APPLIED, Verdict.VOID]
    assert world.fire(held, 1).verdict is Verdict.APPLIED


def test_a_batch_with_more_than_timers_waits(world: PostgresWorld) -> None:
    """Only sweeps may pass by: what somebody asked for, or did, counts."""
    run_id = world.submit("stock")
    world.apply(failed(world.worker().claim_one()))
    with world.held(locked_run(run_id)):
        threads = Threads([lambda: world.apply(due(run_id, 1), retry_asked(run_id))])
        eventually(world.waiting, what="the batch waits for the run")
    (batch,) = threads.results()
    assert [answer.verdict for answer in batch.answers] == [Verdict.VOID, Verdict.APPLIED]


def test_a_worker_in_the_middle_of_a_claim_is_not_taken_for_lost(world: PostgresWorld) -> None:
    """A claim keeps its lease until it has committed, so that no claim is made that nobody would find."""
    worker = world.worker()
    world.clock.advance(60)
    with world.held(f"select from cnstra.worker where worker = '{worker.info.worker}' for share"):
        assert world.store.run(world.store.lost_claims(10)) == []
    assert world.store.run(world.store.renew(worker.info.worker)) == []


def test_a_claim_that_meets_the_loss_of_its_worker_gets_nothing(world: PostgresWorld) -> None:
    """A claim that waited while its worker was taken for lost sees that, and claims nothing."""
    world.submit("stock")
    worker = world.worker()
    lose = f"update cnstra.worker set lost_at = cnstra_test.now() where worker = '{worker.info.worker}'"
    with world.connect() as connection:
        connection.execute("begin")
        connection.execute(lose.encode())
        threads = Threads([worker.claim])
        eventually(world.waiting, what="the claim waits for the lease")
        connection.execute("commit")
    assert threads.results() == [[]]


def test_a_worker_that_comes_while_work_is_set_aside_takes_it_up(world: PostgresWorld) -> None:
    """Coming and setting aside take turns: else what the sweep set aside, and the worker did not see yet, would stay."""
    run_id = world.submit("bank")
    world.worker(("stock", "order"))
    world.clock.advance(2)
    with world.connect() as connection:
        connection.execute("begin")
        connection.execute("select from cnstra.supervisor for no key update")  # as the sweep does
        connection.execute("update cnstra.activation set blocked = 'unknown'")
        threads = Threads([world.worker])
        eventually(world.waiting, what="the worker waits for the sweep")
        connection.execute("commit")
    (worker,) = threads.results()
    assert worker.claim_one().run_id == run_id


def test_work_is_set_aside_only_after_a_worker_has_come(world: PostgresWorld) -> None:
    """The other way round: the sweep waits, and sees the worker that was about to come."""
    run_id = world.submit("bank")
    blind = world.worker(("stock", "order"))
    world.clock.advance(2)
    with world.connect() as connection:
        connection.execute("begin")
        connection.execute("select from cnstra.supervisor for share")  # as a worker does that comes
        connection.execute(
            "update cnstra.worker set dendrites = array['bank' || chr(31) || 'order'] where worker = %s",
            [blind.info.worker],
        )
        threads = Threads([world.set_unknown_aside])
        eventually(world.waiting, what="the sweep waits for the worker")
        connection.execute("commit")
    threads.results()
    assert world.row(run_id)["blocked"] is None


def test_nothing_is_locked_between_operations(world: PostgresWorld) -> None:
    """No operation leaves a transaction open on its pooled connection: locks end with the operation."""
    run_id = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one()))
    world.row(run_id)
    with world.connect() as connection:
        rows = connection.execute(
            "select state from pg_stat_activity where datname = current_database() and application_name = 'cnstra'"
        ).fetchall()
    assert {state for (state,) in rows} == {"idle"}
    with psycopg.connect(world.database_url) as connection:
        connection.execute("lock table cnstra.run, cnstra.activation in access exclusive mode nowait")

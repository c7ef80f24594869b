"""Pruning in Postgres: what it waits for, what waits for it, and that nothing of a run is left in any table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.retention import DEFAULTS, ENDED_STATUSES, FINAL_STATUSES
from cnstra.orchestrator.store import Portion
from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.transactions import PostgresOperation, TransactionRunner
from support.clocks import DATABASE_CLOCK
from support.waiting import eventually
from support.worlds import PostgresWorld, Threads, failed, hop, retry_asked, scatter, sent, succeeded, target

DAYS_90 = 90 * 86_400.0


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    """A store in Postgres, and a clock that stands still until the test moves it."""
    world = PostgresWorld(database_url)
    yield world
    world.close()


def _write(context: Any) -> None:
    context["shelf"] = 7


def _ended(world: PostgresWorld, *, well: bool = True, **changes: Any) -> UUID:
    """A run that ended long ago, with something in every table that runs have rows in."""
    run_id = world.submit("stock", **{"idempotency_key": f"key of {well}"} | changes)
    worker = world.worker()
    world.apply(failed(worker.claim_one(), retry_after=1.0))
    world.clock.advance(1)
    world.fire(run_id, 1)
    world.settle(sent(run_id))
    member = scatter("1", to=("ship",), gather=())
    world.settle(hop(worker.claim_one(), _write, targets=[target("bank")], scattered=[member]).event())
    works = worker.claim_by_neuron()
    world.settle(succeeded(works["ship"]))
    world.settle(succeeded(works["bank"]) if well else failed(works["bank"]))
    assert world.status(run_id) == ("completed" if well else "failed")
    world.clock.advance(DAYS_90)
    return run_id


def _prune(world: PostgresWorld, *statuses: str) -> PostgresOperation[Any]:
    before = world.clock.now() - timedelta(days=1)
    return cast("PostgresOperation[Any]", world.store.prune(statuses or ENDED_STATUSES, before, Portion()))


def _carry_out(world: PostgresWorld, connection: Any, operation: Any, texts: Mapping[str, str] | None = None) -> Any:
    """An operation's statements, in a transaction that the test ends."""
    return TransactionRunner(world.connect, texts or statements(DATABASE_CLOCK)).steps(connection, operation)


def _rows_of(world: PostgresWorld, run_id: UUID) -> dict[str, int]:
    """How many rows of a run there are, in every table that has runs."""
    with world.connect() as connection:
        tables = connection.execute(
            "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'run_id' "
            "where c.relnamespace = 'cnstra'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1"
        ).fetchall()
        return {
            table: connection.execute(
                f"select count(*) from cnstra.{table} where run_id = %s".encode(), [run_id]
            ).fetchall()[0][0]
            for (table,) in tables
        }


# -- whole or not at all -------------------------------------------------------------------------------------------


def test_nothing_of_a_pruned_run_is_left_in_any_table(world: PostgresWorld) -> None:
    """Also in tables that come later: all that have a run's id are looked through."""
    run_id = _ended(world)
    before = _rows_of(world, run_id)
    assert set(before) >= {"run", "activation", "try", "context_head", "context_entry", "submission_key"}
    gone_at_the_end = {"expectation"}
    with_a_rule_of_their_own = {"posted"}
    rest = set(before) - gone_at_the_end - with_a_rule_of_their_own
    assert all(before[table] > 0 for table in rest), before
    world.store.run(_prune(world))
    assert _rows_of(world, run_id) == dict.fromkeys(before, 0)


def test_a_prune_that_is_undone_has_deleted_nothing(world: PostgresWorld) -> None:
    """Whatever ends it before its commit."""
    run_id = _ended(world)
    before = _rows_of(world, run_id)
    with world.connect() as connection:
        connection.execute("begin")
        assert len(_carry_out(world, connection, _prune(world)).runs) == 1
        connection.execute("rollback")
    assert _rows_of(world, run_id) == before


def test_the_statement_that_deletes_asks_for_the_end_by_itself(world: PostgresWorld) -> None:
    """Whoever gives it a run that has not ended is told of it, and everything is undone."""
    run_id = world.submit("stock")
    before = _rows_of(world, run_id)
    with world.connect() as connection:
        connection.execute("begin")
        deleted = connection.execute(
            statements(DATABASE_CLOCK)["forget_runs"].encode(), {"run_ids": [run_id]}
        ).fetchall()
        connection.execute("rollback")
        taken = connection.execute(
            statements(DATABASE_CLOCK)["forget_contexts"].encode(), {"run_ids": [run_id]}
        ).fetchall()
    assert (deleted, taken) == ([], [])
    assert _rows_of(world, run_id) == before


# -- a retry and a prune of the same run ---------------------------------------------------------------------------


def test_a_prune_passes_over_a_run_that_is_being_retried(world: PostgresWorld) -> None:
    """The retry came first: the prune does not wait for it, deletes the others, and this one stays whole."""
    other, run_id = _ended(world), _ended(world, well=False)
    with world.connect() as connection:
        connection.execute("begin")
        _carry_out(world, connection, world.store.apply([retry_asked(run_id)]))
        assert world.store.run(_prune(world)).runs == ((other, "completed"),)
        connection.execute("commit")
    assert world.store.run(_prune(world)).runs == ()
    assert world.status(run_id) == "running"
    work = world.worker().claim_one()
    assert hop(work).context.get() == {"shelf": 7}


def test_a_retry_that_comes_while_its_run_is_pruned_finds_none(world: PostgresWorld) -> None:
    """The prune came first: the retry waits for it, and comes to nothing."""
    run_id = _ended(world, well=False)
    with world.connect() as connection:
        connection.execute("begin")
        _carry_out(world, connection, _prune(world))
        retrying = Threads([partial(world.settle, retry_asked(run_id))])
        eventually(world.waiting, what="the retry waits for the prune")
        connection.execute("commit")
    [applied] = retrying.results()
    assert applied.verdict is Verdict.VOID
    assert set(_rows_of(world, run_id).values()) == {0}


def test_a_retry_that_waited_for_a_prune_that_was_undone_has_its_run(world: PostgresWorld) -> None:
    """The worker that pruned died before its commit: the run is there, and begins its next attempt."""
    run_id = _ended(world, well=False)
    with world.connect() as connection:
        connection.execute("begin")
        _carry_out(world, connection, _prune(world))
        retrying = Threads([partial(world.settle, retry_asked(run_id))])
        eventually(world.waiting, what="the retry waits for the prune")
        connection.execute("rollback")
    [applied] = retrying.results()
    assert applied.verdict is Verdict.APPLIED
    assert world.worker().claim_one().run_id == run_id


# -- a submit and a prune of the same key --------------------------------------------------------------------------


def test_a_submit_of_a_key_that_is_being_pruned_waits_and_is_kept(world: PostgresWorld) -> None:
    """It is told neither of the run that goes, nor of a success without a run."""
    run_id = _ended(world)
    submission = world.submission("stock", idempotency_key="key of True")
    with world.connect() as connection:
        connection.execute("begin")
        _carry_out(world, connection, _prune(world))
        submitting = Threads([partial(world.accept, submission)])
        eventually(world.waiting, what="the submit waits for the prune")
        connection.execute("commit")
    [[accepted]] = submitting.results()
    assert (accepted.run_id, accepted.new) == (submission.run_id, True)
    assert accepted.run_id != run_id
    assert world.worker().claim_one().run_id == submission.run_id


class _Meddling(dict[str, str]):
    """Statements; before the first use of one of them something happens."""

    def __init__(self, before: str, happens: Callable[[], object]) -> None:
        super().__init__(statements(DATABASE_CLOCK))
        self._before, self._happens = before, happens
        self.happened = 0

    def __getitem__(self, name: str) -> str:
        if name == self._before and not self.happened:
            self.happened += 1
            self._happens()
        return super().__getitem__(name)


@pytest.mark.parametrize("by", ["key", "id"])
def test_a_run_that_is_pruned_in_the_middle_of_its_second_submit_is_not_lost(world: PostgresWorld, by: str) -> None:
    """Found taken, and gone when it is looked up: the submit begins again, and its run is kept, with its key."""
    run_id = _ended(world)
    submission = (
        world.submission("stock", idempotency_key="key of True")
        if by == "key"
        else world.submission("stock", run_id=run_id)
    )
    meddling = _Meddling("runs_of_keys" if by == "key" else "runs_of_ids", lambda: world.store.run(_prune(world)))
    runner = TransactionRunner(world.connect, meddling)
    [accepted], rings = runner.run(cast("PostgresOperation[Any]", world.store.submit([submission])))
    assert meddling.happened == 1
    assert (accepted.run_id, accepted.new, len(rings)) == (submission.run_id, True, 1)
    assert world.worker().claim_one().run_id == submission.run_id
    [again] = world.accept(submission)
    assert (again.run_id, again.new) == (submission.run_id, False)


# -- what waits ----------------------------------------------------------------------------------------------------


def test_nobody_who_does_not_retry_waits_for_a_prune(world: PostgresWorld) -> None:
    """While it has deleted and not committed, others submit, claim, settle, supervise, read, come and go."""
    run_id = _ended(world)
    with world.connect() as connection:
        connection.execute("begin")
        _carry_out(world, connection, _prune(world))
        other = world.submit("stock", idempotency_key="another")
        worker = world.worker()
        world.look(worker)
        world.settle(succeeded(worker.claim_one()))
        world.store.run(world.store.leave(worker.info.worker))
        assert world.status(other) == "completed"
        assert world.status(run_id) == "completed"  # not committed: still there, whole, for whoever reads
        connection.execute("commit")
    assert world.status(run_id) is None


def test_a_longer_rule_holds_from_the_moment_that_it_is_set(world: PostgresWorld) -> None:
    """Who sets it waits for what is being deleted by the old one; afterwards nothing more goes."""
    first, second = _ended(world), _ended(world, idempotency_key="another")
    with world.connect() as connection:
        connection.execute("begin")
        assert len(_carry_out(world, connection, world.store.expire(Portion(runs=1))).runs) == 1
        keeping = Threads([partial(world.store.run, world.store.set_retention({"completed": None}))])
        eventually(world.waiting, what="the new rule waits for the sweep")
        connection.execute("commit")
    keeping.results()
    assert world.store.run(world.store.expire(Portion())).runs == ()
    assert [world.status(one) for one in (first, second)] == [None, "completed"]


# -- what it shows -------------------------------------------------------------------------------------------------


def test_the_context_says_until_when_it_is_kept(world: PostgresWorld) -> None:
    """By the rule for contexts or by that of its run, whichever is sooner; by the rules of now."""
    run_id, broken = _ended(world), _ended(world, well=False)

    def expires(which: UUID) -> timedelta | None:
        with world.connect() as connection:
            [(at, finished)] = connection.execute(
                "select c.expires_at, r.finished_at from cnstra.context c join cnstra.runs r using (run_id) "
                "where run_id = %s",
                [which],
            ).fetchall()
        return None if at is None else at - finished

    assert (expires(run_id), expires(broken)) == (timedelta(days=30), None)
    world.store.run(world.store.set_retention({"context": timedelta(days=7)}))
    assert (expires(run_id), expires(broken)) == (timedelta(days=7), None)
    world.store.run(world.store.set_retention({"context": timedelta(days=70), "failed": timedelta(days=365)}))
    assert (expires(run_id), expires(broken)) == (timedelta(days=30), timedelta(days=365))
    world.store.run(world.store.set_retention({"completed": None, "context": None}))
    assert expires(run_id) is None


def test_a_context_that_has_gone_says_since_when(world: PostgresWorld) -> None:
    """Its version stays, its values are null, and it expired at the time at which it was deleted."""
    run_id = _ended(world)
    world.store.run(world.store.set_retention({"completed": None, "context": timedelta(days=7)}))
    assert world.store.run(world.store.expire(Portion())).contexts == (run_id,)
    with world.connect() as connection:
        [row] = connection.execute(
            "select version, data, local, expires_at from cnstra.context where run_id = %s", [run_id]
        ).fetchall()
    assert row == (1, None, {}, world.clock.now())


def test_the_schema_begins_with_the_rules_of_the_port(world: PostgresWorld) -> None:
    """The table has exactly the rules that the code knows, and refuses others and times that are no use."""
    assert world.store.run(world.store.retention()) == DEFAULTS
    for refused in (
        "insert into cnstra.retention values ('running', '1 day')",
        "update cnstra.retention set keep = '0'",
    ):
        with world.connect() as connection, pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(refused.encode())
    assert set(FINAL_STATUSES) | {"failed"} == set(ENDED_STATUSES)


# -- contexts of no run --------------------------------------------------------------------------------------------


def test_contexts_of_no_run_go_when_their_own_time_has_come(world: PostgresWorld) -> None:
    """In portions, the oldest first; what has no end, or not yet, stays, and what somebody is writing is passed over."""
    with world.connect() as connection:
        connection.execute(
            "insert into cnstra.free_context (context_id, version, data, updated_at, expires_at) "
            "select ('00000000-0000-0000-0000-00000000000' || n)::uuid, 1, '1', %(now)s, "
            "       case when n < 5 then %(now)s::timestamptz + make_interval(secs => n) end from generate_series(1, 5) n",
            {"now": world.clock.now()},
        )

        def left() -> list[int]:
            rows = connection.execute("select context_id from cnstra.free_context order by 1").fetchall()
            return [context_id.int for (context_id,) in rows]

        def swept(limit: int) -> tuple[int, bool]:
            gone = world.store.run(world.store.expire(Portion(runs=limit)))
            return gone.free_contexts, gone.more

        assert (swept(2), left()) == ((0, False), [1, 2, 3, 4, 5])
        world.clock.advance(3)
        with world.held("update cnstra.free_context set expires_at = null where context_id::text like '%2'"):
            assert (swept(1), left()) == ((1, True), [2, 3, 4, 5])
            assert (swept(2), left()) == ((1, False), [2, 4, 5])
        assert (swept(2), left()) == ((1, False), [4, 5])

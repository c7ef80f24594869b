"""Transactions that handlers take part in, at the store: what they lock, whose they are, and who ends them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from cnstra.orchestrator.errors import StoreUnavailable
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.slots import OnStale
from cnstra.orchestrator.store import Work
from cnstra.stores.postgres.stepping import PostgresStep, PostgresTransactions
from cnstra.workers.transacting import carried_out
from support.waiting import eventually
from support.worlds import PostgresWorld, Threads, Worker, hop, succeeded


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    made = PostgresWorld(database_url)
    with made.connect() as connection:
        connection.execute("create table effect (what text)")
    yield made
    made.close()


@pytest.fixture
def transactions(world: PostgresWorld) -> Iterator[PostgresTransactions]:
    made = world.postgres.transactions(2)
    yield made
    made.close()


def _begun(transactions: PostgresTransactions, worker: Worker, work: Work) -> PostgresStep:
    """A step whose handler has written, and returned."""
    step = carried_out(transactions.begin(work, worker.info.worker, asynchronous=False))
    step.connection.execute("insert into effect values ('done')")
    return step


def _only(world: PostgresWorld, transactions: PostgresTransactions) -> tuple[Work, PostgresStep]:
    """The only work of a worker, and its step likewise."""
    world.submit("stock")
    worker = world.worker()
    work = worker.claim_one()
    return work, _begun(transactions, worker, work)


def _effects(world: PostgresWorld) -> int:
    with world.connect() as connection:
        (count,) = connection.execute("select count(*) from effect").fetchone() or (None,)
    return int(count)


def _lockable(world: PostgresWorld) -> bool:
    """Whether somebody else can have the lock of the run."""
    with world.connect() as connection:
        return connection.execute("select from cnstra.run for update skip locked").fetchone() is not None


def test_a_slow_handler_does_not_lock_its_run(world: PostgresWorld, transactions: PostgresTransactions) -> None:
    """From the settlement to the commit it does."""
    work, step = _only(world, transactions)
    assert _lockable(world)

    batch = carried_out(step.settle(succeeded(work)))
    assert batch.answers[0].verdict is Verdict.APPLIED
    assert not _lockable(world)
    assert _effects(world) == 0

    carried_out(step.commit())
    assert _lockable(world)
    assert _effects(world) == 1


def test_g3_a_settlement_that_was_not_applied_lets_the_run_go(
    world: PostgresWorld, transactions: PostgresTransactions
) -> None:
    """Its values may take long to come, from where contexts are kept. The handler's own statements stand meanwhile."""
    run_id = world.submit("stock", "bank")
    worker = world.worker()
    works = worker.claim_by_neuron()
    step = _begun(transactions, worker, works["stock"])
    counting = hop(works["stock"], lambda ctx: ctx.update("n", lambda n: (n or 0) + 1), on_stale=OnStale.REPORT)
    world.settle(succeeded(works["bank"], lambda ctx: ctx.set({"n": 5})))

    stale = carried_out(step.settle(counting.event())).answers[0]
    assert stale.verdict is Verdict.STALE
    assert _lockable(world)

    applied = carried_out(step.settle(counting.take_in(stale))).answers[0]
    assert applied.verdict is Verdict.APPLIED
    carried_out(step.commit())
    assert world.values(run_id) == {"n": 6}
    assert _effects(world) == 1


def test_the_limits_of_the_handlers_statements_are_not_the_settlements(
    world: PostgresWorld, transactions: PostgresTransactions
) -> None:
    """The run is locked by somebody else for longer than the handler's statements may wait, and take."""
    work, step = _only(world, transactions)
    step.connection.execute("set lock_timeout = 50; set statement_timeout = 50")

    with world.held("select from cnstra.run for update") as holder:
        settling = Threads([lambda: carried_out(step.settle(succeeded(work)))])
        waits = (
            "select from pg_stat_activity where application_name like 'cnstra step %' and wait_event_type = 'Lock' "
            "and clock_timestamp() - query_start > interval '100 milliseconds'"
        )
        eventually(lambda: holder.execute(waits).fetchone() is not None or not settling.running, what="it waits")
    (batch,) = settling.results()

    assert batch.answers[0].verdict is Verdict.APPLIED
    carried_out(step.commit())
    assert _effects(world) == 1


def test_a_settlement_that_others_interfere_with_begins_anew(
    world: PostgresWorld, transactions: PostgresTransactions
) -> None:
    """Within the same transaction, a few times; then it passes for one that was undone."""
    work, step = _only(world, transactions)
    with world.connect() as connection:
        connection.execute("create function keep() returns trigger language plpgsql as 'begin return null; end'")
        connection.execute(
            "create trigger keep before update on cnstra.activation for each row execute function keep()"
        )

    with pytest.raises(StoreUnavailable, match=rf"run {work.run_id}, activation 1 .*5 times in a row"):
        carried_out(step.settle(succeeded(work)))

    carried_out(step.undo())
    assert _effects(world) == 0
    assert world.activations(work.run_id)[1]["status"] == "running"


def test_g3_the_transactions_of_a_lost_worker_are_ended_and_no_others(
    world: PostgresWorld, transactions: PostgresTransactions
) -> None:
    """Whoever takes it for lost ends them, and so lets go of what they lock."""
    world.submit("stock")
    world.submit("stock")
    lives, dies = world.worker(), world.worker()
    first, second = lives.claim(1) + dies.claim(1)
    living, dying = _begun(transactions, lives, first), _begun(transactions, dies, second)
    world.clock.advance(5)
    world.store.run(world.store.renew(lives.info.worker))
    world.clock.advance(6)

    lost = world.store.run(world.store.lost_claims(10))

    assert [claim.worker for claim in lost] == [dies.info.worker]
    assert carried_out(living.settle(succeeded(first))).answers[0].verdict is Verdict.APPLIED
    carried_out(living.commit())
    with pytest.raises(StoreUnavailable, match="its transaction was undone"):
        carried_out(dying.settle(succeeded(second)))
    carried_out(dying.undo())
    assert _effects(world) == 1


def test_no_connection_is_to_be_had_beyond_the_limit(world: PostgresWorld, transactions: PostgresTransactions) -> None:
    """Whoever asks is told so after a moment; one that ended makes room, also one that was discarded."""
    for _ in range(3):
        world.submit("stock")
    worker = world.worker()
    works = worker.claim()
    steps = [_begun(transactions, worker, work) for work in works[:2]]
    with pytest.raises(StoreUnavailable, match=rf"run {works[2].run_id}.*no connection is free"):
        _begun(transactions, worker, works[2])

    carried_out(steps[0].discard())
    carried_out(_begun(transactions, worker, works[2]).undo())
    carried_out(steps[1].undo())
    assert _effects(world) == 0


def test_connections_that_broke_while_they_lay_there_are_passed_over(
    world: PostgresWorld, transactions: PostgresTransactions
) -> None:
    """No handler is called for nothing."""
    world.submit("stock")
    worker = world.worker()
    work = worker.claim_one()
    steps = [_begun(transactions, worker, work) for _ in range(2)]
    for step in steps:
        carried_out(step.undo())
    with world.connect() as connection:
        ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'cnstra'"
        connection.execute(ended + " and datname = current_database() and pid <> pg_backend_pid() and state = 'idle'")

    step = _begun(transactions, worker, work)

    assert carried_out(step.settle(succeeded(work))).answers[0].verdict is Verdict.APPLIED
    carried_out(step.commit())
    assert _effects(world) == 1


def test_after_a_fork_a_child_has_connections_of_its_own(
    world: PostgresWorld, transactions: PostgresTransactions
) -> None:
    """A connection must not be shared by two processes."""
    for _ in range(2):
        world.submit("stock")
    worker = world.worker()
    first, second = worker.claim()
    carried_out(_begun(transactions, worker, first).undo())
    child = os.fork()
    if child == 0:
        try:
            step = _begun(transactions, worker, second)
            carried_out(step.settle(succeeded(second)))
            carried_out(step.commit())
            os._exit(0)
        finally:
            os._exit(1)

    step = _begun(transactions, worker, first)
    carried_out(step.settle(succeeded(first)))
    carried_out(step.commit())

    assert os.waitpid(child, 0)[1] == 0
    assert _effects(world) == 2


def test_a_claims_own_mark_is_seen_by_the_users_triggers(
    world: PostgresWorld, transactions: PostgresTransactions
) -> None:
    """Its run, its activation and its claim stand in a setting, for as long as the transaction is open."""
    world.submit("stock")
    worker = world.worker()
    work = worker.claim_one()
    step = _begun(transactions, worker, work)

    (mark, name) = step.connection.execute(
        "select current_setting('cnstra.step'), current_setting('application_name')"
    ).fetchone()

    assert mark == f"{work.run_id}:1:{work.fence.epoch}:{work.fence.nonce}"
    assert name == f"cnstra step {worker.info.worker}"
    carried_out(step.undo())


def test_async_handlers_have_a_pool_of_their_own(world: PostgresWorld, transactions: PostgresTransactions) -> None:
    """Opened once, however many ask for it first at the same time."""
    for _ in range(4):
        world.submit("stock")
    worker = world.worker()
    works = worker.claim()

    async def hop_of(work: Work) -> int:
        step = await transactions.begin(work, worker.info.worker, asynchronous=True)
        assert isinstance(step.connection, psycopg.AsyncConnection)
        await step.connection.execute("insert into effect values ('done')")
        pid = int(step.connection.info.backend_pid)
        await step.settle(succeeded(work))
        await step.commit()
        return pid

    async def hops() -> list[int]:
        try:
            return await asyncio.gather(*(hop_of(work) for work in works))
        finally:
            await transactions.close_async()

    pids = asyncio.run(hops())

    assert len(set(pids)) <= 2
    assert _effects(world) == 4


def test_g3_a_settlement_of_a_claim_that_is_gone_is_refused(
    world: PostgresWorld, transactions: PostgresTransactions
) -> None:
    """And the transaction has nothing of it, whatever is done with it then."""
    work, step = _only(world, transactions)
    with world.connect() as connection:
        connection.execute("update cnstra.activation set nonce = nonce + 1")

    answer = carried_out(step.settle(succeeded(work))).answers[0]

    assert answer.verdict is Verdict.FENCED
    carried_out(step.undo())
    assert _effects(world) == 0


def test_an_unknown_run_is_told_from_a_refused_one(world: PostgresWorld, transactions: PostgresTransactions) -> None:
    """A run that was deleted meanwhile settles nothing."""
    work, step = _only(world, transactions)
    gone = succeeded(work)
    other = type(gone)(run_id=uuid4(), event=gone.event)

    assert carried_out(step.settle(other)).answers[0].verdict is Verdict.VOID

    carried_out(step.undo())
    assert world.status(work.run_id) == "running"

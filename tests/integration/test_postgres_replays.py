"""What a store does when Postgres breaks in the middle of an operation, or when nobody knows whether it committed.

Every operation begins again by itself; what had been done the first time is found, and done no second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from msgspec.structs import replace

from cnstra.orchestrator.errors import StoreUnavailable
from cnstra.orchestrator.footholds import without_footholds
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.stores.postgres import AsyncPostgresStore, PostgresStore, transactions
from support.clocks import DATABASE_CLOCK
from support.proxy import LosesCommitReplies
from support.waiting import eventually
from support.worlds import PostgresWorld, Threads, all_applied, failed, retry_asked, succeeded, target


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    postgres = PostgresWorld(database_url)
    yield postgres
    postgres.close()


@pytest.fixture
def proxy(database_url: str) -> Iterator[LosesCommitReplies]:
    with LosesCommitReplies(database_url) as proxy:
        yield proxy


@pytest.fixture
def far(world: PostgresWorld, proxy: LosesCommitReplies) -> Iterator[PostgresStore]:
    """A store over the same database, behind the proxy."""
    store = PostgresStore(proxy.url, clock=DATABASE_CLOCK)
    yield store
    store.close()


# -- the reply of the commit is lost ---------------------------------------------------------------------------


def test_g4_a_settlement_whose_commit_was_not_confirmed_learns_that_it_was_done(
    world: PostgresWorld, far: PostgresStore, proxy: LosesCommitReplies
) -> None:
    """It is sent again, changes nothing more, and gets the successors that its worker had kept."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    event = succeeded(
        work, lambda ctx: ctx.set({"a": 1}), targets=[target("bank", here=True), target("ship", ordinal=1)]
    )
    proxy.arm()
    batch = far.run(far.apply([event]))
    assert proxy.has_lost_one
    (answer,) = batch.answers
    assert answer.verdict is Verdict.REPEATED
    assert [(kept.neuron, kept.fence.nonce) for kept in answer.kept] == [("bank", work.fence.nonce)]
    assert world.row(run_id)["context_version"] == 1
    assert len(world.activations(run_id)) == 3
    assert world.settle(succeeded(answer.kept[0])).verdict is Verdict.APPLIED


def test_g4_a_hop_on_a_foothold_whose_commit_was_not_confirmed_learns_it_too(
    world: PostgresWorld, far: PostgresStore, proxy: LosesCommitReplies
) -> None:
    """It is one statement, which has committed by itself; sent again it finds another mark on the run, its own."""
    run_id = world.submit("stock")
    first = succeeded(world.worker().claim_one(), targets=[target("bank", here=True)])
    [work] = world.settle(first).kept
    assert work.foothold is not None
    proxy.arm()
    [answer] = all_applied(far, [succeeded(work, targets=[target("ship", here=True)])]).answers
    assert proxy.has_lost_one
    assert answer.verdict is Verdict.REPEATED
    assert [(kept.neuron, kept.fence.nonce) for kept in answer.kept] == [("ship", work.fence.nonce)]
    assert len(world.activations(run_id)) == 3
    assert world.settle(succeeded(answer.kept[0])).verdict is Verdict.APPLIED


def test_a_failed_try_whose_commit_was_not_confirmed_counts_once(
    world: PostgresWorld, far: PostgresStore, proxy: LosesCommitReplies
) -> None:
    """Neither the count nor the backoff is doubled."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    proxy.arm()
    (answer,) = far.run(far.apply([failed(work, retry_after=5.0)])).answers
    assert proxy.has_lost_one
    assert answer.verdict is Verdict.REPEATED
    world.clock.advance(5)
    world.fire(run_id, 1)
    again = world.worker().claim_one()
    assert (again.failures, again.idled) == (1, 5.0)


def test_a_claim_whose_commit_was_not_confirmed_answers_the_same_claims(
    world: PostgresWorld, far: PostgresStore, proxy: LosesCommitReplies
) -> None:
    """The worker gets what it had taken, and nothing else with it; nobody has to find it as lost."""
    runs = {world.submit("stock") for _ in range(4)}
    worker = world.worker()
    proxy.arm()
    works = far.run(far.claim(worker.request(limit=2)))
    assert proxy.has_lost_one
    assert len(works) == 2
    assert {work.fence.epoch for work in works} == {1}
    assert len(world.store.run(world.store.renew(worker.info.worker)) or ()) == 2
    assert {work.run_id for work in works} | {work.run_id for work in worker.claim()} == runs


def test_g1_a_submit_whose_commit_was_not_confirmed_is_one_run(
    world: PostgresWorld, far: PostgresStore, proxy: LosesCommitReplies
) -> None:
    """The client gets the run that it had made, also under its idempotency key: of one statement, and of a transaction."""
    for submission in (world.submission("stock"), world.submission("stock", idempotency_key="k")):
        proxy.arm()
        [accepted], _ = far.run(far.submit([submission]))
        assert proxy.has_lost_one
        assert (accepted.run_id, accepted.same) == (submission.run_id, True)
        assert len(world.activations(submission.run_id)) == 1
    assert len(world.worker().claim()) == 2


def test_a_lost_reply_is_no_error_for_async_callers_either(world: PostgresWorld, proxy: LosesCommitReplies) -> None:
    """The driver for coroutines begins again in the same way."""
    world.submit("stock")
    work = world.worker().claim_one()

    async def settle() -> Verdict:
        store = AsyncPostgresStore(proxy.url, clock=DATABASE_CLOCK)
        await store.run(store.renew(work.run_id))  # connected before the reply is lost
        proxy.arm()
        batch = await store.run(store.apply(without_footholds([succeeded(work)])))
        await store.close()
        return batch.answers[0].verdict

    assert asyncio.run(settle()) is Verdict.REPEATED
    assert proxy.has_lost_one
    assert world.status(work.run_id) == "completed"


# -- the connection breaks before ------------------------------------------------------------------------------


def test_an_operation_whose_backend_was_killed_begins_again(world: PostgresWorld) -> None:
    """A settlement that waits for a lock, and loses its connection there, is applied once all the same."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    with world.held("select from cnstra.run for no key update") as holder:
        threads = Threads([lambda: world.settle(succeeded(work, lambda ctx: ctx.set({"a": 1})))])
        (backend,) = eventually(world.waiting, what="the settlement waits for the run")
        holder.execute("select pg_terminate_backend(%s)", [backend])
        eventually(lambda: world.waiting() not in ([], [backend]), what="it waits again, on another connection")
    (applied,) = threads.results()
    assert applied.verdict is Verdict.APPLIED
    assert (world.status(run_id), world.row(run_id)["context_version"]) == ("completed", 1)


def test_a_store_outlives_its_connections(world: PostgresWorld) -> None:
    """When all of them were cut while nobody used them, the next operation has a new one."""
    run_id = world.submit("stock")
    for _ in range(3):
        with world.connect() as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name = 'cnstra'"
            )
        assert world.status(run_id) == "running"


def test_what_a_broken_operation_had_done_is_undone(world: PostgresWorld) -> None:
    """A submit that breaks after its keys and runs were written leaves none of them behind, and begins again."""
    submission = world.submission("stock", idempotency_key="k")
    with world.held("lock table cnstra.activation in access exclusive mode") as holder:
        threads = Threads([lambda: world.accept(submission)])
        (backend,) = eventually(world.waiting, what="the submit waits for the activations")
        holder.execute("select pg_terminate_backend(%s)", [backend])
        eventually(lambda: world.waiting() not in ([], [backend]), what="it waits again")
    ((accepted,),) = threads.results()
    assert (accepted.run_id, accepted.new) == (submission.run_id, True)
    assert len(world.activations(submission.run_id)) == 1


def test_a_deadlock_with_somebody_else_is_no_error(world: PostgresWorld) -> None:
    """Where a transaction that is not ours locks the other way round, the store gives way, and begins again.

    Postgres ends the one that finds the circle first: the store's, as it has waited for longer, unless this process was
    held up meanwhile; then the circle is made once more.
    """
    assert any(_gave_way(world) for _ in range(5))


def _gave_way(world: PostgresWorld) -> bool:
    """Make a circle of locks with a batch of the store; whether the batch was the one to give way."""
    first, second = world.submit("stock"), world.submit("stock")
    works = world.worker().claim()
    lock = "select from cnstra.run where run_id = %s for no key update"
    with world.connect() as stranger:
        stranger.execute("begin")
        stranger.execute(lock, [second])
        threads = Threads([lambda: world.apply(*(succeeded(work) for work in works))])
        eventually(world.waiting, what="the batch has the first run and waits for the second")
        try:
            stranger.execute(lock, [first])
            gave_way = True
        except psycopg.errors.DeadlockDetected:
            gave_way = False
        stranger.execute("rollback")
    (batch,) = threads.results()
    assert [answer.verdict for answer in batch.answers] == [Verdict.APPLIED, Verdict.APPLIED]
    assert [world.status(run_id) for run_id in (first, second)] == ["completed", "completed"]
    return gave_way


def test_a_store_that_stays_away_is_said_to_be_away(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a number of beginnings the caller gets an error that names the operation and the cause."""
    monkeypatch.setattr(transactions, "pause", lambda attempt: 0.0)
    begun = 0

    def lend() -> psycopg.Connection:
        nonlocal begun
        begun += 1
        raise psycopg.OperationalError("the network is down")

    store = PostgresStore(database_url)
    runner = transactions.TransactionRunner(lend, {})
    operation = store.apply([])
    with pytest.raises(StoreUnavailable, match=r"apply: OperationalError: the network is down"):
        runner.run(operation)  # type: ignore[arg-type]
    assert begun == transactions.REPLAYS + 1
    store.close()


def test_a_retry_that_is_asked_again_begins_no_second_attempt(
    world: PostgresWorld, far: PostgresStore, proxy: LosesCommitReplies
) -> None:
    """A lost reply to a retry does not retry twice."""
    run_id = world.submit("stock")
    world.apply(failed(world.worker().claim_one()))
    proxy.arm()
    far.run(far.apply([retry_asked(run_id)]))
    assert proxy.has_lost_one
    assert world.row(run_id)["attempt"] == 2


def test_a_zombie_gets_nothing_by_a_replay(world: PostgresWorld, far: PostgresStore, proxy: LosesCommitReplies) -> None:
    """A fence holds in the repetition as it did the first time."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    stale = replace(work, fence=replace(work.fence, nonce=work.fence.nonce + 1))
    proxy.arm()
    (answer,) = far.run(far.apply([succeeded(stale, lambda ctx: ctx.set({"a": 1}))])).answers
    assert proxy.has_lost_one
    assert answer.verdict is Verdict.FENCED
    assert (world.status(run_id), world.row(run_id)["context_version"]) == ("running", 0)

"""Clients and workers behind a pooler in transaction mode: each transaction may go to another server connection.

Much of the suite can be run so, too: ``CNSTRA_TESTS_POOLER=pgbouncer``.
"""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from cnstra import AsyncOrchestrator, ConfigurationError, QueryError, StoreUnavailable
from cnstra.cli.examining import examine
from cnstra.stores.postgres import PostgresStore, migrate
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.querying import query
from cnstra.stores.postgres.reaching import reach
from cnstra.stores.postgres.transactions import Ask, PostgresOperation, Steps
from support import bank, seals
from support.databases import name_of
from support.graphs import routes
from support.pgbouncer import SERVER_CONNECTIONS, PgBouncer, running_pgbouncer
from support.points import Fault
from support.soundness import assert_sound
from support.stage import Stage
from support.waiting import eventually

RUNS = 60

pytestmark = pytest.mark.past_the_pooler


@pytest.fixture
def pooled_stage(stage: Stage, pgbouncer: PgBouncer) -> Stage:
    """Workers and clients are told of the pooler; the test's own questions go past it."""
    stage.workers_url = stage.clients_url = pgbouncer.url(stage.database_url)
    return stage


def _direct(stage: Stage) -> int:
    """The server connections to the database, but for the test's own."""
    found = stage.row(
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
        "and backend_type = 'client backend'"
    )
    return int(found["count"])


def test_g1_g2_g4_a_load_goes_through_few_server_connections_and_the_death_of_a_worker(
    pooled_stage: Stage, pgbouncer: PgBouncer
) -> None:
    """Three workers and a client have more connections than the pooler makes; each run ends as if all had their own."""
    stage, database = pooled_stage, name_of(pooled_stage.database_url)
    client = stage.client(routes.chain)
    doomed = stage.start(routes.chain, streak=0)
    stage.start(routes.chain, streak=0)
    stage.start(routes.chain, streak=100)
    doomed.arm(Fault(point="settle.begin", action="kill", activation=2))

    runs = [client.submit(routes.set_out.create_signal(number)) for number in range(RUNS)]
    assert doomed.died() == -signal.SIGKILL
    servers, clients = _direct(stage), len(pgbouncer.ask("clients", database))
    stage.lose(doomed)
    stage.all_completed(runs)

    assert 0 < servers <= SERVER_CONNECTIONS < clients
    for number, run in enumerate(runs):
        assert [output.payload for output in run.wait().outputs] == [number + 3]
        assert run.context() == {"step 1": 0, "step 2": 1, "step 3": 2, "steps": 3}
        assert_sound(stage, run.id)
    assert len(stage.ledger.effects()) == 3 * RUNS


def test_g3_a_worker_that_is_stopped_in_a_transaction_does_not_keep_its_locks(pooled_stage: Stage) -> None:
    """The server ends the transaction, which has brought its own time limit along; the next worker gets the run."""
    zombie = pooled_stage.start(
        routes.chain, Fault(point="settle.commit", action="stop", activation=2), streak=0, lease=timedelta(seconds=6)
    )
    run = pooled_stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    zombie.reached("settle.commit")
    zombie.frozen()
    pooled_stage.lose(zombie)

    pooled_stage.start(routes.chain)

    assert [output.payload for output in pooled_stage.completed(run).outputs] == [13]
    assert_sound(pooled_stage, run.id)


@pytest.mark.parametrize("wrong", ["untidy", "untidy, and fails"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_g2_steps_in_the_database_are_done_once_and_leave_nothing_in_the_poolers_sessions(
    pooled_stage: Stage, colour: str, wrong: str
) -> None:
    """What a handler sets, opens and locks in its session would be in somebody else's afterwards."""
    stage = pooled_stage
    bank.tables(stage.database_url)
    client = stage.client(bank.bank)
    stage.start(bank.bank, transactions=2)

    order = {"amount": 1, "colour": colour, "wrong": wrong}
    runs = [client.submit(bank.asked.create_signal(order)) for _ in range(20)]
    stage.all_completed(runs)

    assert stage.row("select balance from account") == {"balance": 20}
    assert stage.row("select count(*) from booking") == {"count": 20}
    assert stage.rows("select 1 from pg_locks where locktype = 'advisory' and objid = 77") == []
    with psycopg.connect(address_of(stage.clients_url).url, autocommit=True, prepare_threshold=None) as connection:
        for _ in range(2 * SERVER_CONNECTIONS):
            found = connection.execute(
                "select current_setting('search_path'), to_regclass('pg_temp.untidy')"
            ).fetchone()
            assert found == ('"$user", public', None)


def test_g1_the_async_client_submits_and_waits_through_it(pooled_stage: Stage) -> None:
    """Many at once, over pipelines of its own colour."""
    stage = pooled_stage
    stage.start(routes.chain)

    async def submit_and_wait() -> list[str]:
        async with AsyncOrchestrator(
            routes.chain, database=stage.clients_url, broker=stage.broker_url, codec=seals.codec()
        ) as client:
            runs = [await client.submit(routes.set_out.create_signal(number)) for number in range(10)]
            return [(await run.wait(60)).status for run in runs]

    assert asyncio.run(submit_and_wait()) == ["completed"] * 10


@pytest.mark.parametrize("at_once", [True, False], ids=["a statement by itself", "a transaction"])
def test_a_transaction_takes_the_settings_along_that_a_session_has(pooled_stage: Stage, at_once: bool) -> None:
    """So statements are planned as they are without a pooler, and nothing of that is left in its sessions."""
    names = {
        "names": ["enable_seqscan", "enable_mergejoin", "jit", "plan_cache_mode", "idle_in_transaction_session_timeout"]
    }
    asks = "select name, setting from pg_settings where name = any(%(names)s::text[]) order by name"

    def look(_repeated: bool) -> Steps[Any]:
        first = yield Ask("asks", names)
        return first, (yield Ask("asks", names, as_dicts=True))

    def settings(url: str) -> Any:
        store = PostgresStore(url)
        store._statements = {**store._statements, "asks": asks}
        try:
            return store.run(PostgresOperation("look", look, at_once=at_once))
        finally:
            store.close()

    with psycopg.connect(pooled_stage.database_url) as connection:
        usual = connection.execute(asks, names).fetchall()
    assert usual != settings(pooled_stage.database_url)[0]
    assert settings(pooled_stage.clients_url) == settings(pooled_stage.database_url)
    with psycopg.connect(address_of(pooled_stage.clients_url).url, prepare_threshold=None) as connection:
        assert connection.execute(asks, names).fetchall() == usual


def test_nothing_is_prepared_by_a_name(pooled_stage: Stage) -> None:
    """Not after many times, either, when psycopg would begin to by itself."""
    client = pooled_stage.client(routes.chain)
    for number in range(20):
        client.submit(routes.set_out.create_signal(number)).status()

    with psycopg.connect(address_of(pooled_stage.clients_url).url, prepare_threshold=None) as connection:
        assert connection.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)


def test_a_pooler_that_the_url_does_not_tell_of_is_named(pooled_stage: Stage, pgbouncer: PgBouncer) -> None:
    """It refuses what a session begins with: the error says what to add to the URL, at once, and without the password."""
    undeclared = pgbouncer.undeclared(pooled_stage.database_url)

    with pytest.raises(ConfigurationError, match="add pooler=transaction to the database's URL") as refused:
        reach(undeclared)

    assert str(urlsplit(undeclared).password) not in str(refused.value)


def test_a_pooler_that_ignores_the_start_is_named_where_prepared_statements_are_lost(stage: Stage) -> None:
    """Told to ignore what it does not know, it lets clients in, and gives their next transaction to another session."""
    with running_pgbouncer(stage.database_url, ignore_startup_parameters="options") as careless:
        client = stage.client(routes.chain, database_url=careless.undeclared(stage.database_url))

        def problem() -> str | None:
            with ThreadPoolExecutor(6) as threads:
                tried = [threads.submit(client.submit, routes.set_out.create_signal(number)) for number in range(60)]
            errors = (one.exception() for one in tried)
            return next((str(error) for error in errors if isinstance(error, StoreUnavailable)), None)

        told = eventually(problem, what="a statement that was prepared elsewhere")

    assert "add pooler=transaction to the database's URL" in told


def test_the_same_url_is_right_for_a_pooler_in_session_mode(stage: Stage) -> None:
    """Nothing rests on a session, so it is no matter whose it is."""
    with running_pgbouncer(stage.database_url, pool_mode="session", default_pool_size="30") as pooler:
        stage.workers_url = stage.clients_url = pooler.url(stage.database_url)
        stage.start(routes.chain)
        client = stage.client(routes.chain)
        runs = [client.submit(routes.set_out.create_signal(number)) for number in range(20)]

        stage.all_completed(runs)


def test_migrations_and_queries_go_through_it(empty_database_url: str, pgbouncer: PgBouncer) -> None:
    """A migration is one transaction under its lock; a query only reads, and leaves nothing that it has set."""
    url = pgbouncer.url(empty_database_url)
    assert migrate(url)
    assert migrate(url) == []

    assert query(url, "select count(*) from cnstra.runs").rows == [(0,)]
    with pytest.raises(QueryError, match="`cnstra sql` only reads"):
        query(url, "delete from cnstra.retention")
    assert query(url, "set search_path = cnstra; select count(*) from runs").rows == [(0,)]
    assert query(url, "show search_path").rows == [('"$user", public',)]


@pytest.mark.parametrize(
    "ends",
    ["commit", " COMMIT and chain", "select 1;end", "/* ; */ rollback", "-- so\nabort", "prepare transaction 'x'"],
)
def test_a_query_that_ends_its_transaction_is_refused(database_url: str, pgbouncer: PgBouncer, ends: str) -> None:
    """What came after it would write: the session, which would refuse that, is the pooler's, and is anybody's next."""
    url = pgbouncer.url(database_url)

    with pytest.raises(QueryError, match=r"ends its transaction.*`cnstra sql` only reads"):
        query(url, f"{ends}; delete from cnstra.migration")

    assert query(url, "select count(*) > 0 from cnstra.migration").rows == [(True,)]


@pytest.mark.parametrize(
    "text",
    [
        "select case when true then 'x; commit' end",
        'select 1; select $a$; commit$a$ as "; end"',
        "select 1 -- ; rollback",
        "select 1; -- commit\nselect 2",
    ],
)
def test_a_query_that_speaks_of_ending_one_is_not(database_url: str, pgbouncer: PgBouncer, text: str) -> None:
    """Texts, names and comments end nothing."""
    assert len(query(pgbouncer.url(database_url), text).rows) == 1


def test_the_doctor_says_what_is_in_between(database_url: str, broker_url: str, pgbouncer: PgBouncer) -> None:
    """A pooler that is told of, one that is not and lets clients in all the same, and none."""

    def told(url: str) -> tuple[str, str]:
        [found] = [finding for finding in examine(url, broker_url) if finding.check == "pooler"]
        return found.level, found.message

    assert told(pgbouncer.url(database_url)) == ("ok", "one is in between; nothing rests on a session")
    assert not [finding for finding in examine(database_url, broker_url) if finding.check == "pooler"]
    level, message = told(f"{database_url}?pooler=transaction")
    assert (level, message.partition(";")[0]) == ("ok", "the URL names one, and none is in between")
    with running_pgbouncer(database_url, ignore_startup_parameters="options", default_pool_size="1") as careless:
        level, message = told(careless.undeclared(database_url))
    assert level == "warning"
    assert "add pooler=transaction to the database's URL" in message

"""The Postgres context store: whose transaction it writes in, what it refuses, and replies that are lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, ConnectionPool, NullConnectionPool

from cnstra.orchestrator.errors import ConfigurationError, ContextError, ContextExpired, SchemaError, StoreUnavailable
from cnstra.orchestrator.store import Portion
from cnstra.stores import PostgresContextStore
from cnstra.stores.postgres.retaining import Retaining
from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.transactions import TransactionRunner
from support.context_stores import submitted
from support.proxy import LosesCommitReplies

Connection = psycopg.Connection[Any]


@pytest.fixture
def onlooker(database_url: str) -> Iterator[Connection]:
    """Somebody else, who sees only what is committed."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection as psycopg gives it: not in autocommit mode."""
    with psycopg.connect(database_url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(params=["free", "of a run"])
def context_id(request: pytest.FixtureRequest, database_url: str) -> Any:
    """A free-standing context, and a run's."""
    return uuid4() if request.param == "free" else submitted(database_url)


# -- whose transaction ---------------------------------------------------------------------------------------------


def test_a_write_in_the_users_transaction_is_kept_when_that_commits(
    connection: Connection, onlooker: Connection, context_id: Any
) -> None:
    """Together with the user's own statements; before, nobody else sees it, and the user does."""
    connection.execute("create table mine (n integer)")
    store, other = PostgresContextStore(connection, context_id), PostgresContextStore(onlooker, context_id)
    store.set({"n": 1})
    store.update(lambda value: {"n": value["n"] + 1})
    assert store.get() == {"n": 2}
    assert other.get() is None
    connection.commit()
    assert other.get() == {"n": 2}
    assert onlooker.execute("select to_regclass('mine') is not null").fetchone() == (True,)


def test_a_write_in_a_transaction_that_is_rolled_back_was_never_made(
    connection: Connection, onlooker: Connection, context_id: Any
) -> None:
    """Neither value nor version is left of it; also where the store's call was the transaction's first."""
    store, other = PostgresContextStore(connection, context_id), PostgresContextStore(onlooker, context_id)
    other.set({"n": 1})
    before = other.get_versioned()
    for write in (lambda: store.set({"n": 2}), store.delete, lambda: store.compare_and_set(2, before.version)):
        write()
        assert store.version == before.version + 1
        connection.rollback()
        assert store.get_versioned() == other.get_versioned() == before
        connection.rollback()


def test_a_transaction_block_of_the_users_is_joined(onlooker: Connection, database_url: str, context_id: Any) -> None:
    """Also on a connection in autocommit mode; and a savepoint that is rolled back takes the write with it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        store, other = PostgresContextStore(connection, context_id), PostgresContextStore(onlooker, context_id)
        with connection.transaction():
            store.set("kept")
            with connection.transaction(force_rollback=True):
                store.set("undone")
            assert store.get() == "kept"
            assert other.get() is None
        assert other.get() == "kept"
        with connection.transaction(force_rollback=True):
            store.set("undone")
        assert other.get() == "kept"


def test_without_a_transaction_each_call_is_kept_at_once(
    onlooker: Connection, database_url: str, context_id: Any
) -> None:
    """On a connection in autocommit mode, and on one of a pool, whatever mode the pool's connections are in."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        PostgresContextStore(connection, context_id).set(1)
        assert PostgresContextStore(onlooker, context_id).get() == 1
    for kind in (ConnectionPool, NullConnectionPool):
        for autocommit in (False, True):
            with kind(database_url, min_size=0, max_size=1, kwargs={"autocommit": autocommit}, open=True) as pool:
                store = PostgresContextStore(pool, context_id)
                value = store.update(lambda value: value + 1)
                assert PostgresContextStore(onlooker, context_id).get() == value


def test_a_refused_value_leaves_the_users_transaction_usable(connection: Connection, context_id: Any) -> None:
    """It is refused before anything is sent."""
    connection.execute("select 1")
    store = PostgresContextStore(connection, context_id)
    with pytest.raises(Exception, match=r"builtins\.set"):
        store.set({1})
    assert connection.execute("select 2").fetchone() == (2,)


def test_threads_that_share_a_connection_do_not_take_each_others_transactions(
    onlooker: Connection, database_url: str, context_id: Any
) -> None:
    """Two stores on one connection, each on a thread of its own: every call is its own transaction, and is kept."""
    errors: list[BaseException] = []

    def count(store: PostgresContextStore) -> None:
        try:
            for _ in range(30):
                store.update(lambda value: (value or 0) + 1)
        except BaseException as error:
            errors.append(error)

    with psycopg.connect(database_url, autocommit=True) as connection:
        threads = [
            threading.Thread(target=count, args=[PostgresContextStore(connection, context_id)]) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert PostgresContextStore(onlooker, context_id).get() == 90


def test_the_users_ways_of_reading_rows_and_json_are_left_alone(database_url: str, context_id: Any) -> None:
    """A connection with a row factory, and JSON read as text, serves as well as any."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        set_json_loads(lambda data: data if isinstance(data, str) else bytes(data).decode(), connection)
        store = PostgresContextStore(connection, context_id)
        store.set({"a": 1})
        assert store.update(lambda value: {**value, "b": 2}) == {"a": 1, "b": 2}
        assert store.get() == {"a": 1, "b": 2}


# -- lost replies and outages --------------------------------------------------------------------------------------


@pytest.mark.past_the_pooler
def test_a_write_whose_commit_was_not_answered_is_not_made_twice(onlooker: Connection, database_url: str) -> None:
    """The caller learns that nobody knows; the update counts once, not twice, and the pool works on."""
    for context_id in (uuid4(), submitted(database_url)):
        with (
            LosesCommitReplies(database_url) as wire,
            ConnectionPool(wire.url, min_size=0, max_size=2, open=True) as pool,
        ):
            store = PostgresContextStore(pool, context_id)
            store.set({"n": 1})

            def add(value: Any, wire: LosesCommitReplies = wire) -> Any:
                wire.arm()  # what was read is read; the next transaction is the write's
                return {"n": value["n"] + 1}

            with pytest.raises(StoreUnavailable, match=str(context_id)) as away:
                store.update(add)
            assert wire.has_lost_one
            assert "'n'" not in str(away.value)
            assert PostgresContextStore(onlooker, context_id).get() == {"n": 2}
            assert store.update(lambda value: {"n": value["n"] + 1}) == {"n": 3}


def test_a_pools_connections_that_were_lost_cost_nobody_a_write(database_url: str, onlooker: Connection) -> None:
    """What had not been committed for sure is done again on another connection."""
    with ConnectionPool(database_url, min_size=2, max_size=2, open=True) as pool:
        pool.wait()
        store = PostgresContextStore(pool, uuid4())
        store.set([1])
        onlooker.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        assert store.update(lambda value: [*value, 2]) == [1, 2]
        assert store.get() == [1, 2]


def test_a_connection_that_was_lost_is_an_error_that_names_the_context(database_url: str, onlooker: Connection) -> None:
    """The user's own connection is the user's to make anew: inside a transaction and outside of one."""
    for autocommit in (True, False):
        with psycopg.connect(database_url, autocommit=autocommit) as connection:
            store = PostgresContextStore(connection, uuid4())
            store.set({"card": "hush"})
            onlooker.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
            for use in (store.get, partial(store.set, {"card": "hush"}), store.delete):
                with pytest.raises(StoreUnavailable, match=r"context [0-9a-f-]{36} in Postgres") as away:
                    use()
                assert "hush" not in str(away.value)


def test_a_deadlock_is_tried_again(database_url: str, onlooker: Connection) -> None:
    """Postgres rolled it back for certain, so that the write may be made anew: nobody learns of it."""
    context_id = uuid4()
    PostgresContextStore(onlooker, context_id).set([0])
    onlooker.execute("create table tally (n integer)")
    onlooker.execute(
        "create function once() returns trigger language plpgsql as $$ begin "
        "if nextval('times') = 1 then raise exception using errcode = '40P01'; end if; return new; end $$"
    )
    onlooker.execute("create sequence times")
    onlooker.execute("create trigger once before update on cnstra.free_context for each row execute function once()")
    store = PostgresContextStore(onlooker, context_id)
    version = store.version
    assert store.update(lambda value: [*value, 1]) == [0, 1]
    assert store.version == version + 1
    assert onlooker.execute("select last_value from times").fetchone() == (2,)


# -- what is refused -----------------------------------------------------------------------------------------------


def test_a_database_without_the_schema_is_told_from_one_that_is_away(empty_database_url: str) -> None:
    """The error names the command that mends it."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        store = PostgresContextStore(connection, uuid4())
        for use in (store.get, lambda: store.set(1), lambda: store.version):
            with pytest.raises(SchemaError, match="cnstra migrate"):
                use()


def test_a_pool_that_was_closed_is_an_error_at_once(database_url: str) -> None:
    """Nobody waits for what cannot come."""
    pool = ConnectionPool(database_url, min_size=0, max_size=1, open=True)
    pool.close()
    with pytest.raises(StoreUnavailable, match="PoolClosed"):
        PostgresContextStore(pool, uuid4()).get()


def test_what_is_no_sync_connection_is_refused_when_the_store_is_made(database_url: str) -> None:
    """Async ones above all, which would answer with a coroutine that nobody awaits."""

    async def refuse() -> None:
        pool = AsyncConnectionPool(database_url, min_size=0, max_size=1, open=False)
        connection = await psycopg.AsyncConnection.connect(database_url)
        async with connection:
            for source in (pool, connection):
                with pytest.raises(ConfigurationError, match=r"sync; give it a psycopg\.Connection"):
                    PostgresContextStore(source, uuid4())  # type: ignore[arg-type]

    asyncio.run(refuse())
    for source in (database_url, None, object()):
        with pytest.raises(ConfigurationError, match=r"psycopg\.Connection or a psycopg_pool\.ConnectionPool"):
            PostgresContextStore(source, uuid4())  # type: ignore[arg-type]


@pytest.mark.parametrize("context_id", ["", "session-123", 7, None])
def test_what_is_no_uuid_is_refused_when_the_store_is_made(connection: Connection, context_id: Any) -> None:
    """With a word about what would be one."""
    with pytest.raises(ConfigurationError, match="UUID"):
        PostgresContextStore(connection, context_id)


@pytest.mark.parametrize(
    "ttl", [0, -1, 0.0001, float("nan"), float("inf"), True, "60", timedelta(0), timedelta(40_000)]
)
def test_what_is_no_lifetime_is_refused_when_the_store_is_made(connection: Connection, ttl: Any) -> None:
    """Neither none at all, nor one that no calendar has."""
    with pytest.raises(ConfigurationError, match="ttl is"):
        PostgresContextStore(connection, uuid4(), ttl=ttl)


def test_a_value_written_without_a_codec_is_not_given_to_one(connection: Connection) -> None:
    """Nor the other way round: the store says which of both it was, and writing over it works."""
    from support.context_stores import Zipped

    context_id = uuid4()
    plain, zipped = (
        PostgresContextStore(connection, context_id),
        PostgresContextStore(connection, context_id, codec=Zipped()),
    )
    plain.set([1])
    with pytest.raises(Exception, match="without a codec"):
        zipped.get()
    zipped.set([2])
    with pytest.raises(Exception, match="with a codec of its own"):
        plain.get()
    assert zipped.get() == [2]
    plain.set([3])
    assert plain.get() == [3]


def test_a_sweep_takes_what_has_expired_and_nothing_else(database_url: str, onlooker: Connection) -> None:
    """So many at a time; what somebody writes at that moment lives on, and is not waited for."""
    ids = [uuid4() for _ in range(6)]
    for number, context_id in enumerate(ids):
        PostgresContextStore(onlooker, context_id, ttl=None if number == 0 else 3600).set(number)
    onlooker.execute(
        "update cnstra.free_context set expires_at = clock_timestamp() - (data::text || ' s')::interval "
        "where context_id = any(%s)",
        [ids[2:]],
    )
    runner = TransactionRunner(lambda: nullcontext(onlooker), statements())

    def sweep(limit: int) -> int:
        return runner.run(Retaining().expire(Portion(runs=limit))).free_contexts

    with psycopg.connect(database_url) as writer:
        PostgresContextStore(writer, ids[5], ttl=3600).set("again")
        assert sweep(2) == 2
        assert sweep(2) == 1
        assert sweep(2) == 0
        writer.commit()
    assert sweep(2) == 0
    left = onlooker.execute("select context_id from cnstra.free_context").fetchall()
    assert {context_id for (context_id,) in left} == {ids[0], ids[1], ids[5]}


def test_a_version_from_before_the_sweep_is_never_met_again(onlooker: Connection) -> None:
    """Nothing is left of a context that was swept; one that is made anew under its id still begins above its end."""
    store = PostgresContextStore(onlooker, uuid4(), ttl=3600)
    for number in range(3):
        store.set(number)
    read = store.version
    onlooker.execute("update cnstra.free_context set expires_at = clock_timestamp()")
    TransactionRunner(lambda: nullcontext(onlooker), statements()).run(Retaining().expire(Portion()))
    assert onlooker.execute("select count(*) from cnstra.free_context").fetchone() == (0,)
    for _ in range(5):
        store.set("new")
        assert store.version > read
        assert not store.compare_and_set("stale", read)
    assert store.get() == "new"


def test_the_context_of_a_run_that_the_retention_took_is_neither_read_nor_written(
    database_url: str, onlooker: Connection
) -> None:
    """It is not taken for one that was never written: a new key must not look like all that there ever was."""
    run_id = submitted(database_url)
    store = PostgresContextStore(onlooker, run_id)
    store.set({"a": 1})
    onlooker.execute("update cnstra.run set context_kept = false where run_id = %s", [run_id])

    for use in (store.get, lambda: store.set({"b": 2}), lambda: store.update(lambda value: value)):
        with pytest.raises(ContextExpired, match=str(run_id)):
            use()


def test_the_context_of_a_run_that_is_kept_elsewhere_is_neither_read_nor_written(
    database_url: str, onlooker: Connection
) -> None:
    """What Postgres has of it are references, which are no values, and which no value may take the place of."""
    run_id = submitted(database_url)
    onlooker.execute("update cnstra.run set context_place = 'cellar' where run_id = %s", [run_id])
    store = PostgresContextStore(onlooker, run_id)

    for use in (store.get, lambda: store.set({"b": 2}), lambda: store.update(lambda value: value)):
        with pytest.raises(ContextError, match="'cellar'"):
            use()

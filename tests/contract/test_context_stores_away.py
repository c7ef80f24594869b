"""Context stores while their server is away, and after it came back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from psycopg_pool import ConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from cnstra.orchestrator.contexts import VersionedContextStore
from cnstra.orchestrator.errors import StoreUnavailable
from cnstra.servers import HeldServers, hold
from cnstra.stores import PostgresContextStore, RedisContextStore
from cnstra.stores.postgres import migrate
from support.folders import temporary_home


@pytest.fixture(scope="module")
def doomed_servers(no_servers_given: None) -> Iterator[HeldServers]:
    """Servers that these tests stop and start."""
    with temporary_home() as home, hold(home, durable=False) as held:
        migrate(held.database_url)
        yield held


def uses(store: VersionedContextStore) -> list[Callable[[], Any]]:
    """Everything that can be asked of a store."""
    return [
        store.get,
        store.get_versioned,
        lambda: store.version,
        lambda: store.set({"card": "hush"}),
        lambda: store.compare_and_set({"card": "hush"}, 1),
        lambda: store.update(lambda value: {"card": "hush"}),
        store.delete,
    ]


def is_away(store: VersionedContextStore, name: str) -> None:
    """Every use is an error that names the context, and no value."""
    for use in uses(store):
        with pytest.raises(StoreUnavailable, match=name) as away:
            use()
        assert "hush" not in str(away.value)


def test_redis_goes_away_and_comes_back(doomed_servers: HeldServers) -> None:
    """Each use says so; afterwards the same store works. What that Redis lost is missing, and no old version is met."""
    url = doomed_servers.broker_url
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1)) as client:
        store = RedisContextStore(client, "session-123")
        store.set({"n": 1})
        before = store.version
        doomed_servers.stop_valkey()
        try:
            is_away(store, "'cnstra:ctx:session-123' on Redis")
        finally:
            doomed_servers.start_valkey()
        assert store.get_versioned().version == 0
        assert not store.compare_and_set({"n": 2}, before)
        assert store.update(lambda value: {"n": (value or {"n": 0})["n"] + 1}) == {"n": 1}
        assert store.version > before


def test_postgres_goes_away_and_comes_back(doomed_servers: HeldServers) -> None:
    """Each use says so; afterwards the same store works, with all that was committed."""
    context_id = uuid4()
    with ConnectionPool(doomed_servers.database_url, min_size=1, max_size=2, timeout=0.2, open=True) as pool:
        pool.wait()
        store = PostgresContextStore(pool, context_id)
        store.set({"n": 1})
        version = store.version
        doomed_servers.stop_postgres()
        try:
            is_away(store, f"context {context_id} in Postgres")
        finally:
            doomed_servers.start_postgres()
        pool.check()
        pool.resize(2, 2)
        pool.wait()
        assert store.get() == {"n": 1}
        assert store.update(lambda value: {"n": value["n"] + 1}) == {"n": 2}
        assert store.version == version + 1


def test_postgres_restarts_between_two_uses(doomed_servers: HeldServers) -> None:
    """A pool full of connections that are gone costs nobody a write."""
    with ConnectionPool(doomed_servers.database_url, min_size=3, max_size=3, open=True) as pool:
        pool.wait()
        store = PostgresContextStore(pool, uuid4())
        store.set({"n": 1})
        doomed_servers.restart_postgres()
        assert store.update(lambda value: {"n": value["n"] + 1}) == {"n": 2}

"""Context stores as users write and pass them, judged by the type checkers.

Nothing in this file runs; ``test_types.py`` has mypy and pyright read it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type
from uuid import UUID

import psycopg
import redis
from psycopg_pool import ConnectionPool

from cnstra.orchestrator.codecs import Codec
from cnstra.orchestrator.contexts import ContextStore, Versioned, VersionedContextStore
from cnstra.stores import (
    CompressedCodec,
    EncryptedCodec,
    InMemoryContextStore,
    PostgresContextStore,
    RedisContextStore,
)


class Notebook:
    """A store of the user's own."""

    def __init__(self) -> None:
        self._value: Any = None

    def get(self) -> Any:
        return self._value

    def set(self, data: Any) -> None:
        self._value = data


class Bytes:
    """A codec of the user's own."""

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, data: bytes) -> bytes:
        return data


def takes_any(store: ContextStore) -> None: ...
def takes_versioned(store: VersionedContextStore) -> None: ...


def longer(value: list[int] | None) -> list[int]:
    return [*(value or []), 1]


def every_store(
    client: redis.Redis, connection: psycopg.Connection[Any], pool: ConnectionPool[Any], run_id: UUID
) -> None:
    codec: Codec = Bytes()
    stores: list[InMemoryContextStore | RedisContextStore | PostgresContextStore] = [
        InMemoryContextStore(),
        InMemoryContextStore({"a": 1}, codec=codec),
        RedisContextStore(client, "session-123"),
        RedisContextStore(client, run_id, ttl=timedelta(hours=1), prefix="app:", codec=Bytes()),
        RedisContextStore(
            client, run_id, codec=EncryptedCodec({"k1": b""}, inner=CompressedCodec(codec), current="k1")
        ),
        PostgresContextStore(pool, run_id, codec=EncryptedCodec.from_file("keys")),
        RedisContextStore(client, "session-123", None),
        PostgresContextStore(connection, run_id),
        PostgresContextStore(pool, str(run_id), codec=codec, ttl=60.5),
    ]
    takes_any(Notebook())
    for store in stores:
        takes_any(store)
        takes_versioned(store)
        assert_type(store.version, int)
        assert_type(store.get_versioned(), Versioned)
        assert_type(store.compare_and_set({"a": 1}, 0), bool)
        assert_type(store.update(longer), list[int])
        store.set(None)
        store.delete()

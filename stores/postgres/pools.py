"""Pools of connections: how the store connects, and when it does.

Pools open when they are first used, and anew after a fork: a connection must not be shared by two processes.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any
from uuid import UUID

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from cnstra.stores.postgres.addresses import Address
from cnstra.stores.postgres.overlapping import OverlappingConnection

POOL: dict[str, Any] = {"timeout": 5.0, "reconnect_timeout": 10.0, "name": "cnstra"}
"""Seconds to wait for a connection, and to go on trying to make one."""

# Plans of the hot statements must not depend on statistics, which lag behind on tables that grow fast, nor be made anew for
# the parameters of each call: by statistics, the planner may choose to hash or scan whole tables where an index gives the one
# row.
PLANNING = "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off -c jit=off -c plan_cache_mode=force_generic_plan"

# A process that is stopped inside a transaction keeps its locks: on a run, on its own lease, on the row that elects the
# supervisor. The server ends such a transaction soon, so that others can go on; the process, if it ever does, repeats it. The
# second is for who was stopped, or cut off, before it had read what the server still has to say.
STALLING = "-c idle_in_transaction_session_timeout=3s -c tcp_user_timeout=10s"

# A host that vanishes without a word leaves its sessions behind. The server learns of that soon, instead of keeping their
# locks, and their places among its connections, for the two hours that TCP would.
_VANISHING = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"

SILENCE = 5
"""Seconds after which a server that does not answer packets is taken for gone: a third of the usual lease, so that a worker
whose connections lead nowhere any more finds new ones before it is taken for lost."""


def connecting(address: Address, *options: str, silence: int = SILENCE) -> dict[str, Any]:
    """How to connect; what the URL itself says goes first. Raises ``ConfigurationError`` for one that is none."""
    given = address.parts()
    defaults: dict[str, Any] = {"application_name": "cnstra", **_network(silence)}
    return (
        {name: value for name, value in defaults.items() if name not in given}
        | {
            "autocommit": True,
            "client_encoding": "utf8",  # whatever PGCLIENTENCODING says to other programs: names and JSON are not to depend on it
            **address.starting_with(_VANISHING, *options),
        }
    )


def _network(silence: int) -> dict[str, int]:
    """A server that vanishes without a word must not hold a thread for the quarter of an hour that TCP would wait: neither one
    that has sent something, nor one that is to use a connection that lay idle meanwhile."""
    return {
        "connect_timeout": 5,
        "keepalives_idle": silence - 2,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        "tcp_user_timeout": silence * 1_000,
    }


class _UuidLoader(Loader):
    """The same id comes again and again, of a run above all: it is read once, and is one object."""

    def load(self, data: Buffer) -> UUID:
        return _uuid(bytes(data))


@lru_cache(maxsize=4_096)
def _uuid(text: bytes) -> UUID:
    return UUID(text.decode())


def _configure(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    connection.adapters.register_loader("uuid", _UuidLoader)


async def _configure_async(connection: psycopg.AsyncConnection[Any]) -> None:
    _configure(connection)


@contextmanager
def lent(
    pool: ConnectionPool[OverlappingConnection], patience: float | None = None
) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection of the pool; ``patience`` is in seconds, by default that of the pool. One on which nothing could be written is
    closed: the next one may lead to a primary, where the name in the URL has gone over to another host, or there are several."""
    with pool.connection(patience) as connection:
        try:
            yield connection
        except psycopg.errors.ReadOnlySqlTransaction:
            connection.close()
            raise


@asynccontextmanager
async def lent_async(
    pool: AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]], patience: float | None = None
) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
    """The same, awaited."""
    async with pool.connection(patience) as connection:
        try:
            yield connection
        except psycopg.errors.ReadOnlySqlTransaction:
            await connection.close()
            raise


class LazyPool:
    """A pool for threads, open from its first use on; ``connections`` of them at most."""

    def __init__(self, address: Address, connecting: Mapping[str, Any], connections: int) -> None:
        self._url = address.url
        self._connecting = dict(connecting)
        self._connections = connections
        self._lock = threading.Lock()
        self._opened: tuple[int, ConnectionPool[OverlappingConnection]] | None = None

    def opened(self) -> ConnectionPool[OverlappingConnection]:
        """This process's pool."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            with self._lock:
                opened = self._opened
                if opened is None or opened[0] != os.getpid():
                    pool = ConnectionPool(
                        self._url,
                        connection_class=OverlappingConnection,
                        min_size=0,
                        max_size=self._connections,
                        kwargs=self._connecting,
                        configure=_configure,
                        open=True,
                        **POOL,
                    )
                    self._opened = opened = (os.getpid(), pool)
                    weakref.finalize(self, _close_in, *opened)
        return opened[1]

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()


def _close_in(process: int, pool: ConnectionPool[Any]) -> None:
    """Close a pool whose store was left open, at the latest before the interpreter's own end: from Python 3.13 on the pool's
    finalizer waits there, 5 s each, for threads that are gone. A child of a fork leaves its parent's pool alone."""
    if process == os.getpid():
        pool.close()


class LazyAsyncPool:
    """The same for one event loop, on which it is used and closed."""

    def __init__(self, address: Address, connecting: Mapping[str, Any], connections: int) -> None:
        self._url = address.url
        self._connecting = dict(connecting)
        self._connections = connections
        self._lock = asyncio.Lock()
        self._opened: tuple[int, AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]] | None = None

    async def opened(self) -> AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]:
        """This process's pool."""
        async with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                pool = AsyncConnectionPool(
                    self._url,
                    min_size=0,
                    max_size=self._connections,
                    kwargs=self._connecting,
                    configure=_configure_async,
                    open=False,
                    **POOL,
                )
                await pool.open()
                self._opened = (os.getpid(), pool)
            return self._opened[1]

    async def close(self) -> None:
        """Let go of all connections. Idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            await opened[1].close()

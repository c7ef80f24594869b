"""The store over pools of connections: one class for blocking callers, one for async ones.

Pools open when they are first used, and anew after a fork: a connection must not be shared by two processes.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import nullcontext, suppress
from typing import Any, TypeVar, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from cnstra.orchestrator.errors import ConfigurationError, StoreUnavailable, SubmitError
from cnstra.orchestrator.store import Operation
from cnstra.stores.postgres.applying import Applying
from cnstra.stores.postgres.claiming import Claiming
from cnstra.stores.postgres.littering import Littering
from cnstra.stores.postgres.reading import Reading
from cnstra.stores.postgres.retaining import Retaining
from cnstra.stores.postgres.sending import Sending
from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.submitting import Submitting
from cnstra.stores.postgres.supervising import Supervising
from cnstra.stores.postgres.transactions import (
    AsyncTransactionRunner,
    InterferenceError,
    PostgresOperation,
    TransactionRunner,
    translating,
)

T = TypeVar("T")

CLOCK = "clock_timestamp()"


class PostgresOperations(Submitting, Claiming, Applying, Supervising, Retaining, Reading, Littering, Sending):
    """All operations of a store of runs, as transactions of Postgres."""


_POOL: dict[str, Any] = {"timeout": 5.0, "reconnect_timeout": 10.0, "name": "cnstra"}
"""Seconds to wait for a connection, and to go on trying to make one."""

# Plans of the hot statements must not depend on statistics, which lag behind on tables that grow fast: with them, the
# planner may choose to hash or scan whole tables where an index gives the one row.
_PLANNING = "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off -c jit=off"

# A process that is stopped inside a transaction keeps its locks: on a run, on its own lease, on the row that elects the
# supervisor. The server ends such a transaction soon, so that others can go on; the process, if it ever does, repeats it.
_STALLING = "-c idle_in_transaction_session_timeout=3s"

# A server that vanishes without a word must not hold a thread for the quarter of an hour that TCP would wait.
_NETWORK = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


_IN_USERS = "submit within your transaction"


_BEGINNINGS = 5
"""How often a submit begins anew when somebody else changed beneath it what it had read."""


def _interfered() -> StoreUnavailable:
    return StoreUnavailable(f"{_IN_USERS}: others changed what it read {_BEGINNINGS} times in a row; submit it again")


def _no_connection(given: object, wanted: str) -> SubmitError:
    return SubmitError(
        f"connection= is a {type(given).__module__}.{type(given).__qualname__}; this client takes a {wanted}, on which your "
        "transaction is open"
    )


def _connecting(database_url: str) -> dict[str, Any]:
    """How to connect; what the URL itself says goes first. Raises ``ConfigurationError`` for one that is none."""
    try:
        given = conninfo_to_dict(database_url)
    except psycopg.Error:  # its text may quote the password
        raise ConfigurationError(
            "the database's URL cannot be used: it is to read postgresql://user:password@host:port/database; "
            "special characters in a password must be percent-encoded"
        ) from None
    options = " ".join(str(part) for part in (_PLANNING, _STALLING, given.get("options")) if part)
    defaults: dict[str, Any] = {"application_name": "cnstra", **_NETWORK}
    return {name: value for name, value in defaults.items() if name not in given} | {
        "autocommit": True,
        "options": options,
    }


class PostgresStore(PostgresOperations):
    """Runs in Postgres, for blocking callers. Threads share it; ``connections`` of them at most work at a time."""

    def __init__(self, database_url: str, *, connections: int = 4, clock: str = CLOCK) -> None:
        self._url = database_url
        self._connecting = _connecting(database_url)
        self._connections = connections
        self._statements = statements(clock)
        self._lock = threading.Lock()
        self._opened: tuple[int, ConnectionPool[psycopg.Connection[TupleRow]]] | None = None

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation. Raises ``StoreUnavailable``, ``DataRefused``, ``SchemaError``."""
        runner = TransactionRunner(self._pool().connection, self._statements)
        return runner.run(cast("PostgresOperation[T]", operation))

    def run_in(self, connection: psycopg.Connection[Any], operation: Operation[T], /) -> T:
        """Carry out an operation within the caller's own transaction, whole or not at all.

        Where none is open one is begun, as by any statement; in autocommit mode it is a transaction of its own.
        """
        if not isinstance(connection, psycopg.Connection):
            raise _no_connection(connection, "psycopg.Connection")
        runner = TransactionRunner(lambda: nullcontext(connection), self._statements)
        with translating(_IN_USERS):
            if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
                connection.execute("select")
            for _ in range(_BEGINNINGS):
                with suppress(InterferenceError), connection.transaction():
                    return runner.steps(connection, cast("PostgresOperation[T]", operation))
        raise _interfered()

    def _pool(self) -> ConnectionPool[psycopg.Connection[TupleRow]]:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            with self._lock:
                opened = self._opened
                if opened is None or opened[0] != os.getpid():
                    pool = ConnectionPool(
                        self._url,
                        min_size=0,
                        max_size=self._connections,
                        kwargs=self._connecting,
                        open=True,
                        **_POOL,
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


class AsyncPostgresStore(PostgresOperations):
    """Runs in Postgres, for async callers on one event loop."""

    def __init__(self, database_url: str, *, connections: int = 4, clock: str = CLOCK) -> None:
        self._url = database_url
        self._connecting = _connecting(database_url)
        self._connections = connections
        self._statements = statements(clock)
        self._opened: AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]] | None = None

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation. Raises ``StoreUnavailable``, ``DataRefused``, ``SchemaError``."""
        pool = await self._pool()
        runner = AsyncTransactionRunner(pool.connection, self._statements)
        return await runner.run(cast("PostgresOperation[T]", operation))

    async def run_in(self, connection: psycopg.AsyncConnection[Any], operation: Operation[T], /) -> T:
        """Carry out an operation within the caller's own transaction; see ``PostgresStore.run_in``."""
        if not isinstance(connection, psycopg.AsyncConnection):
            raise _no_connection(connection, "psycopg.AsyncConnection")
        runner = AsyncTransactionRunner(lambda: nullcontext(connection), self._statements)
        with translating(_IN_USERS):
            if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
                await connection.execute("select")
            for _ in range(_BEGINNINGS):
                with suppress(InterferenceError):
                    async with connection.transaction():
                        return await runner.steps(connection, cast("PostgresOperation[T]", operation))
        raise _interfered()

    async def _pool(self) -> AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]:
        if self._opened is None:
            self._opened = AsyncConnectionPool(
                self._url,
                min_size=0,
                max_size=self._connections,
                kwargs=self._connecting,
                open=False,
                **_POOL,
            )
            await self._opened.open()
        return self._opened

    async def close(self) -> None:
        """Let go of all connections. Idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

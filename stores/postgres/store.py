"""The store over pools of connections: one class for blocking callers, one for async ones.

It says which operations there are, and whose connections they use; the pools themselves are in ``pools``.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any, TypeVar, cast

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from cnstra.orchestrator.errors import StoreUnavailable, SubmitError
from cnstra.orchestrator.store import Operation
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.applying import Applying
from cnstra.stores.postgres.claiming import Claiming
from cnstra.stores.postgres.littering import Littering
from cnstra.stores.postgres.mirroring import Mirroring
from cnstra.stores.postgres.pools import PLANNING, POOL, STALLING, LazyPool, connecting
from cnstra.stores.postgres.reading import Reading
from cnstra.stores.postgres.retaining import Retaining
from cnstra.stores.postgres.sending import Sending
from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.stepping import PostgresTransactions
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


class PostgresOperations(
    Submitting, Claiming, Applying, Supervising, Retaining, Reading, Mirroring, Littering, Sending
):
    """All operations of a store of runs, as transactions of Postgres."""


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


class PostgresStore(PostgresOperations):
    """Runs in Postgres, for blocking callers. Threads share it; ``connections`` of them at most work at a time."""

    def __init__(self, database_url: str, *, connections: int = 6, clock: str = CLOCK) -> None:
        self._address = address_of(database_url)
        self._statements = statements(clock)
        self._settings = self._address.taken_along(PLANNING, STALLING)
        self._pool = LazyPool(self._address, connecting(self._address, PLANNING, STALLING), connections)

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation. Raises ``StoreUnavailable``, ``DataRefused``, ``SchemaError``."""
        runner = TransactionRunner(self._pool.opened().connection, self._statements, self._settings)
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

    def transactions(self, limit: int) -> PostgresTransactions:
        """Transactions that handlers take part in, ``limit`` of each colour at most at a time."""
        return PostgresTransactions(self._address, limit, self._statements, self.apply)

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        self._pool.close()


class AsyncPostgresStore(PostgresOperations):
    """Runs in Postgres, for async callers on one event loop."""

    def __init__(self, database_url: str, *, connections: int = 6, clock: str = CLOCK) -> None:
        self._address = address_of(database_url)
        self._connecting = connecting(self._address, PLANNING, STALLING)
        self._settings = self._address.taken_along(PLANNING, STALLING)
        self._connections = connections
        self._statements = statements(clock)
        self._opened: AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]] | None = None

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation. Raises ``StoreUnavailable``, ``DataRefused``, ``SchemaError``."""
        pool = await self._pool()
        runner = AsyncTransactionRunner(pool.connection, self._statements, self._settings)
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
                self._address.url,
                min_size=0,
                max_size=self._connections,
                kwargs=self._connecting,
                open=False,
                **POOL,
            )
            await self._opened.open()
        return self._opened

    async def close(self) -> None:
        """Let go of all connections. Idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

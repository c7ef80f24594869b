"""The store over pools of connections: one class for blocking callers, one for async ones.

It says which operations there are, and whose connections they use; the pools themselves are in ``pools``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from cnstra.orchestrator.driving import driven, driven_async
from cnstra.orchestrator.errors import StoreUnavailable, SubmitError
from cnstra.orchestrator.store import Operation
from cnstra.stores.postgres.addresses import Address, address_of
from cnstra.stores.postgres.applying import Applying
from cnstra.stores.postgres.claiming import Claiming
from cnstra.stores.postgres.littering import Littering
from cnstra.stores.postgres.mirroring import Mirroring
from cnstra.stores.postgres.pools import (
    PLANNING,
    POOL,
    STALLING,
    LazyAsyncPool,
    LazyPool,
    connecting,
    lent,
    lent_async,
)
from cnstra.stores.postgres.reading import Reading
from cnstra.stores.postgres.replicas import IMPATIENCE, Call, Replicas
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


def _within(replicas: Replicas | None, operation: PostgresOperation[T]) -> PostgresOperation[T]:
    """An operation for a transaction of the user's own, of which a client that reads from replicas must know the end."""
    return operation if replicas is None else replicas.within(operation)


def _no_connection(given: object, wanted: str) -> SubmitError:
    return SubmitError(
        f"connection= is a {type(given).__module__}.{type(given).__qualname__}; this client takes a {wanted}, on which your "
        "transaction is open"
    )


class _Server(NamedTuple):
    """The primary, or a replica: where it is, how a session begins there, and what each transaction takes along."""

    address: Address
    connecting: dict[str, Any]
    settings: Mapping[str, Any] | None


def _servers(database_url: str, replicas: Sequence[str]) -> list[_Server]:
    """The primary, and the replicas behind it."""
    addresses = map(address_of, (database_url, *replicas))
    return [
        _Server(address, connecting(address, PLANNING, STALLING), address.taken_along(PLANNING, STALLING))
        for address in addresses
    ]


class PostgresStore(PostgresOperations):
    """Runs in Postgres, for blocking callers. Threads share it; ``connections`` of them at most work at a time.

    ``replicas`` are URLs of standbys, from which clients' reads may come.
    """

    def __init__(
        self, database_url: str, *, connections: int = 6, clock: str = CLOCK, replicas: Sequence[str] = ()
    ) -> None:
        self._statements = statements(clock)
        self._servers = _servers(database_url, replicas)
        self._pools = [LazyPool(server.address, server.connecting, connections) for server in self._servers]
        self._replicas = Replicas(replicas) if replicas else None

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation. Raises ``StoreUnavailable``, ``DataRefused``, ``SchemaError``."""
        if self._replicas is None:
            return cast("T", self._carry_out(Call(None, cast("PostgresOperation[T]", operation))))
        return driven(self._replicas.route(cast("PostgresOperation[T]", operation)), self._carry_out)

    def _carry_out(self, call: Call) -> Any:
        number = 0 if call.server is None else call.server + 1
        pool = self._pools[number].opened()
        lend = partial(lent, pool, None if call.patient else IMPATIENCE)
        runner = TransactionRunner(lend, self._statements, self._servers[number].settings)
        return runner.run(call.operation, patient=call.patient)

    def run_in(self, connection: psycopg.Connection[Any], operation: Operation[T], /) -> T:
        """Carry out an operation within the caller's own transaction, whole or not at all.

        Where none is open one is begun, as by any statement; in autocommit mode it is a transaction of its own.
        """
        if not isinstance(connection, psycopg.Connection):
            raise _no_connection(connection, "psycopg.Connection")
        runner = TransactionRunner(lambda: nullcontext(connection), self._statements)
        ours = _within(self._replicas, cast("PostgresOperation[T]", operation))
        with translating(_IN_USERS):
            if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
                connection.execute("select")
            for _ in range(_BEGINNINGS):
                with suppress(InterferenceError), connection.transaction():
                    return runner.steps(connection, ours)
        raise _interfered()

    def transactions(self, limit: int) -> PostgresTransactions:
        """Transactions that handlers take part in, ``limit`` of each colour at most at a time."""
        return PostgresTransactions(self._servers[0].address, limit, self._statements, self.apply)

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        for pool in self._pools:
            pool.close()


class AsyncPostgresStore(PostgresOperations):
    """Runs in Postgres, for async callers on one event loop; see ``PostgresStore``."""

    def __init__(
        self, database_url: str, *, connections: int = 6, clock: str = CLOCK, replicas: Sequence[str] = ()
    ) -> None:
        self._servers = _servers(database_url, replicas)
        self._connections = connections
        self._statements = statements(clock)
        self._opened: AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]] | None = None
        self._replicas = Replicas(replicas) if replicas else None
        self._replica_pools = [
            LazyAsyncPool(server.address, server.connecting, connections) for server in self._servers[1:]
        ]

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation. Raises ``StoreUnavailable``, ``DataRefused``, ``SchemaError``."""
        if self._replicas is None:
            return cast("T", await self._carry_out(Call(None, cast("PostgresOperation[T]", operation))))
        return await driven_async(self._replicas.route(cast("PostgresOperation[T]", operation)), self._carry_out)

    async def _carry_out(self, call: Call) -> Any:
        number = 0 if call.server is None else call.server + 1
        pool = await (self._pool() if not number else self._replica_pools[number - 1].opened())
        lend = partial(lent_async, pool, None if call.patient else IMPATIENCE)
        runner = AsyncTransactionRunner(lend, self._statements, self._servers[number].settings)
        return await runner.run(call.operation, patient=call.patient)

    async def run_in(self, connection: psycopg.AsyncConnection[Any], operation: Operation[T], /) -> T:
        """Carry out an operation within the caller's own transaction; see ``PostgresStore.run_in``."""
        if not isinstance(connection, psycopg.AsyncConnection):
            raise _no_connection(connection, "psycopg.AsyncConnection")
        runner = AsyncTransactionRunner(lambda: nullcontext(connection), self._statements)
        ours = _within(self._replicas, cast("PostgresOperation[T]", operation))
        with translating(_IN_USERS):
            if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
                await connection.execute("select")
            for _ in range(_BEGINNINGS):
                with suppress(InterferenceError):
                    async with connection.transaction():
                        return await runner.steps(connection, ours)
        raise _interfered()

    async def _pool(self) -> AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]:
        if self._opened is None:
            primary = self._servers[0]
            self._opened = AsyncConnectionPool(
                primary.address.url,
                min_size=0,
                max_size=self._connections,
                kwargs=primary.connecting,
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
        for pool in self._replica_pools:
            await pool.close()

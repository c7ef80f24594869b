"""Transactions that a handler takes part in: begun before its call, settled and committed after it.

Its statements and the hop's settlement are one transaction, which commits only with a settlement that was applied. One
code serves both colours: on a thread nothing in it ever suspends. What passes (a lost connection, a deadlock, a
serialization failure) is told as ``StoreUnavailable``; the handler is then called again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import isawaitable
from typing import Any, TypeVar, cast
from uuid import UUID

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import PoolClosed, PoolTimeout

from cnstra.orchestrator.errors import DataRefused, StoreUnavailable, TransactionError
from cnstra.orchestrator.footholds import without_footholds
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.store import AppliedBatch, RunEvent, Work
from cnstra.stores.postgres.addresses import Address
from cnstra.stores.postgres.lent import LentAsyncConnection, LentConnection, lend
from cnstra.stores.postgres.pools import LazyAsyncPool, LazyPool, connecting
from cnstra.stores.postgres.transactions import (
    AsyncTransactionRunner,
    InterferenceError,
    PostgresOperation,
    TransactionRunner,
    translated,
    without_data,
)

T = TypeVar("T")
AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

_WAIT = 1.0
"""Seconds to wait for a connection before the caller is told that none is free."""

_BEGINNINGS = 5
"""How often a settlement begins anew when somebody else changed beneath it what it had read."""

_PASSING = frozenset({"40001", "40P01", "57P01", "57P02"})
"""What may undo a transaction that did nothing wrong: serialization failures, deadlocks, a server that shuts down."""

_SILENCE = 10
"""Seconds after which a server that takes no packets is taken for gone. It may be busy with what a handler copies to it."""


class PostgresTransactions:
    """Begins them, each on a connection of its own; ``limit`` of each colour at most at a time."""

    def __init__(
        self,
        address: Address,
        limit: int,
        statements: Mapping[str, str],
        apply: Callable[[Sequence[RunEvent]], PostgresOperation[AppliedBatch]],
    ) -> None:
        # A handler may be silent in its transaction for as long as it likes: the server ends none that is.
        settings = connecting(address, silence=_SILENCE)
        self._limit = limit
        self._pool = LazyPool(address, settings, limit)
        self._async_pool = LazyAsyncPool(address, settings, limit)
        self.pooled = address.pooled
        self.statements = statements
        self.apply = apply

    async def begin(self, work: Work, worker: UUID, *, asynchronous: bool) -> PostgresStep:
        """The transaction of a claim that ``worker`` holds, with a connection of the handler's colour.

        Raises ``StoreUnavailable`` when none is to be had, after a second.
        """
        pool: Any = await self._async_pool.opened() if asynchronous else self._pool.opened()
        problem: Exception | None = None
        for _ in range(self._limit + 1):  # each that lay there may have been broken meanwhile
            try:
                connection = await _done(pool.getconn(timeout=_WAIT))
            except (PoolTimeout, PoolClosed) as error:
                raise StoreUnavailable(f"{work}: no connection is free for its transaction") from (problem or error)
            step = PostgresStep(self, pool, connection, work, worker)
            try:
                await step.begin()
            except psycopg.Error as error:
                problem = error
                await step.discard()
            else:
                return step
        raise StoreUnavailable(f"{work}: its transaction could not begin: {problem}") from problem

    async def cut_off(self, pool: Any, session: Mapping[str, Any]) -> None:
        """Have the server end a session that cannot be reached. Where it cannot be asked, it has to notice by itself."""
        for _ in range(self._limit + 1):
            try:
                connection = await _done(pool.getconn(timeout=_WAIT))
            except (PoolTimeout, PoolClosed):
                return
            try:
                await _done(connection.execute(self.statements["cut_off_step"], session))
            except psycopg.Error:
                connection.pgconn.finish()
            else:
                return
            finally:
                await _done(pool.putconn(connection))

    def close(self) -> None:
        """Let go of the connections of sync handlers. Idempotent."""
        self._pool.close()

    async def close_async(self) -> None:
        """Let go of those of async handlers, on their event loop. Idempotent."""
        await self._async_pool.close()


class PostgresStep:
    """One such transaction, on one connection of the pool."""

    def __init__(
        self, transactions: PostgresTransactions, pool: Any, connection: AnyConnection, work: Work, worker: UUID
    ) -> None:
        self._transactions = transactions
        self._statements = transactions.statements
        self._pooled = transactions.pooled
        self._pool = pool
        self._connection = connection
        self._work = work
        self._session = {"pid": connection.info.backend_pid, "name": f"cnstra step {worker}"}
        self._lent: LentConnection | LentAsyncConnection = lend(connection, str(work))
        self._mark = f"{work.run_id}:{work.activation_id}:{work.fence.epoch}:{work.fence.nonce}"
        self._gone = False
        self._runner: TransactionRunner | AsyncTransactionRunner = (
            TransactionRunner(_nobody_lends, self._statements)
            if isinstance(connection, psycopg.Connection)
            else AsyncTransactionRunner(_nobody_lends, self._statements)
        )

    async def begin(self) -> None:
        """Open the transaction."""
        kind: Any = (
            psycopg.ClientCursor if isinstance(self._connection, psycopg.Connection) else psycopg.AsyncClientCursor
        )
        begin = {"name": self._session["name"], "step": self._mark}
        await _done(kind(self._connection).execute(self._statements["begin_step"], begin))
        # A server says so by itself. Else the handler would fail for it, as soon as it writes.
        if self._connection.info.parameter_status("in_hot_standby") == "on":
            raise psycopg.errors.ReadOnlySqlTransaction("the server is a standby, and takes no writes")

    @property
    def connection(self) -> Any:
        """What the handler is given."""
        return self._lent

    # -- after the handler -------------------------------------------------------------------------------------

    def passes(self, error: BaseException) -> bool:
        """Whether what the handler raised is no fault of its own: its transaction was undone for what passes."""
        return any(getattr(one, "sqlstate", None) in _PASSING for one in _chain(error))

    @property
    def ended_by_hand(self) -> TransactionError | None:
        """The error of a handler that ended its transaction itself."""
        return self._lent.ended() if self._lent.by_hand else None

    async def settle(self, happening: RunEvent) -> AppliedBatch:
        """Settle the hop in the handler's own transaction. What was not applied leaves no trace there, and no lock.

        Raises ``TransactionError`` where there is no such transaction to commit any more, ``DataRefused`` for what cannot be
        held, ``StoreUnavailable`` for what passes.
        """
        self._take_back()
        for _ in range(_BEGINNINGS):
            try:
                await self._execute("begin_settling")
                await self._prepare()
                batch = await self._apply(happening)
                if batch is None or batch.answers[0].verdict is not Verdict.APPLIED:
                    await self._execute("undo_settling")
            except psycopg.Error as error:
                raise self._told(error) from error
            if batch is not None:
                return batch
        raise StoreUnavailable(f"{self._work}: others changed what its settlement read {_BEGINNINGS} times in a row")

    async def _apply(self, happening: RunEvent) -> AppliedBatch | None:
        """What became of it; None when somebody else changed beneath it what it had read."""
        operation = self._transactions.apply(without_footholds([happening]))  # it is one of several, in a transaction
        try:
            return await _done(self._runner.steps(cast("Any", self._connection), operation))
        except InterferenceError:
            return None
        except (psycopg.Error, UnicodeError) as error:
            refused = translated(error, f"{self._work}: settling it")
            if isinstance(refused, DataRefused):
                raise refused from error
            raise

    def _take_back(self) -> None:
        if not self._lent.take_back() or self._connection.pgconn.pipeline_status != PipelineStatus.OFF:
            raise TransactionError(
                f"{self._work}: the handler returned while a statement of its own was still under way on ctx.connection; "
                "wait for everything that it begins there"
            )
        if self._lent.by_hand:
            raise self._lent.ended()
        status = self._connection.info.transaction_status
        if status == TransactionStatus.INERROR:
            raise TransactionError(
                f"{self._work}: a statement on ctx.connection failed, and the handler went on as if it had not; nothing of "
                "its transaction can be committed; put what may fail into `with ctx.connection.transaction():`"
            )
        if status != TransactionStatus.INTRANS:
            raise StoreUnavailable(f"{self._work}: the connection of its transaction was lost")

    async def _prepare(self) -> None:
        cursor = await self._execute("prepare_settling", {"step": self._mark})
        if not (await _done(cursor.fetchone()))[0]:
            self._lent.by_hand = True
            raise self._lent.ended()

    async def commit(self) -> None:
        """Commit the handler's statements and the settlement. Of a session that is the pooler's, what the handler left there is
        cleaned away before: afterwards it would be another's.

        Raises ``StoreUnavailable`` where it passes, or nobody knows whether it was committed; what the database says of the
        handler's own data comes as it is.
        """
        try:
            if self._pooled:
                await self._execute("clean_pooled_session")
            await _done(self._connection.commit())
        except psycopg.Error as error:
            await self.discard()
            raise self._told(error) from error
        await self._give_back()

    async def undo(self) -> None:
        """Roll all of it back. After a commit, or another end, there is nothing to do.

        Where nothing arrives on its connection any more, the server may believe in that for a quarter of an hour, and keep the
        locks that the next try needs: it is told.
        """
        if self._gone:
            return
        free = self._lent.take_back()
        if not free:  # a thread or a task of the handler's own: it is to let go
            with suppress(psycopg.Error):
                await _done(self._connection.cancel_safe(timeout=_WAIT))
            free = await _done(self._lent.quiet(_WAIT))
        if free and self._connection.pgconn.pipeline_status == PipelineStatus.OFF:
            with suppress(psycopg.Error):
                await (self._execute("undo_step") if self._pooled else _done(self._connection.rollback()))
                await self._give_back()
                return
        await self.discard()
        await self._transactions.cut_off(self._pool, self._session)

    async def discard(self) -> None:
        """Let go of the connection; the server rolls back what was open on it."""
        self._lent.take_back()
        self._connection.pgconn.finish()
        await self._part()

    async def _give_back(self) -> None:
        try:
            if not self._pooled:
                await self._execute("clean_session")
        except psycopg.Error:
            await self.discard()
        else:
            await self._part()

    async def _part(self) -> None:
        if not self._gone:
            self._gone = True
            await _done(self._pool.putconn(self._connection))

    async def _execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Any:
        cursor: Any = self._connection.cursor(row_factory=tuple_row)
        return await _done(cursor.execute(self._statements[statement], parameters))

    def _told(self, error: psycopg.Error) -> Exception:
        if self._connection.closed or error.sqlstate in _PASSING or isinstance(error, psycopg.InterfaceError):
            return StoreUnavailable(f"{self._work}: its transaction was undone: {without_data(error)}")
        return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was raised from: libraries wrap the database's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


async def _done(value: Awaitable[T] | T) -> T:
    """The value; awaited on an event loop, at hand on a thread."""
    return await value if isawaitable(value) else value


def _nobody_lends() -> Any:
    raise NotImplementedError("a step has its connection")

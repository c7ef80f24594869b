"""The connections that handlers are given: psycopg's own, over a connection of the pool, for the length of one call.

Each is an object of its own, so that what a handler leaves on it (adapters, row factories, prepared statements) is gone
with it, and a reference that was kept does nothing any more. Refuses to end its transaction: that is committed with the hop.
Nested ``with connection.transaction():`` blocks are savepoints, and fine.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from cnstra.orchestrator.errors import TransactionError


class _Lent:
    """What both colours refuse, and notice. ``where`` names the run and the activation."""

    pgconn: Any
    where: str
    over = False
    """The handler has ended."""
    by_hand = False
    """Somebody has ended the transaction, with a statement."""

    def _refused(self, what: str) -> TransactionError:
        return TransactionError(
            f"{self.where}: {what} on ctx.connection is refused: its transaction commits with the hop, when the handler "
            "has returned, and is rolled back when it raises; for a part that may fail use "
            "`with ctx.connection.transaction():`, a savepoint"
        )

    def ended(self) -> TransactionError:
        """The error for a transaction that was ended with a statement."""
        return TransactionError(
            f"{self.where}: the handler ended the transaction of ctx.connection by hand, with a statement such as COMMIT or "
            "ROLLBACK; what it committed so stays, and is not undone by this failure; leave the end of it to the hop"
        )

    def _usable(self) -> None:
        if self.over:
            raise TransactionError(
                f"{self.where}: the handler has ended, and with it its ctx.connection; use another connection outside of it"
            )

    def _looked_after(self) -> bool:
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            self.by_hand = True
        return not self.by_hand

    def commit(self) -> NoReturn:
        raise self._refused("commit()")

    def rollback(self) -> NoReturn:
        raise self._refused("rollback()")

    def close(self) -> NoReturn:
        raise self._refused("close()")

    def set_autocommit(self, *_: Any) -> NoReturn:
        raise self._refused("another autocommit mode")

    def __enter__(self) -> NoReturn:
        raise self._refused("`with ctx.connection:`, which commits and closes,")

    async def __aenter__(self) -> NoReturn:
        raise self._refused("`async with ctx.connection:`, which commits and closes,")

    def __del__(self) -> None:
        """Its owner is the pool's connection; psycopg would warn of one that was left open."""


class LentConnection(_Lent, psycopg.Connection[TupleRow]):  # type: ignore[misc]
    """For a sync handler."""

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Everything that is sent passes through here."""
        self._usable()
        try:
            found = super().wait(*args, **kwargs)
        except BaseException:
            self._looked_after()
            raise
        if not self._looked_after():
            raise self.ended()
        return found

    def take_back(self) -> bool:
        """The handler has ended; False where something of it is still under way on the connection."""
        self.over = True
        return self.quiet(0.0)

    def quiet(self, seconds: float) -> bool:
        """Wait until nothing is under way; False where that takes longer."""
        free = self.lock.acquire(timeout=seconds)
        if free:
            self.lock.release()
        return free


class LentAsyncConnection(_Lent, psycopg.AsyncConnection[TupleRow]):  # type: ignore[misc]
    """For an async handler."""

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Everything that is sent passes through here."""
        self._usable()
        try:
            found = await super().wait(*args, **kwargs)
        except BaseException:
            self._looked_after()
            raise
        if not self._looked_after():
            raise self.ended()
        return found

    def take_back(self) -> bool:
        """The handler has ended; False where something of it is still under way on the connection."""
        self.over = True
        return not self.lock.locked()

    async def quiet(self, seconds: float) -> bool:
        """Wait until nothing is under way; False where that takes longer."""
        try:
            async with asyncio.timeout(seconds), self.lock:
                return True
        except TimeoutError:
            return False


def lend(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], where: str
) -> LentConnection | LentAsyncConnection:
    """A connection for one handler, over one on which its transaction is open."""
    kind = LentConnection if isinstance(connection, psycopg.Connection) else LentAsyncConnection
    lent = kind(connection.pgconn)
    lent.where = where
    lent.prepare_threshold = None  # the names of prepared statements are the session's
    return lent

"""Operations as transactions: generators that ask for statements by name and are given rows, run by two short drivers.

One description of each operation serves blocking and async callers. A driver begins a transaction, answers the
generator's asks, and commits; what writes by one statement is a transaction by itself. It begins again from the start when
Postgres asks for that (a deadlock, a serialization failure) and when the connection broke, also while the commit's reply was
awaited: every operation can be repeated safely, and is told that it is repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field
from enum import Enum
from functools import wraps
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast

import psycopg
from psycopg.rows import TupleRow, dict_row, tuple_row
from psycopg_pool import PoolTimeout

from cnstra.orchestrator.errors import AccessRefused, CnstraError, DataRefused, SchemaError, StoreUnavailable
from cnstra.stores.postgres.addresses import DECLARE
from cnstra.stores.postgres.arrays import texts_by, texts_of
from cnstra.stores.postgres.overlapping import OverlappingConnection
from cnstra.stores.postgres.statements import numbered

T = TypeVar("T")
P = ParamSpec("P")
S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)

Rows = list[Any]
Steps = Generator["Ask", Rows, T]

REPLAYS = 8
"""How many times an operation begins again before its error goes to the caller."""

_PASSING = frozenset({"08", "40", "53", "55", "57"})
"""Classes of SQLSTATE that pass: connections, rollbacks, resources, locks, an operator's intervention."""


class Ask(NamedTuple):
    """One statement that an operation wants carried out: its name, its parameters; rows as dicts or tuples. ``meanwhile`` may be
    called while the server is at it.

    The hot statements are planned once, without a look at their parameters. What people read comes as dicts, and is sent with
    its parameters in its text: so it is planned for what they ask.
    """

    statement: str
    parameters: Mapping[str, Any]
    as_dicts: bool = False
    meanwhile: Callable[[], None] | None = None


class InterferenceError(Exception):
    """A row was not what the plan had been made from: somebody bypassed the lock. The transaction is done again."""


class Replica(Enum):
    """Whether a replica may answer in the primary's stead."""

    NEVER = "never"
    """It writes, or somebody decides by it what to write."""
    ALWAYS = "always"
    IF_FOUND = "if found"
    """Where a replica finds nothing, the primary is asked: the client may have been told of a run that is new."""


@dataclass(frozen=True, slots=True)
class PostgresOperation(Generic[T_co]):
    """One transaction that has not begun yet."""

    name: str
    steps: Callable[[bool], Generator[Ask, Rows, T_co]]
    at_once: bool = field(default=False, kw_only=True)
    """Its first statement is all that it writes, if it writes, and commits by itself; what follows only reads."""
    replica: Replica = field(default=Replica.NEVER, kw_only=True)

    def result_type(self) -> T_co:
        raise NotImplementedError("an operation is given to a runner")


def operation(
    method: Callable[Concatenate[S, bool, P], Steps[T]],
) -> Callable[Concatenate[S, P], PostgresOperation[T]]:
    """Makes a generator method, whose first argument says whether it is repeated, into one that gives the operation."""
    return _operation(method)


def reading(
    replica: Replica,
) -> Callable[[Callable[Concatenate[S, bool, P], Steps[T]]], Callable[Concatenate[S, P], PostgresOperation[T]]]:
    """The same for what only reads: its statements see the same in a transaction as without one."""
    return lambda method: _operation(method, replica=replica, at_once=True)


def _operation(
    method: Callable[Concatenate[S, bool, P], Steps[T]], **how: Any
) -> Callable[Concatenate[S, P], PostgresOperation[T]]:
    @wraps(method)
    def prepare(self: S, *args: P.args, **kwargs: P.kwargs) -> PostgresOperation[T]:
        return PostgresOperation(method.__name__, lambda repeated: method(self, repeated, *args, **kwargs), **how)

    return cast("Callable[Concatenate[S, P], PostgresOperation[T]]", prepare)


def again(error: BaseException, attempt: int, *, patient: bool = True) -> bool:
    """Whether an operation that met this error is to begin again; an impatient one once, as its connection may be an old one."""
    if attempt >= (REPLAYS if patient else 1) or (isinstance(error, PoolTimeout) and not patient):
        return False
    if isinstance(error, InterferenceError):
        return True
    if isinstance(error, PoolTimeout):  # it has waited already
        return attempt < 1
    if isinstance(error, psycopg.OperationalError):
        return error.sqlstate is None or error.sqlstate[:2] in _PASSING
    # The second: this process was stopped inside the transaction, and the server did not wait for it. The third: this was no
    # primary, or is none any more; another connection may lead to the one that is.
    passing = psycopg.errors.IdleInTransactionSessionTimeout | psycopg.errors.ReadOnlySqlTransaction
    return isinstance(error, psycopg.InterfaceError | passing)


def without_data(error: BaseException) -> str:
    """An error of the database by its type and its message; what the server adds quotes rows, and statements with parameters."""
    return f"{type(error).__name__}: {_primary(error) or str(error).strip()}"


def _primary(error: BaseException) -> str | None:
    return error.diag.message_primary if isinstance(error, psycopg.Error) else None


def translated(error: BaseException, what: str) -> CnstraError:
    """The database's error in the words of the port, without the data that it may quote."""
    state = getattr(error, "sqlstate", None)
    refused = psycopg.DataError | psycopg.IntegrityError | UnicodeError  # the last: half a surrogate pair is no text
    if isinstance(error, refused) or (state or "")[:2] == "54":
        return DataRefused(f"{what}: Postgres cannot hold the data: {_primary(error) or type(error).__name__}")
    if isinstance(
        error,
        psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn | psycopg.errors.InvalidSchemaName,
    ):
        return SchemaError(f"{what}: the database has not the schema of this release; run `cnstra migrate`")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return AccessRefused(
            f"{what}: the database's role may not: {error.diag.message_primary}; give its user one of the roles that "
            "`cnstra migrate --roles` makes"
        )
    if isinstance(error, psycopg.errors.InvalidSqlStatementName | psycopg.errors.DuplicatePreparedStatement):
        return StoreUnavailable(f"{what}: what was prepared in a session is not there, or not the same; {DECLARE}")
    return StoreUnavailable(f"{what}: {without_data(error)}")


@contextmanager
def translating(what: str) -> Iterator[None]:
    """The database's errors within, in the words of the port."""
    try:
        yield
    except (psycopg.Error, InterferenceError, UnicodeError) as error:
        raise translated(error, what) from error


def _row_factory(ask: Ask) -> Any:
    return dict_row if ask.as_dicts else tuple_row


def _arguments(statement: str, ask: Ask) -> tuple[Any, Any]:
    """What a cursor is given for an ask: the text, and the parameters; for one that puts them into the text by name, else in
    the order of their numbers."""
    if ask.as_dicts:
        return statement, texts_of(ask.parameters)
    text, names = numbered(statement)
    return text, texts_by(names, ask.parameters)


def _prepared(ask: Ask) -> bool | None:
    """What a cursor is told of preparing. One that puts parameters into the text prepares nothing, and is not to be told."""
    return None if ask.as_dicts else True


def _has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """Whether the statement answers with rows, none perhaps. ``description`` would say so, and take longer than small answers."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def pause(attempt: int) -> float:
    """Seconds before the next beginning: none at first, then longer, 3 s in all."""
    return 0.0 if attempt < 2 else min(0.02 * 2.0**attempt, 1.0)


class TransactionRunner:
    """Carries out operations, blocking, each on a connection that ``lend`` gives.

    Behind a pooler a transaction takes its ``settings`` along: with its begin, or, where it is one statement, before that in one
    pipeline. So they cost no way there and back, and the pooler gives all of it the same server connection.
    """

    def __init__(
        self,
        lend: Callable[[], AbstractContextManager[psycopg.Connection[TupleRow]]],
        statements: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._lend = lend
        self._statements = statements
        self._settings = None if settings is None else texts_of(settings)

    def run(self, operation: PostgresOperation[T], /, *, patient: bool = True) -> T:
        """The operation's result. Raises the database's error when it stays away, or refuses the data; soon, if not patient."""
        attempt = 0
        while True:
            try:
                with self._lend() as connection, nullcontext() if operation.at_once else self._transaction(connection):
                    return self.steps(connection, operation, repeated=attempt > 0)
            except (psycopg.Error, InterferenceError, UnicodeError) as error:
                if not again(error, attempt, patient=patient):
                    raise translated(error, operation.name) from error
            time.sleep(pause(attempt))
            attempt += 1

    @contextmanager
    def _taking_along(self, connection: psycopg.Connection[TupleRow]) -> Iterator[None]:
        psycopg.ClientCursor(connection).execute(self._statements["begin_with_settings"], self._settings)
        try:
            yield
        except BaseException:
            with suppress(psycopg.Error):  # what undid the connection is on its way already
                connection.rollback()
            raise
        connection.commit()

    def _transaction(self, connection: psycopg.Connection[TupleRow]) -> AbstractContextManager[Any]:
        return connection.transaction() if self._settings is None else self._taking_along(connection)

    def steps(
        self,
        connection: psycopg.Connection[TupleRow],
        operation: PostgresOperation[T],
        *,
        repeated: bool = False,
    ) -> T:
        """Carry out the operation's statements within the caller's own transaction."""
        steps = operation.steps(repeated)
        rows: Rows | None = None
        while True:
            try:
                ask = steps.send(cast("Rows", rows))
            except StopIteration as stop:
                return cast("T", stop.value)
            text, parameters = _arguments(self._statements[ask.statement], ask)
            kind = psycopg.ClientCursor if ask.as_dicts else psycopg.RawCursor
            with kind(connection, row_factory=_row_factory(ask)) as cursor:
                if self._settings is not None and operation.at_once:
                    with connection.pipeline():
                        connection.execute(self._statements["take_along"], self._settings)
                        cursor.execute(text, parameters)
                else:
                    if ask.meanwhile is not None and isinstance(connection, OverlappingConnection):
                        connection.do_meanwhile(ask.meanwhile)
                    cursor.execute(text, parameters, prepare=_prepared(ask))
                rows = cursor.fetchall() if _has_rows(cursor) else []


class AsyncTransactionRunner:
    """Carries out operations, awaited, each on a connection that ``lend`` gives.

    Behind a pooler a transaction takes its ``settings`` along: with its begin, or, where it is one statement, before that in one
    pipeline. So they cost no way there and back, and the pooler gives all of it the same server connection.
    """

    def __init__(
        self,
        lend: Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[TupleRow]]],
        statements: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._lend = lend
        self._statements = statements
        self._settings = None if settings is None else texts_of(settings)

    async def run(self, operation: PostgresOperation[T], /, *, patient: bool = True) -> T:
        """The operation's result. Raises the database's error when it stays away, or refuses the data; soon, if not patient."""
        attempt = 0
        while True:
            try:
                async with (
                    self._lend() as connection,
                    nullcontext() if operation.at_once else self._transaction(connection),
                ):
                    return await self.steps(connection, operation, repeated=attempt > 0)
            except (psycopg.Error, InterferenceError, UnicodeError) as error:
                if not again(error, attempt, patient=patient):
                    raise translated(error, operation.name) from error
            await asyncio.sleep(pause(attempt))
            attempt += 1

    @asynccontextmanager
    async def _taking_along(self, connection: psycopg.AsyncConnection[TupleRow]) -> AsyncIterator[None]:
        await psycopg.AsyncClientCursor(connection).execute(self._statements["begin_with_settings"], self._settings)
        try:
            yield
        except BaseException:
            with suppress(psycopg.Error):
                await connection.rollback()
            raise
        await connection.commit()

    def _transaction(self, connection: psycopg.AsyncConnection[TupleRow]) -> AbstractAsyncContextManager[Any]:
        return connection.transaction() if self._settings is None else self._taking_along(connection)

    async def steps(
        self,
        connection: psycopg.AsyncConnection[TupleRow],
        operation: PostgresOperation[T],
        *,
        repeated: bool = False,
    ) -> T:
        """Carry out the operation's statements within the caller's own transaction."""
        steps = operation.steps(repeated)
        rows: Rows | None = None
        while True:
            try:
                ask = steps.send(cast("Rows", rows))
            except StopIteration as stop:
                return cast("T", stop.value)
            text, parameters = _arguments(self._statements[ask.statement], ask)
            kind = psycopg.AsyncClientCursor if ask.as_dicts else psycopg.AsyncRawCursor
            async with kind(connection, row_factory=_row_factory(ask)) as cursor:
                if self._settings is not None and operation.at_once:
                    async with connection.pipeline():
                        await connection.execute(self._statements["take_along"], self._settings)
                        await cursor.execute(text, parameters)
                else:
                    await cursor.execute(text, parameters, prepare=_prepared(ask))
                rows = await cursor.fetchall() if _has_rows(cursor) else []

"""A context in Postgres: that of a run, or one that stands by itself, for whoever has its id.

What is done there is in ``stores/postgres/contexts.py``. This file owns whose transaction it is done in, and what is done
again when that came to nothing. It opens no connections of its own, and closes none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from cnstra.orchestrator.codecs import JSON, Codec, JsonCodec, decoded, encoded
from cnstra.orchestrator.contexts import Versioned
from cnstra.orchestrator.errors import ConfigurationError, ContextError
from cnstra.orchestrator.sealing import Vault
from cnstra.stores.contexts.lifetimes import REMEMBERED, Ttl, lifetime
from cnstra.stores.contexts.served import ServedContextStore
from cnstra.stores.postgres.contexts import ContextKeeping, Kept, Place, Writing
from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.transactions import PostgresOperation, TransactionRunner, again, pause, translated

T = TypeVar("T")
Source = psycopg.Connection[Any] | ConnectionPool[Any]

_OPERATIONS = ContextKeeping()


class PostgresContextStore(ServedContextStore):
    """A context in Postgres.

    ``connection_or_pool`` is a psycopg connection or pool. A connection's open transaction is joined: what is written is
    kept when the user commits it, and gone when not. Where none is open, one is begun, as by any statement of the user's; but
    in autocommit mode, and on a pool, each call is a transaction of its own.

    ``run_id`` is a run's, and then this is that run's own shared context: JSON, and as long there as the run; ``codec`` is
    then the one of ``Orchestrator(codec=)``, which seals it value by value. Any other UUID names a context of its own; ``ttl``
    (seconds or a timedelta, begun anew with every write; None: for ever) is for such ones.

    Every method raises ``StoreUnavailable`` when Postgres does not answer (a write may then have happened), ``SchemaError``
    where the database wants ``cnstra migrate``, and ``RunNotFound`` when a run that this store has seen is gone.

    Raises ``ConfigurationError`` for a connection, an id or a ttl that cannot be used.
    """

    __slots__ = ("__weakref__", "_codec", "_id", "_own_codec", "_source", "_ttl", "_vault", "_was_run", "_where")

    def __init__(
        self,
        connection_or_pool: Source,
        run_id: UUID | str,
        *,
        codec: Codec | None = None,
        ttl: Ttl = None,
    ) -> None:
        self._source = _usable(connection_or_pool)
        self._id = _uuid(run_id)
        self._where = f"context {self._id} in Postgres"
        self._ttl = lifetime(ttl, self._where)
        self._own_codec = codec is not None and type(codec) is not JsonCodec
        self._codec: Codec = JSON if codec is None else codec
        self._vault = Vault(codec) if self._own_codec else None
        self._was_run = False

    @property
    def version(self) -> int:
        return self._read(wanted=False).version

    def get_versioned(self) -> Versioned:
        kept = self._read(wanted=True)
        return Versioned(value=self._value(kept), version=kept.version)

    # -- values ----------------------------------------------------------------------------------------------------

    def _value(self, kept: Kept) -> Any:
        """What was read. Text was written without a codec, bytes with one: the same way leads back."""
        if kept.of_run:
            return kept.value
        if (kept.sealed if not self._own_codec else kept.value) is not None:
            how = "without a codec" if self._own_codec else "with a codec of its own"
            raise ContextError(f"{self._where}: what is stored was written {how}; give the store the same to read it")
        return kept.value if kept.sealed is None else decoded(self._codec, kept.sealed, self._where, self._id.bytes)

    def _read(self, *, wanted: bool) -> Kept:
        kept = self._run(_OPERATIONS.read(self._place(), wanted), repeatable=True)
        self._was_run = kept.of_run
        return kept

    def _write(self, value: Any, expected: int | None) -> bool:
        data = None if value is None else encoded(self._codec, value, self._where, self._id.bytes)
        writing = Writing(
            text=None if data is None or self._own_codec else data.decode(),
            sealed=data if self._own_codec else None,
            value=value if self._own_codec else None,
            expected=expected,
            # That a value was deleted needs to be known only as long as somebody may hold the version before.
            lives=REMEMBERED if self._ttl is None and data is None else self._ttl,
        )
        wrote = self._run(_OPERATIONS.write(self._place(), writing), repeatable=False)
        self._was_run = wrote.of_run
        return wrote.written

    def _place(self) -> Place:
        return Place(context_id=self._id, was_run=self._was_run, freely=self._ttl is not None, vault=self._vault)

    # -- transactions ----------------------------------------------------------------------------------------------

    def _run(self, operation: PostgresOperation[T], *, repeatable: bool) -> T:
        source = self._source
        if isinstance(source, ConnectionPool):
            return self._in_transactions(source.connection, operation, repeatable=repeatable)
        with _turn(source):
            if source.autocommit and source.info.transaction_status == TransactionStatus.IDLE:
                return self._in_transactions(lambda: nullcontext(source), operation, repeatable=repeatable)
            try:
                return TransactionRunner(lambda: nullcontext(source), statements()).steps(source, operation)
            except (psycopg.Error, UnicodeError) as error:
                raise translated(error, self._where) from error

    def _in_transactions(
        self,
        lend: Callable[[], AbstractContextManager[psycopg.Connection[Any]]],
        operation: PostgresOperation[T],
        *,
        repeatable: bool,
    ) -> T:
        """Carry the operation out in a transaction; in another one when Postgres has rolled the first one back.

        When nobody knows whether a write was committed, since the reply was lost, it is not done again: it might be done
        twice.
        """
        runner = TransactionRunner(lend, statements())
        for attempt in count():
            asked_to_commit = False
            try:
                with lend() as connection:
                    with connection.transaction():
                        result = runner.steps(connection, operation)
                        asked_to_commit = True
                    return result
            except (psycopg.Error, UnicodeError) as error:
                came_to_nothing = (
                    repeatable or not asked_to_commit or (getattr(error, "sqlstate", None) in _ROLLED_BACK)
                )
                if not came_to_nothing or not self._is_worth_it(error, attempt):
                    raise translated(error, self._where) from error
            time.sleep(pause(attempt))
        raise AssertionError("unreachable")

    def _is_worth_it(self, error: BaseException, attempt: int) -> bool:
        """Whether another attempt may end otherwise: not on a connection that is gone, nor after a pool's own patience."""
        gone = isinstance(self._source, psycopg.Connection) and self._source.closed
        return not gone and not isinstance(error, PoolTimeout | PoolClosed) and again(error, attempt)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}>"


_ROLLED_BACK = frozenset({"40001", "40P01"})

_turns: WeakKeyDictionary[psycopg.Connection[Any], threading.RLock] = WeakKeyDictionary()
_turns_lock = threading.Lock()


def _turn(connection: psycopg.Connection[Any]) -> threading.RLock:
    """One lock a connection: else a thread could take another one's transaction for its user's, and join it."""
    with _turns_lock:
        return _turns.setdefault(connection, threading.RLock())


def _usable(source: Any) -> Source:
    if isinstance(source, psycopg.AsyncConnection | AsyncConnectionPool):
        raise ConfigurationError(
            "PostgresContextStore: context stores are sync; give it a psycopg.Connection or a psycopg_pool.ConnectionPool, "
            f"not an {type(source).__name__}"
        )
    if not isinstance(source, psycopg.Connection | ConnectionPool):
        raise ConfigurationError(
            f"PostgresContextStore: got a {type(source).__module__}.{type(source).__qualname__}; "
            "give it a psycopg.Connection or a psycopg_pool.ConnectionPool"
        )
    return source


def _uuid(given: Any) -> UUID:
    try:
        return given if isinstance(given, UUID) else UUID(given)
    except (ValueError, TypeError, AttributeError):
        raise ConfigurationError(
            f"PostgresContextStore: {given!r} is no UUID; give it a run's id, or a UUID of your own such as uuid.uuid4()"
        ) from None

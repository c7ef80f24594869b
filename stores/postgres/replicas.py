"""Reads from replicas: which may answer what, and never with something older than this client has seen.

A client remembers the position in the primary's log (its LSN) that everything it did, or has read, lies before. A replica is
asked for its own before it is read: what it shows is read later, so that it is as new at least. What no replica may answer goes
to the primary. Owns the rules, as generators for callers of both colours; refuses to know how statements get to a server.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast

from cnstra.orchestrator.errors import CnstraError, DataRefused
from cnstra.stores.postgres.standing import STANDING, BehindError, Seen, Standing, UnfitError, shown, standing_of
from cnstra.stores.postgres.transactions import Ask, PostgresOperation, Replica, Steps

T = TypeVar("T")
Route = Generator["Call", Any, T]

_log = logging.getLogger("cnstra.replicas")

STALEST = 10.0
"""Seconds after which the primary is asked for its position anew: a replica that lacks what it had then is behind."""

IMPATIENCE = 1.0
"""Seconds to wait for a connection, where another server may answer."""

_UNFIT_FOR = 5.0  # seconds for which one is left alone that cannot be reached, or used
_BEHIND_FOR = 0.1


class Call(NamedTuple):
    """An operation that a route wants carried out: on the primary (None), or on one of the replicas.

    ``patient`` ones outlive a server that is away for a moment; the others say so at once.
    """

    server: int | None
    operation: PostgresOperation[Any]
    patient: bool = True


class ReplicaState:
    """One replica: when it may be asked again, and what was said of it."""

    def __init__(self, number: int, database_url: str) -> None:
        self.number = number
        self.name = shown(database_url)
        self._not_before = 0.0
        self._reported = threading.Lock()

    def may_be_asked(self, now: float) -> bool:
        return now >= self._not_before

    def is_behind(self, now: float) -> None:
        """It is left alone for a moment; that is nothing to speak of."""
        self._not_before = now + _BEHIND_FOR

    def cannot_be_used(self, problem: Exception, now: float) -> None:
        """It is left alone for a while; said once."""
        self._not_before = now + _UNFIT_FOR
        if self._reported.acquire(blocking=False):
            _log.warning("The replica %s is not read: %s. The primary is, meanwhile.", self.name, problem)

    def works(self) -> None:
        """It has answered; said where the contrary was."""
        if self._reported.locked():
            with suppress(RuntimeError):  # another thread was quicker
                self._reported.release()
                _log.info("The replica %s is read again.", self.name)


class Replicas:
    """The replicas of one client, as routes of operations over them and the primary."""

    def __init__(self, database_urls: Sequence[str]) -> None:
        self._states = [ReplicaState(number, url) for number, url in enumerate(database_urls)]
        self._seen = Seen()
        self._turn = 0
        self._sampled_at: float | None = None
        self._sample: Standing | None = None

    def route(self, operation: PostgresOperation[T]) -> Route[T]:
        """Carry out an operation where it may be."""
        if operation.replica is not Replica.NEVER:
            answered, result = yield from self._ask_replicas(operation)
            if answered:
                return cast("T", result)
        try:
            result = yield Call(None, operation)
        except BaseException:  # it may have been committed all the same
            self._seen.owe()
            raise
        self._seen.owe()
        yield from self._settle()
        return cast("T", result)

    def within(self, operation: PostgresOperation[T]) -> PostgresOperation[T]:
        """The same operation, for a transaction of the user's own, which is remembered until it has ended."""

        def steps(repeated: bool) -> Steps[T]:
            result = yield from operation.steps(repeated)
            [(transaction,)] = yield Ask("transaction_id", {})
            self._seen.await_end(transaction)
            return result

        return PostgresOperation(operation.name, steps)

    def _ask_replicas(self, operation: PostgresOperation[T]) -> Route[tuple[bool, Any]]:
        """Whether a replica has answered, and its answer."""
        yield from self._keep_up()
        if self._seen.owes:
            return False, None
        for state in self._in_turn():
            now = time.monotonic()
            try:
                result, standing = yield Call(state.number, self._on_replica(operation), patient=False)
            except BehindError:
                state.is_behind(now)
            except (UnfitError, CnstraError) as problem:
                state.cannot_be_used(problem, time.monotonic())
            else:
                state.works()
                self._seen.read(standing)
                # Somebody may have told this client of a run that has not arrived there.
                return result is not None or operation.replica is Replica.ALWAYS, result
        return False, None

    def _on_replica(self, operation: PostgresOperation[T]) -> PostgresOperation[tuple[T, Standing]]:
        """The operation between two looks at the server's position. No two statements share a snapshot: what is read is as new as
        the first look said, and as old as the second one says."""

        def steps(repeated: bool) -> Steps[tuple[T, Standing]]:
            self._seen.check(standing_of((yield Ask("standing", {}))))
            result = yield from operation.steps(repeated)
            return result, standing_of((yield Ask("standing", {})))

        return PostgresOperation(operation.name, steps, at_once=True)

    def _in_turn(self) -> list[ReplicaState]:
        self._turn += 1
        at = self._turn % len(self._states)
        now = time.monotonic()
        return [state for state in (*self._states[at:], *self._states[:at]) if state.may_be_asked(now)]

    def _keep_up(self) -> Route[None]:
        """Learn of the primary what a read from a replica needs: which log it is, and, now and then, how far."""
        now = time.monotonic()
        if self._sampled_at is not None and now < self._sampled_at + STALEST:
            if self._seen.owes:
                yield from self._settle()
            return
        if self._sample is not None and self._sample.lsn is not None:
            self._seen.demand(self._sample.lsn)
        self._sampled_at, self._sample = now, None
        self._sample = yield from self._settle()

    def _settle(self) -> Route[Standing | None]:
        """Ask the primary how far it is, after all that was done up to now; None when it does not say."""
        ticket, waiting, ended = self._seen.ticket(), self._seen.transactions, []
        try:
            if waiting:
                ended = yield Call(None, _ended(waiting), patient=False)
            primary = yield Call(None, STANDING, patient=False)
        except DataRefused:  # after a failover nobody has heard of these transactions
            self._seen.forget_transactions()
            return None
        except CnstraError:
            return None
        self._seen.settle(primary, ticket, ended)
        return cast("Standing", primary)


def _ended(transactions: Sequence[str]) -> PostgresOperation[list[str]]:
    def steps(_repeated: bool) -> Steps[list[str]]:
        rows = yield Ask("transactions_ended", {"transactions": list(transactions)})
        return [transaction for (transaction,) in rows]

    return PostgresOperation("transactions_ended", steps, at_once=True)

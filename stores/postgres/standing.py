"""Where servers stand in the primary's log, and which of them shows what a client has seen.

Owns what makes a replica fit: its system, its timeline, its schema, its position. Refuses to ask anybody.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.migrating import migrations
from cnstra.stores.postgres.transactions import Ask, PostgresOperation, Steps

# Where the log ends at the beginning of a page, a writer says where the first record would stand, a reader where the page begins.
_PAGE, _HEADERS = 8_192, (24, 40)


class BehindError(Exception):
    """A replica has not replayed yet what this client has seen."""


class UnfitError(Exception):
    """A server cannot stand in for the primary; the text says why."""


class Standing(NamedTuple):
    """How far a server is, in which log, and with which schema."""

    is_replica: bool
    system: int
    timeline: int | None
    lsn: int | None
    schema: int


class Seen:
    """What this client has seen of the primary's log. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Standing | None = None
        self._floor = 0
        self._owed = 0  # how often something was done whose position is not known yet; and up to which it is
        self._settled = 0
        self._transactions: set[str] = set()
        self._schema = migrations()[-1][0]

    @property
    def owes(self) -> bool:
        """Whether something was done, or read, of which nobody knows where in the log it stands."""
        return self._settled < self._owed or bool(self._transactions)

    @property
    def transactions(self) -> list[str]:
        """Transactions of the user's own, in which something was done, and that may have been committed since."""
        with self._lock:
            return sorted(self._transactions)

    def owe(self) -> None:
        """Something was done on the primary, or read there, or may have been."""
        with self._lock:
            self._owed += 1

    def await_end(self, transaction: str) -> None:
        """Something was done in a transaction of the user's own: it counts from its commit on."""
        with self._lock:
            self._transactions.add(transaction)

    def ticket(self) -> int:
        """What was done up to now, for ``settle``."""
        return self._owed

    def settle(self, primary: Standing, ticket: int, ended: Sequence[str] = ()) -> None:
        """The primary's position, asked for after all that the ticket stands for; these transactions had ended before."""
        with self._lock:
            is_new = ticket > self._settled or bool(ended)
            self._settled = max(self._settled, ticket)
            self._transactions.difference_update(ended)
            self._raise_to(primary, primary.lsn or 0 if is_new else 0)

    def demand(self, lsn: int) -> None:
        """From now on a replica is to have this."""
        with self._lock:
            self._floor = max(self._floor, lsn)

    def forget_transactions(self) -> None:
        """Nobody knows any more what became of them: they count as ended now."""
        with self._lock:
            self._transactions.clear()
            self._owed += 1

    def check(self, replica: Standing) -> None:
        """Raises ``UnfitError`` for what is no replica of the primary, ``BehindError`` for one that lacks what was seen."""
        if not replica.is_replica:
            raise UnfitError("it is no standby: it was promoted, or never was one")
        if replica.schema < self._schema:
            raise UnfitError(f"its schema is at migration {replica.schema}, and this release needs {self._schema}")
        if replica.lsn is None or replica.timeline is None:
            raise UnfitError("it does not say how far it has replayed the primary's log")
        with self._lock:
            if self._known is not None:
                if replica.system != self._known.system:
                    raise UnfitError("it is of another database system than the primary")
                if replica.timeline != self._known.timeline:
                    raise UnfitError(
                        f"it is on timeline {replica.timeline}, and the primary on timeline {self._known.timeline}"
                    )
            if replica.lsn < self._floor:
                raise BehindError

    def read(self, replica: Standing) -> None:
        """The replica was read, at this position at the latest."""
        with self._lock:
            self._raise_to(replica, replica.lsn or 0)

    def _raise_to(self, server: Standing, lsn: int) -> None:
        known = self._known
        if known is not None and (known.system, known.timeline) != (server.system, server.timeline):
            if server.is_replica:
                return
            self._floor = 0  # positions of another log mean nothing in this one
            self._transactions.clear()
        if known is None or not server.is_replica:
            self._known = server
        self._floor = max(self._floor, lsn)


def shown(database_url: str) -> str:
    """A database's URL as people may see it: where it is."""
    parts = address_of(database_url).parts()
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def standing_of(rows: Sequence[Any]) -> Standing:
    """What a server answered."""
    [(is_replica, system, timeline, lsn, schema)] = rows
    if lsn is not None and lsn % _PAGE in _HEADERS:
        lsn -= lsn % _PAGE
    return Standing(is_replica=is_replica, system=system, timeline=timeline, lsn=lsn, schema=schema)


def _stand() -> Steps[Standing]:
    return standing_of((yield Ask("standing", {})))


STANDING: Final = PostgresOperation("standing", lambda _repeated: _stand(), at_once=True)

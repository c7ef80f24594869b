"""What the steps need of the world: the time, and somebody who charges cards.

The card company's book is an SQLite file, which ``SUBSCRIPTION_CARDS`` names, or memory. It charges once by idempotency key,
and keeps a log of all that it was asked, with the time that it was told.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from threading import Lock

VARIABLE = "SUBSCRIPTION_CARDS"

_TABLES = """
create table if not exists charge (key text primary key, customer text not null, amount integer not null);
create table if not exists expired (customer text primary key);
create table if not exists log (at text not null, customer text not null, what text not null, amount integer not null,
                                charged integer not null);
"""


class CardDeclined(Exception):
    """The card was not charged. Another day it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One line of the card company's log."""

    at: datetime
    what: str
    amount: int
    charged: bool


class Cards:
    """The card company. Threads and processes may share it."""

    def __init__(self, path: str = ":memory:") -> None:
        self._path = path
        self._lock = Lock()

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=60, isolation_level=None, check_same_thread=False)
        connection.executescript(_TABLES)
        return connection

    def charge(self, customer: str, amount: int, what: str, *, key: str, now: datetime) -> None:
        """Charge a customer's card, once by ``key``. Raises ``CardDeclined``."""
        with self._lock, self._connection as connection:
            connection.execute("begin immediate")
            if connection.execute("select 1 from charge where key = ?", [key]).fetchone():
                return
            declined = connection.execute("select 1 from expired where customer = ?", [customer]).fetchone()
            connection.execute(
                "insert into log values (?, ?, ?, ?, ?)", [now.isoformat(), customer, what, amount, not declined]
            )
            if not declined:
                connection.execute("insert into charge values (?, ?, ?)", [key, customer, amount])
        if declined:
            raise CardDeclined(f"the card of {customer} has expired")

    def expire(self, customer: str) -> None:
        """The customer's card is not valid any more."""
        self._do("insert or ignore into expired values (?)", customer)

    def replace(self, customer: str) -> None:
        """The customer has a new card."""
        self._do("delete from expired where customer = ?", customer)

    def log(self, customer: str) -> list[Asked]:
        """What was asked of a customer's card, in order."""
        with self._lock:
            rows = self._connection.execute(
                "select at, what, amount, charged from log where customer = ? order by rowid", [customer]
            ).fetchall()
        return [Asked(at=datetime.fromisoformat(at), what=what, amount=n, charged=bool(ok)) for at, what, n, ok in rows]

    def paid(self, customer: str) -> int:
        """What a customer has paid in all."""
        with self._lock:
            query = "select coalesce(sum(amount), 0) from charge where customer = ?"
            return int(self._connection.execute(query, [customer]).fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _do(self, statement: str, customer: str) -> None:
        with self._lock:
            self._connection.execute(statement, [customer])


@dataclass(frozen=True, kw_only=True)
class Services:
    """What handlers find in ``ctx.services``; a lab gives its own."""

    cards: Cards
    now: Callable[[], datetime]


def real() -> Services:
    """Those of a worker process."""
    return Services(cards=Cards(os.environ.get(VARIABLE) or ":memory:"), now=lambda: datetime.now(UTC))

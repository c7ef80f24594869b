"""What the provider and the warehouse have in common: a book in a file of its own, and bad days.

The books are SQLite files in the folder that ``ORDER_APPROVAL_BOOKS`` names, and no part of CNStra's database: nothing
commits them together with a step. Each of them does a thing once by its idempotency key.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

FOLDER = "ORDER_APPROVAL_BOOKS"
_TROUBLED = 0.08

_TABLES = """
create table if not exists done (key text primary key, answer text not null);
create table if not exists entry (
    account text not null, order_id text not null, what text not null, amount integer not null
);
create index if not exists entry_by_order on entry (order_id);
create table if not exists closed (order_id text primary key);
create table if not exists called (key text primary key, calls integer not null);
"""

T = TypeVar("T")


class _OfThread(threading.local):
    """Connections by file."""

    def __init__(self) -> None:
        self.connections: dict[Path, sqlite3.Connection] = {}


class Book:
    """One company's book: entries of amounts by account and order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._of_thread = _OfThread()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; one at a time, over all processes."""
        connection = self._connection()
        connection.execute("begin immediate")
        try:
            yield connection
        except BaseException:
            connection.execute("rollback")
            raise
        connection.execute("commit")

    def open(self) -> None:
        """Make the book, where there is none."""
        self._connection().executescript(_TABLES)

    def close(self) -> None:
        """Let go of this thread's connections."""
        while self._of_thread.connections:
            self._of_thread.connections.popitem()[1].close()

    def _connection(self) -> sqlite3.Connection:
        path = Path(os.environ[FOLDER]) / f"{self.name}.sqlite"
        known = self._of_thread.connections
        if path not in known:
            known[path] = sqlite3.connect(path, timeout=60, isolation_level=None)
            known[path].execute("pragma journal_mode = wal")
            known[path].execute("pragma synchronous = off")  # it is to survive dying workers, not dying machines
        return known[path]

    def once(self, key: str, what: str, do: Callable[[sqlite3.Connection], str]) -> str:
        """Do it, in a transaction, unless it was done under this key; the answer of the first time.

        The line is bad at times: ``ConnectionError`` before anything was done, or after it, when only the answer is lost.
        ``what`` it is decides for whom.
        """
        calls = self._count(key)
        trouble = chance(self.name, what) < _TROUBLED and calls <= 2
        answer_lost = chance("lost", self.name, what) < 0.5
        if trouble and not answer_lost:
            raise ConnectionError(f"the {self.name} does not answer")
        with self.transaction() as connection:
            known = connection.execute("select answer from done where key = ?", [key]).fetchone()
            answer = str(known[0]) if known else do(connection)
            if not known:
                connection.execute("insert into done values (?, ?)", [key, answer])
        if trouble:
            raise ConnectionError(f"the {self.name}'s answer was lost")
        return answer

    def calls(self) -> tuple[int, int]:
        """How often it was called, and for how many different things."""
        with self.transaction() as connection:
            calls, things = connection.execute("select coalesce(sum(calls), 0), count(*) from called").fetchone()
        return int(calls), int(things)

    def balances(self, account: str) -> dict[str, int]:
        """What stands in an account, by order."""
        with self.transaction() as connection:
            rows = connection.execute(
                "select order_id, sum(amount) from entry where account = ? group by order_id", [account]
            ).fetchall()
        return {str(order_id): int(amount) for order_id, amount in rows}

    def entries(self, what: str) -> dict[str, int]:
        """How many entries of a kind there are, by order."""
        with self.transaction() as connection:
            rows = connection.execute(
                "select order_id, count(*) from entry where what = ? group by order_id", [what]
            ).fetchall()
        return {str(order_id): int(count) for order_id, count in rows}

    def _count(self, key: str) -> int:
        with self.transaction() as connection:
            row = connection.execute(
                "insert into called values (?, 1) on conflict (key) do update set calls = calls + 1 returning calls",
                [key],
            ).fetchone()
        return int(row[0])


def post(connection: sqlite3.Connection, account: str, order_id: str, what: str, amount: int) -> None:
    """Write an entry."""
    connection.execute("insert into entry values (?, ?, ?, ?)", [account, order_id, what, amount])


def standing(connection: sqlite3.Connection, account: str, order_id: str) -> int:
    """What stands in an account for an order."""
    row = connection.execute(
        "select coalesce(sum(amount), 0) from entry where account = ? and order_id = ?", [account, order_id]
    ).fetchone()
    return int(row[0])


def close(connection: sqlite3.Connection, order_id: str) -> None:
    """Nothing more is done for this order: a call that is still on its way comes too late."""
    connection.execute("insert or ignore into closed values (?)", [order_id])


def is_closed(connection: sqlite3.Connection, order_id: str) -> bool:
    """Whether it is."""
    return connection.execute("select 1 from closed where order_id = ?", [order_id]).fetchone() is not None


def chance(*what: object) -> float:
    """A number from 0 to 1 that is always the same for the same thing."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:8]) / 2**64

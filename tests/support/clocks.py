"""Clocks that stand still until a test moves them: one in this process, and one in a database.

The store over Postgres takes its clock as an SQL expression; here that is a function which reads a table.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import psycopg

from support.waiting import eventually

START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)

DATABASE_CLOCK = "cnstra_test.now()"


class ManualClock:
    """A time that only ``advance`` moves."""

    def __init__(self) -> None:
        self._now = START

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._now += timedelta(seconds=seconds)


class ManualTime:
    """The time of a watch (``cnstra.workers.watching.Clock``) that only ``advance`` moves. One thread waits in it."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._waiting: threading.Condition | None = None
        self._waits = 0

    def now(self) -> float:
        return self._now

    def wait(self, change: threading.Condition, _seconds: float | None) -> None:
        self._waiting, self._waits = change, self._waits + 1
        change.notify_all()
        change.wait()

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; returns when whoever waits has seen it, and waits again."""
        eventually(lambda: self._waiting, what="somebody waits for this time")
        assert self._waiting is not None
        with self._waiting:
            self._now += seconds
            before = self._waits
            self._waiting.notify_all()
            assert self._waiting.wait_for(lambda: self._waits > before, 60.0)


class DatabaseClock(ManualClock):
    """The same, also as ``DATABASE_CLOCK`` in a database."""

    def __init__(self, database_url: str) -> None:
        super().__init__()
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._connection.execute("create schema cnstra_test")
        self._connection.execute("create table cnstra_test.clock (at timestamptz not null)")
        self._connection.execute("insert into cnstra_test.clock values (%s)", [self.now()])
        self._connection.execute(
            "create function cnstra_test.now() returns timestamptz language sql stable "
            "as 'select at from cnstra_test.clock'"
        )

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._connection.execute("update cnstra_test.clock set at = %s", [self.now()])

    def close(self) -> None:
        self._connection.close()

"""A context store in a table of a SQL database (here SQLite), as a user would write it."""

from __future__ import annotations

import json
import sqlite3
from typing import Any


class TableStore:
    """The context of one run, in a row of its own."""

    def __init__(self, connection: sqlite3.Connection, run_id: str) -> None:
        self._connection = connection
        self._run_id = run_id
        connection.execute("create table if not exists context (run_id text primary key, data text not null)")

    def get(self) -> Any:
        row = self._connection.execute("select data from context where run_id = ?", (self._run_id,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set(self, value: Any) -> None:
        with self._connection:
            self._connection.execute(
                "insert into context values (?, ?) on conflict (run_id) do update set data = excluded.data",
                (self._run_id, json.dumps(value)),
            )

"""A user's own SQL: one query over the views, in a session that only reads.

The session is read-only against accidents, not against ill will: whoever has the URL can write by other means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from cnstra.orchestrator.errors import QueryError
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.reaching import connect

READ_ONLY = "-c default_transaction_read_only=on"
"""The session's setting, as an option of libpq."""

_NO_COMMAND = re.compile(r"""'[^']*'|"[^"]*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.DOTALL)
"""What may hold any words at all: texts, names, comments."""
_ENDS = re.compile(r"(?:^|;)\s*(commit|end|rollback|abort|prepare\s+transaction)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a query gave."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


def query(database_url: str, text: str) -> Table:
    """The rows of a query; of several, those of the last. Raises ``QueryError``, and what ``reach`` raises."""
    with _reading(database_url, text) as cursor:
        try:
            cursor.execute(text.encode())
            while cursor.nextset():
                pass
            if cursor.description is None:
                return Table(columns=(), rows=())
            return Table(columns=tuple(column.name for column in cursor.description), rows=cursor.fetchall())
        except psycopg.errors.ReadOnlySqlTransaction as error:
            raise QueryError(f"{_primary(error)}; `cnstra sql` only reads") from None
        except psycopg.Error as error:
            raise QueryError(_primary(error)) from None


@contextmanager
def _reading(database_url: str, text: str) -> Iterator[psycopg.Cursor[Any]]:
    """A cursor that reads. Where the session is a pooler's the transaction says so, and nothing of it stays there."""
    with (
        connect(database_url, options=READ_ONLY, only_reads=True) as connection,
        connection.cursor(row_factory=tuple_row) as cursor,
    ):
        if address_of(database_url).pooled:
            _refuse_to_end(text)
            cursor.execute("begin read only")
            try:
                yield cursor
            finally:
                connection.rollback()
        else:
            yield cursor


def _refuse_to_end(text: str) -> None:
    """What comes behind the end of the transaction that only reads would write: by accident, as by one that was pasted."""
    ends = _ENDS.search(_NO_COMMAND.sub(" ", text))
    if ends is not None:
        raise QueryError(
            f"{ends[1]!r} ends its transaction, and behind a pooler nothing else keeps what follows from writing; "
            "`cnstra sql` only reads"
        )


def _primary(error: psycopg.Error) -> str:
    place = f" (at character {error.diag.statement_position})" if error.diag.statement_position else ""
    hint = f"; {error.diag.message_hint}" if error.diag.message_hint else ""
    return f"{error.diag.message_primary or error}{place}{hint}"

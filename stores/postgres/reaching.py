"""Whether a database can be reached at all, asked without a pool: its own words say why not."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cnstra.orchestrator.errors import ConfigurationError, StoreUnavailable

_CONNECT_WITHIN = 5  # seconds, unless the URL says otherwise


def reach(database_url: str) -> None:
    """Connect once. Raises ``StoreUnavailable`` with the reason, ``ConfigurationError`` for a URL that is none."""
    with connect(database_url):
        pass


def connect(database_url: str, *, options: str = "") -> psycopg.Connection:
    """A connection of one's own, with autocommit; ``options`` are more settings for its session. Raises as ``reach``."""
    try:
        given = conninfo_to_dict(database_url)
    except psycopg.Error as error:
        raise ConfigurationError(f"the database's URL cannot be used: {_line(error)}") from None
    settings = " ".join(str(part) for part in (given.get("options"), options) if part)
    try:
        return psycopg.connect(
            database_url,
            autocommit=True,
            connect_timeout=int(given.get("connect_timeout") or _CONNECT_WITHIN),
            options=settings or None,
        )
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"Postgres cannot be reached: {_line(error)}") from error


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())

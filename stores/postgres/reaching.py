"""Whether a database can be reached at all, asked without a pool: its own words say why not."""

from __future__ import annotations

import psycopg

from cnstra.orchestrator.errors import ConfigurationError, StoreUnavailable
from cnstra.stores.postgres.addresses import DECLARE, address_of
from cnstra.stores.postgres.pools import PLANNING, connecting

_REFUSED = "unsupported startup parameter"  # how pgbouncer begins to refuse options that are sent at the start


def reach(database_url: str) -> None:
    """Connect once, as the pools do. Raises ``StoreUnavailable`` with the reason, ``ConfigurationError`` for a URL that cannot be
    used, also where a pooler is in between that the URL does not tell of."""
    with connect(database_url, options=PLANNING):
        pass


def connect(database_url: str, *, options: str = "", only_reads: bool = False) -> psycopg.Connection:
    """A connection of one's own, as those of the pools: a network that falls silent is given up. ``options`` are settings of its
    session, where it has one, and ``only_reads`` is whether these forbid it to write. Raises as ``reach``."""
    address = address_of(database_url)
    how = connecting(address, options) | (address.of_primary() if only_reads else {})
    try:
        return psycopg.connect(address.url, **how)
    except psycopg.OperationalError as error:
        if not address.pooled and _REFUSED in str(error):
            raise ConfigurationError(f"the database's URL cannot be used: {_line(error)}; {DECLARE}") from error
        raise StoreUnavailable(f"Postgres cannot be reached: {_line(error)}") from error


def passes_a_pooler(database_url: str) -> bool:
    """Whether something in between hands out connections: then who answers is not who was connected to. Raises as ``reach``."""
    with connect(database_url) as connection:
        row = connection.execute("select pg_backend_pid()").fetchone()
        return row is not None and row[0] != connection.info.backend_pid


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())

"""The schema: applying migrations, laying views and rights anew, and refusing a schema that does not fit.

Migrations are append-only files ``NNNN_what.sql``, each applied once, in order, all in one transaction under a lock that
ends with it. The views are laid over the old ones each time, as they hold no data; so are the rights of roles.

That takes locks which whoever reads the tables or views holds up, and behind a lock that is waited for all others wait: a report
that takes an hour would stop all workers for as long. So it is waited for briefly, and again after a pause in which work goes on.
"""

from __future__ import annotations

import re
import time
from importlib import resources

import psycopg
from psycopg.rows import TupleRow

from cnstra.orchestrator.errors import AccessRefused, ConfigurationError, SchemaError
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.granting import grant
from cnstra.stores.postgres.pools import STALLING, connecting
from cnstra.stores.postgres.statements import sql_text

_FILE = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LOCK = 0x636E73747261  # "cnstra": two migrations at once take turns

_LOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
_WAIT = 2.0  # seconds to wait for a lock, while others wait behind it
_PAUSE = 1.0  # seconds between two tries
_PATIENCE = 60.0  # seconds after which whoever holds them is named instead


def migrations() -> list[tuple[int, str]]:
    """Number and file name of every migration, in order."""
    folder = resources.files(__package__).joinpath("sql", "migrations")
    found = sorted((int(match[1]), entry.name) for entry in folder.iterdir() if (match := _FILE.match(entry.name)))
    if [number for number, _ in found] != list(range(1, len(found) + 1)):
        raise SchemaError(f"the migrations are not numbered 1 to {len(found)}: {[name for _, name in found]}")
    return found


def migrate(database_url: str, *, roles: str | None = None) -> list[str]:
    """Bring the database's schema to this release's; the names of the migrations that it took. ``roles`` is what the names of
    group roles begin with that are to be made, if they are not there, and given their rights.

    Raises ``ConfigurationError`` for a database that is not of UTF8, ``AccessRefused`` for a user who may not change the schema,
    ``SchemaError`` when it was made by a newer release, or somebody uses the tables for a minute without a pause, and the
    database's own errors.
    """
    address = address_of(database_url)
    until = time.monotonic() + _PATIENCE
    with psycopg.connect(address.url, **connecting(address, STALLING)) as connection:
        _check_encoding(connection)
        while True:
            try:
                with connection.transaction():
                    return _migrated(connection, roles)
            except _LOCKED as error:
                if time.monotonic() > until:
                    raise SchemaError(_in_use(connection)) from error
            except psycopg.errors.InsufficientPrivilege as error:
                raise AccessRefused(
                    f"{connection.info.user} may not change the schema: {error.diag.message_primary}; migrate as the owner of "
                    f"the schema cnstra, who first made it, or of the database {connection.info.dbname}"
                ) from error
            time.sleep(_PAUSE)


def _check_encoding(connection: psycopg.Connection[TupleRow]) -> None:
    """Others know some characters only, or take bytes for characters, and would refuse the one payload that has another."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the encoding of the database {connection.info.dbname} is {encoding}, and has to be UTF8; make another one: "
            "create database … encoding 'UTF8' template template0"
        )


def _migrated(connection: psycopg.Connection[TupleRow], roles: str | None) -> list[str]:
    connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
    connection.execute("select set_config('lock_timeout', %s, true)", [f"{_WAIT * 1000:.0f}ms"])
    connection.execute("create schema if not exists cnstra")
    connection.execute(
        "create table if not exists cnstra.migration "
        "(number integer primary key, name text not null, applied_at timestamptz not null default now())"
    )
    row = connection.execute("select coalesce(max(number), 0) from cnstra.migration").fetchone()
    at = row[0] if row else 0
    known = migrations()
    if at > known[-1][0]:
        raise SchemaError(
            f"the database's schema is at migration {at}, newer than this release's {known[-1][0]}; "
            "upgrade cnstra before you migrate"
        )
    taken = [(number, name) for number, name in known if number > at]
    for number, name in taken:
        connection.execute(sql_text(f"migrations/{name}").encode())
        connection.execute("insert into cnstra.migration (number, name) values (%s, %s)", [number, name])
    connection.execute(sql_text("views.sql").encode())
    grant(connection, roles)
    return [name for _, name in taken]


def _in_use(connection: psycopg.Connection[TupleRow]) -> str:
    """Says who has the tables: transactions that began before a lock was waited for in vain, as far as this role may know."""
    users = connection.execute(
        "select pid, application_name, xact_start from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid() and xact_start < now() - make_interval(secs => %s) "
        "order by xact_start limit 3",
        [_WAIT],
    ).fetchall()
    named = ", ".join(
        f"process {pid} of Postgres ({name or 'nameless'}, since {since:%F %T%z})" for pid, name, since in users
    )
    return (
        f"the schema could not be changed within {_PATIENCE:.0f} s, as its tables are in use by transactions that do not end: "
        f"{named or 'of other roles'}; wait for them, or end them (select pg_terminate_backend(…)), and migrate again"
    )


def fitting(version: int) -> None:
    """Refuse a schema that this release cannot work on: an older one. A newer one still serves the release before it."""
    needed = migrations()[-1][0]
    if version < needed:
        state = f"is at migration {version}" if version else "has no cnstra schema"
        raise SchemaError(f"the database {state}, and this release needs migration {needed}; run `cnstra migrate`")

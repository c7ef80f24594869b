"""Users of a server that may do as little as a worker, a client or a reader needs, in one database."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from cnstra.stores.postgres import migrate


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """The database, as each of them is connected to it; ``stranger`` is in no group."""

    prefix: str
    worker: str
    client: str
    reader: str
    stranger: str

    def named(self, who: str) -> str:
        """The name of one of them."""
        return f"{self.prefix}_user_{who}"


@contextmanager
def users_of(database_url: str) -> Iterator[Users]:
    """Groups and users for the length of a block: roles are the whole server's."""
    prefix, password = f"t{uuid.uuid4().hex[:16]}", secrets.token_hex(8)
    groups = [f"{prefix}_{group}" for group in ("worker", "client", "reader")]
    migrate(database_url, roles=prefix)
    urls = {}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for who in ("worker", "client", "reader", "stranger"):
            name = f"{prefix}_user_{who}"
            _run(connection, "create role {} login", name)
            connection.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(name), sql.Literal(password)))
            if who != "stranger":
                _run(connection, "grant {} to {}", f"{prefix}_{who}", name)
            parts = urlsplit(database_url)
            urls[who] = parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()
    try:  # without a connection of its own: tests count those that there are
        yield Users(prefix=prefix, **urls)
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            forget_roles(connection, *(f"{prefix}_user_{who}" for who in urls), *groups)


def forget_roles(connection: psycopg.Connection[Any], *names: str) -> None:
    """Drop those that are there, with all that they have in the database."""
    there = connection.execute("select rolname from pg_roles where rolname = any(%s)", [list(names)]).fetchall()
    for (name,) in there:
        _run(connection, "grant {} to current_user", name)
        _run(connection, "drop owned by {} cascade", name)
    for (name,) in there:
        _run(connection, "drop role {}", name)


def _run(connection: psycopg.Connection[Any], statement: str, *names: str) -> None:
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

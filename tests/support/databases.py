"""A database for one test, made from a template or empty, and dropped with whatever is connected to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql


@contextmanager
def fresh_database(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """The URL of a new database on the server of `server_url`; a copy of the database at the URL `template`,
    if given.
    """
    name = f"cnstra_test_{uuid.uuid4().hex}"
    _run(
        server_url,
        "create database {} template {}",
        name,
        "template1" if template is None else name_of(template),
    )
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        _run(server_url, "drop database if exists {} with (force)", name)


def name_of(database_url: str) -> str:
    """The name of the database at `database_url`."""
    return urlsplit(database_url).path.removeprefix("/")


def _run(server_url: str, statement: str, *names: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

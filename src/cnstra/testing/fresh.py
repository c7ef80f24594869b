"""A database and a broker for one test: empty or migrated at its beginning, gone at its end, and nobody else's meanwhile.

Owns what a test takes of servers that others use, too, also such as hold somebody's data: it makes and drops databases of its
own, takes a database of the broker only if that is empty, and touches nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql

from cnstra.orchestrator.errors import ServersError
from cnstra.servers.locks import FileLock
from cnstra.workers.doorbell.brokers import in_namespace


@contextmanager
def fresh_database(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """The URL of a new database on the server of ``server_url``; a copy of the database at the URL ``template``, if given.

    Dropped at the end, with whatever is connected to it.
    """
    name = f"cnstra_test_{uuid.uuid4().hex}"
    _run(server_url, "create database {} template {}", name, "template1" if template is None else name_of(template))
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        _run(server_url, "drop database if exists {} with (force)", name)


def name_of(database_url: str) -> str:
    """The name of the database at a URL."""
    return urlsplit(database_url).path.removeprefix("/")


def _run(server_url: str, statement: str, *names: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def fresh_broker(server_url: str, claims: Path) -> Iterator[str]:
    """The URL of an empty database of the server at ``server_url``, emptied again at the end.

    ``claims`` is a folder that all who ask share. A database that holds anything is passed over: on a server of the user's own
    it is the user's. Raises ``ServersError`` when there is none left. A broker that has no numbered databases gives a namespace
    of its own, whose queues expire.
    """
    if urlsplit(server_url).scheme not in ("redis", "rediss"):
        yield in_namespace(server_url, f"cnstra-test-{uuid.uuid4().hex}")
        return
    number = 0
    while True:
        number += 1  # 0 is left to whoever uses the server's plain URL
        url = urlsplit(server_url)._replace(path=f"/{number}").geturl()
        claim = FileLock(claims / f"broker-{number}.lock")
        try:
            if not claim.try_exclusive():
                continue
            with redis.Redis.from_url(url) as client:
                if _holds_something(client, number):
                    continue
                try:
                    yield url
                finally:
                    client.flushdb()
                return
        finally:
            claim.close()


def _holds_something(client: redis.Redis, number: int) -> bool:
    try:
        return bool(client.dbsize())
    except redis.ResponseError as error:
        raise ServersError(
            f"the broker has no empty database for a test: each of 1 to {number - 1} is in use, or holds something ({error})"
        ) from error

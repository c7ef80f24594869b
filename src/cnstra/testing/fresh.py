"""A database and a broker for one test: empty or migrated at its beginning, gone at its end, and nobody else's meanwhile.

Owns what a test takes of servers that others use, too, also such as hold somebody's data: it makes and drops databases of its
own, takes a database of the broker only if that is empty, and touches nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql

from cnstra.orchestrator.errors import ServersError
from cnstra.servers import down
from cnstra.servers.locks import FileLock
from cnstra.workers.doorbell.brokers import in_namespace

_DISK = Path("/tmp")  # noqa: S108 - mkdtemp makes a folder of our own in it
_MEMORY = Path("/dev/shm")  # noqa: S108
_FACTS = Path("/proc/meminfo")
_PLENTY = 4 * 2**30
"""Bytes. Containers have 64 MB of it by default."""

_PREFIX = "cnstra-test-"
_ALIVE = "alive.lock"
_NEW = 60.0
"""Seconds in which who makes a home may not have its lock yet."""

_alive: dict[Path, FileLock] = {}


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


def new_home(*, on_disk: bool = False) -> Path:
    """A new folder for servers: short of path, and such that the account which runs them can pass through.

    In memory, where the machine has plenty: a database is some 300 files, and many a disk takes a millisecond for each. What is
    there outlives the servers, however they die. ``on_disk``: for who measures what a disk costs.
    """
    folder = _DISK if on_disk or not _has_room(_MEMORY) else _MEMORY
    _remove_leftovers(folder)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))  # pytest makes its own below one with 0700
    home.chmod(0o711)
    _alive[home] = FileLock(home / _ALIVE)
    _alive[home].try_exclusive()
    return home


def _has_room(memory: Path) -> bool:
    """Whether servers may keep their data there: what is free below it, and in the machine, is much more than tests take; and
    programs may run there, as those of a wheel are copied for who cannot reach it.
    """
    try:
        below = os.statvfs(memory)
        facts = dict(line.split(":", 1) for line in _FACTS.read_text().splitlines())
        available = int(facts["MemAvailable"].removesuffix("kB")) * 1024
    except (OSError, KeyError, ValueError):  # another system: it has no such folder, or says it otherwise
        return False
    if below.f_flag & os.ST_NOEXEC or not os.access(memory, os.W_OK | os.X_OK):
        return False
    return min(below.f_bavail * below.f_frsize, available) >= _PLENTY


def _remove_leftovers(folder: Path) -> None:
    """Remove the homes of those who were killed: in memory they would take room until the machine is started again."""
    for home in folder.glob(f"{_PREFIX}*"):
        alive = home / _ALIVE
        with suppress(OSError, ServersError):  # somebody else's, or somebody else removes it
            if time.time() - alive.stat().st_mtime < _NEW:
                continue
            with closing(FileLock(alive)) as lock:
                if lock.try_exclusive():
                    for servers in home.rglob("supervisor.lock"):
                        down(servers.parent)
                    delete_home(home)


def remove_home(home: Path) -> None:
    """Stop the servers of ``home``, whoever holds them, and delete it."""
    if any(one.name != _ALIVE for one in home.iterdir()):
        down(home)
    delete_home(home)


def delete_home(home: Path) -> None:
    """Delete a home in which no servers run."""
    shutil.rmtree(home)
    lock = _alive.pop(home, None)
    if lock is not None:
        lock.close()


@contextmanager
def temporary_home(*, on_disk: bool = False) -> Iterator[Path]:
    """A folder for servers for the length of the block; what runs there at its end is stopped."""
    home = new_home(on_disk=on_disk)
    try:
        yield home
    finally:
        remove_home(home)

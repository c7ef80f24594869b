"""The servers of the demo: private ones below ``$CNSTRA_HOME``, or those that the environment names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

import cnstra.servers

_VARIABLES = ("CNSTRA_DATABASE_URL", "CNSTRA_BROKER_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """Where the servers are. ``disposable`` says that the broker holds nothing that anybody would miss."""

    database: str
    broker: str
    disposable: bool

    @property
    def environment(self) -> dict[str, str]:
        """Our environment, for processes that are to use these servers."""
        return {**os.environ, "CNSTRA_DATABASE_URL": self.database, "CNSTRA_BROKER_URL": self.broker}

    def empty_broker(self) -> None:
        """FLUSHALL: everything in the broker is gone."""
        with redis.Redis.from_url(self.broker) as client:
            client.flushall()


def named_by_user() -> bool:
    """Whether none of the servers is ours to start."""
    return all(os.environ.get(name) for name in _VARIABLES)


def described(home: Path) -> str:
    """Which servers these are, in a few words."""
    named = [name for name in _VARIABLES if os.environ.get(name)]
    if not named:
        return f"Postgres and Valkey, in {home}"
    return f"as said by {' and '.join(named)}" + ("" if named_by_user() else f", the other one in {home}")


@contextmanager
def running(home: Path, *, keep: bool) -> Iterator[Urls]:
    """The servers, started if need be, for as long as the block; with ``keep``, until ``cnstra down``."""
    if keep:
        kept = cnstra.servers.up(home)
        yield _urls(kept.database_url, kept.broker_url)
        return
    with cnstra.servers.hold(home) as held:
        yield _urls(held.database_url, held.broker_url)


def _urls(database: str, broker: str) -> Urls:
    return Urls(database=database, broker=broker, disposable=_disposable(broker))


def _disposable(broker: str) -> bool:
    """A broker that the user has named may hold what is theirs: it is emptied only when it holds nothing but doorbells."""
    if not os.environ.get("CNSTRA_BROKER_URL"):
        return True
    with redis.Redis.from_url(broker) as client:
        held = sum(database["keys"] for database in client.info("keyspace").values())
        doorbells = sum(1 for _ in client.scan_iter(match="cnstra:*", count=1_000))
        return bool(held == doorbells)

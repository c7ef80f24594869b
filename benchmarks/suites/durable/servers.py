"""Private servers with Postgres's durable defaults, worker processes on them, and what both have spent.

Owns their beginnings and their ends: a database for each take, which is gone after it, and no process left behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import redis

from benchmarks.measuring import WrongResult
from cnstra.orchestrator.errors import CnstraError
from cnstra.servers import hold
from cnstra.stores.postgres.migrating import migrate
from cnstra.testing.fresh import fresh_database
from cnstra.testing.homes import temporary_home

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 300.0
"""Seconds after which a take that does not end has failed."""
IDLE = 0.05
"""Seconds without anything to do between two takes on an idle system."""

_POLL = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a take happens."""

    database_url: str
    broker_url: str

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database_url, autocommit=True)


@contextmanager
def servers() -> Iterator[Place]:
    """Postgres and Valkey, for a whole suite."""
    with temporary_home(on_disk=True) as home, hold(home) as held:
        yield Place(database_url=held.database_url, broker_url=held.broker_url)


@contextmanager
def fresh(place: Place) -> Iterator[Place]:
    """A database with the schema and nothing in it, and an empty broker, for one take."""
    with fresh_database(place.database_url) as url:
        migrate(url)
        redis.Redis.from_url(place.broker_url).flushdb()
        yield replace(place, database_url=url)


class Workers:
    """The processes of one ``cnstra worker``."""

    def __init__(self, parent: int) -> None:
        self.pids = [parent, *_children(parent)]

    def seconds_of_cpu(self) -> float:
        """What they have spent, in all."""
        return sum(_cpu(pid) for pid in self.pids)

    def bytes_resident(self) -> int:
        """The most that one of them holds."""
        return max(_resident(pid) for pid in self.pids)


@contextmanager
def workers(
    place: Place, graph: str, *, processes: int = 2, threads: int = 8, coroutines: int = 500
) -> Iterator[Workers]:
    """``cnstra worker`` with one of the graphs, from the moment on at which it takes work."""
    command = [sys.executable, "-m", "cnstra", "worker", f"benchmarks.suites.durable.graphs:{graph}"]
    command += ["--processes", str(processes), "--threads", str(threads), "--coroutines", str(coroutines)]
    environment = {
        **os.environ,
        "CNSTRA_DATABASE_URL": place.database_url,
        "CNSTRA_BROKER_URL": place.broker_url,
        "CNSTRA_LOG_LEVEL": "warning",
    }
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            told = process.stdout.readline().strip() if process.stdout is not None else ""
            if told != "ready":
                raise WrongResult(f"worker of {graph}: it said {told!r} instead of 'ready'")
            yield Workers(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def until(done: Callable[[], bool], what: str) -> None:
    """Wait for something. Raises ``WrongResult`` when it does not come about."""
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            raise WrongResult(f"{what}: not within {PATIENCE:.0f} s")
        time.sleep(_POLL)


def all_ended(connection: psycopg.Connection[Any]) -> bool:
    """Whether no run is open. An index has those that are: it costs the same at any number."""
    row = connection.execute(
        "select not exists (select from cnstra.run where finished_at is null and ending is null)"
    ).fetchone()
    return bool(row and row[0])


def check(connection: psycopg.Connection[Any], runs: int, payload: int) -> None:
    """Raise ``WrongResult`` unless so many runs have completed, each with this payload as its one output."""
    row = connection.execute(
        "select count(*), count(*) filter (where r.status = 'completed' and a.outputs is not null) from cnstra.run r "
        "left join cnstra.activation a on a.run_id = r.run_id and a.outputs -> 0 -> 'payload' = %s::text::jsonb "
        "and jsonb_array_length(a.outputs) = 1",
        [payload],
    ).fetchone()
    if row != (runs, runs):
        raise WrongResult(
            f"{runs} runs were to complete with {payload}, and of {row and row[0]} so many did: {row and row[1]}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a database has done since it was made."""

    commits: int
    wal: int

    @classmethod
    def by(cls, connection: psycopg.Connection[Any]) -> Spent:
        """As the server has counted, of all that other sessions have told it by now: each does after a second at most."""
        time.sleep(1.2)
        row = connection.execute(
            "select d.xact_commit, (select wal_bytes from pg_stat_wal)::bigint from pg_stat_database d "
            "where d.datname = current_database()"
        ).fetchone()
        if row is None:
            raise CnstraError("the server counts nothing for this database")
        return cls(commits=row[0], wal=row[1])


_QUERIES = (
    "select coalesce(sum(calls), 0)::bigint from pg_stat_statements "
    "where dbid = (select oid from pg_database where datname = current_database()) and query not like '%pg_stat_statements%'"
)


def queries(connection: psycopg.Connection[Any]) -> int:
    """How many statements the database has carried out, those that begin and commit among them, but for this one."""
    row = connection.execute(_QUERIES).fetchone()
    return int(row[0]) if row is not None else 0


def commands(place: Place) -> int:
    """How many commands the broker has served."""
    info: Any = redis.Redis.from_url(place.broker_url).info("stats")
    return int(info["total_commands_processed"])


def _children(parent: int) -> list[int]:
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in text.split()]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE

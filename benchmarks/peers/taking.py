"""Takes a peer's figures: fresh servers, its program in its own environment, and what the program says of it.

The database ``peer_<name>`` is dropped and made anew before, and dropped after; a logical database of Redis is emptied
before and after. So the servers must be ones on which nothing else has these names. It refuses figures of a program that
failed, that says nothing of a check, or that gives others than it was asked for; no process of the program outlives it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql

from benchmarks.measuring import Contestant, WrongResult
from benchmarks.peers import environments
from benchmarks.peers.programs.speaking import BROKER_URL, DATABASE_URL
from benchmarks.peers.roster import Peer

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0
"""Seconds that a program has."""
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
"""What a program inherits of the environment: peers can be configured by it, too."""

Workload = Literal["chains", "fans", "line", "start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where the peers may make a database of their own, and empty a logical one."""

    database_url: str
    """Of any database of a server whose user may create others."""
    broker_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is asked of a peer."""

    workload: Workload
    size: int = 1
    """Runs, for ``chains`` and ``fans``."""
    repetitions: int = 1
    """For ``line`` and ``start``: how many figures the median is taken of. The others can be repeated, too."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.repetitions < 1:
            raise ValueError(f"size is {self.size}, repetitions is {self.repetitions}; both are at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a program said."""

    peer: str
    """With its version."""
    figures: tuple[float, ...]
    """Steps/s for ``chains`` and ``fans``, ms a step for ``line``, ms for ``start``."""
    configuration: str


def contestant(peer: Peer, work: Work, servers: Servers) -> Contestant:
    """The peer as one of a race. Its environment is made at once, so that nobody waits for pip within a round."""
    environments.prepare(peer.name)
    return Contestant(
        name=f"{peer.name} {environments.version(peer.name)}",
        says=f"{peer.does}. {peer.best}",
        take=partial(take, peer, work, servers),
    )


def take(peer: Peer, work: Work, servers: Servers) -> float:
    """The median of the figures. Raises ``WrongResult``, and ``Unprepared``."""
    return median(figures(peer, work, servers).figures)


def figures(peer: Peer, work: Work, servers: Servers) -> Taken:
    """Do the work once. Raises ``WrongResult`` where it failed, and ``Unprepared``."""
    python = environments.prepare(peer.name)
    with (
        _fresh_database(servers.database_url, f"peer_{peer.name}") as database_url,
        _fresh_broker(servers.broker_url, peer.broker_database) as broker_url,
    ):
        inherited = {name: os.environ[name] for name in KEPT if name in os.environ}
        given = {DATABASE_URL: database_url, BROKER_URL: broker_url}
        status, output, errors = run(command(python, peer, work), {**inherited, **given})
    return understood(peer, work, status, output, errors)


def command(python: Path, peer: Peer, work: Work) -> list[str]:
    """What is run. The rest of the configuration is the program's."""
    return [
        *(str(python), "-m", "benchmarks.peers.programs", peer.name, work.workload),
        *("--size", str(work.size), "--repetitions", str(work.repetitions)),
    ]


def understood(peer: Peer, work: Work, status: int, output: str, errors: str) -> Taken:
    """What a program's answer says. Raises ``WrongResult`` unless it is a whole one."""
    if status != 0:
        last = (errors.strip() or "no word of why").splitlines()[-1]
        raise WrongResult(f"{peer.name}, {work.workload}: its program ended with {status}: {last}")
    try:
        document = json.loads(output)
        taken = Taken(
            peer=str(document["peer"]),
            figures=tuple(float(figure) for figure in document["figures"]),
            configuration=str(document["configuration"]),
        )
        checked = document["checked"] is True
    except (ValueError, KeyError, TypeError) as error:
        raise WrongResult(f"{peer.name}, {work.workload}: its program said {output[:200]!r}") from error
    if not checked:
        raise WrongResult(f"{peer.name}, {work.workload}: its program did not check what came of it")
    if len(taken.figures) != work.repetitions or not all(0 < figure < math.inf for figure in taken.figures):
        raise WrongResult(
            f"{peer.name}, {work.workload}: {work.repetitions} figures were asked for, and came as {taken.figures}"
        )
    return taken


def run(command: list[str], environment: Mapping[str, str], patience: float = PATIENCE) -> tuple[int, str, str]:
    """Its exit code and what it wrote. It is the leader of a group, of which nobody is left afterwards."""
    # Into files, since the end of a pipe comes only when the last worker has closed it.
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        program = subprocess.Popen(  # noqa: S603 - no input of anybody's
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = program.wait(patience)
        except subprocess.TimeoutExpired as expired:
            raise WrongResult(f"{' '.join(command)}: given up after {patience:g} s") from expired
        finally:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        output.seek(0)
        errors.seek(0)
        return status, output.read(), errors.read()


@contextmanager
def _fresh_database(url: str, name: str) -> Iterator[str]:
    drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield with_database(url, name)
        finally:
            connection.execute(drop)


@contextmanager
def _fresh_broker(url: str, number: int) -> Iterator[str]:
    mine = with_database(url, str(number))
    with redis.Redis.from_url(mine) as client:
        client.flushdb()
        try:
            yield mine
        finally:
            client.flushdb()


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))

"""Context stores under test: where each kind keeps a context, and what differs between them.

A ``Home`` is one context of one kind of store. It is opened as often as a test likes, as many users of the same context
would, also in other processes.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID, uuid4

import psycopg
import redis
from psycopg_pool import ConnectionPool

from cnstra.orchestrator.contexts import VersionedContextStore
from cnstra.stores import InMemoryContextStore, PostgresContextStore, ReactiveContextStore, RedisContextStore
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.reactive import Collection
from support.clocks import ManualClock
from support.seals import CODEC
from support.stage import PATIENCE
from support.worlds import World

_processes = multiprocessing.get_context("forkserver")


class Home:
    """One context of one kind of store. ``expire`` and ``lifetime`` are of those that expire."""

    is_shared = False
    """Whether other processes reach it, by ``address``."""

    def open(self, **options: Any) -> VersionedContextStore:
        """A store on this context."""
        raise NotImplementedError

    def another(self) -> Home:
        """Another context, at the same place."""
        raise NotImplementedError

    def expire(self) -> None:
        """Let its time be over, by the server's clock."""
        raise NotImplementedError

    def lifetime(self) -> float | None:
        """How many seconds it has left, by the server's clock; None: for ever."""
        raise NotImplementedError

    @property
    def address(self) -> Address:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of connections."""


class InProcess(Home):
    """A store that lives in this process; ``make`` makes one on a new context."""

    def __init__(self, make: Callable[..., VersionedContextStore]) -> None:
        self._make = make
        self._opened: VersionedContextStore | None = None

    def open(self, **options: Any) -> VersionedContextStore:
        if self._opened is None:
            self._opened = self._make(**options)
        return self._opened

    def another(self) -> Home:
        return InProcess(self._make)


class OnRedis(Home):
    """A context on Redis; ``decoding`` is for clients that make text of all that they read."""

    is_shared = True

    def __init__(self, url: str, *, session: str = "session-123", decoding: bool = False) -> None:
        self.client = redis.Redis.from_url(url, decode_responses=decoding)
        self.session = session
        self._url, self._decoding = url, decoding

    def open(self, **options: Any) -> VersionedContextStore:
        return RedisContextStore(self.client, self.session, **options)

    def another(self) -> Home:
        return OnRedis(self._url, session=self.session + "4", decoding=self._decoding)

    def expire(self) -> None:
        self.client.pexpireat(f"cnstra:ctx:{self.session}", 1)

    def lifetime(self) -> float | None:
        left = int(self.client.pttl(f"cnstra:ctx:{self.session}"))
        assert left != -2, "it is not there"
        return None if left == -1 else left / 1000

    @property
    def address(self) -> Address:
        return Address(kind="redis", url=self._url, name=self.session)

    def close(self) -> None:
        self.client.close()


class Sealed(Home):
    """A context of another home, in stores with a codec that seals; a test's own codec takes its place."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.is_shared = home.is_shared

    def open(self, **options: Any) -> VersionedContextStore:
        return self._home.open(**{"codec": CODEC, **options})

    def another(self) -> Home:
        return Sealed(self._home.another())

    def expire(self) -> None:
        self._home.expire()

    def lifetime(self) -> float | None:
        return self._home.lifetime()

    @property
    def address(self) -> Address:
        return replace(self._home.address, sealed=True)

    def close(self) -> None:
        self._home.close()


class InPostgres(Home):
    """A context in Postgres, over a pool or over a connection in autocommit mode: a free-standing one, or a run's."""

    is_shared = True

    def __init__(self, url: str, *, context_id: UUID | None = None, of_run: bool = False, pooled: bool = True) -> None:
        self._url, self._of_run, self._pooled = url, of_run, pooled
        self.context_id = context_id or (submitted(url) if of_run else uuid4())
        where = address_of(url)
        # As users are told to behind a pooler, which other processes have to go through, too.
        how: dict[str, Any] = {"prepare_threshold": None} if where.pooled else {}
        self.source: ConnectionPool[Any] | psycopg.Connection[Any] = (
            ConnectionPool(where.url, min_size=0, max_size=4, kwargs=how, open=True)
            if pooled
            else psycopg.connect(where.url, autocommit=True, **how)
        )

    def open(self, **options: Any) -> VersionedContextStore:
        return PostgresContextStore(self.source, self.context_id, **options)

    def another(self) -> Home:
        return InPostgres(self._url, of_run=self._of_run, pooled=self._pooled)

    def expire(self) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute(
                "update cnstra.free_context set expires_at = clock_timestamp() where context_id = %s", [self.context_id]
            )

    def lifetime(self) -> float | None:
        with psycopg.connect(self._url) as connection:
            [(left,)] = connection.execute(
                "select extract(epoch from expires_at - clock_timestamp())::float8 from cnstra.free_context "
                "where context_id = %s",
                [self.context_id],
            )
        return left

    @property
    def address(self) -> Address:
        return Address(kind="postgres", url=self._url, name=str(self.context_id))

    def close(self) -> None:
        self.source.close()


def submitted(database_url: str) -> UUID:
    """A new run, whose first activation is ready."""
    store = PostgresStore(database_url)
    try:
        return World(store, ManualClock()).submit("stock")
    finally:
        store.close()


def in_memory() -> Home:
    return InProcess(InMemoryContextStore)


def in_a_collection() -> Home:
    return InProcess(lambda **options: ReactiveContextStore(Collection("run_id"), "run-123", **options))


HOMES: dict[str, Callable[[str], Home]] = {
    "redis": OnRedis,
    "redis, decoding": lambda url: OnRedis(url, decoding=True),
    "postgres": InPostgres,
    "postgres, one connection": lambda url: InPostgres(url, pooled=False),
    "a run's own": lambda url: InPostgres(url, of_run=True),
    "redis, sealed": lambda url: Sealed(OnRedis(url)),
    "postgres, sealed": lambda url: Sealed(InPostgres(url)),
    "a run's own, sealed": lambda url: Sealed(InPostgres(url, of_run=True)),
}
"""Homes on servers, by name; each from its server's URL."""

LOCAL: dict[str, Callable[[], Home]] = {
    "memory": in_memory,
    "reactive": in_a_collection,
    "memory, sealed": lambda: Sealed(in_memory()),
    "reactive, sealed": lambda: Sealed(in_a_collection()),
}
"""Homes in this process, by name."""


# -- codecs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Money:
    """No JSON."""

    amount: int


@dataclass
class Zipped:
    """A codec for values that hold money; compresses, and counts what it is asked for."""

    calls: list[str] = field(default_factory=list)

    def encode(self, value: Any, /) -> bytes:
        self.calls.append("encode")
        return zlib.compress(json.dumps(value, default=lambda money: {"$money": money.amount}).encode())

    def decode(self, data: bytes, /) -> Any:
        self.calls.append("decode")
        return json.loads(zlib.decompress(data), object_hook=lambda d: Money(d["$money"]) if "$money" in d else d)


class Broken:
    """A codec that refuses with an error which quotes the value, or answers something that is no bytes."""

    def __init__(self, answer: Any = None) -> None:
        self._answer = answer

    def encode(self, value: Any, /) -> bytes:
        if self._answer is None:
            raise ValueError(f"cannot encode {value!r}")
        return self._answer

    def decode(self, data: bytes, /) -> Any:
        raise ValueError(f"cannot decode {data!r}")


# -- many at once --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where another process finds a context."""

    kind: Literal["redis", "postgres"]
    url: str
    name: str
    sealed: bool = False

    def home(self) -> Home:
        home = (
            OnRedis(self.url, session=self.name)
            if self.kind == "redis"
            else InPostgres(self.url, context_id=UUID(self.name))
        )
        return Sealed(home) if self.sealed else home


class Meeting:
    """Several users of one context, who all begin at the same moment: in processes of their own where others reach it, else on
    threads. The processes are started once, by the first who needs them.
    """

    def __init__(self, users: int) -> None:
        self._users = users
        self._processes = ProcessPoolExecutor(
            users, mp_context=_processes, initializer=_join, initargs=(_processes.Barrier(users, timeout=PATIENCE),)
        )

    def at_once(self, home: Home, work: Callable[[VersionedContextStore], Any]) -> list[Any]:
        """What each of them comes to. ``work`` is a function of the top of a module."""
        if not home.is_shared:
            return _on_threads(home, work, self._users)
        working = [self._processes.submit(_work, home.address, work) for _ in range(self._users)]
        return [future.result() for future in working]

    def close(self) -> None:
        self._processes.shutdown()


_barrier: Any = None  # of this process, where it is one of those that meet


def _join(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _work(address: Address, work: Callable[[VersionedContextStore], Any]) -> Any:
    with closing(address.home()) as home:
        store = home.open()
        _barrier.wait()
        return work(store)


def _on_threads(home: Home, work: Callable[[VersionedContextStore], Any], writers: int) -> list[Any]:
    barrier, answers = threading.Barrier(writers), []

    def run() -> None:
        barrier.wait()
        answers.append(work(home.open()))

    threads = [threading.Thread(target=run) for _ in range(writers)]
    home.open()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == writers
    return answers

"""The least that a durable start by a broker takes: two processes that hand one row on to each other, without CNStra.

One inserts a row, commits, and pushes its id into a list of the broker; the other waits for the list, takes the row by an
update, and commits. No graph, no types, no claims that others could have made: three ways there and back, and the disk twice.
What the first one does is the least that a submit takes: again and again, while nobody takes the rows.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import redis

from benchmarks.measuring import WrongResult
from benchmarks.suites.durable.servers import IDLE, PATIENCE, Place, fresh

_TABLE = "create table relayed (id bigint generated always as identity primary key, payload jsonb not null, taken_at timestamptz)"
_INSERT = "insert into relayed (payload) values (%s::text::jsonb) returning id"
_TAKE = "update relayed set taken_at = clock_timestamp() where id = %s and taken_at is null returning payload"
_PUSHED, _TAKEN = "bench-relay-pushed", "bench-relay-taken"
_END = b"end"


class Relay:
    """The process that begins."""

    def __init__(self, connection: Any, broker: redis.Redis) -> None:
        self._connection = connection
        self._broker = broker

    def milliseconds_to_start(self, repetitions: int) -> float:
        """From before the insert to when the other process has taken the row; the median."""
        return median(self._to_start() for _ in range(repetitions))

    def _to_start(self) -> float:
        time.sleep(IDLE)
        began = time.time_ns()
        row = _hand_on(self._connection, self._broker)
        taken: Any = self._broker.blpop([_TAKEN], timeout=PATIENCE)
        if taken is None:
            raise WrongResult(f"row {row} was pushed, and nobody took it within {PATIENCE:.0f} s")
        return (int(taken[1]) - began) / 1e6


def handed_on_per_second(place: Place, rows: int) -> float:
    """Rows that one client inserts, commits, and pushes in a second, one by one; nobody takes them."""
    with fresh(place) as here, here.connect() as connection, _redis(here) as broker:
        connection.execute(_TABLE)
        _hand_on(connection, broker)  # connects
        began = time.perf_counter()
        for _ in range(rows):
            _hand_on(connection, broker)
        return rows / (time.perf_counter() - began)


def _hand_on(connection: Any, broker: redis.Redis) -> int:
    """Keep one row, and push its id."""
    [row] = connection.execute(_INSERT, ['{"n": 1}'], prepare=True).fetchone()
    broker.rpush(_PUSHED, row)
    return int(row)


@contextmanager
def relay(place: Place) -> Iterator[Relay]:
    """Both processes, and a table of their own."""
    with fresh(place) as here, here.connect() as connection, _redis(here) as broker:
        connection.execute(_TABLE)
        process = multiprocessing.get_context("spawn").Process(target=_take, args=(here,), daemon=True)
        process.start()
        try:
            yield Relay(connection, broker)
        finally:
            broker.rpush(_PUSHED, _END)
            process.join()


def _redis(place: Place) -> redis.Redis:
    """A client that waits for a list as long as it is told to."""
    return redis.Redis.from_url(place.broker_url, socket_timeout=None)


def _take(place: Place) -> None:
    """The other one."""
    with place.connect() as connection, _redis(place) as broker:
        while True:
            pushed: Any = broker.blpop([_PUSHED], timeout=0)
            if pushed[1] == _END:
                return
            row = connection.execute(_TAKE, [int(pushed[1])], prepare=True).fetchone()
            if row is not None:
                broker.rpush(_TAKEN, time.time_ns())

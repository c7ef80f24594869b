"""The limits of the parts: what Postgres alone does, with one client or with many rows a commit."""

from __future__ import annotations

import time

import psycopg

from benchmarks.suites.durable.servers import Place, fresh

_TABLE = "create table bare (id bigint generated always as identity primary key, payload jsonb not null)"
_INSERT = "insert into bare (payload) values (%s::text::jsonb)"


def inserts_per_second(place: Place, rows: int) -> float:
    """One client, one row a commit."""
    with fresh(place) as here, here.connect() as connection:
        connection.execute(_TABLE)
        return rows / _inserted(connection, rows)


def milliseconds_per_insert(place: Place, rows: int) -> float:
    """The same, as time."""
    with fresh(place) as here, here.connect() as connection:
        connection.execute(_TABLE)
        _inserted(connection, 20)
        return _inserted(connection, rows) * 1000 / rows


def _inserted(connection: psycopg.Connection[object], rows: int) -> float:
    began = time.perf_counter()
    for _ in range(rows):
        connection.execute(_INSERT, ['{"n": 1}'], prepare=True)
    return time.perf_counter() - began

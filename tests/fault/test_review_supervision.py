"""Sweeps and newcomers that meet in the database: neither takes work out of the others' hands, nor leaves it aside."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest
from msgspec.structs import replace

from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.transactions import PostgresOperation, TransactionRunner
from support.clocks import DATABASE_CLOCK
from support.waiting import eventually
from support.worlds import EVERYTHING, PostgresWorld, Threads, Worker


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    """A store in Postgres, and a clock that stands still until the test moves it."""
    world = PostgresWorld(database_url)
    yield world
    world.close()


def carry_out(world: PostgresWorld, connection: Any, operation: object) -> Any:
    """An operation's statements, in a transaction that the test ends."""
    runner = TransactionRunner(world.connect, statements(DATABASE_CLOCK))
    return runner.steps(connection, cast("PostgresOperation[Any]", operation))


def test_a_sweep_for_unknown_work_locks_nothing_that_somebody_knows(world: PostgresWorld) -> None:
    """A claim that comes while the sweep has not committed yet finds all the work that only waits for its turn."""
    worker = world.worker(("stock", "order"))
    world.submit("stock")
    unknown = world.submit("bank")
    world.clock.advance(5)

    with world.connect() as connection, connection.transaction():
        carry_out(world, connection, world.store.set_unknown_aside(timedelta(seconds=1), 100))
        claimed = worker.claim()

    assert [work.neuron for work in claimed] == ["stock"]
    assert world.row(unknown)["blocked"] == "unknown"


def test_g13_a_newcomer_waits_for_another_that_may_fail(world: PostgresWorld) -> None:
    """Two workers come at once, and the first one's registration is undone: the second has taken the work up."""
    other = world.worker(("stock", "order"))
    world.submit("bank")
    world.clock.advance(5)
    world.set_unknown_aside()
    second = replace(other.info, worker=world.run_id(), dendrites=EVERYTHING)

    with world.connect() as connection:
        connection.execute("begin")
        carry_out(world, connection, world.store.register(replace(second, worker=world.run_id())))
        coming = Threads([partial(world.store.run, world.store.register(second))])
        eventually(world.waiting, what="the second newcomer waits for the first")
        connection.execute("rollback")
    coming.results()

    assert [work.neuron for work in Worker(world.store, second).claim()] == ["bank"]

"""What is done while Postgres is at a statement: once it is sent, before it has ended, and whatever comes of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from cnstra import CNS, Orchestrator, collateral, neuron
from cnstra.orchestrator.ports import Ring
from cnstra.servers import HeldServers
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.overlapping import OverlappingConnection
from cnstra.stores.postgres.pools import LazyPool
from support.waiting import eventually

_LOCK = 4_711
start = collateral("start", int)
stock = neuron("stock", {})


@stock.dendrite(start)
def count(_payload: int, _axon: Any) -> None:
    """Nobody calls it here."""


@pytest.fixture
def connection(servers: HeldServers) -> Iterator[OverlappingConnection]:
    with OverlappingConnection.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(
            "set statement_timeout = '20s'"
        )  # else a statement that waits for this thread would do so for ever
        yield connection


@pytest.fixture
def holder(servers: HeldServers) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(servers.database_url, autocommit=True) as holder:
        yield holder


@pytest.mark.parametrize("prepare", [None, True])
def test_it_is_done_while_the_statement_waits_and_once(
    connection: OverlappingConnection, holder: psycopg.Connection[Any], prepare: bool | None
) -> None:
    """The statement waits for a lock that is let go by what is done meanwhile, which waits until it sees the statement wait."""
    done: list[bool] = []

    def release() -> None:
        waits = "select exists (select from pg_locks where locktype = 'advisory' and objid = %s and not granted)"
        done.append(bool(eventually(lambda: holder.execute(waits, [_LOCK]).fetchone() == (True,))))
        holder.execute("select pg_advisory_unlock(%s)", [_LOCK])

    statement = "select 'answered' from pg_advisory_xact_lock(%s::bigint)"
    connection.execute(statement, [_LOCK], prepare=prepare)  # else it is done while the server prepares it
    holder.execute("select pg_advisory_lock(%s)", [_LOCK])
    connection.do_meanwhile(release)
    answer = connection.execute(statement, [_LOCK], prepare=prepare).fetchone()
    assert (answer, done) == (("answered",), [True])
    assert connection.execute("select 'another'").fetchone() == ("another",)
    assert done == [True]


@pytest.mark.parametrize("raised", [LookupError, KeyboardInterrupt, StopIteration])
def test_what_is_raised_in_it_reaches_the_caller_and_the_connection_nobody(
    database_url: str, raised: type[BaseException]
) -> None:
    """It may be a signal's, which nobody here is to swallow. What the server answers is left unread, with the connection."""

    def interrupt() -> None:
        raise raised("made up")

    pool = LazyPool(address_of(database_url), {"autocommit": True}, 1)
    # Python itself makes another error of one that a generator must not raise.
    seen = (RuntimeError, "StopIteration") if raised is StopIteration else (raised, "made up")
    with pytest.raises(seen[0], match=seen[1]), pool.opened().connection() as connection:
        connection.do_meanwhile(interrupt)
        connection.execute("select 1")
    with pool.opened().connection() as another:
        assert another.execute("select 2").fetchone() == (2,)
    assert another is not connection
    pool.close()


def test_an_error_of_the_statement_is_raised_as_ever(connection: OverlappingConnection) -> None:
    """And what was to be done with a statement that was never sent is not done with the next one."""
    done: list[str] = []
    connection.do_meanwhile(lambda: done.append("first"))
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("select 1 / %s::int", [0])
    assert done == ["first"]
    connection.do_meanwhile(lambda: done.append("second"))
    with pytest.raises(psycopg.ProgrammingError):
        connection.execute("select %s", [object()])
    connection.execute("select 1")
    assert done == ["first"]


def test_a_submit_makes_its_doorbell_ready_while_the_run_is_kept(
    cnstra_database_url: str, broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The run that is being kept is what the bell has made ready for; it is rung after that, and nothing is left."""
    caplog.set_level(logging.INFO)
    with (
        Orchestrator(CNS([stock], name="overlaps"), database=cnstra_database_url, broker=broker_url) as client,
        psycopg.connect(cnstra_database_url) as holder,
        ThreadPoolExecutor() as threads,
    ):
        client.submit(start.create_signal(1))
        holder.execute("lock table cnstra.run in exclusive mode")
        submitted = threads.submit(client.submit, start.create_signal(2))
        try:
            prepared = eventually(lambda: client._bell._prepared)
            assert not submitted.done()
        finally:
            holder.rollback()
        run_id = submitted.result(20).id
        assert prepared is not None
        assert list(prepared.rings) == [Ring(door="default@overlaps", activations=((run_id, 1),))]
        assert client._bell._prepared is None
        assert client._bell.qsize("default@overlaps") == 2
    assert caplog.records == []

"""``submit(connection=)``: the run exists if and only if the user's own transaction commits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from cnstra import (
    CNS,
    AsyncOrchestrator,
    Orchestrator,
    RunNotFound,
    StoreUnavailable,
    SubmitError,
    collateral,
    neuron,
)
from cnstra.stores.postgres import migrate

asked = collateral("asked", str)
hearer = neuron("hearer")
hearer.dendrite(asked)(lambda text: None)
cns = CNS([hearer], name="transactional")


@pytest.fixture
def orchestrator(database_url: str, broker_url: str) -> Iterator[Orchestrator]:
    migrate(database_url)
    with Orchestrator(cns, database=database_url, broker=broker_url) as made:
        yield made


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The user's own, as psycopg gives it: not in autocommit mode."""
    with psycopg.connect(database_url) as made:
        made.execute("create table asked (text text)")
        made.commit()
        yield made


def test_g1_the_run_is_kept_when_the_transaction_commits(
    orchestrator: Orchestrator, connection: psycopg.Connection[Any]
) -> None:
    """With the user's own rows, not before."""
    connection.execute("insert into asked values ('a')")
    run = orchestrator.submit(asked.create_signal("a"), connection=connection)
    with pytest.raises(RunNotFound):
        run.status()

    connection.commit()

    assert run.status() == "running"
    assert connection.execute("select * from asked").fetchall() == [("a",)]


def test_a_submit_that_is_the_first_of_its_transaction_belongs_to_it(
    orchestrator: Orchestrator, connection: psycopg.Connection[Any]
) -> None:
    """It begins the transaction, as any statement does, and commits nothing."""
    runs = orchestrator.submit_many([asked.create_signal("a"), asked.create_signal("b")], connection=connection)

    connection.rollback()

    assert len(runs) == 2
    assert orchestrator.list_runs() == []


def test_in_autocommit_mode_it_is_kept_at_once(orchestrator: Orchestrator, connection: psycopg.Connection[Any]) -> None:
    """Unless a transaction is open there, too."""
    connection.autocommit = True
    run = orchestrator.submit(asked.create_signal("a"), connection=connection)
    assert run.status() == "running"

    with pytest.raises(ZeroDivisionError), connection.transaction():
        lost = orchestrator.submit(asked.create_signal("b"), connection=connection)
        raise ZeroDivisionError
    with pytest.raises(RunNotFound):
        lost.status()


def test_a_submit_that_is_refused_leaves_the_transaction_usable(
    orchestrator: Orchestrator, connection: psycopg.Connection[Any]
) -> None:
    """What the user did before stands, and goes on."""
    orchestrator.submit(asked.create_signal("a"), idempotency_key="k")
    connection.execute("insert into asked values ('mine')")
    with pytest.raises(SubmitError):
        orchestrator.submit(asked.create_signal("b"), idempotency_key="k", connection=connection)

    connection.execute("insert into asked values ('too')")
    connection.commit()

    assert connection.execute("select count(*) from asked").fetchone() == (2,)
    assert len(orchestrator.list_runs()) == 1


def test_the_same_key_is_the_same_run_within_a_transaction(
    orchestrator: Orchestrator, connection: psycopg.Connection[Any]
) -> None:
    """Also of one that is not committed yet."""
    first = orchestrator.submit(asked.create_signal("a"), idempotency_key="k", connection=connection)
    second = orchestrator.submit(asked.create_signal("a"), idempotency_key="k", connection=connection)
    connection.commit()

    assert first.id == second.id
    assert orchestrator.submit(asked.create_signal("a"), idempotency_key="k").id == first.id


def test_a_transaction_that_has_failed_already_is_told_so(
    orchestrator: Orchestrator, connection: psycopg.Connection[Any]
) -> None:
    """Nothing can be kept in it."""
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("select 1/0")
    with pytest.raises(StoreUnavailable, match=r"within your transaction.*InFailedSqlTransaction"):
        orchestrator.submit(asked.create_signal("a"), connection=connection)


@pytest.mark.parametrize("given", ["postgresql://…", 7])
def test_what_is_no_connection_is_refused(orchestrator: Orchestrator, given: Any) -> None:
    """The error says what is wanted."""
    with pytest.raises(SubmitError, match=r"takes a psycopg\.Connection"):
        orchestrator.submit(asked.create_signal("a"), connection=given)
    assert orchestrator.list_runs() == []


def test_the_async_client_takes_an_async_connection(
    orchestrator: Orchestrator, connection: psycopg.Connection[Any], database_url: str, broker_url: str
) -> None:
    """And joins its transaction; one of the other colour is refused by both."""

    async def use() -> None:
        async with (
            AsyncOrchestrator(cns, database=database_url, broker=broker_url) as client,
            await psycopg.AsyncConnection.connect(database_url) as own,
        ):
            with pytest.raises(SubmitError, match=r"takes a psycopg\.AsyncConnection"):
                await client.submit(asked.create_signal("a"), connection=connection)
            with pytest.raises(SubmitError, match=r"takes a psycopg\.Connection"):
                orchestrator.submit(asked.create_signal("a"), connection=own)
            run = await client.submit(asked.create_signal("a"), connection=own)
            with pytest.raises(RunNotFound):
                await run.status()
            await own.commit()
            await run.ring()
            assert await run.status() == "running"

    asyncio.run(use())

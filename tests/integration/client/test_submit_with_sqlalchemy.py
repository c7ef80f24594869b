"""``submit(connection=)`` with the connection under a SQLAlchemy session: the run is kept with what the session commits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from cnstra import CNS, AsyncOrchestrator, Orchestrator, RunNotFound, SubmitError, collateral, neuron

placed = collateral("placed", int)
hearer = neuron("hearer")
hearer.dendrite(placed)(lambda number: None)
cns = CNS([hearer], name="with_sqlalchemy")


class Base(DeclarativeBase):
    """The user's own tables."""


class Order(Base):
    """One of them."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


def _url(database_url: str) -> str:
    return database_url.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = create_engine(_url(database_url))
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def orchestrator(database_url: str, broker_url: str) -> Iterator[Orchestrator]:
    with Orchestrator(cns, database=database_url, broker=broker_url) as made:
        yield made


def _driver_connection(session: Session) -> Any:
    return session.connection().connection.driver_connection


def test_g1_the_run_is_kept_when_the_session_commits(orchestrator: Orchestrator, engine: Engine) -> None:
    """With the objects of the session, not before."""
    with Session(engine) as session:
        session.add(Order(id=17))
        run = orchestrator.submit(placed.create_signal(17), connection=_driver_connection(session))
        with pytest.raises(RunNotFound):
            run.status()
        session.commit()

        assert run.status() == "running"
        assert session.scalars(select(Order.id)).all() == [17]


def test_what_the_session_rolls_back_never_was(orchestrator: Orchestrator, engine: Engine) -> None:
    """Also where the submit came first in its transaction; the session goes on."""
    with Session(engine) as session:
        run = orchestrator.submit(placed.create_signal(17), connection=_driver_connection(session))
        session.add(Order(id=17))
        session.flush()
        session.rollback()
        with pytest.raises(RunNotFound):
            run.status()

        session.add(Order(id=18))
        session.commit()
        assert session.scalars(select(Order.id)).all() == [18]


def test_a_nested_transaction_takes_its_submit_along(orchestrator: Orchestrator, engine: Engine) -> None:
    """A savepoint of SQLAlchemy's around one of ours."""
    with Session(engine) as session:
        kept = orchestrator.submit(placed.create_signal(1), connection=_driver_connection(session))
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            session.add(Order(id=17))
            lost = orchestrator.submit(placed.create_signal(2), connection=_driver_connection(session))
            raise ZeroDivisionError
        session.commit()

    assert kept.status() == "running"
    with pytest.raises(RunNotFound):
        lost.status()
    assert [run.id for run in orchestrator.list_runs()] == [kept.id]


def test_a_submit_that_is_refused_leaves_the_session_usable(orchestrator: Orchestrator, engine: Engine) -> None:
    """What it had done stands, and is committed."""
    orchestrator.submit(placed.create_signal(1), idempotency_key="k")
    with Session(engine) as session:
        session.add(Order(id=17))
        session.flush()
        with pytest.raises(SubmitError):
            orchestrator.submit(placed.create_signal(2), idempotency_key="k", connection=_driver_connection(session))
        session.commit()

        assert session.scalars(select(Order.id)).all() == [17]


def test_a_session_itself_is_no_connection(orchestrator: Orchestrator, engine: Engine) -> None:
    """The error says what is wanted."""
    given: Any
    with Session(engine) as session:
        for given in (session, session.connection()):
            with pytest.raises(SubmitError, match=r"takes a psycopg\.Connection"):
                orchestrator.submit(placed.create_signal(1), connection=given)


def test_an_async_session_has_an_async_connection(
    orchestrator: Orchestrator, engine: Engine, database_url: str, broker_url: str
) -> None:
    """For an async client: what is rolled back never was, what is committed is kept."""

    async def use() -> None:
        own = create_async_engine(_url(database_url))
        async with (
            AsyncOrchestrator(cns, database=database_url, broker=broker_url) as client,
            AsyncSession(own) as session,
        ):
            for number in (17, 18):
                session.add(Order(id=number))
                connection = await session.connection()
                given: Any = (await connection.get_raw_connection()).driver_connection
                run = await client.submit(placed.create_signal(number), connection=given)
                with pytest.raises(RunNotFound):
                    await run.status()
                if number == 17:
                    await session.rollback()
                else:
                    await session.commit()
            await run.ring()
            assert await run.status() == "running"
            assert len(await client.list_runs()) == 1
            assert (await session.execute(text("select id from orders"))).all() == [(18,)]
        await own.dispose()

    asyncio.run(use())

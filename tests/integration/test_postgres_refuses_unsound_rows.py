"""What the tables refuse, whoever writes to them: rows that no plan could have come to (G1, G3)."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from support.worlds import PostgresWorld


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    postgres = PostgresWorld(database_url)
    yield postgres
    postgres.close()


@pytest.mark.parametrize(
    "change",
    [
        "status = 'done'",
        "status = 'completed'",
        "finished_at = now()",
        "ending = 'completed'",
        "attempt = 0",
        "outstanding = -1, active = -1",
        "active = -1",
        "active = outstanding + 1",
        "failed = -1",
        "uncertain = -1",
        "uncertain = undoable + 1",
        "undoable = -1",
    ],
)
def test_a_run_that_cannot_be_is_refused(world: PostgresWorld, change: str) -> None:
    world.submit("stock")
    _refused(world, "run", change)


@pytest.mark.parametrize(
    "change",
    [
        "status = 'completed'",
        "status = 'done'",
        "finished_at = now()",
        "status = 'ready', finished_at = now()",
        "blocked = 'tired'",
        "compensable = 'perhaps'",
        "origin = 'elsewhere'",
        "epoch = 0",
        "nonce = null",
        "worker = null",
    ],
)
def test_an_activation_that_cannot_be_is_refused(world: PostgresWorld, change: str) -> None:
    """One that runs is somebody's claim."""
    world.submit("stock")
    world.worker().claim_one()
    _refused(world, "activation", change)


def test_each_table_that_hops_write_to_has_one_constraint_to_read(world: PostgresWorld) -> None:
    """Postgres reads each anew for each statement."""
    with world.connect() as connection:
        named = connection.execute(
            "select conname from pg_constraint where contype = 'c' "
            "and conrelid in ('cnstra.run'::regclass, 'cnstra.activation'::regclass) order by 1"
        ).fetchall()
    assert named == [("activation_is_sound",), ("run_is_sound",)]


def _refused(world: PostgresWorld, table: str, change: str) -> None:
    with world.connect() as connection:
        assert connection.execute(f"update cnstra.{table} set run_id = run_id".encode()).rowcount == 1
        with pytest.raises(psycopg.errors.CheckViolation, match=f"{table}_is_sound"):
            connection.execute(f"update cnstra.{table} set {change}".encode())

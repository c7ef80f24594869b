"""The views that only SQL shows: the context as one value, tries, workers and queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg.rows import dict_row

from cnstra.orchestrator.context import Context
from support.worlds import GONE, PostgresWorld, failed, hop, lost, succeeded, target


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    postgres = PostgresWorld(database_url)
    yield postgres
    postgres.close()


def rows(world: PostgresWorld, query: str) -> list[dict[str, Any]]:
    with world.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode()).fetchall()


def put_and_drop(ctx: Context[Any, Any]) -> None:
    ctx["a"] = 1
    del ctx["a"]


def both(ctx: Context[Any, Any]) -> None:
    ctx.set({"a": [1, {"b": None}], "c": "ä"})
    ctx.local.set({"mine": True})


SCRIPTS: list[Callable[[Context[Any, Any]], object]] = [
    lambda ctx: None,
    put_and_drop,
    both,
    lambda ctx: ctx.__delitem__("a"),
    lambda ctx: ctx.set([1, 2]),
    lambda ctx: ctx.set({}),
    lambda ctx: ctx.update({"a": None}),
    lambda ctx: ctx.__delitem__("a"),
    lambda ctx: ctx.set(False),
    lambda ctx: ctx.delete(),
    lambda ctx: ctx.local.delete(),
]


def test_the_view_of_a_context_is_what_handlers_get(world: PostgresWorld) -> None:
    """After every hop, ``data`` is the value that the next handler would be given, and ``local`` the neurons' own slots."""
    run_id = world.submit("stock")
    worker = world.worker()
    local: list[Any] = []
    for script in SCRIPTS:
        one = hop(worker.claim_one(), script, targets=[target("stock")])
        expected = one.context.get()
        world.apply(one.event())
        (row,) = rows(world, "select * from cnstra.context")
        assert row["run_id"] == run_id
        assert row["version"] == world.row(run_id)["context_version"]
        assert row["data"] == expected
        assert row["data"] == world.values(run_id)
        local.append(row["local"])
    assert local == [{}] * 2 + [{"stock": {"mine": True}}] * 8 + [{}]


def test_every_call_is_a_try(world: PostgresWorld) -> None:
    """Failed ones with their tracebacks, conflicts, lost workers, the one that is running, and the one that committed."""
    run_id = world.submit("stock", "bank")
    worker = world.worker()
    works = worker.claim_by_neuron()
    world.apply(
        succeeded(works["bank"], lambda ctx: ctx.set({"a": 1})),
        succeeded(works["stock"], lambda ctx: ctx.set({"a": 2})),
    )
    start = world.clock.now()
    world.clock.advance(2)
    world.apply(failed(worker.claim_one(), retry_after=0.0))
    world.fire(run_id, 1)
    world.apply(lost(run_id, worker.claim_one().fence, backoff=0.0))
    world.fire(run_id, 1)
    work = worker.claim_one()

    def tries() -> list[dict[str, Any]]:
        return rows(world, "select * from cnstra.tries where activation_id = 1 order by try_number")

    conflict, boom, gone, running = tries()
    assert [one["try_number"] for one in tries()] == [1, 2, 3, 4]
    assert {one["worker"] for one in tries()} == {worker.info.worker}
    assert conflict["error_type"] == "cnstra.ContextConflict"
    assert (conflict["started_at"], conflict["finished_at"]) == (start, start)
    assert (boom["error_type"], boom["error"], boom["error_traceback"]) == (
        "shop.Boom",
        "it broke",
        "Traceback: it broke",
    )
    assert gone["error_type"] == GONE.error_type
    assert (running["error"], running["finished_at"]) == (None, None)
    world.apply(succeeded(work))
    assert tries()[3]["finished_at"] == world.clock.now()
    assert tries()[:3] == [conflict, boom, gone]


def test_workers_are_shown_with_what_they_run(world: PostgresWorld) -> None:
    """Each live one with its lease's times; a lost one is not shown."""
    world.submit("stock", "bank")
    first, second = world.worker(host="one", pid=11, queues=("default", "bank")), world.worker(host="two", pid=22)
    first.claim(1)
    shown = {row["host"]: row for row in rows(world, "select * from cnstra.workers")}
    assert shown["one"] == {
        "worker": first.info.worker,
        "host": "one",
        "pid": 11,
        "graphs": ["shop"],
        "queues": ["default", "bank"],
        "started_at": world.clock.now(),
        "last_seen_at": world.clock.now(),
        "running": 1,
    }
    assert shown["two"]["running"] == 0
    world.store.run(world.store.leave(second.info.worker))
    assert [row["host"] for row in rows(world, "select host from cnstra.workers")] == ["one"]


def test_queues_are_shown_with_their_depth(world: PostgresWorld) -> None:
    """What is ready, running and scheduled in each; what has ended is not counted."""
    run_id = world.submit("stock", "bank", "ship", target("stock", queue="slow"))
    works = world.worker().claim_by_neuron()
    world.apply(failed(works["stock"], retry_after=60.0), succeeded(works["bank"]))
    shown = {row["queue"]: row for row in rows(world, "select * from cnstra.queue_depth")}
    assert {name: (row["ready"], row["running"], row["scheduled"]) for name, row in shown.items()} == {
        "default": (0, 1, 1),
        "slow": (1, 0, 0),
    }
    assert shown["default"]["oldest_ready_age"] is None
    assert shown["slow"]["oldest_ready_age"] is not None
    assert world.status(run_id) == "running"


def test_queues_are_shown_by_graph_too(world: PostgresWorld) -> None:
    """Those of one graph are no others."""
    world.submit("stock", target("stock", queue="slow"))
    world.submit("stock", target("stock", queue="slow"), graph="bank")
    world.worker().claim_one()
    shown = rows(world, "select * from cnstra.graph_queue_depth order by graph, queue")
    assert [(row["graph"], row["queue"], row["ready"], row["running"], row["scheduled"]) for row in shown] == [
        ("bank", "default", 1, 0, 0),
        ("bank", "slow", 1, 0, 0),
        ("shop", "default", 0, 1, 0),
        ("shop", "slow", 1, 0, 0),
    ]
    assert [row["oldest_ready_age"] is None for row in shown] == [False, False, True, False]

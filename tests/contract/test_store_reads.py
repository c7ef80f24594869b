"""The store port: what reads answer, with the columns and the shapes of the SQL views."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.machine.records import Output
from cnstra.orchestrator.slots import Slot
from cnstra.orchestrator.store import OUTCOME, RunFilter
from support.views import VIEWS
from support.worlds import World, failed, hop, succeeded, target


def rows(world: World, **which: Any) -> list[UUID]:
    """The ids of the runs that are listed."""
    return [row["run_id"] for row in world.store.run(world.store.run_rows(RunFilter(**which)))]


def test_rows_have_the_columns_of_the_views(world: World) -> None:
    """Whoever reads through the port finds what a dashboard finds in SQL, under the same names."""
    run_id = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one(), lambda ctx: ctx.set({"a": 1})))
    assert list(world.row(run_id)) == VIEWS["runs"]
    assert [list(row) for row in world.store.run(world.store.run_rows(RunFilter()))] == [VIEWS["runs"]]
    assert list(world.activations(run_id)[1]) == VIEWS["activations"]
    local = ["local_written"]
    assert [list(row) for row in world.store.run(world.store.history(run_id))] == [VIEWS["context_history"] + local]


def test_who_follows_a_run_is_told_how_it_stands_and_portions_of_what_was_written(world: World) -> None:
    """As in its row, without its data; from a version on, as many as are wanted."""
    run_id = world.submit(target("stock"))
    assert world.store.run(world.store.run_standing(UUID(int=0))) is None
    worker = world.worker()
    for following in ([target("bank", ordinal=0)], []):
        world.apply(succeeded(worker.claim_one(), lambda ctx: ctx.set({"a": ctx.version}), targets=following))

    standing = world.store.run(world.store.run_standing(run_id))

    row = world.row(run_id)
    assert standing == {name: row[name] for name in ("run_id", "status", "context_version", "context_place")}
    assert (standing["status"], standing["context_version"]) == ("completed", 2)
    portions = [world.store.run(world.store.history(run_id, *which)) for which in ((0,), (0, 1), (1, 1), (2, 1))]
    assert [[one["version"] for one in portion] for portion in portions] == [[1, 2], [1], [2], []]


def test_who_waits_for_a_run_is_told_what_it_came_to(world: World) -> None:
    """As in its row, whose other columns nobody needs for that: of one that completed, one that failed, and none."""
    done, undone = world.submit("stock"), world.submit("stock")
    first, second = sorted(world.worker().claim(), key=lambda work: work.run_id)
    told = [
        Output(ordinal=place, collateral="told", payload=text) for place, text in enumerate(('{"a": [1, null]}', "0"))
    ]
    world.apply(replace(succeeded(first), event=replace(succeeded(first).event, outputs=tuple(told))), failed(second))
    outcomes = [world.store.run(world.store.run_outcome(run_id)) for run_id in (done, undone)]
    for run_id, outcome in zip((done, undone), outcomes, strict=True):
        assert outcome == {name: world.row(run_id)[name] for name in OUTCOME}
    assert [outcome["status"] for outcome in outcomes if outcome] == ["completed", "failed"]
    assert outcomes[0] is not None
    assert [one["payload"] for one in outcomes[0]["outputs"]] == [{"a": [1, None]}, 0]
    assert outcomes[1] is not None
    assert outcomes[1]["error_type"] is not None
    assert world.store.run(world.store.run_outcome(UUID(int=0))) is None


def test_a_fresh_runs_row(world: World) -> None:
    """Every column of a run that nobody has claimed yet."""
    submission = world.submission(
        "stock", "bank", payload='{"id": [1, null, "ä"]}', tags={"who": "me"}, priority=2, idempotency_key="k"
    )
    world.accept(submission)
    assert world.row(submission.run_id) == {
        "run_id": submission.run_id,
        "graph": "shop",
        "graph_version": "v1",
        "status": "running",
        "attempt": 1,
        "entry_collateral": "order",
        "entry_payload": {"id": [1, None, "ä"]},
        "outputs": [],
        "error": None,
        "error_type": None,
        "context_version": 0,
        "outstanding": 2,
        "submitted_at": world.clock.now(),
        "started_at": None,
        "finished_at": None,
        "next_retry_at": None,
        "deadline_at": None,
        "priority": 2,
        "tags": {"who": "me"},
        "idempotency_key": "k",
        "gate": None,
        "parent_run_id": None,
        "blocked": "unknown",
        "context_place": None,
        "ending": None,
        "compensation_error": None,
        "compensation_error_type": None,
        "cloned_from": None,
    }


def test_an_activations_row(world: World) -> None:
    """Every column of an activation that has committed, and of its ready successor."""
    run_id = world.submit(target("stock", payload="[1]"))
    created = world.clock.now()
    worker = world.worker()
    world.clock.advance(1)
    work = worker.claim_one()
    started = world.clock.now()
    world.clock.advance(1)
    world.apply(succeeded(work, lambda ctx: ctx.set(1), targets=[target("bank", payload="2", queue="bank", ordinal=0)]))
    finished = world.clock.now()
    done, ready = world.activations(run_id).values()
    assert done == {
        "run_id": run_id,
        "activation_id": 1,
        "parent_activation_id": None,
        "attempt": 1,
        "neuron": "stock",
        "dendrite": "handle",
        "collateral": "order",
        "payload": [1],
        "outputs": [{"collateral": "order", "payload": 2}],
        "status": "done",
        "tries": 1,
        "epoch": 1,
        "queue": "default",
        "worker": worker.info.worker,
        "error": None,
        "error_type": None,
        "created_at": created,
        "available_at": created,
        "started_at": started,
        "finished_at": finished,
        "context_version_read": 0,
        "context_version_written": 1,
        "group_id": None,
        "progress": None,
        "undo": False,
        "member": None,
        "gathers_group_id": None,
        "handled": False,
    }
    assert ready == done | {
        "activation_id": 2,
        "parent_activation_id": 1,
        "neuron": "bank",
        "payload": 2,
        "outputs": [],
        "status": "ready",
        "tries": 0,
        "epoch": 0,
        "queue": "bank",
        "worker": None,
        "created_at": finished,
        "available_at": finished,
        "started_at": None,
        "finished_at": None,
        "context_version_read": None,
        "context_version_written": None,
    }


def test_a_signal_that_several_hear_is_one_output(world: World) -> None:
    """What a handler emitted is listed once a signal, in the order in which it was emitted."""
    run_id = world.submit("stock")
    heard = [
        target("bank", payload="0", ordinal=0),
        target("ship", payload="0", ordinal=0),
        target("report", payload="2", ordinal=2),
    ]
    one = hop(world.worker().claim_one(), targets=heard)
    emitted = one.event()
    world.apply(emitted)
    signals = world.activations(run_id)[1]["outputs"]
    assert [signal["payload"] for signal in signals] == [0, 2]


def test_a_run_shows_whether_a_worker_could_take_it(world: World) -> None:
    """``blocked`` is ``unknown`` while work is ready and no live worker has the graph, and null once the run has ended."""
    pinned = world.submit("stock", pinned=True)
    world.worker(graph="other")
    world.worker(graph_version="v2")
    assert world.row(pinned)["blocked"] == "unknown"
    worker = world.worker()
    assert world.row(pinned)["blocked"] is None
    world.apply(succeeded(worker.claim_one()))
    world.store.run(world.store.leave(worker.info.worker))
    assert world.row(pinned)["blocked"] is None


def test_a_run_shows_whether_anybody_serves_its_queue(world: World) -> None:
    """Ready work of a queue without workers blocks its run, also while workers of other queues are up."""
    run_id = world.submit(target("bank", queue="bank"))
    world.worker()
    assert world.row(run_id)["blocked"] == "unknown"
    worker = world.worker(("stock", "order"), queues=("bank",))  # it may come to know it: the sweep decides
    assert world.row(run_id)["blocked"] is None
    world.store.run(world.store.leave(worker.info.worker))
    assert world.row(run_id)["blocked"] == "unknown"
    world.worker(queues=("bank",)).claim_one()
    assert world.row(run_id)["blocked"] is None


def test_a_waiting_run_is_not_blocked(world: World) -> None:
    """Where nothing is ready or running, no worker is missing."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(failed(worker.claim_one(), retry_after=60.0))
    world.store.run(world.store.leave(worker.info.worker))
    assert world.row(run_id)["blocked"] is None


def test_runs_are_listed_newest_first(world: World) -> None:
    """Up to the limit that was asked for."""
    runs = []
    for _ in range(5):
        runs.append(world.submit("stock"))
        world.clock.advance(1)
    assert rows(world) == runs[::-1]
    assert rows(world, limit=2) == [runs[4], runs[3]]


def test_runs_are_listed_by_status(world: World) -> None:
    """Each status lists its own runs, as their rows say."""
    expected: dict[str, UUID] = {}
    worker = world.worker()
    for status in ("completed", "failed", "waiting", "running"):
        run_id = expected[status] = world.submit("stock")
        world.clock.advance(1)
        work = worker.claim_one()
        match status:
            case "completed":
                world.apply(succeeded(work))
            case "failed":
                world.apply(failed(work))
            case "waiting":
                world.apply(failed(work, retry_after=60.0))
    for status, run_id in expected.items():
        assert rows(world, status=status) == [run_id]
        assert world.status(run_id) == status
    assert rows(world, status="cancelled") == []


@pytest.mark.parametrize(
    ("tag", "found"),
    [(("a", "1"), [0]), (("a", None), [1, 0]), (("b", "1"), [2]), (("a", "9"), []), (("c", None), [])],
)
def test_runs_are_listed_by_tag(world: World, tag: tuple[str, str | None], found: list[int]) -> None:
    """By a tag's value, or by its presence."""
    runs = []
    for tags in ({"a": "1"}, {"a": "2", "c'": "%"}, {"b": "1"}, {}):
        runs.append(world.submit("stock", tags=tags))
        world.clock.advance(1)
    assert rows(world, tag=tag) == [runs[place] for place in found]


def test_runs_are_listed_from_a_time_on(world: World) -> None:
    """Those that were submitted then or later."""
    world.submit("stock")
    world.clock.advance(1)
    since = world.clock.now()
    second = world.submit("stock")
    world.clock.advance(7200)
    third = world.submit("stock")
    assert rows(world, since=since) == [third, second]
    assert rows(world, since=since, limit=1) == [third]
    assert rows(world, since=world.clock.now()) == [third]


def test_a_context_is_read_slot_by_slot(world: World) -> None:
    """Each with the version that wrote it; a removed one stays as a tombstone, so that a removal can be in conflict."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(succeeded(worker.claim_one(), lambda ctx: ctx.set({"a": 1, "b": 2}), targets=[target("bank")]))
    world.apply(succeeded(worker.claim_one(), lambda ctx: ctx.__delitem__("a"), targets=[target("ship")]))
    snapshot = world.store.run(world.store.context_at(run_id, None))
    assert snapshot is not None
    assert snapshot.version == 2
    assert dict(snapshot.slots) == {"s:a": Slot(2, None), "s:b": Slot(1, "2")}
    assert worker.claim_one().snapshot == snapshot


def test_what_is_read_is_the_readers_own(world: World) -> None:
    """Changing a row that was read changes nothing in the store."""
    run_id = world.submit("stock", tags={"a": "1"}, payload='{"list": [1]}')
    row = world.row(run_id)
    row["tags"]["a"] = "2"
    row["entry_payload"]["list"].append(2)
    again = world.row(run_id)
    assert (again["tags"], again["entry_payload"]) == ({"a": "1"}, {"list": [1]})


def test_any_store_has_a_schema_that_fits(world: World) -> None:
    """A store that was made by this release passes its own check."""
    world.store.run(world.store.check_schema())


def test_closing_is_idempotent(world: World) -> None:
    """Everybody who may have to close a store can do so."""
    world.store.close()
    world.store.close()

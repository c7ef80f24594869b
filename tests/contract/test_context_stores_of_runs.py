"""The store on a run's own context: written from outside, among hops that write it at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from cnstra import Orchestrator
from cnstra.orchestrator.contexts import Versioned
from cnstra.orchestrator.errors import ContextError, ContextExpired, RunNotFound
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.slots import OnStale
from cnstra.orchestrator.store import Portion
from cnstra.stores import PostgresContextStore
from cnstra.stores.postgres.contexts import ContextKeeping, Place
from support import seals
from support.context_stores import Money, Zipped
from support.waiting import eventually
from support.worlds import PostgresWorld, Threads, failed, hop, succeeded, target


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    world = PostgresWorld(database_url)
    yield world
    world.close()


@pytest.fixture
def connection(world: PostgresWorld) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the user's own, each statement its own transaction."""
    with world.connect() as connection:
        yield connection


def opened(connection: psycopg.Connection[Any], run_id: UUID | str) -> PostgresContextStore:
    """The store on a run's context, with the codec of the world's store."""
    return PostgresContextStore(connection, run_id, codec=seals.codec())


def rows(connection: psycopg.Connection[Any], query: str, *values: Any) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), values).fetchall()


def test_what_hops_wrote_is_read(world: PostgresWorld, connection: psycopg.Connection[Any]) -> None:
    """The store's value and version are those of the run, hop after hop; local contexts are no part of it."""
    run_id = world.submit("stock")
    store = opened(connection, str(run_id))
    worker = world.worker()
    for change in (
        lambda ctx: None,
        lambda ctx: ctx.set({"a": 1, "b": [2]}),
        lambda ctx: ctx.local.set("mine"),
        lambda ctx: ctx.__delitem__("a"),
        lambda ctx: ctx.set([1]),
        lambda ctx: ctx.set({}),
        lambda ctx: ctx.delete(),
    ):
        world.apply(succeeded(worker.claim_one(), change, targets=[target("stock")]))
        version = world.row(run_id)["context_version"]
        assert store.get_versioned() == Versioned(value=world.values(run_id), version=version)
        assert store.version == version


def test_what_is_written_from_outside_is_read_by_the_next_hop(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """Whole values of every kind, also over those of another kind: what is set is what the next handler gets."""
    run_id = world.submit("stock")
    store = opened(connection, run_id)
    worker = world.worker()
    for number, value in enumerate([{"a": 1}, {"b": {"c": None}}, [1, 2], "text", {}, {"a": 2}, None, {"z": 0}, False]):
        store.set(value)
        work = worker.claim_one()
        one = hop(work, targets=[target("stock")])
        assert one.context.get() == value == world.values(run_id) == store.get()
        assert one.context.version == number + 1
        world.apply(one.event())


@pytest.mark.beneath_the_seal
def test_g7_the_history_says_what_came_from_outside(world: PostgresWorld, connection: psycopg.Connection[Any]) -> None:
    """Every write raises the version by exactly one, and has its row: without an activation when no hop wrote it."""
    run_id = world.submit("stock")
    store = PostgresContextStore(connection, run_id)
    worker = world.worker()
    store.set({"a": 1, "b": 1})
    world.apply(succeeded(worker.claim_one(), lambda ctx: ctx.update({"c": 1}), targets=[target("stock")]))
    store.update(lambda value: {"a": value["a"] + 1, "c": value["c"]})
    store.set([7])
    store.delete()
    [(now,)] = connection.execute("select clock_timestamp()").fetchall()

    history = rows(connection, "select * from cnstra.context_history where run_id = %s order by version", run_id)
    assert [
        (row["version"], row["activation_id"], row["neuron"], row["written"], row["removed"]) for row in history
    ] == [
        (1, None, None, {"a": 1, "b": 1}, []),
        (2, 1, "stock", {"c": 1}, []),
        (3, None, None, {"a": 2, "c": 1}, ["b"]),
        (4, None, None, [7], ["a", "c"]),
        (5, None, None, {}, []),
    ]
    outside = [row["at"] for row in history if row["activation_id"] is None]
    assert outside == sorted(outside)
    assert outside[-1] <= now
    assert world.row(run_id)["context_version"] == store.version == 5
    with Orchestrator(database=world.database_url, broker="redis://127.0.0.1:1/0") as orchestrator:
        run = orchestrator.get_run(run_id)
        assert [(step.version, step.activation_id, step.neuron) for step in run.history()] == [
            (row["version"], row["activation_id"], row["neuron"]) for row in history
        ]
        assert [run.context(version) for version in range(6)] == [
            None,
            {"a": 1, "b": 1},
            {"a": 1, "b": 1, "c": 1},
            {"a": 2, "c": 1},
            [7],
            None,
        ]


@pytest.mark.parametrize(
    ("write", "change", "verdict", "value"),
    [
        pytest.param({"k": 5}, lambda ctx: ctx.update({"k": 1}), Verdict.CONFLICTED, {"k": 5}, id="the same key"),
        pytest.param({"n": 5}, lambda ctx: ctx.update({"k": 1}), Verdict.CONFLICTED, {"n": 5}, id="a removed key"),
        pytest.param(None, lambda ctx: ctx.update({"k": 1}), Verdict.CONFLICTED, None, id="a deletion of all"),
        pytest.param([1], lambda ctx: ctx.update({"n": 1}), Verdict.CONFLICTED, [1], id="a value without keys"),
        pytest.param({"k": 5}, lambda ctx: ctx.set({"n": 1}), Verdict.CONFLICTED, {"k": 5}, id="a set of all"),
        pytest.param({"k": 5}, lambda ctx: ctx.update({"n": 1}), Verdict.APPLIED, {"k": 5, "n": 1}, id="another key"),
        pytest.param({"k": 5}, lambda ctx: ctx.get("k"), Verdict.APPLIED, {"k": 5}, id="a hop that only reads"),
    ],
)
def test_g6_a_hop_meets_a_write_from_outside_as_it_meets_another_hop(
    world: PostgresWorld, connection: psycopg.Connection[Any], write: Any, change: Any, verdict: Verdict, value: Any
) -> None:
    """A hop that read before it, and settles after it, is in conflict where it wrote what was written, and nowhere else."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(succeeded(worker.claim_one(), lambda ctx: ctx.set({"k": 0}), targets=[target("bank")]))
    late = hop(worker.claim_one(), change)
    opened(connection, run_id).set(write)
    assert world.settle(late.event()).verdict is verdict
    assert world.values(run_id) == value
    if verdict is Verdict.CONFLICTED:
        again = worker.claim_one()
        assert hop(again).context.get() == value
        assert world.settle(succeeded(again)).verdict is Verdict.APPLIED
    assert world.status(run_id) == "completed"


def test_g6_updates_of_hops_are_applied_to_what_came_from_outside(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """``ctx.update(key, fn)`` and the store's ``update`` of the same number: every one counts."""
    run_id = world.submit("stock")
    store = opened(connection, run_id)
    late = hop(world.worker().claim_one(), lambda ctx: ctx.update("n", lambda n: (n or 0) + 1))
    store.update(lambda value: {"n": 10})
    applied = world.settle(late.event())
    assert applied.verdict is Verdict.STALE
    assert world.settle(late.take_in(applied)).verdict is Verdict.APPLIED
    assert store.update(lambda value: {"n": value["n"] + 1}) == {"n": 12}


def test_g6_a_compare_and_set_loses_to_a_hop(world: PostgresWorld, connection: psycopg.Connection[Any]) -> None:
    """What was decided on an older version is not written over what the hop has."""
    run_id = world.submit("stock")
    store = opened(connection, run_id)
    read = store.get_versioned()
    world.apply(succeeded(world.worker().claim_one(), lambda ctx: ctx.set({"paid": True})))
    assert not store.compare_and_set({"paid": False}, read.version)
    assert store.get_versioned() == Versioned(value={"paid": True}, version=1)


def test_g6_g7_writes_that_wait_for_a_run_take_turns(world: PostgresWorld) -> None:
    """Settlements and writes from outside that meet at the run's lock: none is lost, and the versions have no gap."""
    run_id = world.submit("stock", "bank", "ship")
    works = world.worker().claim()
    stores = [opened(world.connect(), run_id) for _ in range(3)]

    def settle(work: Any) -> Any:
        return world.settle(succeeded(work, lambda ctx: ctx.update({work.neuron: 1}), on_stale=OnStale.OVERWRITE))

    def count(store: PostgresContextStore) -> Any:
        return store.update(lambda value: {**(value or {}), "n": (value or {}).get("n", 0) + 1})

    with world.held("select from cnstra.run for no key update"):
        threads = Threads(
            [lambda work=work: settle(work) for work in works] + [lambda store=store: count(store) for store in stores]
        )
        eventually(lambda: _waiting(world) == 6, what="all six wait for the run")
    threads.results()
    for store in stores:
        store._source.close()
    assert world.values(run_id) == {"stock": 1, "bank": 1, "ship": 1, "n": 3}
    assert world.row(run_id)["context_version"] == 6
    history = world.store.run(world.store.history(run_id))
    assert [row["version"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert [row["activation_id"] for row in history].count(None) == 3
    assert world.status(run_id) == "completed"


def _waiting(world: PostgresWorld) -> int:
    with world.connect() as connection:
        [(waiting,)] = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        ).fetchall()
    return int(waiting)


def test_a_write_from_outside_moves_nothing_but_the_context(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """Status, counts, times and activations of the run stay as they are."""
    run_id = world.submit("stock")
    before, activations = world.row(run_id), world.activations(run_id)
    opened(connection, run_id).set({"a": 1})
    assert world.row(run_id) == before | {"context_version": 1}
    assert world.activations(run_id) == activations


def test_the_context_of_a_run_that_has_ended_can_be_mended(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """Before its retry, above all; the history has that, too."""
    run_id = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one(), lambda ctx: ctx.set({"a": 1})))
    store = opened(connection, run_id)
    store.set({"a": 2})
    assert store.get_versioned() == Versioned(value={"a": 2}, version=2)
    assert world.status(run_id) == "completed"


def test_a_runs_own_context_takes_no_ttl(world: PostgresWorld, connection: psycopg.Connection[Any]) -> None:
    """Every use says so, and nothing is written."""
    run_id = world.submit("stock")
    store = PostgresContextStore(connection, run_id, ttl=60)
    uses = [
        lambda: store.get(),
        lambda: store.version,
        lambda: store.set([1]),
        lambda: store.delete(),
        lambda: store.compare_and_set([1], 0),
        lambda: store.update(lambda value: [1]),
    ]
    for use in uses:
        with pytest.raises(ContextError, match="is a run's own"):
            use()
    assert world.row(run_id)["context_version"] == 0
    assert rows(connection, "select * from cnstra.free_context") == []


def test_a_runs_own_context_is_json_whatever_the_codec_could_take(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """Its run's handlers are given it; nothing is written of what they could not be."""
    run_id = world.submit("stock")
    store = PostgresContextStore(connection, run_id, codec=Zipped())
    with pytest.raises(ContextError, match=r"key 'price'.*Money, which is not exactly JSON"):
        store.set({"price": Money(3)})
    assert world.row(run_id)["context_version"] == 0
    store.set({"price": 3})
    assert PostgresContextStore(connection, run_id, codec=Zipped()).get() == {"price": 3}
    assert "$sealed" in str(rows(connection, "select value from cnstra.context_entry"))


def test_a_context_does_not_go_on_without_its_run(world: PostgresWorld, connection: psycopg.Connection[Any]) -> None:
    """Once a run that the store has read or written is deleted, the store says so, and makes nothing in its place."""
    run_id = world.submit("stock")
    reader, writer = opened(connection, run_id), opened(connection, run_id)
    assert reader.version == 0
    writer.set({"a": 1})
    connection.execute("delete from cnstra.run where run_id = %s", [run_id])
    for store in (reader, writer):
        with pytest.raises(RunNotFound, match=str(run_id)):
            store.get()
        with pytest.raises(RunNotFound, match=str(run_id)):
            store.set({"a": 2})
    assert rows(connection, "select * from cnstra.free_context") == []


def test_keys_that_no_context_has_are_refused(world: PostgresWorld, connection: psycopg.Connection[Any]) -> None:
    """A run's context is kept key by key: one that is too long is refused as in a handler."""
    store = opened(connection, world.submit("stock"))
    with pytest.raises(ContextError, match="501 characters"):
        store.set({"k" * 501: 1})
    assert store.version == 0


def test_the_view_shows_contexts_of_runs_and_of_nobody(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """A free-standing one with its id, its value and its times, and without local contexts; not when it has expired."""
    run_id, free, sealed, gone = world.submit("stock"), uuid4(), uuid4(), uuid4()
    PostgresContextStore(connection, run_id).set({"a": 1})
    PostgresContextStore(connection, free, ttl=60).set({"b": 2})
    PostgresContextStore(connection, sealed, codec=Zipped()).set({"c": 3})
    PostgresContextStore(connection, gone, ttl=60).set({"d": 4})
    connection.execute("update cnstra.free_context set expires_at = clock_timestamp() where context_id = %s", [gone])

    def shown(context_id: UUID) -> list[dict[str, Any]]:
        return rows(connection, "select * from cnstra.context where run_id = %s", context_id)

    [of_run], [of_nobody], [unreadable] = shown(run_id), shown(free), shown(sealed)
    assert (of_run["data"], of_run["version"], of_run["local"], of_run["expires_at"]) == ({"a": 1}, 1, {}, None)
    assert (of_nobody["data"], of_nobody["local"]) == ({"b": 2}, None)
    assert of_nobody["version"] == PostgresContextStore(connection, free).version
    assert (of_nobody["expires_at"] - of_nobody["updated_at"]).total_seconds() == 60
    assert (unreadable["data"], unreadable["expires_at"]) == (None, None)
    assert shown(gone) == []
    assert len(rows(connection, "select * from cnstra.context")) == 3


def test_a_run_takes_its_id_from_a_context_of_the_same_id(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """Where a run is submitted under the id of a free-standing context, everybody sees the run's."""
    run_id = world.run_id()
    store = PostgresContextStore(connection, run_id)
    store.set({"before": 1})
    world.submit("stock", run_id=run_id)
    assert store.get_versioned() == Versioned(value=None, version=0)
    assert [row["version"] for row in rows(connection, "select * from cnstra.context")] == [0]


def _expired_run(world: PostgresWorld, handler: Any = lambda ctx: None) -> UUID:
    """A run that has completed; its context is due by the rules, and still there."""
    run_id = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one(), handler))
    world.store.run(world.store.set_retention({"context": timedelta(days=1)}))
    world.clock.advance(2 * 86_400)
    return run_id


def _expire(world: PostgresWorld) -> None:
    assert len(world.store.run(world.store.expire(Portion())).contexts) == 1


def test_g14_a_context_that_the_retention_took_is_refused(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """Nothing is read as empty, and nothing is written that nobody would delete any more."""
    run_id = _expired_run(world, lambda ctx: ctx.set({"a": 1}))
    store = opened(connection, run_id)
    assert store.get() == {"a": 1}
    _expire(world)
    for use in (store.get, lambda: store.version, lambda: store.set([1]), store.delete):
        with pytest.raises(ContextExpired, match=str(run_id)):
            use()
    assert world.row(run_id)["context_version"] == 1


def test_g14_a_context_that_goes_between_two_looks_is_not_read_as_empty(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """The run is looked at first, and its slots then; what was deleted in between has expired, or is gone with its run."""
    run_id = _expired_run(world, lambda ctx: ctx.set({"a": 1}))
    place = Place(context_id=run_id, was_run=True, freely=False)
    steps = ContextKeeping().read(place, True).steps(False)
    answers = {"find_context": [(1, True, None)], "load_contexts": []}
    with pytest.raises(ContextExpired, match=str(run_id)):
        _answered(steps, answers | {"find_context": iter([[(1, True, None)], [(1, False, None)]])})
    steps = ContextKeeping().read(place, True).steps(False)
    with pytest.raises(RunNotFound, match=str(run_id)):
        _answered(steps, answers | {"find_context": iter([[(1, True, None)], []])})


def test_a_run_that_never_had_a_context_still_has_none(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """The rule took nothing from it: it is read as before, as by the client; but nobody would delete what is written now."""
    run_id = _expired_run(world)
    _expire(world)
    store = opened(connection, run_id)
    assert store.get_versioned() == Versioned(value=None, version=0)
    assert world.values(run_id) is None
    with pytest.raises(ContextExpired, match=str(run_id)):
        store.set({"a": 1})


def test_g6_writes_from_outside_hold_back_nobody_for_good(
    world: PostgresWorld, connection: psycopg.Connection[Any]
) -> None:
    """One that is to run alone after three conflicts may lose more of them; it is claimable each time, and so are others."""
    run_id = world.submit("stock", "bank")
    store, worker = opened(connection, run_id), world.worker()
    for written in range(1, 6):
        works = {work.neuron: work for work in worker.claim()}
        lost = hop(works["stock"], lambda ctx: ctx.set({"a": "mine"}))
        store.set({"a": written})
        if "bank" in works:
            world.settle(failed(works["bank"], retry_after=0.0))
            world.fire(run_id, 2)
        assert world.settle(lost.event()).verdict is Verdict.CONFLICTED
    [work] = worker.claim()
    assert work.neuron == "stock"
    assert world.settle(succeeded(work, lambda ctx: ctx.set({"a": "mine"}))).verdict is Verdict.APPLIED
    assert [work.neuron for work in worker.claim()] == ["bank"]
    assert world.row(run_id)["context_version"] == 6


def _answered(steps: Any, answers: dict[str, Any]) -> Any:
    """Give an operation the rows that a database would have had for it at each moment."""
    given = None
    while True:
        try:
            ask = steps.send(given)
        except StopIteration as stop:
            return stop.value
        given = answers[ask.statement]
        given = next(given) if hasattr(given, "__next__") else given

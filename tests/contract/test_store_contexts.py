"""The store port: the versioned context. No lost update (G6), exact versions (G7), and what a conflict comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cnstra.orchestrator.context import Context
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.slots import OnStale, Slot
from support.worlds import Hop, World, hop, succeeded, target

Ctx = Context[Any, Any]
Change = Callable[[Ctx], object]


def race(
    world: World,
    first: Change,
    second: Change,
    *,
    before: Any = None,
    on_stale: OnStale = OnStale.CONFLICT,
) -> tuple[Verdict, Hop]:
    """Two hops read the same context; the first commits, then the second settles: what it learns, and the second hop.

    ``before`` is the value that both read; ``on_stale`` is the second one's policy.
    """
    world.submit("stock")
    worker = world.worker()
    start = hop(
        worker.claim_one(),
        lambda ctx: None if before is None else ctx.set(before),
        targets=[target("bank"), target("ship", ordinal=1)],
    )
    world.apply(start.event())
    works = worker.claim_by_neuron()
    late = hop(works["ship"], second, on_stale=on_stale)
    assert world.settle(succeeded(works["bank"], first)).verdict is Verdict.APPLIED
    return world.settle(late.event()).verdict, late


def put(**values: Any) -> Change:
    """A handler that writes these keys."""
    return lambda ctx: ctx.update(values)


def whole(value: Any) -> Change:
    """A handler that sets the whole value."""
    return lambda ctx: ctx.set(value)


def without(key: str) -> Change:
    """A handler that deletes a key."""
    return lambda ctx: ctx.__delitem__(key)


def made_anew(ctx: Ctx) -> None:
    """A handler that sets the whole value, and then updates a key that it did not have."""
    ctx.set({})
    ctx.update("k", lambda k: (k or 0) + 1)


def made_and_dropped(ctx: Ctx) -> None:
    """A handler that makes a key, and thinks better of it."""
    ctx["k"] = 1
    del ctx["k"]


def emptied(ctx: Ctx) -> None:
    """A handler that deletes the whole value."""
    ctx.delete()


# -- what is in conflict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "first", "second"),
    [
        pytest.param({"k": 0}, put(k=1), put(k=2), id="two writes of a key"),
        pytest.param(None, put(k=1), put(k=2), id="two makings of a key"),
        pytest.param({"k": 0}, put(k=0), put(k=2), id="a write of the same value"),
        pytest.param({"k": 0}, without("k"), put(k=2), id="a write of a deleted key"),
        pytest.param({"k": 0}, put(k=1), without("k"), id="a deletion of a written key"),
        pytest.param({"k": 0, "o": 0}, put(k=1), put(k=2, o=2), id="one of several keys"),
        pytest.param({"k": 0}, put(k=1), whole({"n": 1}), id="a set over a written key"),
        pytest.param({"k": 0}, put(n=1), whole({"k": 1}), id="a set over a key that it never saw"),
        pytest.param(None, put(n=1), whole(5), id="a set of no mapping over a new key"),
        pytest.param({"k": 0}, whole({"n": 1}), put(k=2), id="a write of a key that a set removed"),
        pytest.param({"k": 0}, whole({"k": 1}), put(k=2), id="a write of a key that a set wrote"),
        pytest.param({"k": 0}, put(n=1), emptied, id="a deletion of all over a new key"),
        pytest.param({"k": 0}, emptied, put(k=2), id="a write of a key after a deletion of all"),
        pytest.param(5, whole(6), whole(7), id="two sets of no mapping"),
        pytest.param(None, whole(5), whole({"k": 1}), id="a set of a mapping over one of no mapping"),
        pytest.param(None, whole(5), put(k=1), id="a key beside a value that has none"),
        pytest.param({}, whole([1]), put(k=1), id="a key beside a list"),
        pytest.param({"o": 1}, whole("text"), put(k=1), id="a new key, the mapping gone"),
        pytest.param(None, put(k=5), made_anew, id="an update of a key that its own set had removed"),
        pytest.param(None, put(k=5), made_and_dropped, id="a deletion of what it had made itself"),
    ],
)
def test_g6_a_write_over_what_was_written_meanwhile_is_in_conflict(
    world: World, before: Any, first: Change, second: Change
) -> None:
    """The hop is not committed, what the first one wrote stands, and the activation runs again on it."""
    verdict, late = race(world, first, second, before=before)
    assert verdict is Verdict.CONFLICTED
    run_id, number = late.work.run_id, late.work.activation_id
    assert world.values(run_id) == hop(late.work, first).context.get()
    row = world.activations(run_id)[number]
    assert (row["status"], row["tries"], row["available_at"]) == ("ready", 1, world.clock.now())
    again = world.worker().claim_one()
    assert (again.activation_id, again.try_number, again.failures) == (number, 2, 0)
    assert again.snapshot.version == world.row(run_id)["context_version"]
    assert world.settle(succeeded(again)).verdict is Verdict.APPLIED
    assert world.status(run_id) == "completed"


@pytest.mark.parametrize(
    ("before", "first", "second", "value"),
    [
        pytest.param(None, put(a=1), put(b=2), {"a": 1, "b": 2}, id="two new keys"),
        pytest.param({"a": 0, "b": 0}, put(a=1), put(b=2), {"a": 1, "b": 2}, id="two old keys"),
        pytest.param({"a": 0, "b": 0}, without("a"), put(b=2), {"b": 2}, id="a deletion and a write"),
        pytest.param({"a": 0}, whole({"a": 1}), put(b=2), {"a": 1, "b": 2}, id="a set, and a key it never had"),
        pytest.param({"a": 0}, put(a=1), lambda ctx: ctx.get("a"), {"a": 1}, id="a read"),
        pytest.param({"a": 0}, lambda ctx: ctx.local.set(1), lambda ctx: ctx.local.set(2), {"a": 0}, id="own slots"),
    ],
)
def test_g6_writes_to_different_keys_both_survive(
    world: World, before: Any, first: Change, second: Change, value: Any
) -> None:
    """Who writes other keys than those that were written meanwhile commits."""
    verdict, late = race(world, first, second, before=before)
    assert verdict is Verdict.APPLIED
    assert world.values(late.work.run_id) == value


def test_g6_writers_that_meet_lose_no_update(world: World) -> None:
    """Of settlements that wait for the same run at the same time, and read the same version, one writes the key."""
    run_id = world.submit("stock", "bank", "ship")
    works = world.worker().claim()
    operations = [world.store.apply([succeeded(work, put(n=work.activation_id))]) for work in works]
    verdicts = [batch.answers[0].verdict for batch in world.at_once(*operations)]
    assert sorted(verdict.name for verdict in verdicts) == ["APPLIED", "CONFLICTED", "CONFLICTED"]
    assert world.row(run_id)["context_version"] == 1
    assert world.values(run_id) == {"n": works[verdicts.index(Verdict.APPLIED)].activation_id}


def test_g6_writers_of_one_batch_are_held_against_each_other(world: World) -> None:
    """Two hops of one batch that wrote the same key are in conflict, as if they had come one after the other."""
    run_id = world.submit("stock", "bank")
    works = world.worker().claim_by_neuron()
    batch = world.apply(succeeded(works["stock"], put(k=1)), succeeded(works["bank"], put(k=2)))
    assert [answer.verdict for answer in batch.answers] == [Verdict.APPLIED, Verdict.CONFLICTED]
    assert [ring.activations for ring in batch.rings] == [((run_id, works["bank"].activation_id),)]
    assert world.values(run_id) == {"k": 1}


def test_a_conflict_is_no_failure(world: World) -> None:
    """An activation that runs again after a conflict shows no error: nothing of it went wrong."""
    _, late = race(world, put(k=1), put(k=2))
    row = world.activations(late.work.run_id)[late.work.activation_id]
    assert (row["error"], row["error_type"], row["finished_at"]) == (None, None, None)


def test_a_conflict_that_is_sent_again_changes_nothing_more(world: World) -> None:
    """A conflict's lost reply does not count another conflict, nor take the activation from who has it next."""
    _, late = race(world, put(k=1), put(k=2))
    run_id, number = late.work.run_id, late.work.activation_id
    before = world.activations(run_id)[number]
    assert world.settle(late.event()).verdict is Verdict.REPEATED
    assert world.activations(run_id)[number] == before
    again = world.worker().claim_one()
    assert world.settle(late.event()).verdict is Verdict.FENCED
    assert world.settle(succeeded(again)).verdict is Verdict.APPLIED


# -- what else may become of it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "first", "second", "value"),
    [
        pytest.param({"k": 0}, put(k=1), put(k=2), {"k": 2}, id="a key"),
        pytest.param({"k": 0}, put(n=1), whole({"k": 2}), {"k": 2}, id="a set"),
        pytest.param({"k": 0}, put(n=1), emptied, None, id="a deletion of all"),
        pytest.param({"k": 0}, put(k=1), without("k"), {}, id="a deletion"),
        pytest.param(None, whole(5), put(k=2), {"k": 2}, id="a key over a value that has none"),
        pytest.param(None, put(k=2), whole(5), 5, id="a value without keys"),
    ],
)
def test_an_overwriting_hop_wins(world: World, before: Any, first: Change, second: Change, value: Any) -> None:
    """With ``on_conflict="overwrite"`` the hop commits, whatever was written meanwhile."""
    verdict, late = race(world, first, second, before=before, on_stale=OnStale.OVERWRITE)
    assert verdict is Verdict.APPLIED
    assert world.values(late.work.run_id) == value


def test_stale_values_are_reported_and_nothing_is_committed(world: World) -> None:
    """A hop that wants to merge gets the newest values of what it wrote, and settles again under the same claim."""
    verdict, late = race(world, put(k=1, o=1), put(k=2, n=2), before={"k": 0, "o": 0}, on_stale=OnStale.REPORT)
    assert verdict is Verdict.STALE
    run_id, number = late.work.run_id, late.work.activation_id
    assert world.activations(run_id)[number]["status"] == "running"
    assert world.row(run_id)["context_version"] == 2
    applied = world.settle(late.event())
    assert applied.newest == {"s:k": Slot(2, "1")}
    late.context._view.held["s:k"].base = 2
    assert world.settle(late.event()).verdict is Verdict.APPLIED
    assert world.values(run_id) == {"k": 2, "o": 1, "n": 2}


def test_a_removed_value_is_reported_as_removed(world: World) -> None:
    """The newest value of a deleted key is that there is none, at the version of its deletion."""
    verdict, late = race(world, without("k"), put(k=2), before={"k": 0}, on_stale=OnStale.REPORT)
    assert verdict is Verdict.STALE
    assert world.settle(late.event()).newest == {"s:k": Slot(2, None)}


def test_updates_are_applied_to_the_newest_value(world: World) -> None:
    """``ctx.update(key, fn)`` never conflicts: its function is applied again to what others wrote."""
    run_id = world.submit("stock", "bank", "ship")
    works = world.worker().claim()
    hops = [hop(work, lambda ctx: ctx.update("n", lambda n: (n or 0) + 1)) for work in works]
    for one in hops:
        applied = world.settle(one.event())
        while applied.verdict is Verdict.STALE:
            applied = world.settle(one.take_in(applied))
        assert applied.verdict is Verdict.APPLIED
    assert world.values(run_id) == {"n": 3}
    assert world.row(run_id)["context_version"] == 3


def test_a_set_over_unseen_keys_reports_them_all(world: World) -> None:
    """A hop that sets the whole value, and wants to merge, learns of every key that it would remove."""
    verdict, late = race(world, put(n=1), whole({"k": 1}), before={"k": 0}, on_stale=OnStale.REPORT)
    assert verdict is Verdict.STALE
    assert world.settle(late.event()).newest == {"s:n": Slot(2, "1")}


# -- versions --------------------------------------------------------------------------------------------------


def test_g7_each_hop_that_wrote_raises_the_version_by_one(world: World) -> None:
    """However many keys it wrote; a hop that wrote nothing, failed or was refused leaves it."""
    run_id = world.submit("stock")
    worker = world.worker()
    versions = []
    for change in (put(a=1, b=2, c=3), lambda ctx: None, whole({"a": 9}), lambda ctx: ctx.local.set(1), emptied):
        world.apply(succeeded(worker.claim_one(), change, targets=[target("bank")]))
        versions.append(world.row(run_id)["context_version"])
    assert versions == [1, 1, 2, 3, 4]
    written = [row["context_version_written"] for row in world.activations(run_id).values()]
    assert written == [1, None, 2, 3, 4, None]


def test_the_context_can_be_read_as_it_was_at_any_version(world: World) -> None:
    """Old versions come back whole: also what was overwritten, removed or of another kind since."""
    run_id = world.submit("stock")
    worker = world.worker()
    states: list[Any] = [None]
    for change in (
        put(a=1, b=[1, {"x": None}]),
        without("a"),
        put(a=2),
        whole([1, 2]),
        whole({"z": 0}),
        whole({}),
        emptied,
        put(late=True),
        emptied,
        made_and_dropped,
    ):
        work = worker.claim_one()
        one = hop(work, change, targets=[target("bank")])
        states.append(one.context.get())
        world.apply(one.event())
    assert [world.values(run_id, version) for version in range(len(states))] == states
    assert world.values(run_id) == {}


def test_versions_that_never_were_are_not_there(world: World) -> None:
    """Neither a version of the future nor a negative one is answered."""
    run_id = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one(), put(a=1)))
    for version, known in ((-1, False), (0, True), (1, True), (2, False)):
        snapshot = world.store.run(world.store.context_at(run_id, version))
        assert (snapshot is not None) is known


def test_the_history_says_who_wrote_what(world: World) -> None:
    """One row a version: the writer, what it wrote and removed, when; local contexts apart."""
    run_id = world.submit("stock")
    worker = world.worker()

    def last(ctx: Ctx) -> None:
        ctx.set({"b": 2})
        ctx.local.set({"mine": 1})

    for neuron, change in (("bank", put(a=1, b=1)), ("ship", last), ("report", whole(5)), ("stock", emptied)):
        world.clock.advance(1)
        world.apply(succeeded(worker.claim_one(), change, targets=[target(neuron)]))
    rows = [dict(row) for row in world.store.run(world.store.history(run_id))]
    assert [row["version"] for row in rows] == [1, 2, 3, 4]
    assert [row["neuron"] for row in rows] == ["stock", "bank", "ship", "report"]
    assert [row["activation_id"] for row in rows] == [1, 2, 3, 4]
    assert [row["written"] for row in rows] == [{"a": 1, "b": 1}, {"b": 2}, 5, {}]
    assert [row["removed"] for row in rows] == [[], ["a"], ["b"], []]
    assert [row["local_written"] for row in rows] == [None, {"mine": 1}, None, None]
    assert rows[-1]["at"] == world.clock.now()

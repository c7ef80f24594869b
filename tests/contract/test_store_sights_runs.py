"""The store port: what mirrors ask, which is how many runs stand, at one look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Look, RunChoice, Search, Sighting, Sightings
from support.all_sorts import all_sorts
from support.worlds import World, cancel_asked, failed, succeeded, target


def look(world: World, versions: Mapping[UUID, int] | None = None, **options: Any) -> Sightings:
    return world.store.run(world.store.sight(Look(versions=versions or {}, **options)))


def search(ended_since: datetime | None = None, after: UUID | None = None, **options: Any) -> Search:
    extra = {name: options.pop(name) for name in ("status", "from_id", "limit") if name in options}
    return Search(which=RunChoice(**options), ended_since=ended_since, after=after, **extra)


def found(world: World, *arguments: Any, **options: Any) -> list[UUID]:
    return [one.run_id for one in look(world, search=search(*arguments, **options)).found]


def test_runs_that_moved_on_are_seen_and_no_others(world: World) -> None:
    """By their versions; one that has ended is seen whatever its version, and one that is not there is gone."""
    still, written, done, never = world.submit("stock"), world.submit("bank"), world.submit("ship"), world.run_id()
    works = {work.run_id: work for work in world.worker().claim()}
    more = [target("report")]
    world.apply(succeeded(works[written], lambda ctx: ctx.set({"a": 1}), targets=more), succeeded(works[done]))

    seen = look(world, {still: 0, written: 0, done: 0, never: 7})

    assert sorted(seen.moved, key=lambda one: one.run_id) == [
        Sighting(run_id=written, version=1, place=None, ended=False),
        Sighting(run_id=done, version=0, place=None, ended=True),
    ]
    assert (seen.gone, seen.found, seen.at) == ((never,), (), world.clock.now())
    assert look(world, {still: 0, written: 1}).moved == ()


def test_runs_that_do_not_fit_are_gone(world: World) -> None:
    """Whoever begins with runs of which he does not know whether they are meant finds out."""
    ours, other = world.submit("stock", tags={"shop": "wien"}), world.submit("stock")

    seen = look(world, {ours: -1, other: -1}, among=RunChoice(tag=("shop", None)))

    assert [one.run_id for one in seen.moved] == [ours]
    assert seen.gone == (other,)


def test_a_search_finds_all_that_have_not_ended(world: World) -> None:
    """Those, too, that are paused, are being cancelled or undone."""
    running, waiting, paused, cancelled, undone, _ = all_sorts(world)

    assert found(world) == [running, waiting, paused, cancelled, undone]
    assert found(world, limit=2) == [running, waiting]
    assert found(world, None, waiting, limit=2) == [paused, cancelled]
    assert found(world, None, paused) == [cancelled, undone]
    assert found(world, status="running") == [running, cancelled]
    assert found(world, from_id=paused) == [paused, cancelled, undone]
    assert look(world).found == ()


def test_a_search_finds_who_ended_lately(world: World) -> None:
    """From a moment on, in any way, or in the one that is asked for."""
    early = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one()))
    world.clock.advance(10)
    then = world.clock.now()
    done, broken, cancelled = world.submit("stock"), world.submit("bank"), world.submit("ship")
    works = {work.run_id: work for work in world.worker().claim()}
    world.apply(succeeded(works[done]), failed(works[broken]))
    world.apply(cancel_asked(cancelled))
    world.apply(succeeded(works[cancelled]))

    assert found(world, then) == [done, broken, cancelled]
    assert found(world, then, done, limit=1) == [broken]
    assert found(world, then, status="failed") == [broken]
    assert found(world, then, status="running") == []
    assert found(world, then - timedelta(seconds=10)) == [early, done, broken, cancelled]
    assert found(world, then + timedelta(seconds=1)) == []
    assert all(one.ended for one in look(world, search=search(then)).found)


def test_a_search_is_by_graph_tag_and_time_of_submit(world: World) -> None:
    """All of what is given must fit, of those that live and of those that have ended."""
    then = world.clock.now()
    first = world.submit("stock", tags={"shop": "berlin"})
    world.clock.advance(60)
    second = world.submit("stock", tags={"shop": "wien"})
    other = world.submit("stock", graph="other", tags={"shop": "wien"})
    for _ in ("live", "ended"):
        assert found(world, then, graph="shop") == [first, second]
        assert found(world, then, tag=("shop", "wien")) == [second, other]
        assert found(world, then, tag=("shop", None), graph="other") == [other]
        assert found(world, then, since=then + timedelta(seconds=60)) == [second, other]
        world.apply(*(succeeded(work) for graph in ("shop", "other") for work in world.worker(graph=graph).claim()))


def test_contexts_of_many_runs_come_at_once(world: World) -> None:
    """Each as of its newest version; a run that wrote nothing has none."""
    one, none, two = world.submit("stock"), world.submit("bank"), world.submit("ship")
    works = {work.run_id: work for work in world.worker().claim()}
    world.apply(
        succeeded(works[one], lambda ctx: ctx.set({"a": 1, "b": 2}), targets=[target("report")]),
        succeeded(works[two], lambda ctx: ctx.set([])),
    )
    world.apply(succeeded(world.worker().claim_one(), lambda ctx: ctx.update({"b": 3})))

    contexts = world.store.run(world.store.contexts_of([one, none, two, world.run_id()]))

    assert contexts == {
        one: Snapshot(version=2, slots={"s:a": Slot(1, "1"), "s:b": Slot(2, "3")}),
        two: Snapshot(version=1, slots={"w": Slot(1, "[]")}),
    }

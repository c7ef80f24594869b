"""Stores of runs: which runs something is done to, page by page; and what a clone is made from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from cnstra.orchestrator.store import Original, Portion, RunChoice
from support.all_sorts import all_sorts
from support.worlds import World, cancel_asked, deadline_due, failed


def still_open(
    world: World,
    statuses: tuple[str, ...] | None = None,
    after: UUID | None = None,
    limit: int = 100,
    **which: Any,
) -> list[UUID]:
    return world.store.run(world.store.open_runs(RunChoice(**which), statuses, after, limit))


def test_open_runs_are_those_that_nothing_has_begun_to_end(world: World) -> None:
    """Whatever they wait for; not one that is being cancelled, or undone, or has ended."""
    running, waiting, paused, *_ = all_sorts(world)

    assert still_open(world) == [running, waiting, paused]
    assert still_open(world, ("waiting", "paused")) == [waiting, paused]
    assert still_open(world, ()) == []
    assert still_open(world, limit=2) == [running, waiting]
    assert still_open(world, after=running) == [waiting, paused]


def test_a_choice_is_by_graph_tag_and_time_of_submit(world: World) -> None:
    """All of what is given must fit; a run submitted at ``since`` fits, one at ``before`` does not. So do failed ones."""
    then = world.clock.now()
    first = world.submit("stock", tags={"shop": "berlin"})
    world.clock.advance(60)
    second = world.submit("stock", tags={"shop": "wien"})
    other = world.submit("stock", graph="other", tags={"shop": "wien"})
    minute = then + timedelta(minutes=1)

    def chosen(**which: Any) -> list[UUID]:
        return still_open(world, **which)

    choices: list[tuple[dict[str, Any], list[UUID]]] = [
        ({}, [first, second, other]),
        ({"graph": "shop"}, [first, second]),
        ({"tag": ("shop", None)}, [first, second, other]),
        ({"tag": ("shop", "wien"), "graph": "shop"}, [second]),
        ({"tag": ("", None)}, []),
        ({"since": minute}, [second, other]),
        ({"before": minute}, [first]),
        ({"since": then, "before": minute}, [first]),
    ]
    for which, expected in choices:
        assert chosen(**which) == expected
    world.apply(*(failed(work) for work in world.worker().claim()), *(failed(world.worker(graph="other").claim_one()),))
    for which, expected in choices:
        assert world.store.run(world.store.failed_runs(RunChoice(**which), None, 100)) == expected


def test_a_run_that_its_deadline_has_ended_is_not_among_those_to_retry(world: World) -> None:
    """Nothing of it is left to retry."""
    late, broken = world.submit("stock", deadline=timedelta(seconds=5)), world.submit("stock")
    world.clock.advance(6)
    world.settle(deadline_due(late))
    world.settle(failed(world.worker().claim_one()))
    assert (world.status(late), world.status(broken)) == ("failed", "failed")
    assert world.store.run(world.store.failed_runs(RunChoice(), None, 100)) == [broken]


def test_an_original_is_what_was_submitted(world: World) -> None:
    """Its deadline only where that was a time to take; nothing of what it has done."""
    run_id = world.submit(
        "stock",
        payload='{"n": 1.50}',
        priority=7,
        tags={"a": "b"},
        policy={"stop": ["after_attempt", 3]},
        place="vault",
        idempotency_key="k",
        deadline=timedelta(days=3, microseconds=1),
    )
    dated = world.submit("stock", deadline=world.clock.now() + timedelta(days=1))

    assert world.store.run(world.store.original(run_id)) == Original(
        graph="shop",
        collateral="order",
        payload='{"n": 1.50}',
        priority=7,
        tags={"a": "b"},
        policy={"stop": ["after_attempt", 3]},
        place="vault",
        deadline=timedelta(days=3, microseconds=1),
    )
    original = world.store.run(world.store.original(dated))
    assert original is not None
    assert (original.deadline, original.policy, original.tags) == (None, None, {})
    assert world.store.run(world.store.original(world.run_id())) is None


def test_a_clone_says_of_which_run_it_is_one_also_when_that_is_gone(world: World) -> None:
    """Pruning the original leaves the clone alone."""
    run_id = world.submit("stock")
    clone = world.submit("stock", cloned_from=run_id)
    assert (world.row(run_id)["cloned_from"], world.row(clone)["cloned_from"]) == (None, run_id)
    world.settle(cancel_asked(run_id))
    world.clock.advance(3_600)
    world.store.run(world.store.prune(["cancelled"], world.clock.now(), Portion()))
    assert world.store.run(world.store.run_row(run_id)) is None
    assert (world.row(clone)["cloned_from"], world.status(clone)) == (run_id, "running")

"""Successors that stay with the worker that settles: made of what it held, they are what would be read of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.store import Work
from support.worlds import World, attempt_due, failed, succeeded, target

_OWN = {"run_id", "fence", "foothold"}


def _kept(world: World, write: Any, *, read: bool) -> Work:
    """The successor of a hop that writes, in its run's second attempt; ``read`` by the store, or made of what was held."""
    run_id = world.submit("stock", deadline=datetime(2100, 1, 1, tzinfo=UTC), policy={"stop": 7})
    worker = world.worker()
    world.settle(failed(worker.claim_one(), revive_after=2.0))
    world.clock.advance(2)
    world.settle(attempt_due(run_id))
    event = succeeded(worker.claim_one(), write, targets=[target("bank", here=True, payload="[1]")])
    world.clock.advance(3)
    return _kept_of(world, replace(event, work=None) if read else event)


def _kept_of(world: World, event: Any) -> Work:
    (answer,) = world.apply(event).answers
    assert answer.verdict is Verdict.APPLIED
    (kept,) = answer.kept
    return kept


@pytest.mark.parametrize(
    "write",
    [lambda ctx: None, lambda ctx: ctx.set({"a": 1, "b": [2]}), lambda ctx: ctx.local.set("mine")],
    ids=["nothing", "keys", "its own slot"],
)
def test_a_successor_that_was_made_is_the_one_that_would_be_read(world: World, write: Any) -> None:
    """Payload, counts, times, context, and what holds of its run: all but the ids."""
    made, read = (asdict(_kept(world, write, read=how)) for how in (False, True))
    assert (made["attempt"], made["run_elapsed"], made["run_idled"], made["policy"]) == (2, 5.0, 2.0, {"stop": 7})
    assert made["deadline"] == datetime(2100, 1, 1, tzinfo=UTC)
    assert {name: made[name] for name in made.keys() - _OWN} == {name: read[name] for name in read.keys() - _OWN}


def test_what_a_hop_removed_is_gone_for_its_successor(world: World) -> None:
    """With the version that removed it, by which a write to it would be in conflict."""
    first = _kept(world, lambda ctx: ctx.set({"a": 1, "b": 2}), read=False)

    def remove(ctx: Any) -> None:
        del ctx["a"]

    second = _kept_of(world, succeeded(first, remove, targets=[target("ship", here=True)]))
    slot = second.snapshot.slots["s:a"]
    assert (second.snapshot.version, slot.version, slot.text) == (2, 2, None)
    assert second.snapshot.slots["s:b"].text == "2"


def test_g5_a_successor_sees_what_others_wrote_before_its_parent_did(world: World) -> None:
    """The parent had not read that: its own snapshot cannot be taken on, and the context is read."""
    world.submit("stock", "bank")
    parent, other = sorted(world.worker().claim(), key=lambda work: work.activation_id)
    world.apply(succeeded(other, lambda ctx: ctx.set({"theirs": 1})))

    kept = _kept_of(world, succeeded(parent, lambda ctx: ctx.update({"mine": 2}), targets=[target("ship", here=True)]))

    assert kept.snapshot.version == 2
    assert {name: slot.text for name, slot in kept.snapshot.slots.items()} == {"s:theirs": "1", "s:mine": "2"}


def test_g5_so_does_the_successor_of_a_hop_that_wrote_nothing(world: World) -> None:
    """Others have written since it read."""
    world.submit("stock", "bank")
    parent, other = sorted(world.worker().claim(), key=lambda work: work.activation_id)
    world.apply(succeeded(other, lambda ctx: ctx.set({"theirs": 1})))

    kept = _kept_of(world, succeeded(parent, targets=[target("ship", here=True)]))

    assert kept.snapshot.version == 1
    assert kept.snapshot.slots["s:theirs"].text == "1"


def test_g5_a_successor_made_of_a_batch_sees_its_parent_and_no_less(world: World) -> None:
    """Two hops of one run are settled together: the first one's successor has its version, the second one's has both."""
    world.submit("stock", "bank")
    first, second = sorted(world.worker().claim(), key=lambda work: work.activation_id)
    batch = world.apply(
        succeeded(first, lambda ctx: ctx.update({"first": 1}), targets=[target("ship", here=True)]),
        succeeded(second, lambda ctx: ctx.update({"second": 2}), targets=[target("ship", here=True)]),
    )
    of_first, of_second = (answer.kept[0] for answer in batch.answers)

    assert of_first.snapshot.slots["s:first"].text == "1"
    assert of_first.snapshot.version >= 1
    assert of_second.snapshot.version == 2
    assert {name: slot.text for name, slot in of_second.snapshot.slots.items()} == {"s:first": "1", "s:second": "2"}

"""Runs that stand in all sorts of ways, for what chooses among them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from cnstra.orchestrator.machine.records import Compensable
from support.worlds import World, cancel_asked, failed, pause_asked, succeeded, target


class AllSorts(NamedTuple):
    """By how they stand; in the order of their ids."""

    running: UUID
    waiting: UUID
    paused: UUID
    cancelled: UUID
    undone: UUID
    done: UUID


def all_sorts(world: World) -> AllSorts:
    """One of each: two are on their way to their ends, as one is being cancelled, and one undone."""
    worker = world.worker()
    running, waiting, paused, cancelled = (world.submit("stock") for _ in range(4))
    works = {work.run_id: work for work in worker.claim()}
    world.apply(failed(works[waiting], retry_after=60.0), pause_asked(paused), cancel_asked(cancelled))
    undone, done = world.submit(target("bank", compensable=Compensable.DONE)), world.submit("stock")
    for work in worker.claim():
        more = [target("ship")] if work.run_id == undone else []
        world.settle(succeeded(work, targets=more, compensable=Compensable.DONE))
    world.settle(failed(worker.claim_one()))
    assert [world.status(run_id) for run_id in (cancelled, undone, done)] == ["running", "compensating", "completed"]
    return AllSorts(running, waiting, paused, cancelled, undone, done)

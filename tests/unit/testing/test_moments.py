"""When something next happens of itself, as the store in memory knows it: what a clock that stands still is moved to."""

from __future__ import annotations

from datetime import timedelta

from support.clocks import START
from support.worlds import LEASE, MemoryWorld, failed, target

HOUR = timedelta(hours=1)


def test_nothing_happens_of_itself_where_nothing_waits() -> None:
    """What is ready waits for no time, and the lease of a worker that holds nothing is of no interest."""
    world = MemoryWorld()
    world.submit("stock")
    world.worker()

    assert world.store.run(world.memory.next_moment()) is None


def test_the_first_of_timers_backoffs_attempts_and_leases_is_next() -> None:
    """One after the other, as each has been dealt with."""
    world = MemoryWorld()
    run = world.submit(target("ship"), at=START + 3 * HOUR)
    held, other = world.submit("stock"), world.submit("bank")
    doomed = world.worker()
    works = {work.run_id: work for work in doomed.claim()}

    def next_moment() -> object:
        return world.store.run(world.memory.next_moment())

    lost_at = START + timedelta(seconds=LEASE, microseconds=1)
    assert next_moment() == lost_at
    world.settle(failed(works[other], retry_after=3600.0))
    assert next_moment() == lost_at
    world.settle(failed(works[held], retry_after=None, revive_after=7200.0))
    assert next_moment() == START + HOUR  # the worker holds nothing any more
    world.clock.advance(3600)
    world.fire(other, 1)
    assert next_moment() == START + 2 * HOUR
    world.clock.advance(3600)
    assert next_moment() == world.clock.now()

    assert world.status(run) == "waiting"


def test_claims_of_a_worker_that_left_are_due_at_once() -> None:
    """Its end is known; nobody waits for its lease."""
    world = MemoryWorld()
    world.submit("stock")
    worker = world.worker()
    worker.claim()
    world.clock.advance(5)
    world.store.run(world.store.leave(worker.info.worker))

    assert world.store.run(world.memory.next_moment()) == world.clock.now()

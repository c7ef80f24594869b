"""The store port: a claim that is given back uncalled counts neither as a try nor as time (G12)."""

from __future__ import annotations

from support.worlds import World, failed, returned


def test_g12_a_first_try_begins_with_the_claim_that_was_not_given_back(world: World) -> None:
    """What waits after a drain has not been tried: a policy that stops after a while counts from the call on."""
    worker = world.worker()
    world.submit()
    world.settle(returned(worker.claim_one()))
    world.clock.advance(3600)

    work = worker.claim_one()

    assert (work.try_number, work.elapsed) == (1, 0.0)


def test_g12_a_claim_that_is_given_back_between_two_tries_keeps_the_first_ones_time(world: World) -> None:
    """A policy's time goes on from the first try, whoever gives the second one back."""
    worker = world.worker()
    run_id = world.submit()
    world.settle(failed(worker.claim_one(), retry_after=10.0))
    world.clock.advance(10)
    world.fire(run_id, 1)
    world.settle(returned(worker.claim_one()))
    world.clock.advance(5)

    assert worker.claim_one().elapsed == 15.0

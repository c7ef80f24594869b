"""The store port: what stands between a claim that was taken away and the run (G3), and what a repetition learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.store import RunEvent, Work
from support.worlds import World, bare, failed, lost, returned, succeeded, target

Settle = Callable[[Work], RunEvent]

SETTLEMENTS: list[Any] = [
    pytest.param(lambda work: succeeded(work, lambda ctx: ctx.set({"a": 1}), targets=[target("bank")]), id="succeeded"),
    pytest.param(lambda work: failed(work, retry_after=1.0), id="failed for now"),
    pytest.param(failed, id="failed for good"),
    pytest.param(returned, id="returned"),
    pytest.param(lambda work: lost(work.run_id, work.fence), id="lost"),
]


def with_fence(work: Work, **changes: int) -> Work:
    """The same work under another claim."""
    return replace(work, fence=replace(work.fence, **changes))


def everything_of(world: World, run_id: UUID) -> Any:
    """All that can be seen of a run."""
    return (
        world.row(run_id),
        world.activations(run_id),
        world.store.run(world.store.history(run_id)),
        world.store.run(world.store.context_at(run_id, None)),
    )


@pytest.mark.parametrize("settle", SETTLEMENTS)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"epoch": 0}, id="epoch before"),
        pytest.param({"epoch": 2}, id="epoch to come"),
        pytest.param({"nonce": 0}, id="same epoch, other nonce"),
        pytest.param({"activation_id": 9}, id="no such activation"),
    ],
)
def test_g3_another_claim_commits_nothing(world: World, settle: Settle, changes: dict[str, int]) -> None:
    """A settlement whose epoch or nonce is not that of the claim is fenced, and the run stays as it was.

    The same epoch with another nonce is what a failover leaves behind that lost a claim: its epoch was given out again.
    """
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    before = everything_of(world, run_id)
    batch = world.apply(settle(with_fence(work, **changes)))
    assert [answer.verdict for answer in batch.answers] == [Verdict.FENCED]
    assert batch.rings == ()
    assert everything_of(world, run_id) == before
    assert world.settle(succeeded(work)).verdict is Verdict.APPLIED


@pytest.mark.parametrize("settle", SETTLEMENTS)
def test_g3_a_worker_whose_claim_was_taken_away_commits_nothing(world: World, settle: Settle) -> None:
    """A zombie's settlement is fenced while the activation waits, when it is ready, and when somebody else has it."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    world.apply(lost(run_id, work.fence))

    def is_fenced() -> bool:
        before = everything_of(world, run_id)
        return world.settle(settle(work)).verdict is Verdict.FENCED and everything_of(world, run_id) == before

    assert is_fenced()
    world.clock.advance(1)
    world.fire(run_id, 1)
    assert is_fenced()
    again = world.worker().claim_one()
    assert again.fence.epoch == 2
    assert is_fenced()
    world.apply(succeeded(again))
    assert is_fenced()
    assert world.status(run_id) == "completed"


@pytest.mark.parametrize("settle", SETTLEMENTS)
def test_g3_a_worker_that_has_given_its_claim_back_commits_nothing(world: World, settle: Settle) -> None:
    """It is told so, too: not that it had been settled, or its blobs would stay where they are for good."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    world.apply(returned(work))
    before = everything_of(world, run_id)
    assert world.settle(settle(work)).verdict is Verdict.FENCED
    assert everything_of(world, run_id) == before


@pytest.mark.parametrize("settle", SETTLEMENTS[:3])
def test_g4_a_settlement_that_is_sent_again_learns_that_it_was_done(world: World, settle: Settle) -> None:
    """After a lost reply the same holder is told, and nothing happens twice."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    assert world.settle(settle(work)).verdict is Verdict.APPLIED
    before = everything_of(world, run_id)
    batch = world.apply(settle(work))
    assert [answer.verdict for answer in batch.answers] == [Verdict.REPEATED]
    assert batch.rings == ()
    assert everything_of(world, run_id) == before


def test_a_repeated_settlement_gets_its_kept_successors_again(world: World) -> None:
    """A worker whose reply was lost would else hold a successor without knowing it."""
    world.submit("stock")
    work = world.worker().claim_one()
    event = succeeded(work, targets=[target("bank", here=True), target("ship", ordinal=1)])
    (kept,) = world.settle(event).kept
    again = world.settle(event)
    assert again.verdict is Verdict.REPEATED
    assert bare(*again.kept) == bare(kept)


def test_a_repeated_settlement_gets_no_successor_that_has_gone_on(world: World) -> None:
    """A successor that was settled, lost or handed to somebody else is not given out again."""
    world.submit("stock")
    work = world.worker().claim_one()
    event = succeeded(
        work, targets=[target(neuron, here=True, ordinal=place) for place, neuron in enumerate(("bank", "ship"))]
    )
    bank, ship = world.settle(event).kept
    world.apply(succeeded(bank))
    assert bare(*world.settle(event).kept) == bare(ship)
    world.apply(returned(ship))
    assert world.settle(event).kept == ()
    world.worker().claim_one()
    assert world.settle(event).kept == ()


def test_a_repetition_within_one_batch_counts_once(world: World) -> None:
    """The second of two equal settlements in a batch finds the first one done."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    event = succeeded(work, lambda ctx: ctx.set({"a": 1}), targets=[target("bank")])
    batch = world.apply(event, event)
    assert [answer.verdict for answer in batch.answers] == [Verdict.APPLIED, Verdict.REPEATED]
    assert len(world.activations(run_id)) == 2
    assert world.row(run_id)["context_version"] == 1


def test_g4_what_is_done_is_never_handed_out_again(world: World) -> None:
    """No event moves an activation that has committed, whoever sends it, and no claim finds it."""
    run_id = world.submit("stock", "bank")
    works = world.worker().claim_by_neuron()
    world.apply(succeeded(works["stock"]))
    done = world.activations(run_id)[1]
    for settle in (succeeded, failed, returned):
        world.apply(settle(works["stock"]), settle(with_fence(works["stock"], epoch=2)))
    world.apply(lost(run_id, works["stock"].fence))
    world.fire(run_id, 1)
    world.apply(failed(works["bank"], revive_after=0.0))
    world.apply(RunEvent(run_id=run_id, event=succeeded(works["stock"]).event))
    assert world.activations(run_id)[1] == done
    assert world.worker().claim() == []


def test_events_of_a_run_that_is_not_there_change_nothing(world: World) -> None:
    """A run that was never stored, or is no longer, answers void, and the rest of the batch counts."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    nobody = UUID(int=7)
    stray = replace(work, run_id=nobody)
    batch = world.apply(succeeded(stray), succeeded(work), lost(nobody, Claimed(activation_id=1, epoch=1, nonce=1)))
    assert [answer.verdict for answer in batch.answers] == [Verdict.VOID, Verdict.APPLIED, Verdict.VOID]
    assert world.status(run_id) == "completed"
    assert world.status(nobody) is None


def test_a_batch_without_events_does_nothing(world: World) -> None:
    """An empty batch is legal, and empty."""
    batch = world.apply()
    assert (batch.answers, batch.rings) == ((), ())

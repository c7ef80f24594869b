"""The store port: an activation that was in conflict too often runs alone among its run's writers (G6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.fold import CONFLICTS_BEFORE_ALONE
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.store import AppliedBatch, RunEvent, Work
from support.worlds import Worker, World, failed, lost, returned, succeeded, target

LOSER = 1


@dataclass
class Crowded:
    """A run in which ``stock`` (activation 1) loses every race against ``bank``, which goes on and on."""

    world: World
    worker: Worker
    run_id: UUID

    def claim(self) -> dict[str, Work]:
        return self.worker.claim_by_neuron()

    def lose(self, works: dict[str, Work]) -> None:
        """One more conflict: ``bank`` commits first, and emits the next ``bank``."""
        wins = succeeded(works["bank"], lambda ctx: ctx.update({"n": 1}), targets=[target("bank")])
        loses = succeeded(works["stock"], lambda ctx: ctx.update({"n": 2}))
        verdicts = [answer.verdict for answer in self.world.apply(wins, loses).answers]
        assert verdicts == [Verdict.APPLIED, Verdict.CONFLICTED]

    def lose_often(self) -> None:
        """All conflicts that it takes until ``stock`` is to run alone; another ``bank`` is ready then."""
        for _ in range(CONFLICTS_BEFORE_ALONE):
            self.lose(self.claim())


@pytest.fixture
def crowded(world: World) -> Crowded:
    return Crowded(world, world.worker(), world.submit("stock", "bank"))


def rung(batch: AppliedBatch) -> set[int]:
    """The activations that a settlement rang for."""
    return {number for ring in batch.rings for _, number in ring.activations}


ENDS: list[object] = [
    pytest.param(succeeded, id="succeeded"),
    pytest.param(lambda work: failed(work, retry_after=60.0), id="failed for now"),
    pytest.param(failed, id="failed for good"),
    pytest.param(lambda work: lost(work.run_id, work.fence, backoff=60.0), id="lost"),
]


def test_up_to_the_last_conflict_everybody_runs(crowded: Crowded) -> None:
    """Before the limit is reached, the loser is claimed together with the others."""
    for _ in range(CONFLICTS_BEFORE_ALONE - 1):
        crowded.lose(crowded.claim())
    assert set(crowded.claim()) == {"stock", "bank"}


def test_g6_after_three_conflicts_no_other_of_the_run_is_claimable(crowded: Crowded) -> None:
    """The loser is, for itself; what else is ready waits aside."""
    crowded.lose_often()
    assert set(crowded.claim()) == {"stock"}
    assert crowded.claim() == {}


def test_who_is_alone_wins(crowded: Crowded) -> None:
    """Nobody can write meanwhile, so that its settlement is in no conflict."""
    crowded.lose_often()
    work = crowded.claim()["stock"]
    batch = crowded.world.apply(succeeded(work, lambda ctx: ctx.update({"n": 2})))
    assert batch.answers[0].verdict is Verdict.APPLIED
    assert crowded.world.values(crowded.run_id) == {"n": 2}


@pytest.mark.parametrize("end", ENDS)
def test_the_others_rejoin_when_it_has_ended(crowded: Crowded, end: Callable[[Work], RunEvent]) -> None:
    """However its try ends, those that were set aside are claimable again, and rung for."""
    crowded.lose_often()
    assert rung(crowded.world.apply(end(crowded.claim()["stock"]))) == {CONFLICTS_BEFORE_ALONE + 2}
    assert set(crowded.claim()) == {"bank"}


def test_it_stays_alone_when_it_is_given_back_uncalled(crowded: Crowded) -> None:
    """A worker that stops before the call changes nothing: the next one runs it alone."""
    crowded.lose_often()
    batch = crowded.world.apply(returned(crowded.claim()["stock"]))
    assert rung(batch) == {LOSER}
    assert set(crowded.claim()) == {"stock"}


@pytest.mark.parametrize("end", [*ENDS, pytest.param(returned, id="returned")])
def test_it_waits_while_another_of_the_run_is_running(crowded: Crowded, end: Callable[[Work], RunEvent]) -> None:
    """It is claimable from the moment on at which the last of those ends, however that ends."""
    world = crowded.world
    works = crowded.claim()
    world.apply(
        succeeded(works["bank"], targets=[target("bank"), target("ship", ordinal=1), target("report", ordinal=2)]),
        returned(works["stock"]),
    )
    works = crowded.claim()
    crowded.lose(works)
    for _ in range(CONFLICTS_BEFORE_ALONE - 1):
        crowded.lose(crowded.claim())
    assert crowded.claim() == {}
    assert LOSER not in rung(world.apply(end(works["report"])))
    assert crowded.claim() == {}
    assert rung(world.apply(end(works["ship"]))) == {LOSER}
    assert set(crowded.claim()) == {"stock"}


def test_what_begins_meanwhile_waits_aside(crowded: Crowded) -> None:
    """Neither a successor, kept or not, nor a timer that comes due joins in before it has ended."""
    world, worker = crowded.world, crowded.worker
    works = crowded.claim()
    world.apply(
        succeeded(works["bank"], targets=[target("bank"), target("ship", ordinal=1), target("report", ordinal=2)]),
        returned(works["stock"]),
    )
    works = crowded.claim()
    world.apply(failed(works["report"], retry_after=1.0))
    crowded.lose(works)
    for _ in range(CONFLICTS_BEFORE_ALONE - 1):
        crowded.lose(crowded.claim())
    batch = world.apply(succeeded(works["ship"], targets=[target("ship", here=True)]))
    assert batch.answers[0].kept == ()
    world.clock.advance(1)
    assert world.fire(crowded.run_id, works["report"].activation_id).verdict is Verdict.APPLIED
    assert set(crowded.claim()) == {"stock"}
    (held,) = world.store.run(world.store.renew(worker.info.worker)) or ()
    assert held.fence.activation_id == LOSER
    world.apply(lost(crowded.run_id, held.fence, backoff=60.0))
    assert set(crowded.claim()) == {"bank", "ship", "report"}


def test_its_own_successors_begin_as_usual(crowded: Crowded) -> None:
    """With its commit it is alone no more: a successor may stay with its worker."""
    crowded.lose_often()
    batch = crowded.world.apply(succeeded(crowded.claim()["stock"], targets=[target("ship", here=True)]))
    assert [work.neuron for work in batch.answers[0].kept] == ["ship"]
    assert set(crowded.claim()) == {"bank"}


def test_one_after_the_other_where_two_lose(world: World) -> None:
    """A second one that reaches the limit waits aside for the first, and gets its turn."""
    worker = world.worker()
    world.submit("stock", "ship", "bank")
    for _ in range(CONFLICTS_BEFORE_ALONE):
        works = worker.claim_by_neuron()
        wins = succeeded(works["bank"], lambda ctx: ctx.update({"n": 1}), targets=[target("bank")])
        world.apply(wins, *(succeeded(works[name], lambda ctx: ctx.update({"n": 2})) for name in ("stock", "ship")))
    first = worker.claim_one()
    assert first.neuron == "stock"
    world.apply(succeeded(first, lambda ctx: ctx.update({"n": 2})))
    works = worker.claim_by_neuron()
    assert set(works) == {"ship", "bank"}
    batch = world.apply(
        succeeded(works["bank"], lambda ctx: ctx.update({"n": 1}), targets=[target("bank")]),
        succeeded(works["ship"], lambda ctx: ctx.update({"n": 2})),
    )
    assert batch.answers[1].verdict is Verdict.CONFLICTED
    second = worker.claim_one()
    assert second.neuron == "ship"
    assert world.settle(succeeded(second, lambda ctx: ctx.update({"n": 2}))).verdict is Verdict.APPLIED
    assert set(worker.claim_by_neuron()) == {"bank"}


def test_a_settlement_that_is_refused_changes_nothing_for_it(crowded: Crowded) -> None:
    """A zombie's settlement neither frees nor blocks anybody, and rings for nobody."""
    world = crowded.world
    works = crowded.claim()
    crowded.lose(works)
    for _ in range(CONFLICTS_BEFORE_ALONE - 1):
        crowded.lose(crowded.claim())
    batch = world.apply(succeeded(works["stock"]))
    assert batch.answers[0].verdict is Verdict.FENCED
    assert batch.rings == ()
    assert set(crowded.claim()) == {"stock"}


def test_other_runs_go_on(crowded: Crowded) -> None:
    """Only the run's own activations are set aside."""
    crowded.lose_often()
    other = crowded.world.submit("bank")
    assert {(work.run_id, work.neuron) for work in crowded.worker.claim()} == {
        (crowded.run_id, "stock"),
        (other, "bank"),
    }


def test_the_run_ends_though_one_ran_alone(crowded: Crowded) -> None:
    """Nothing of what was set aside is left behind."""
    crowded.lose_often()
    crowded.world.apply(succeeded(crowded.claim()["stock"], lambda ctx: ctx.update({"n": 2})))
    crowded.world.apply(succeeded(crowded.claim()["bank"]))
    assert crowded.world.status(crowded.run_id) == "completed"

"""The store port: what has ended leaves the store by its age, whole or not at all; nothing else ever does (G14)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.retention import DEFAULTS, ENDED_STATUSES, FINAL_STATUSES, Rules
from cnstra.orchestrator.store import Expired, Portion, Pruned
from support.worlds import LEASE, Hop, World, failed, hop, lost, retry_asked, succeeded, target

DAY = 86_400.0


def _write(context: object) -> None:
    context["shelf"] = 7  # type: ignore[index]


def _completed(world: World, *, hops: int = 1, **changes: object) -> UUID:
    """A run that has completed, after so many hops that each wrote to its context."""
    run_id = world.submit("stock", **changes)
    worker = world.worker()
    for left in reversed(range(hops)):
        [work] = [work for work in worker.claim() if work.run_id == run_id]
        world.settle(hop(work, _write, targets=[target("stock")] if left else []).event())
    assert world.status(run_id) == "completed"
    return run_id


def _failed(world: World, **changes: object) -> UUID:
    """A run that has failed, after one hop that wrote to its context."""
    run_id = world.submit("stock", **changes)
    worker = world.worker()
    world.settle(hop(worker.claim_one(), _write, targets=[target("bank")]).event())
    world.settle(failed(worker.claim_one()))
    assert world.status(run_id) == "failed"
    return run_id


def _prune(world: World, *statuses: str, older_than: float = DAY, portion: Portion | None = None) -> Pruned:
    before = world.clock.now() - timedelta(seconds=older_than)
    return world.store.run(world.store.prune(statuses or FINAL_STATUSES, before, portion or Portion()))


def _keep(world: World, **rules: timedelta | None) -> None:
    world.store.run(world.store.set_retention(rules))


def _expire(world: World, portion: Portion | None = None) -> Expired:
    return world.store.run(world.store.expire(portion or Portion()))


def _is_gone(world: World, run_id: UUID) -> bool:
    """Whether nothing of a run is left; all of it, or none."""
    traces = [
        world.store.run(world.store.run_row(run_id)) is not None,
        bool(world.activations(run_id)),
        world.store.run(world.store.context_at(run_id, None)) is not None,
    ]
    assert len(set(traces)) == 1, traces
    return not traces[0]


# -- by hand -------------------------------------------------------------------------------------------------------


def test_a_run_is_pruned_from_the_moment_that_it_is_older(world: World) -> None:
    """It counts from its end, not from its submit; exactly as old is not older."""
    run_id = world.submit("stock")
    worker = world.worker(lease=timedelta(days=99))
    world.clock.advance(5 * DAY)
    world.settle(succeeded(worker.claim_one()))
    world.clock.advance(DAY)
    assert _prune(world).runs == ()
    world.clock.advance(0.001)
    assert _prune(world) == Pruned(runs=((run_id, "completed"),), more=False)
    assert _is_gone(world, run_id)


def test_a_run_leaves_with_everything_of_it(world: World) -> None:
    """Activations, tries, context and history; those of its neighbours stay."""
    world.clock.advance(1)
    stays = _failed(world)
    goes = _completed(world, hops=3)
    before = (world.row(stays), world.activations(stays), world.store.run(world.store.history(stays)))
    world.clock.advance(2 * DAY)
    assert [run_id for run_id, _ in _prune(world).runs] == [goes]
    assert _is_gone(world, goes)
    assert world.store.run(world.store.history(goes)) == []
    assert (world.row(stays), world.activations(stays), world.store.run(world.store.history(stays))) == before


def test_nothing_is_pruned_that_has_not_ended(world: World) -> None:
    """Ready, running, scheduled, and waiting for the next attempt: however old it is, and whatever is asked for."""
    ready, running, scheduled, waiting = (world.submit(name) for name in ("stock", "bank", "ship", "report"))
    worker = world.worker(("bank", "order"), ("ship", "order"), ("report", "order"), lease=timedelta(days=99_999))
    works = worker.claim_by_neuron()
    world.apply(failed(works["ship"], retry_after=1e9), failed(works["report"], revive_after=1e9))
    world.clock.advance(9_999 * DAY)
    for rule in ENDED_STATUSES:
        _keep(world, **{rule: timedelta(minutes=1)})
    _keep(world, context=timedelta(minutes=1))

    assert _prune(world, *ENDED_STATUSES, older_than=0).runs == ()
    assert _expire(world) == Expired(runs=(), contexts=(), more=False)
    assert [world.status(one) for one in (ready, running, scheduled, waiting)] == [
        "running",
        "running",
        "waiting",
        "waiting",
    ]


def test_failed_runs_go_only_where_they_are_named(world: World) -> None:
    """They could still be retried: without being asked for, they stay."""
    run_id = _failed(world)
    world.clock.advance(2 * DAY)
    assert _prune(world, *FINAL_STATUSES).runs == ()
    assert not _is_gone(world, run_id)
    assert _prune(world, "failed").runs == ((run_id, "failed"),)
    assert _is_gone(world, run_id)


def test_a_retried_run_is_not_pruned_as_the_failed_one_that_it_was(world: World) -> None:
    """From the retry on it has not ended; when it ends again, its age begins anew."""
    run_id = _failed(world)
    world.clock.advance(2 * DAY)
    world.settle(retry_asked(run_id))
    assert _prune(world, *ENDED_STATUSES).runs == ()
    world.settle(succeeded(world.worker().claim_one()))
    assert _prune(world, *ENDED_STATUSES).runs == ()
    assert world.values(run_id) == {"shelf": 7}


def test_what_would_be_pruned_can_be_counted_first(world: World) -> None:
    """By status, with the same conditions, and nothing is deleted."""
    runs = [_completed(world), _completed(world), _failed(world)]
    world.clock.advance(2 * DAY)
    young = _completed(world)
    before = world.clock.now() - timedelta(days=1)
    counts = world.store.run(world.store.count_ended(("completed", "failed", "cancelled"), before))
    assert counts == {"completed": 2, "failed": 1, "cancelled": 0}
    assert not any(_is_gone(world, run_id) for run_id in [*runs, young])


def test_the_longest_ended_go_first_in_portions(world: World) -> None:
    """Each transaction deletes so many runs at most, and says whether others may follow."""
    runs = []
    for _ in range(5):
        runs.append(_completed(world))
        world.clock.advance(1)
    world.clock.advance(2 * DAY)
    portion = Portion(runs=2)
    pruned = [_prune(world, portion=portion) for _ in range(3)]
    assert [[run_id for run_id, _ in one.runs] for one in pruned] == [runs[:2], runs[2:4], runs[4:]]
    assert [one.more for one in pruned] == [True, True, False]


def test_a_portion_is_bounded_by_rows_and_has_whole_runs_only(world: World) -> None:
    """Large runs go fewer at a time; one that is larger than the portion goes alone, and whole."""
    runs = []
    for hops in (5, 1, 1, 1):
        runs.append(_completed(world, hops=hops))
        world.clock.advance(1)
    world.clock.advance(2 * DAY)
    portion = Portion(rows=6)  # a run of one hop is three rows: itself, its activation, its context's version
    assert [run_id for run_id, _ in _prune(world, portion=portion).runs] == runs[:1]
    assert all(_is_gone(world, run_id) is (run_id == runs[0]) for run_id in runs)
    pruned = _prune(world, portion=portion)
    assert ([run_id for run_id, _ in pruned.runs], pruned.more) == (runs[1:3], True)
    assert [run_id for run_id, _ in _prune(world, portion=portion).runs] == runs[3:]


def test_a_replayed_prune_deletes_what_was_asked_for_and_no_more(world: World) -> None:
    """When the reply of a prune was lost, the runner's second one finds nothing left."""
    old = _completed(world)
    world.clock.advance(2 * DAY)
    young = _completed(world)
    before = world.clock.now() - timedelta(days=1)
    assert world.replayed(world.store.prune(FINAL_STATUSES, before, Portion())).runs == ()
    assert (_is_gone(world, old), _is_gone(world, young)) == (True, False)


def test_prunes_that_meet_delete_each_run_once(world: World) -> None:
    """Two hands and a supervisor at the same moment: nobody waits for another, and every run is somebody's."""
    runs = {_completed(world) for _ in range(6)}
    world.clock.advance(40 * DAY)
    before = world.clock.now() - timedelta(days=1)
    operations = [world.store.prune(FINAL_STATUSES, before, Portion()) for _ in range(2)]
    pruned = world.at_once(*operations, hold="lock table cnstra.run in exclusive mode")
    assert sorted(run_id for one in pruned for run_id, _ in one.runs) == sorted(runs)


# -- what knocks afterwards ----------------------------------------------------------------------------------------


def test_an_idempotency_key_is_free_again_once_its_run_is_pruned(world: World) -> None:
    """It is unique while the run is kept, also for another signal afterwards; other graphs' keys stay."""
    run_id = _completed(world, idempotency_key="k")
    other = world.submit("stock", graph="other", idempotency_key="k")
    world.clock.advance(2 * DAY)
    [again] = world.accept(world.submission("stock", idempotency_key="k"))
    assert (again.run_id, again.new) == (run_id, False)
    _prune(world)
    [anew] = world.accept(world.submission("stock", idempotency_key="k", payload='{"other": 1}'))
    assert anew.new
    assert anew.run_id != run_id
    [same] = world.accept(world.submission("stock", graph="other", idempotency_key="k"))
    assert (same.run_id, same.new) == (other, False)


def test_every_key_that_answers_with_a_run_leaves_with_it(world: World) -> None:
    """Also one that came later, with a second submit of the run's id: it starts a new run, and then answers with that."""
    run_id = _completed(world)
    for key in ("early", "late"):
        [same] = world.accept(world.submission("stock", run_id=run_id, idempotency_key=key))
        assert (same.run_id, same.new) == (run_id, False)
    world.clock.advance(2 * DAY)
    assert [one for one, _ in _prune(world).runs] == [run_id]
    for key in ("early", "late"):
        [anew] = world.accept(world.submission("stock", idempotency_key=key))
        assert anew.new
        [again] = world.accept(world.submission("stock", idempotency_key=key))
        assert (again.run_id, again.new) == (anew.run_id, False)


def test_a_zombie_of_a_pruned_run_is_refused_by_name(world: World) -> None:
    """A worker that lost its claim, and comes back when even the run is gone, settles nothing and breaks nothing."""
    run_id, worker = world.submit("stock"), world.worker()
    zombie = worker.claim_one()
    world.clock.advance(LEASE + 1)
    world.store.run(world.store.lost_claims(10))
    world.settle(lost(run_id, zombie.fence))
    world.clock.advance(1)
    world.fire(run_id, 1)
    world.settle(succeeded(world.worker().claim_one()))
    world.clock.advance(2 * DAY)
    _prune(world)

    late = Hop(zombie, hop(zombie, _write).context, targets=(target("bank"),))
    other = world.submit("ship")
    held = world.worker().claim_one()
    answers = world.apply(late.event(), failed(zombie), lost(run_id, zombie.fence), succeeded(held)).answers
    assert [one.verdict for one in answers] == [Verdict.VOID, Verdict.VOID, Verdict.VOID, Verdict.APPLIED]
    assert _is_gone(world, run_id)
    assert world.status(other) == "completed"


def test_a_retry_of_a_pruned_run_comes_to_nothing(world: World) -> None:
    """Whichever of the two came first has won; nothing half of a run comes back."""
    run_id = _failed(world)
    world.clock.advance(2 * DAY)
    _prune(world, "failed")
    assert world.settle(retry_asked(run_id)).verdict is Verdict.VOID
    assert _is_gone(world, run_id)


# -- by the rules --------------------------------------------------------------------------------------------------


def test_a_new_store_keeps_what_the_decision_says(world: World) -> None:
    """Failed runs for ever, completed ones for a month, those that were undone or cancelled for three."""
    rules: Rules = world.store.run(world.store.retention())
    assert rules == DEFAULTS
    assert rules == {
        "completed": timedelta(days=30),
        "failed": None,
        "compensated": timedelta(days=90),
        "cancelled": timedelta(days=90),
        "context": None,
        "sent": timedelta(days=30),
    }


def test_the_rules_take_what_they_no_longer_keep(world: World) -> None:
    """Each status by its own rule, without being asked; for ever is for ever."""
    done, broken = _completed(world), _failed(world)
    world.clock.advance(30 * DAY)
    assert _expire(world) == Expired(runs=(), contexts=(), more=False)
    world.clock.advance(1)
    assert _expire(world) == Expired(runs=(done,), contexts=(), more=False)
    world.clock.advance(9_999 * DAY)
    assert _expire(world).runs == ()
    _keep(world, failed=timedelta(days=365))
    assert _expire(world).runs == (broken,)


def test_changing_one_rule_leaves_the_others(world: World) -> None:
    """What is not named stays as it is; none is for ever."""
    _keep(world, completed=None, cancelled=timedelta(hours=1))
    rules = world.store.run(world.store.retention())
    assert rules == {**DEFAULTS, "completed": None, "cancelled": timedelta(hours=1)}
    run_id = _completed(world)
    world.clock.advance(9_999 * DAY)
    assert _expire(world).runs == ()
    assert not _is_gone(world, run_id)


def test_the_rules_are_carried_out_in_portions(world: World) -> None:
    """As much as a transaction may delete, over runs and contexts together; told whether there is more."""
    for _ in range(3):
        _completed(world)
    world.clock.advance(31 * DAY)
    kept = [_completed(world) for _ in range(2)]
    _keep(world, context=timedelta(hours=1))
    world.clock.advance(3_601)
    swept = [_expire(world, Portion(runs=2)) for _ in range(4)]
    assert [(len(one.runs), len(one.contexts), one.more) for one in swept] == [
        (2, 0, True),
        (1, 1, True),
        (0, 1, False),
        (0, 0, False),
    ]
    assert not any(_is_gone(world, run_id) for run_id in kept)


# -- contexts ------------------------------------------------------------------------------------------------------


def test_a_context_may_go_before_its_run(world: World) -> None:
    """Values and history are gone, and the run, with what it did, its outputs, and the versions there were, stays."""
    run_id = _completed(world, hops=2)
    row, activations = world.row(run_id), world.activations(run_id)
    _keep(world, context=timedelta(days=7))
    world.clock.advance(7 * DAY)
    assert _expire(world).contexts == ()
    world.clock.advance(1)
    assert _expire(world) == Expired(runs=(), contexts=(run_id,), more=False)
    assert (world.row(run_id), world.activations(run_id)) == (row, activations)
    assert world.store.run(world.store.history(run_id)) == []
    snapshot = world.store.run(world.store.context_at(run_id, None))
    assert snapshot is not None
    assert (snapshot.version, snapshot.slots) == (2, {})
    assert _expire(world).contexts == ()


@pytest.mark.parametrize("hops", [0, 1])
def test_a_run_whose_context_has_gone_goes_by_its_own_rule(world: World, hops: int) -> None:
    """Also one that never had written any context."""
    run_id = _completed(world, hops=1) if hops else world.submit("stock")
    if not hops:
        world.settle(succeeded(world.worker().claim_one()))
    _keep(world, context=timedelta(days=7))
    world.clock.advance(8 * DAY)
    _expire(world)
    assert not _is_gone(world, run_id)
    before = world.clock.now()
    assert world.store.run(world.store.count_ended(("completed",), before)) == {"completed": 1}
    world.clock.advance(23 * DAY)
    assert _expire(world).runs == (run_id,)
    assert _is_gone(world, run_id)


def test_a_failed_runs_context_stays_for_its_retry(world: World) -> None:
    """The rule for contexts is for runs that never move again: a retry goes on with the context that there was."""
    run_id = _failed(world)
    _keep(world, context=timedelta(minutes=1))
    world.clock.advance(99 * DAY)
    assert _expire(world) == Expired(runs=(), contexts=(), more=False)
    world.settle(retry_asked(run_id))
    work = world.worker().claim_one()
    assert hop(work).context.get() == {"shelf": 7}

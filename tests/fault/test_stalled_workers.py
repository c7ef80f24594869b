"""A worker that stalls past its lease loses its work, can commit nothing of it, and is welcome again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cnstra import Run
from support.graphs import routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage, WorkerProcess
from support.waiting import eventually

_REFUSED = "its claim was taken away, so its result was refused; nothing was committed"
_HOLDING_LOCKS = ["claim.commit", "settle.commit"]
_LEASE = timedelta(seconds=6)  # it is renewed, and its loss noticed, every two seconds


def _everything(stage: Stage, run: Run) -> list[dict[str, Any]]:
    """All that is stored of a run."""
    tables = ("run", "activation", "try", "context_head", "context_entry")
    query = " union all ".join(f"select to_jsonb(t) as row from cnstra.{name} t where t.run_id = %s" for name in tables)
    return sorted(stage.rows(query, *[run.id] * len(tables)), key=repr)


def _serves_again(stage: Stage, zombie: WorkerProcess, heir: WorkerProcess) -> None:
    """Left alone, the one that came back does the work, under another name."""
    back = "select pid from cnstra.workers where pid = %s"
    eventually(lambda: stage.rows(back, zombie.pid), PATIENCE, what="a new incarnation")
    assert heir.drain()
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(0))
    stage.completed(run)
    assert {entry.pid for entry in stage.ledger.entries(run.id)} == {zombie.pid}
    assert_sound(stage, run.id)


@pytest.mark.parametrize("streak", [0, 100], ids=["through the broker", "kept in the process"])
@pytest.mark.parametrize("point", ["call.begin", "call.inside", "call.end", "settle.begin", "settle.commit"])
def test_g3_a_worker_that_comes_back_after_its_lease_commits_nothing(stage: Stage, point: str, streak: int) -> None:
    """It goes on right where it was stopped, and what it then settles is refused: context, tries and outputs stay."""
    zombie = stage.start(routes.chain, Fault(point=point, action="stop", activation=2), lease=_LEASE, streak=streak)
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    zombie.reached(point)
    zombie.frozen()
    stage.lose(zombie)
    heir = stage.start(routes.chain, streak=streak)
    result = stage.completed(run)
    before = _everything(stage, run)

    zombie.thaw()

    eventually(lambda: _REFUSED in zombie.log(), PATIENCE, what="the zombie's settlement is refused")
    assert _everything(stage, run) == before
    assert result.context == {"step 1": 0, "step 2": 1, "step 3": 2, "steps": 3}
    assert stage.ledger.calls(run.id) == {1: 1, 2: 2, 3: 1}
    assert_sound(stage, run.id)
    _serves_again(stage, zombie, heir)


def test_g3_a_successor_that_a_stalled_worker_had_kept_is_taken_from_it(stage: Stage) -> None:
    """Stopped right after its commit, it goes on with the kept step when it comes back, and is refused there."""
    zombie = stage.start(routes.chain, Fault(point="settle.done", action="stop", activation=2), lease=_LEASE)
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    zombie.reached("settle.done")
    zombie.frozen()
    stage.lose(zombie)
    heir = stage.start(routes.chain)
    stage.completed(run)
    before = _everything(stage, run)

    zombie.thaw()

    eventually(lambda: _REFUSED in zombie.log(), PATIENCE, what="the zombie's settlement is refused")
    assert _everything(stage, run) == before
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 2}
    assert_sound(stage, run.id)
    _serves_again(stage, zombie, heir)


def test_g3_a_claim_that_a_stalled_worker_had_not_committed_is_free_again(stage: Stage) -> None:
    """Stopped inside its claim, it holds locks on the work and on its own lease: both go to others all the same."""
    zombie = stage.start(routes.chain, Fault(point="claim.commit", action="stop", activation=1), lease=_LEASE)
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    zombie.reached("claim.commit")
    zombie.frozen()
    heir = stage.start(routes.chain)
    stage.completed(run)
    before = _everything(stage, run)
    stage.lose(zombie)
    left = "select pid from cnstra.workers where pid = %s"
    eventually(lambda: not stage.rows(left, zombie.pid), PATIENCE, what="the zombie is taken for lost")

    zombie.thaw()

    _serves_again(stage, zombie, heir)
    assert _everything(stage, run) == before
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert_sound(stage, run.id)


def test_g1_a_supervisor_that_stalls_inside_its_look_around_is_replaced(stage: Stage) -> None:
    """Its transaction holds the row by which supervisors are elected; timers fire all the same."""
    zombie = stage.start(routes.chain, lease=_LEASE)
    zombie.arm(Fault(point="look.commit", action="stop"))
    zombie.reached("look.commit")
    zombie.frozen()
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10), delay=timedelta(milliseconds=1))

    stage.start(routes.chain)

    stage.completed(run)
    zombie.thaw()


def test_g3_the_only_worker_sleeps_through_its_lease_and_another_takes_over(stage: Stage) -> None:
    """Nobody tells the database that the lease is over: its own clock does."""
    lease = timedelta(seconds=1.5)
    zombie = stage.start(routes.chain, Fault(point="call.inside", action="stop", activation=2), lease=lease)
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    zombie.reached("call.inside")
    zombie.frozen()

    heir = stage.start(routes.chain)

    stage.completed(run)
    before = _everything(stage, run)
    (lost,) = stage.rows("select worker from cnstra.tries where run_id = %s and error_type like '%%WorkerLost'", run.id)
    zombie.thaw()
    eventually(lambda: _REFUSED in zombie.log(), PATIENCE, what="the zombie's settlement is refused")
    assert f"worker {lost['worker']} was taken for lost" in eventually(
        lambda: zombie.log() if "was taken for lost" in zombie.log() else "", PATIENCE
    )
    assert _everything(stage, run) == before
    assert_sound(stage, run.id)
    _serves_again(stage, zombie, heir)


def test_g3_an_epoch_that_is_given_out_twice_fences_by_its_nonce(stage: Stage) -> None:
    """A failover forgets a claim, and the next one has the same epoch: the first holder's settlement is refused."""
    first = stage.start(routes.chain, Fault(point="call.inside", action="stop", activation=1))
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    first.reached("call.inside")
    first.frozen()
    claim = "select epoch, nonce, worker from cnstra.activation where run_id = %s and activation_id = 1"
    forgotten = stage.row(claim, run.id)

    # What the new primary knows: the state before the claim.
    stage.rows(
        "update cnstra.activation set status = 'ready', epoch = epoch - 1, nonce = null, worker = null, tries = tries - 1, "
        "first_try_at = null, started_at = null where run_id = %s",
        run.id,
    )
    second = stage.start(routes.chain, Fault(point="call.inside", action="block", activation=1))
    second.reached("call.inside")

    given = stage.row(claim, run.id)
    assert given["epoch"] == forgotten["epoch"]
    assert given["nonce"] != forgotten["nonce"]
    before = _everything(stage, run)
    first.thaw()
    eventually(lambda: _REFUSED in first.log(), PATIENCE, what="the first holder's settlement is refused")
    assert _everything(stage, run) == before
    second.release("call.inside")
    result = stage.completed(run)
    assert result.context["steps"] == 3
    assert stage.ledger.calls(run.id)[1] == 2
    assert_sound(stage, run.id, same_try_twice=True)

"""A handler that takes longer than its ``max_duration`` is a failed try, async or sync, and its worker stays healthy."""

from __future__ import annotations

from typing import Any

import pytest

from cnstra import Collateral, Run
from support.graphs import interrupted
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually


@pytest.mark.beneath_the_seal
def test_an_async_handler_that_takes_too_long_is_a_failed_try(stage: Stage) -> None:
    """Its policy is asked, the next try comes, and the error in the tries names the limit and the activation."""
    stage.start(interrupted.endless)
    run = stage.client(interrupted.endless).submit(interrupted.wait_for_ever.create_signal(1))

    result = stage.ended(run)

    assert (result.status, [signal.payload for signal in result.outputs]) == ("completed", [2])
    [ended] = stage.rows("select error_type, error from cnstra.tries where run_id = %s and error is not null", run.id)
    assert ended["error_type"] == "cnstra.MaxDurationExceeded"
    assert "0:00:00.300000" in ended["error"]
    assert str(run.id) in ended["error"]
    assert_sound(stage, run.id)


def test_a_handler_that_takes_too_long_every_time_has_failed(stage: Stage) -> None:
    """When its policy gives up the run has failed; the worker goes on with others."""
    stage.start(interrupted.endless)
    client = stage.client(interrupted.endless)
    run = client.submit(interrupted.wait_for_ever.create_signal(9))

    assert stage.ended(run).status == "failed"

    assert stage.row("select error_type from cnstra.runs where run_id = %s", run.id)["error_type"] == (
        "cnstra.MaxDurationExceeded"
    )
    assert stage.ended(client.submit(interrupted.wait_for_ever.create_signal(0))).status == "completed"


def test_a_handler_that_will_not_be_cancelled_has_failed_all_the_same(stage: Stage) -> None:
    """What it returns after its time is not taken, and what it wrote is not committed."""
    stage.start(interrupted.endless)
    run = stage.client(interrupted.endless).submit(interrupted.cling.create_signal(0))

    result = stage.ended(run)

    assert (result.status, result.outputs, result.context) == ("failed", (), None)
    assert stage.ledger.calls(run.id) == {1: 2}


_STUCK = Fault(point="call.stuck", action="block")


@pytest.mark.beneath_the_seal
@pytest.mark.parametrize("begin", [interrupted.stick, interrupted.stick_late], ids=["in its body", "in its generator"])
def test_g3_a_sync_handler_that_takes_too_long_loses_its_result(stage: Stage, begin: Collateral[int]) -> None:
    """A thread cannot be interrupted: its claim is given up, the retry commits, and what comes back late is dropped."""
    worker = stage.start(interrupted.endless, _STUCK, threads=1)
    run = stage.client(interrupted.endless).submit(begin.create_signal(1))
    worker.reached("call.stuck")

    result = stage.ended(run)

    assert (result.status, [signal.payload for signal in result.outputs]) == ("completed", [2])
    assert result.context == {"try 2": True}
    [ended] = stage.rows("select * from cnstra.tries where run_id = %s and error is not null", run.id)
    assert ended["error_type"] == "cnstra.MaxDurationExceeded"
    assert f"run {run.id}, activation 1 (endless on {begin.name}): it took longer" in ended["error"]
    assert "max_duration of 0:00:00.300000" in ended["error"]
    assert "points.reach(" in ended["error_traceback"]  # where it is stuck
    before = _everything(stage, run)

    worker.release("call.stuck")

    dropped = f"run {run.id}, activation 1 (endless on {begin.name}): its handler returned"
    eventually(lambda: dropped in worker.log(), PATIENCE, what="the late result is dropped")
    assert worker.log().count("after its beginning, too late for its max_duration") == 1
    assert worker.drain()
    assert "was refused" not in worker.log()  # it did not even go to the fence
    assert _everything(stage, run) == before
    assert_sound(stage, run.id)


def test_a_stuck_thread_is_replaced_and_the_worker_goes_on(stage: Stage) -> None:
    """With its only two threads stuck it serves others, says so, and drains in good order."""
    worker = stage.start(interrupted.endless, _STUCK, _STUCK, threads=2)
    client = stage.client(interrupted.endless)
    stuck = [client.submit(interrupted.stick.create_signal(1)) for _ in range(2)]
    for _ in stuck:
        worker.reached("call.stuck")

    stage.all_completed(stuck)

    stage.all_completed([client.submit(interrupted.pass_by.create_signal(number)) for number in range(20)])
    for run in stuck:
        said = (
            f"run {run.id}, activation 1 (endless on endless.stick), try 1: still in its handler after its max_duration"
        )
        assert said in worker.log()
    assert "its thread is replaced; 2 stuck by now" in worker.log()
    assert worker.drain()


@pytest.mark.beneath_the_seal
def test_a_sync_handler_that_takes_too_long_every_time_has_failed(stage: Stage) -> None:
    """Its policy gives up after two tries, each of which was called once."""
    worker = stage.start(interrupted.endless, _STUCK, _STUCK, threads=1)
    run = stage.client(interrupted.endless).submit(interrupted.stick.create_signal(9))
    worker.reached("call.stuck")

    result = stage.ended(run)

    assert (result.status, result.outputs, result.context) == ("failed", (), None)
    assert stage.row("select error_type from cnstra.runs where run_id = %s", run.id)["error_type"] == (
        "cnstra.MaxDurationExceeded"
    )
    assert stage.ledger.calls(run.id) == {1: 2}
    assert stage.activation(run, 1)["progress"] == {"try": 2}


def test_a_stuck_handler_can_see_that_it_is_not_wanted(stage: Stage) -> None:
    """Once its claim is given up, ctx.cancelled says so: what looks at it can end early."""
    worker = stage.start(interrupted.endless, _STUCK, threads=1)
    run = stage.client(interrupted.endless).submit(interrupted.stick.create_signal(1))
    worker.reached("call.stuck")
    stage.completed(run)

    worker.release("call.stuck")

    eventually(lambda: "came back, cancelled: " in worker.log(), PATIENCE, what="it comes back")
    assert "came back, cancelled: True" in worker.log()


@pytest.mark.beneath_the_seal
def test_the_async_part_that_a_sync_handler_returned_is_cancelled(stage: Stage) -> None:
    """As that of an async handler: its try has failed, its thread is free."""
    stage.start(interrupted.endless, threads=1)
    run = stage.client(interrupted.endless).submit(interrupted.hand_over.create_signal(1))

    result = stage.ended(run)

    assert (result.status, [signal.payload for signal in result.outputs]) == ("completed", [2])
    [ended] = stage.rows("select error from cnstra.tries where run_id = %s and error is not null", run.id)
    assert ended["error"].endswith("and was cancelled")


def test_a_worker_with_too_many_stuck_threads_leaves_the_work_to_others(stage: Stage) -> None:
    """It says so loudly, and another worker takes what it does not."""
    worker = stage.start(interrupted.endless, _STUCK, threads=1, most_stuck=1)
    client = stage.client(interrupted.endless)
    run = client.submit(interrupted.stick.create_signal(1))
    worker.reached("call.stuck")
    said = "ERROR cnstra.worker cnstra-watch: 1 sync handlers are stuck beyond their max_duration"
    eventually(lambda: said in worker.log(), PATIENCE, what="it says so")

    other = stage.start(interrupted.endless)

    stage.completed(run)
    assert [entry.pid for entry in stage.ledger.entries(run.id)] == [worker.pid, other.pid]


def _everything(stage: Stage, run: Run) -> list[dict[str, Any]]:
    """All that is stored of a run."""
    tables = ("run", "activation", "try", "context_head", "context_entry")
    query = " union all ".join(f"select to_jsonb(t) as row from cnstra.{name} t where t.run_id = %s" for name in tables)
    return sorted(stage.rows(query, *[run.id] * len(tables)), key=repr)

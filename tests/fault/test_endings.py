"""Runs are cancelled, paused and too late while workers are busy with them: nothing is lost, doubled, or begun too late."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from cnstra import Run, RunStateError
from support.graphs import journeys
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage, WorkerProcess
from support.waiting import eventually

_STEPS = pytest.mark.parametrize("number", [1, 2], ids=["a sync handler", "an async handler"])


def _in_a_step(stage: Stage, number: int, *, streak: int = 0, **options: Any) -> tuple[WorkerProcess, Run]:
    """A run that is inside a step's handler, which ``release`` lets go on."""
    worker = stage.start(journeys.trip, Fault(point="call.inside", action="block", activation=number), streak=streak)
    run = stage.client(journeys.trip).submit(journeys.plan_trip.create_signal({}), **options)
    worker.reached("call.inside")
    return worker, run


def _called(stage: Stage, run: Run) -> list[tuple[int, str]]:
    return [(entry.activation_id, entry.what) for entry in stage.ledger.entries(run.id)]


def _statuses(stage: Stage, run: Run) -> list[str]:
    rows = stage.rows("select status from cnstra.activations where run_id = %s order by activation_id", run.id)
    return [row["status"] for row in rows]


# -- cancel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streak", [0, 100], ids=["through the broker", "kept in the process"])
@_STEPS
def test_a_cancel_lets_what_runs_come_to_its_end_and_begins_nothing_more(
    stage: Stage, number: int, streak: int
) -> None:
    """What the handler wrote is kept, the step that follows is cancelled and never called, also where it would have stayed
    in the process."""
    worker, run = _in_a_step(stage, number, streak=streak)
    run.cancel()
    assert run.status() == "running"
    worker.release("call.inside")
    result = stage.ended(run)
    done = [(step, "do") for step in range(1, number + 1)]
    assert (result.status, result.context) == ("cancelled", dict.fromkeys(journeys.BOOKINGS[:number], "booked"))
    assert (_called(stage, run), _statuses(stage, run)) == (done, ["done"] * number + ["cancelled"])
    assert_sound(stage, run.id)


@_STEPS
def test_g10_a_cancel_with_compensation_undoes_what_runs_first(stage: Stage, number: int) -> None:
    """Its end counts, so that it is the first to be undone; what nobody had begun is not."""
    worker, run = _in_a_step(stage, number)
    run.cancel(compensate=True)
    assert run.status() == "compensating"
    worker.release("call.inside")
    result = stage.ended(run)
    steps = range(1, number + 1)
    assert (result.status, result.context) == ("compensated", dict.fromkeys(journeys.BOOKINGS[:number], "given back"))
    assert _called(stage, run) == [(step, "do") for step in steps] + [(step, "undo") for step in reversed(steps)]
    assert_sound(stage, run.id)


@_STEPS
def test_the_worker_of_a_run_that_is_cancelled_may_die(stage: Stage, number: int) -> None:
    """What it had in its hands has no other try; the run ends, as soon as the loss is known."""
    worker, run = _in_a_step(stage, number)
    run.cancel()
    worker.kill()
    stage.lose(worker)
    stage.start(journeys.trip)
    assert stage.ended(run).status == "cancelled"
    assert _called(stage, run) == [(step, "do") for step in range(1, number + 1)]
    assert _statuses(stage, run) == ["done"] * (number - 1) + ["cancelled"]
    assert_sound(stage, run.id)


def test_cancels_under_load_end_every_run_once(stage: Stage) -> None:
    """Many runs on three workers, most of them cancelled somewhere on their way, one way or the other."""
    choose = random.Random(7)
    for streak in (0, 0, 100):
        stage.start(journeys.trip, streak=streak)
    client = stage.client(journeys.trip)
    runs = []
    for place in range(60):
        runs.append(client.submit(journeys.plan_trip.create_signal({"number": place, "goes_wrong": place % 5 == 0})))
        if place % 3:
            _cancel(stage, choose.choice(runs), compensate=choose.random() < 0.6)
    ended = {run.id: stage.ended(run) for run in runs}
    assert {result.status for result in ended.values()} <= {"completed", "cancelled", "compensated"}
    for run in runs:
        _assert_plain(stage, run, ended[run.id])
        assert_sound(stage, run.id)


def _cancel(stage: Stage, run: Run, *, compensate: bool) -> None:
    """Cancel it, if there is still time: it may have ended, or be ending in another way."""
    try:
        run.cancel(compensate=compensate)
    except RunStateError:
        row = stage.row("select finished_at, ending from cnstra.runs where run_id = %s", run.id)
        assert row["finished_at"] is not None or row["ending"] is not None


def _assert_plain(stage: Stage, run: Run, result: Any) -> None:
    """Each booking stands, or was given back, as the run's end says; no call was made twice."""
    called = _called(stage, run)
    assert len(called) == len(set(called)), called
    done = [name for place, name in enumerate(journeys.BOOKINGS, start=1) if (place, "do") in called]
    end = "given back" if result.status == "compensated" else "booked"
    assert (result.context or {}) == dict.fromkeys(done, end), (result, called)
    undone = [number for number, what in called if what == "undo"]
    assert undone == (sorted(range(1, len(done) + 1), reverse=True) if result.status == "compensated" else [])


# -- deadlines -----------------------------------------------------------------------------------------------------


@_STEPS
def test_g10_a_deadline_that_passes_while_a_handler_runs_undoes_the_run(stage: Stage, number: int) -> None:
    """The handler comes to its end, which counts; then everything is given back. The run says that it was too late."""
    worker, run = _in_a_step(stage, number, deadline=timedelta(hours=1))
    stage.rows("update cnstra.run set deadline_at = clock_timestamp() where run_id = %s", run.id)
    eventually(lambda: run.status() == "compensating", PATIENCE, what="the deadline has passed")
    assert _called(stage, run) == [(step, "do") for step in range(1, number + 1)]
    worker.release("call.inside")
    result = stage.ended(run)
    assert (result.status, result.context) == ("compensated", dict.fromkeys(journeys.BOOKINGS[:number], "given back"))
    row = stage.row("select error_type from cnstra.runs where run_id = %s", run.id)
    assert row["error_type"] == "cnstra.DeadlineExceeded"
    assert_sound(stage, run.id)


# -- pause ---------------------------------------------------------------------------------------------------------


def test_nothing_of_paused_runs_is_called_while_others_go_on(stage: Stage) -> None:
    """Some are paused before any worker comes, some in the middle; the others end, and the ledger has not one more call of
    the first, until these are resumed."""
    client = stage.client(journeys.trip)
    early = client.submit_many([journeys.plan_trip.create_signal({"number": number}) for number in range(5)])
    for run in early:
        run.pause()
    for streak in (0, 100):
        stage.start(journeys.trip, streak=streak)
    paused, others = (
        client.submit_many([journeys.plan_trip.create_signal({"number": number}) for number in range(20)])
        for _ in range(2)
    )
    for run in paused:
        _pause(run)
    runs = "select run_id from cnstra.run where status = 'paused'"
    running = f"select 1 from cnstra.activation where status = 'running' and run_id in ({runs})"
    eventually(lambda: not stage.rows(running), PATIENCE, what="what was running has come to its end")
    held = [run for run in early + paused if run.status() == "paused"]
    assert [_called(stage, run) for run in early] == [[]] * len(early)
    before = {run.id: _called(stage, run) for run in held}

    others += client.submit_many([journeys.plan_trip.create_signal({"number": number}) for number in range(20)])
    stage.all_completed(others)

    assert {run.id: _called(stage, run) for run in held} == before
    for run in held:
        run.resume()
    _assert_all_arrived(stage, early + paused + others)


def test_pauses_and_resumes_under_load_lose_and_double_nothing(stage: Stage) -> None:
    """Many runs are paused and resumed again and again, wherever they are; one of the workers dies in the middle."""
    choose = random.Random(11)
    workers = [stage.start(journeys.trip, streak=streak) for streak in (0, 0, 100)]
    client = stage.client(journeys.trip)
    runs = client.submit_many([journeys.plan_trip.create_signal({"number": number}) for number in range(40)])
    turns = 0

    def all_ended() -> bool:
        nonlocal turns
        turns += 1
        for run in choose.sample(runs, 8):
            _pause(run)
        if turns == 2:
            workers[0].kill()
            stage.lose(workers[0])
            stage.start(journeys.trip, streak=0)
        for row in stage.rows("select run_id from cnstra.run where status = 'paused'"):
            client.get_run(row["run_id"]).resume()
        return not stage.rows("select 1 from cnstra.run where finished_at is null limit 1")

    eventually(all_ended, PATIENCE, what="all runs have ended")
    assert turns > 1
    _assert_all_arrived(stage, runs, deaths=1)


def _pause(run: Run) -> None:
    """Pause it, if there is still time."""
    try:
        run.pause()
    except RunStateError:
        assert run.status() == "completed"


def _assert_all_arrived(stage: Stage, runs: list[Run], *, deaths: int = 0) -> None:
    """Every step of every run was committed once, and called once, but for what a worker that died had in its hands."""
    for run in runs:
        assert stage.completed(run).context == dict.fromkeys(journeys.BOOKINGS, "booked")
        assert_sound(stage, run.id)
    assert len(stage.ledger.effects()) == 4 * len(runs)
    if not deaths:
        assert len(stage.ledger.entries()) == 4 * len(runs)

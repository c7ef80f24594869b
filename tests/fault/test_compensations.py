"""Workers, servers and code go away while a run is undone: every effect is taken back once, in order (G10)."""

from __future__ import annotations

import signal
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from cnstra import Run
from cnstra.servers import HeldServers
from support.graphs import journeys
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage, WorkerProcess
from support.waiting import eventually

GIVEN_BACK = dict.fromkeys(journeys.BOOKINGS, "given back")
_REFUSED = "its claim was taken away, so its result was refused; nothing was committed"
_BEFORE_THE_CALL = ["claim.commit", "claim.done", "call.begin"]
_IN_THE_CALL = ["call.inside", "call.end", "settle.begin", "settle.commit"]
_AFTER_THE_COMMIT = ["settle.done", "ring.begin", "ring.done"]
_LAST = 4
"""The number of the step that fails."""


def _about_to_fail(stage: Stage, *, worker: WorkerProcess | None = None, **trip: Any) -> tuple[WorkerProcess, Run]:
    """A run that has booked everything, at the beginning of its last step; ``release`` lets that fail."""
    worker = worker or stage.start(journeys.trip, streak=0)
    worker.arm(Fault(point="call.inside", action="block", activation=_LAST))
    run = stage.client(journeys.trip).submit(journeys.plan_trip.create_signal({"goes_wrong": True, **trip}))
    worker.reached("call.inside")
    return worker, run


def _undo_calls(stage: Stage, run: Run) -> list[int]:
    """The activations whose compensation was called, in the order of the calls."""
    return [entry.activation_id for entry in stage.ledger.entries(run.id) if entry.what == "undo"]


def _assert_undone(stage: Stage, run: Run) -> None:
    """The run has ended, and each of its three bookings was given back: once, however often that was called."""
    result = stage.ended(run)
    assert (result.status, result.context) == ("compensated", GIVEN_BACK), stage.report(run.id)
    keys = {entry.key for entry in stage.ledger.entries(run.id)}
    assert keys == {f"{run.id}:{number}:do" for number in (1, 2, 3, 4)} | {f"{run.id}:{n}:undo" for n in (1, 2, 3)}
    writers = [row.activation_id for row in run.history()]
    assert writers == [1, 2, 3, 3, 2, 1]
    assert_sound(stage, run.id)


def test_g10_a_run_that_fails_is_undone_by_its_workers(stage: Stage) -> None:
    """Sync and async, with what the call had emitted, under keys of their own; each once, the last first."""
    worker, run = _about_to_fail(stage)
    worker.release("call.inside")
    _assert_undone(stage, run)
    assert _undo_calls(stage, run) == [3, 2, 1]
    [hotel] = [entry for entry in stage.ledger.entries(run.id) if entry.details.get("outputs")]
    assert hotel.details["outputs"] == ["trip.hotel_booked"]
    assert worker.alive


@pytest.mark.parametrize("point", [*_BEFORE_THE_CALL, *_IN_THE_CALL, *_AFTER_THE_COMMIT])
def test_g4_g10_a_compensation_survives_its_worker(stage: Stage, point: str) -> None:
    """Killed at every boundary of the second of three: called again only where it had not committed. What that commit made ready
    it may have found itself, by its ring or by a look around, and begun before it dies.
    """
    doomed, run = _about_to_fail(stage)
    number = 1 if point.startswith("ring") else 2  # a ring is for what the second one's end begins
    doomed.arm(Fault(point=point, action="kill", activation=number))
    doomed.release("call.inside")
    doomed.reached(point)
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)

    stage.start(journeys.trip, streak=0)

    _assert_undone(stage, run)
    expected = [[3, 2, 2, 1]] if point in _IN_THE_CALL else [[3, 2, 1]]
    if point in _AFTER_THE_COMMIT:
        expected.append([3, 2, 1, 1])
    assert _undo_calls(stage, run) in expected


@pytest.mark.parametrize("point", ["doorbell.heard", "doorbell.answered", "claim.begin"])
def test_g1_g10_what_a_worker_has_not_claimed_does_not_die_with_it(stage: Stage, point: str) -> None:
    """It dies with the doorbell, or on its way to the claim."""
    doomed, run = _about_to_fail(stage)
    doomed.arm(Fault(point=point, action="kill"))
    with suppress(BrokenPipeError):  # a doorbell of an earlier hop came late, and it has died with that one
        doomed.release("call.inside")
    doomed.reached(point)
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)

    stage.start(journeys.trip, streak=0)

    _assert_undone(stage, run)


@pytest.mark.parametrize("point", ["call.begin", "call.inside", "call.end", "settle.begin", "settle.commit"])
def test_g3_g10_a_worker_that_stalls_in_a_compensation_commits_nothing_of_it(stage: Stage, point: str) -> None:
    """Another one takes it back in its place; what the first then says is refused, and changes nothing."""
    zombie = stage.start(journeys.trip, streak=0, lease=timedelta(seconds=6))
    zombie, run = _about_to_fail(stage, worker=zombie)
    zombie.arm(Fault(point=point, action="stop", activation=2))
    zombie.release("call.inside")
    zombie.reached(point)
    zombie.frozen()
    stage.lose(zombie)
    stage.start(journeys.trip, streak=0)
    _assert_undone(stage, run)
    before = _everything(stage, run)

    zombie.thaw()

    eventually(lambda: _REFUSED in zombie.log(), PATIENCE, what="the zombie's settlement is refused")
    assert _everything(stage, run) == before
    assert_sound(stage, run.id)


def _everything(stage: Stage, run: Run) -> list[dict[str, Any]]:
    tables = ("run", "activation", "try", "context_head", "context_entry")
    query = " union all ".join(f"select to_jsonb(t) as row from cnstra.{name} t where t.run_id = %s" for name in tables)
    return sorted(stage.rows(query, *[run.id] * len(tables)), key=repr)


@pytest.mark.parametrize("point", ["claim.commit", "call.inside", "settle.begin", "settle.commit", "look.commit"])
def test_g1_g10_postgres_crashes_in_the_middle_of_undoing(
    doomed_stage: Stage, doomed_servers: HeldServers, point: str
) -> None:
    """The worker waits for it, and goes on where it was: nothing is undone twice, nor called twice."""
    stage = doomed_stage
    worker, run = _about_to_fail(stage)
    worker.arm(Fault(point=point, action="block", activation=None if point == "look.commit" else 2))
    worker.release("call.inside")
    worker.reached(point)

    doomed_servers.restart_postgres("immediate")
    worker.release(point)

    _assert_undone(stage, run)
    assert _undo_calls(stage, run) == [3, 2, 1]


def test_g1_g10_undoing_goes_on_though_the_broker_forgets_everything(doomed_stage: Stage) -> None:
    """Many runs are undone at once, by two workers; every compensation goes through a broker that is flushed all the time."""
    stage = doomed_stage
    for _ in range(2):
        stage.start(journeys.trip, streak=0)
    many = [journeys.plan_trip.create_signal({"number": number, "goes_wrong": True}) for number in range(20)]
    runs = stage.client(journeys.trip).submit_many(many)

    def all_undone() -> bool:
        stage.lose_doorbells()
        return not stage.rows("select 1 from cnstra.run where finished_at is null limit 1")

    eventually(all_undone, PATIENCE, what="all runs are undone")
    for run in runs:
        _assert_undone(stage, run)
    assert len(stage.ledger.entries()) == len(stage.ledger.effects()) == 7 * len(runs)


def test_g10_what_a_lost_worker_may_have_done_is_undone_where_the_compensation_says_so(stage: Stage) -> None:
    """The car was being booked when the worker died, and the run is cancelled before anybody knows of that."""
    doomed = stage.start(journeys.trip, Fault(point="call.inside", action="kill", activation=3), streak=0)
    run = stage.client(journeys.trip).submit(journeys.plan_trip.create_signal({}))
    doomed.died()
    run.cancel(compensate=True)
    assert run.status() == "compensating"
    stage.lose(doomed)

    stage.start(journeys.trip, streak=0)

    result = stage.ended(run)
    assert (result.status, result.context) == ("compensated", GIVEN_BACK)
    assert _undo_calls(stage, run) == [3, 2, 1]
    assert_sound(stage, run.id)


def test_g9_g10_a_compensation_that_fails_is_taken_up_by_a_retry(stage: Stage) -> None:
    """The run has failed, with both errors; what was given back stays so, and the rest follows in order."""
    worker, run = _about_to_fail(stage, stuck=True)
    worker.release("call.inside")
    assert stage.ended(run).status == "failed"
    row = stage.row("select error_type, compensation_error_type from cnstra.runs where run_id = %s", run.id)
    assert (row["error_type"], row["compensation_error_type"]) == (
        "support.graphs.journeys.LostAtSeaError",
        "support.graphs.journeys.StuckError",
    )
    assert _undo_calls(stage, run) == [3, 2, 2, 2]
    assert_sound(stage, run.id)

    run.retry()

    _assert_undone(stage, run)
    assert _undo_calls(stage, run) == [3, 2, 2, 2, 2, 1]


def test_g13_a_compensation_that_no_worker_has_waits_for_one_that_has_it(stage: Stage) -> None:
    """A release that lost it, or never had it, does not fail it: the run shows that it waits for code."""
    doomed, run = _about_to_fail(stage)
    doomed.kill()
    stage.lose(doomed)
    old = stage.start(journeys.trip_as_it_was, streak=0)

    shown = "select status, blocked from cnstra.runs where run_id = %s"
    eventually(
        lambda: tuple(stage.row(shown, run.id).values()) == ("compensating", "unknown"),
        PATIENCE,
        what="it waits for code",
    )
    aside = "select blocked from cnstra.activation where run_id = %s and activation_id = 3"
    eventually(lambda: stage.row(aside, run.id)["blocked"] == "unknown", PATIENCE, what="it is set aside")
    assert _undo_calls(stage, run) == []

    new = stage.start(journeys.trip, streak=0)

    _assert_undone(stage, run)
    assert {entry.pid for entry in stage.ledger.entries(run.id) if entry.what == "undo"} == {new.pid}
    assert old.alive

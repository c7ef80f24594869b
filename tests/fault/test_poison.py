"""A handler that takes its worker down with it, again and again, is given up; whoever stood beside it is not."""

from __future__ import annotations

import signal

import pytest

from cnstra import Run
from support.commands import Servers, cnstra
from support.graphs import interrupted
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_LIMIT = 5


def _die_until_ended(stage: Stage, run: Run) -> int:
    """Start a worker whenever the last one was killed, as whoever runs workers does; how many died."""
    deaths = 0
    while True:
        worker = stage.launch(interrupted.deadly)
        ended = "select finished_at from cnstra.run where run_id = %s"
        eventually(
            lambda: not worker.alive or stage.row(ended, run.id)["finished_at"],  # noqa: B023 - called at once
            PATIENCE,
            what="the worker is killed, or the run has ended",
        )
        if worker.alive:
            return deaths
        assert worker.died() == -signal.SIGKILL
        deaths += 1
        stage.lose(worker)


def _assert_told(stage: Stage, run: Run) -> None:
    """The reason, how many workers were lost, and which: in SQL, in ``cnstra show``, and in ``cnstra doctor``."""
    row = stage.row("select error from cnstra.activations where run_id = %s and error_type = 'cnstra.Poisoned'", run.id)
    assert f"{_LIMIT} workers were lost with it" in row["error"]
    lost = stage.rows("select worker, error from cnstra.tries where error_type = 'cnstra.WorkerLost'")
    assert len({one["worker"] for one in lost}) == _LIMIT
    assert all(str(one["worker"]) in one["error"] and "pid" in one["error"] for one in lost)
    servers = Servers(database_url=stage.database_url, broker_url=stage.broker_url)
    shown = cnstra("show", str(run.id), servers=servers).out
    assert (
        f"given up, for the workers that were lost with it:\n  #1 deadly on deadly.kill_me: {_LIMIT} workers\n" in shown
    )
    assert all(f": {one['error']}\n" in shown for one in lost)
    checks = cnstra("doctor", "--json", servers=servers).json["checks"]
    [found] = [check for check in checks if check["check"] == "poison"]
    assert found["level"] == "warning"
    assert (
        f"1 of neuron deadly on deadly.kill_me of graph deadly failed, Poisoned: {_LIMIT} workers" in found["message"]
    )
    assert str(run.id) in found["message"]


@pytest.mark.beneath_the_seal
def test_a_handler_that_kills_five_workers_is_poisoned(stage: Stage) -> None:
    """Then it is not called a sixth time; each of the five is on record as a lost worker. The run can be retried."""
    run = stage.client(interrupted.deadly).submit(interrupted.kill_me.create_signal(_LIMIT))

    assert _die_until_ended(stage, run) == _LIMIT

    result = stage.ended(run)
    assert (result.status, result.error_type) == ("failed", "cnstra.Poisoned")
    assert stage.ledger.calls(run.id) == {1: _LIMIT}
    tries = stage.rows("select error_type from cnstra.tries where run_id = %s order by try_number", run.id)
    assert [one["error_type"] for one in tries[:_LIMIT]] == ["cnstra.WorkerLost"] * _LIMIT
    assert_sound(stage, run.id)
    _assert_told(stage, run)
    run.retry()
    assert stage.completed(run).status == "completed"
    assert len(stage.ledger.effects()) == 1


def test_a_handler_that_kills_less_than_that_goes_on(stage: Stage) -> None:
    """A worker's death is no failed try: no policy was asked, and four of them are forgiven."""
    run = stage.client(interrupted.deadly).submit(interrupted.kill_me.create_signal(_LIMIT - 1))

    assert _die_until_ended(stage, run) == _LIMIT - 1

    stage.completed(run)
    assert stage.ledger.calls(run.id) == {1: _LIMIT}
    assert_sound(stage, run.id)


def test_those_beside_a_poisonous_one_are_not_lost_with_it(stage: Stage) -> None:
    """A worker dies with others in the middle of their calls: they are called again, and are done."""
    client = stage.client(interrupted.deadly)
    doomed = stage.start(interrupted.deadly, *[Fault(point="call.inside", action="block") for _ in range(3)])
    beside = client.submit_many([interrupted.live_on.create_signal(number) for number in range(3)])
    for _ in beside:
        doomed.reached("call.inside")
    poison = client.submit(interrupted.kill_me.create_signal(1))
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)

    stage.start(interrupted.deadly)

    for run in [*beside, poison]:
        stage.completed(run)
        assert stage.ledger.calls(run.id) == {1: 2}
        assert_sound(stage, run.id)


def test_a_suspect_runs_alone_before_it_is_parked(stage: Stage) -> None:
    """Two have lost four workers each, and only one of them is to blame: the other one must not be there when it kills."""
    client = stage.client(interrupted.deadly)
    innocent = client.submit(interrupted.live_on.create_signal(1))
    guilty = client.submit(interrupted.kill_me.create_signal(_LIMIT), priority=-1)
    stage.rows("update cnstra.activation set crashes = %s, blocked = 'suspect'", _LIMIT - 1)

    inside, looks = Fault(point="call.inside", action="block"), Fault(point="look.begin", action="block", after=5)
    worker = stage.launch(interrupted.deadly, inside, looks)
    # The innocent one is inside its call; were the guilty one called beside it, the worker would die within a few looks.
    eventually(lambda: not worker.alive or worker.has_reached("look.begin"), PATIENCE, what="it dies, or looks around")
    if worker.alive:
        worker.release("look.begin")
        worker.release("call.inside")
    worker.died()
    stage.lose(worker)
    stage.start(interrupted.deadly)

    assert stage.ended(guilty).error_type == "cnstra.Poisoned"
    assert stage.ended(innocent).status == "completed"

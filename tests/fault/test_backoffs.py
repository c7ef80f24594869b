"""A retry's count and its time are in Postgres: they outlive workers, broker and database, and are never early."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import Run, RunStateError
from cnstra.servers import HeldServers
from support.graphs import backoffs
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage, WorkerProcess
from support.waiting import eventually

# By the database's clock, between the end of a try and the beginning of the next.
_EARLY = (
    "select * from cnstra.tries t join cnstra.tries u using (run_id, activation_id) "
    "where u.try_number = t.try_number + 1 and u.started_at < t.finished_at + interval '1 second'"
)


def _status(stage: Stage, run: Run) -> str:
    return str(stage.row("select status from cnstra.runs where run_id = %s", run.id)["status"])


def _everything_dies(stage: Stage, servers: HeldServers, worker: WorkerProcess) -> None:
    """Worker, broker and database, and come back; the worker as another process."""
    worker.kill()
    servers.stop_valkey()
    servers.restart_postgres("immediate")
    servers.start_valkey()
    stage.lose(worker)


def _tried(stage: Stage, run: Run, times: int) -> None:
    """Wait until the run waits for its next try after so many."""
    waits = "select count(*) as number from cnstra.try where run_id = %s and try_number = %s"
    eventually(lambda: stage.row(waits, run.id, times)["number"] == 1, PATIENCE, what=f"try {times} has failed")


@pytest.mark.parametrize(("fails", "status"), [(2, "completed"), (3, "failed")])
def test_g12_a_backoff_spans_the_end_of_everything(
    doomed_stage: Stage, doomed_servers: HeldServers, fails: int, status: str
) -> None:
    """Between two tries worker, broker and database die. The next try comes, not early; the policy's count goes on, so
    that the third try is the last one, whoever makes it.
    """
    stage = doomed_stage
    worker = stage.start(backoffs.moody)
    run = stage.client(backoffs.moody).submit(backoffs.ask_stubbornly.create_signal({"fails": fails}))
    for times in (1, 2):
        _tried(stage, run, times)
        _everything_dies(stage, doomed_servers, worker)
        worker = stage.start(backoffs.moody)

    result = stage.ended(run)

    assert result.status == status
    assert stage.ledger.calls(run.id) == {1: 3}
    assert stage.activation(run, 1)["tries"] == 3
    assert stage.rows(_EARLY) == []
    assert_sound(stage, run.id)


@pytest.mark.parametrize(("fails", "status"), [(2, "completed"), (3, "failed")])
def test_g12_a_runs_next_attempt_spans_the_end_of_everything(
    doomed_stage: Stage, doomed_servers: HeldServers, fails: int, status: str
) -> None:
    """The same for the policy of the run: its time is in ``next_retry_at``, its count is the attempt."""
    stage = doomed_stage
    worker = stage.start(backoffs.moody)
    policy = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(1))
    run = stage.client(backoffs.moody).submit(backoffs.ask.create_signal({"fails": fails}), retry=policy)
    promised = {}
    for attempt in (1, 2):
        _tried(stage, run, attempt)
        row = stage.row("select next_retry_at from cnstra.runs where run_id = %s", run.id)
        promised[attempt + 1] = row["next_retry_at"]
        _everything_dies(stage, doomed_servers, worker)
        worker = stage.start(backoffs.moody)

    result = stage.ended(run)

    assert result.status == status
    assert stage.row("select attempt from cnstra.runs")["attempt"] == 3
    assert [(entry.attempt, entry.try_number) for entry in stage.ledger.entries()] == [(1, 1), (2, 2), (3, 3)]
    assert len(stage.ledger.effects()) == 1
    for number, at in promised.items():
        assert at is not None, f"attempt {number} was not promised"
        began = stage.row("select started_at from cnstra.tries where try_number = %s", number)["started_at"]
        assert began >= at
    assert stage.rows(_EARLY) == []
    assert_sound(stage, run.id)


def test_g12_a_backoff_of_a_day_is_left_alone_until_its_time_has_come(stage: Stage) -> None:
    """Supervisors come and go and look around; it fires when the database's clock says so, and not before."""
    worker = stage.start(backoffs.moody)
    run = stage.client(backoffs.moody).submit(backoffs.ask_tomorrow.create_signal({"fails": 1}))
    _tried(stage, run, 1)
    assert worker.drain()
    worker = stage.start(backoffs.moody)
    worker.arm(Fault(point="look.begin", action="block", after=5))
    worker.reached("look.begin")
    assert stage.activation(run, 1)["status"] == "scheduled"
    assert _status(stage, run) == "waiting"
    worker.release("look.begin")

    stage.rows("update cnstra.activation set available_at = available_at - interval '1 day'")

    stage.completed(run)
    assert stage.ledger.calls(run.id) == {1: 2}
    assert_sound(stage, run.id)


def test_g12_a_backoff_holds_no_thread(stage: Stage) -> None:
    """More activations wait than there are threads; the worker goes on with others, as if they were not there."""
    stage.start(backoffs.moody, threads=1, coroutines=1)
    client = stage.client(backoffs.moody)
    waiting = client.submit_many([backoffs.ask_tomorrow.create_signal({"fails": 1}) for _ in range(20)])
    scheduled = "select count(*) as number from cnstra.activation where status = 'scheduled'"
    eventually(lambda: stage.row(scheduled)["number"] == len(waiting), PATIENCE, what="all of them wait")

    stage.completed(client.submit(backoffs.ask.create_signal({})))

    held = stage.row("select sum(running)::int as running from cnstra.workers")
    assert held == {"running": 0}


def test_g9_of_many_retries_at_once_one_begins_the_next_attempt(stage: Stage) -> None:
    """Who asked while it was failed is told that it has begun, who came later is refused; it is called once."""
    gate = Fault(point="call.inside", action="block", activation=1)
    worker = stage.start(backoffs.moody)
    run = stage.client(backoffs.moody).submit(backoffs.ask.create_signal({"fails": 1}))
    assert stage.ended(run).status == "failed"
    worker.arm(gate)
    refused: list[RunStateError] = []
    handles = [stage.client(backoffs.moody).get_run(run.id) for _ in range(8)]
    ready = threading.Barrier(len(handles))

    def retry(handle: Run) -> None:
        ready.wait()
        try:
            handle.retry()
        except RunStateError as error:
            refused.append(error)

    threads = [threading.Thread(target=retry, args=[handle]) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.reached("call.inside")
    worker.release("call.inside")

    stage.completed(run)
    assert len(refused) < len(handles)
    assert all("only a failed run can be retried" in str(error) for error in refused)
    assert stage.row("select attempt from cnstra.runs")["attempt"] == 2
    assert [(entry.attempt, entry.try_number) for entry in stage.ledger.entries()] == [(1, 1), (2, 2)]
    assert len(stage.ledger.effects()) == 1
    assert_sound(stage, run.id)


def test_g9_what_is_final_stays_so(stage: Stage) -> None:
    """A run that has completed cannot be retried, nor one that waits for the attempt that its policy has promised."""
    stage.start(backoffs.moody)
    client = stage.client(backoffs.moody)
    completed = client.submit(backoffs.ask.create_signal({}))
    stage.completed(completed)
    policy = Retrying(stop=stop_after_attempt(2), wait=wait_fixed(3600))
    waiting = client.submit(backoffs.ask.create_signal({"fails": 1}), retry=policy)
    eventually(lambda: _status(stage, waiting) == "waiting", PATIENCE, what="the run waits for its next attempt")

    for run in (completed, waiting):
        with pytest.raises(RunStateError, match="only a failed run can be retried"):
            run.retry()

    rows = stage.rows("select status, attempt from cnstra.runs order by submitted_at")
    assert [(row["status"], row["attempt"]) for row in rows] == [("completed", 1), ("waiting", 1)]


def test_g8_a_timer_spans_the_end_of_everything(doomed_stage: Stage, doomed_servers: HeldServers) -> None:
    """While a saga waits, worker, broker and database die. The next step comes, once, and not early, and sees the context."""
    stage = doomed_stage
    worker = stage.start(backoffs.patient)
    run = stage.client(backoffs.patient).submit(backoffs.wait_a_second.create_signal(20))
    eventually(lambda: _status(stage, run) == "waiting", PATIENCE, what="the run waits")
    _everything_dies(stage, doomed_servers, worker)
    stage.start(backoffs.patient)

    result = stage.ended(run)

    assert (result.status, [signal.payload for signal in result.outputs]) == ("completed", [40])
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1}
    early = (
        "select * from cnstra.activations a join cnstra.activations b using (run_id) where b.parent_activation_id = "
        "a.activation_id and b.started_at < a.finished_at + interval '1 second'"
    )
    assert stage.rows(early) == []
    assert_sound(stage, run.id)


def test_g8_a_delayed_run_is_not_early(stage: Stage) -> None:
    """By the database's clock, its first call begins after the delay."""
    stage.start(backoffs.moody)
    run = stage.client(backoffs.moody).submit(backoffs.ask.create_signal({}), delay=timedelta(seconds=1))

    stage.completed(run)

    row = stage.row(
        "select a.started_at - r.submitted_at as waited from cnstra.activations a join cnstra.runs r using (run_id)"
    )
    assert row["waited"] >= timedelta(seconds=1)

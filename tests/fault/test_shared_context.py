"""One context, many writers on different workers: nothing is lost, nothing is read that is older than it must be."""

from __future__ import annotations

import os
from typing import Any

import pytest

from cnstra import CNS, Run
from support.graphs import contexts, routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage, WorkerProcess
from support.waiting import eventually

_LANES = 4
_HOPS = int(os.environ.get("CNSTRA_TESTS_RELAY_HOPS", "200"))


@pytest.mark.beneath_the_seal
def test_g5_g6_g7_thousands_of_writes_from_two_workers_at_once(stage: Stage) -> None:
    """Lanes on two workers update one key, read and write a second one, and keep a third of their own, hop after hop.

    Every hop's writes are in the end: by updates, which never conflict, and by writes, which conflict and run again.
    """
    stage.start(contexts.relay, queues=("fork",))
    workers = [stage.start(contexts.relay, queues=(queue,)) for queue in ("left", "right")]
    run = stage.client(contexts.relay).submit(contexts.start_relay.create_signal({"lanes": _LANES, "hops": _HOPS}))

    result = stage.completed(run)

    hops = _LANES * _HOPS
    lanes = {f"lane {lane}": 0 for lane in range(_LANES)}
    assert result.context == {"updates": hops, "writes": hops // contexts.EVERY, **lanes}
    assert stage.row("select context_version from cnstra.runs")["context_version"] == hops
    assert {entry.pid for entry in stage.ledger.entries()} >= {worker.pid for worker in workers}
    assert_sound(stage, run.id)
    # The counter went up by exactly one with each version.
    leaps = "select version from cnstra.context_history where run_id = %s and written -> 'updates' <> to_jsonb(version)"
    assert stage.rows(leaps, run.id) == []
    assert stage.rows("select * from cnstra.try where error_type not like '%ContextConflict'") == []


def test_g5_every_reader_sees_what_its_parent_wrote_on_another_worker(stage: Stage) -> None:
    """Hops that pass from worker to worker: each step reads exactly the version that the step before it had written."""
    for _ in range(3):
        stage.start(routes.chain, streak=0, threads=1)
    runs = stage.client(routes.chain).submit_many([routes.set_out.create_signal(number) for number in range(30)])

    stage.all_completed(runs)

    for run in runs:
        assert run.context() == {"step 1": 0, "step 2": 1, "step 3": 2, "steps": 3}
    assert len({entry.pid for entry in stage.ledger.entries()}) == 3
    assert_sound(stage, runs[0].id)


class _Contest:
    """Both have read the prize, and wait inside their handlers."""

    def __init__(self, stage: Stage, cns: CNS, *, rounds: int = 1) -> None:
        self.stage = stage
        stage.start(cns, queues=("fork",))
        self.contender = stage.start(cns, _inside(2), queues=("left",))
        self.rival = stage.start(cns, _inside(3), queues=("right",))
        self.run: Run = stage.client(cns).submit(contexts.begin_contest.create_signal(rounds))
        self.contender.reached("call.inside")
        self.rival.reached("call.inside")

    def rival_commits(self, version: int) -> None:
        """Let the rival write, as this version of the context."""
        self.rival.release("call.inside")
        newest = "select context_version as number from cnstra.run"
        eventually(lambda: self.stage.row(newest)["number"] == version, PATIENCE, what=f"version {version}")

    def contender_returns(self) -> None:
        self.contender.release("call.inside")

    def reads(self) -> list[Any]:
        """What the contender had read in each of its calls."""
        return [entry.details["read"] for entry in self.stage.ledger.entries() if entry.activation_id == 2]


def _inside(activation: int) -> Fault:
    return Fault(point="call.inside", action="block", activation=activation)


@pytest.mark.parametrize(
    ("cns", "prize", "reads"),
    [
        (contexts.contest_retry, [0, 1, -1], [[0], [0, 1]]),
        (contexts.contest_overwrite, [0, -1], [[0]]),
        (contexts.contest_merge, [-1, 0, 1], [[0]]),
    ],
    ids=["retry", "overwrite", "merge"],
)
def test_g6_the_dendrites_policy_decides_who_wins(stage: Stage, cns: CNS, prize: list[int], reads: list[Any]) -> None:
    """Only ``retry`` calls the handler again, on what the other has written; it is no failed try."""
    contest = _Contest(stage, cns)
    contest.rival_commits(version=2)
    contest.contender_returns()

    assert stage.completed(contest.run).context == {"prize": prize}
    assert contest.reads() == reads
    assert stage.row("select failures from cnstra.activation where activation_id = 2")["failures"] == 0
    assert_sound(stage, contest.run.id)


def test_g6_a_dendrite_that_fails_on_conflicts_fails(stage: Stage) -> None:
    """For good, as its policy would only call again what must not be called twice; the other's write stands."""
    contest = _Contest(stage, contexts.contest_fail)
    contest.rival_commits(version=2)
    contest.contender_returns()

    result = stage.ended(contest.run)

    assert (result.status, result.error_type) == ("failed", "cnstra.ContextConflict")
    assert result.context == {"prize": [0, 1]}
    assert contest.reads() == [[0]]
    assert_sound(stage, contest.run.id)


def _loses_three_times(stage: Stage, contest: _Contest) -> None:
    """The rival writes before each of the contender's returns; its fourth round has begun when the third loss is stored."""
    for lost in range(3):
        contest.rival.arm(_inside(4 + lost))
        contest.rival_commits(version=2 + lost)
        contest.rival.reached("call.inside")
        contest.contender.arm(_inside(2))
        contest.contender_returns()
        if lost < 2:
            contest.contender.reached("call.inside")
    conflicts = "select conflicts from cnstra.activation where activation_id = 2"
    eventually(lambda: stage.row(conflicts)["conflicts"] == 3, PATIENCE, what="the third loss is stored")


def test_g6_who_has_lost_three_times_runs_alone_and_wins(stage: Stage) -> None:
    """The rival writes before each of its returns; after the third time it is kept waiting until the contender is done."""
    contest = _Contest(stage, contexts.contest_retry, rounds=6)
    _loses_three_times(stage, contest)
    # The rival's fourth round was begun before: it ends, and its fifth has to wait.
    contest.rival_commits(version=5)
    contest.contender.reached("call.inside")
    waiting = stage.row("select status, blocked from cnstra.activation where activation_id = 7")
    assert waiting == {"status": "ready", "blocked": "alone"}
    contest.contender_returns()

    assert stage.completed(contest.run).context == {"prize": [0, 6, 5, 4, 3, -1, 2, 1]}
    assert contest.reads() == [[0], [0, 6], [0, 6, 5], [0, 6, 5, 4, 3]]
    tries = stage.rows("select error_type from cnstra.try where activation_id = 2")
    assert tries == [{"error_type": "cnstra.ContextConflict"}] * 3
    assert_sound(stage, contest.run.id)


def test_g6_a_writer_alone_whose_worker_dies_lets_the_others_go_on(stage: Stage) -> None:
    """The run is not left waiting for somebody who is gone."""
    contest = _Contest(stage, contexts.contest_retry, rounds=6)
    _loses_three_times(stage, contest)
    contest.rival_commits(version=5)
    contest.contender.reached("call.inside")

    _dies(stage, contest.contender)

    stage.start(contexts.contest_retry, queues=("left",))
    context = stage.completed(contest.run).context
    assert sorted(context["prize"]) == [-1, 0, 1, 2, 3, 4, 5, 6]
    assert_sound(stage, contest.run.id)


def _dies(stage: Stage, worker: WorkerProcess) -> None:
    worker.kill()
    stage.lose(worker)

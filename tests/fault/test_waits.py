"""Workers, servers and replies go away while runs wait for signals: each is taken once, and of it and a timeout one wins."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from cnstra import Orchestrator, Run
from cnstra.orchestrator.errors import RunStateError
from cnstra.servers import HeldServers
from support import saga_graphs as graphs
from support.points import Fault
from support.proxy import LosesCommitReplies
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_ASK, _ANSWER = 1, 2
"""The numbers of the activation that asks, and of the one that waits for the answer."""
_IN_THE_CALL = ["call.inside", "call.end", "settle.begin", "settle.commit"]
_DOZEN = 12


def _asked(stage: Stage, **question: object) -> Run:
    return stage.client(graphs.approval).submit(graphs.put_question.create_signal(question))


def _until_it_waits(run: Run) -> None:
    eventually(lambda: run.status() == "waiting", PATIENCE, what=f"run {run.id} waits")


def _answer(stage: Stage, run: Run, number: int, key: str | None) -> None:
    answer = graphs.approval_given.create_signal(number)
    if key is None:
        run.send(answer)
    else:
        stage.client(graphs.approval).send(answer, key=key)


def _assert_answered(stage: Stage, run: Run, number: int) -> None:
    result = stage.completed(run)
    assert result.context == {"asked": True, "answers": [number]}
    assert [output.payload for output in result.outputs] == [number]
    taken = stage.row(
        "select (select count(*) from cnstra.letter where run_id = %s and taken_by is not null) "
        "+ (select count(*) from cnstra.posted where run_id = %s) as taken",
        run.id,
        run.id,
    )
    assert taken == {"taken": 1}
    assert_sound(stage, run.id)


@pytest.mark.parametrize("key", [None, "order-17"], ids=["to the run", "by key"])
@pytest.mark.parametrize("point", ["claim.commit", "claim.done", "call.begin", *_IN_THE_CALL, "settle.done"])
def test_g1_g2_g4_what_was_sent_survives_the_worker_that_has_it(stage: Stage, point: str, key: str | None) -> None:
    """The signal is taken with the commit that makes its dendrite ready: who dies with that one loses nothing."""
    doomed = stage.start(graphs.approval, streak=0)
    run = _asked(stage) if key is None else _asked(stage, key=key)
    _until_it_waits(run)
    doomed.arm(Fault(point=point, action="kill", activation=_ANSWER))
    _answer(stage, run, 7, key)
    doomed.reached(point)
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)

    stage.start(graphs.approval, streak=0)

    _assert_answered(stage, run, 7)
    assert stage.ledger.calls(run.id) == {_ASK: 1, _ANSWER: 2 if point in _IN_THE_CALL else 1}


@pytest.mark.parametrize("key", [None, "order-17"], ids=["to the run", "by key"])
@pytest.mark.parametrize("point", ["call.inside", "settle.begin", "settle.commit", "settle.done"])
def test_g1_g2_what_was_sent_before_it_was_expected_is_taken_once(stage: Stage, point: str, key: str | None) -> None:
    """The hop that expects it dies around its commit: the signal is there for the one that commits, and for no other."""
    doomed = stage.start(graphs.approval, Fault(point="call.inside", action="block"), streak=0)
    run = _asked(stage) if key is None else _asked(stage, key=key)
    doomed.reached("call.inside")
    _answer(stage, run, 7, key)
    doomed.arm(Fault(point=point, action="kill"))
    doomed.release("call.inside")
    if point == "call.inside":
        doomed.kill()  # it has passed that point
    else:
        doomed.reached(point)
        assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)

    stage.start(graphs.approval, streak=0)

    _assert_answered(stage, run, 7)
    if key is not None:
        assert stage.row("select run_id from cnstra.posted")["run_id"] == run.id


def test_g8_of_a_signal_and_a_timeout_that_meet_one_wins(stage: Stage) -> None:
    """Signals are sent while the timeouts fire: each run is answered or has given up, never both, and the sender knows."""
    for _ in range(2):
        stage.start(graphs.approval)
    client = stage.client(graphs.approval)
    runs = client.submit_many(
        [graphs.put_question.create_signal({"seconds": 0.2 + place / 20}) for place in range(2 * _DOZEN)]
    )
    eventually(
        lambda: (
            stage.row("select count(*) as late from cnstra.run where finished_at is not null")["late"] >= _DOZEN // 2
        ),
        PATIENCE,
        what="the first timeouts fire",
    )
    taken = [run for run in runs if _takes(run)]
    stage.all_completed(runs)
    for run in runs:
        whats = Counter(entry.what for entry in stage.ledger.entries(run.id))
        assert whats["answer"] + whats["late"] == 1, whats
        assert whats["answer"] == 0 or run in taken
        assert_sound(stage, run.id)
    assert {entry.what for entry in stage.ledger.entries()} >= {"late"}


def _takes(run: Run) -> bool:
    """Whether a run that is sent a signal takes it, or has ended before."""
    try:
        run.send(graphs.approval_given.create_signal(1))
    except RunStateError:
        return False
    return True


@pytest.fixture
def proxy(stage: Stage) -> Iterator[LosesCommitReplies]:
    """On the way to the stage's database."""
    with LosesCommitReplies(stage.database_url) as proxy:
        yield proxy


@pytest.fixture
def far(stage: Stage, proxy: LosesCommitReplies) -> Orchestrator:
    """A client whose replies get lost."""
    client = stage.client(graphs.approval, database_url=proxy.url)
    client.list_runs()
    return client


@pytest.mark.parametrize("waits", [True, False], ids=["which waits", "which does not wait yet"])
def test_g4_a_send_whose_reply_was_lost_is_one_signal(
    stage: Stage, proxy: LosesCommitReplies, far: Orchestrator, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """The client sends it again under the key that it gave it, and the run knows it."""
    worker = stage.start(graphs.approval, Fault(point="call.inside", action="block"))
    run = _asked(stage)
    worker.reached("call.inside")
    if waits:
        worker.release("call.inside")
        _until_it_waits(run)
    _lose_reply_of(far, "apply", proxy, monkeypatch)

    far.get_run(run.id).send(graphs.approval_given.create_signal(7))

    assert proxy.has_lost_one
    if not waits:
        worker.release("call.inside")
    _assert_answered(stage, run, 7)
    assert len(stage.rows("select number from cnstra.letter")) == 1


@pytest.mark.parametrize("waits", [True, False], ids=["that is expected", "that nobody expects yet"])
def test_g4_a_send_by_key_whose_reply_was_lost_is_one_signal(
    stage: Stage, proxy: LosesCommitReplies, far: Orchestrator, waits: bool
) -> None:
    """And the client is told which run has taken it, as if nothing had happened."""
    stage.start(graphs.approval)
    run = None
    if waits:
        run = _asked(stage, key="order-17")
        _until_it_waits(run)
    proxy.arm()

    taker = far.send(graphs.approval_given.create_signal(7), key="order-17")

    assert proxy.has_lost_one
    assert (taker and taker.id) == (run and run.id)
    _assert_answered(stage, run or _asked(stage, key="order-17"), 7)
    assert len(stage.rows("select number from cnstra.posted")) == 1


def _lose_reply_of(
    client: Orchestrator, operation: str, proxy: LosesCommitReplies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lose the reply to the COMMIT of the client's next such operation."""
    prepare = getattr(client._store, operation)

    def armed(*arguments: object) -> object:
        proxy.arm()
        return prepare(*arguments)

    monkeypatch.setattr(client._store, operation, armed)


def test_g1_runs_that_wait_survive_the_loss_of_everything_but_postgres(
    doomed_stage: Stage, doomed_servers: HeldServers
) -> None:
    """Broker flushed, Postgres crashed, workers killed; half of the signals come before, half after, each is taken once."""
    stage = doomed_stage
    workers = [stage.start(graphs.approval) for _ in range(2)]
    client = stage.client(graphs.approval)
    runs = client.submit_many([graphs.put_question.create_signal({"key": f"k{n}"}) for n in range(_DOZEN)])
    for run in runs:
        _until_it_waits(run)
    for number in range(0, _DOZEN, 2):
        client.send(graphs.approval_given.create_signal(number), key=f"k{number}", idempotency_key="once")
    workers[0].kill()
    doomed_servers.restart_postgres("immediate")
    stage.lose_doorbells()
    stage.lose(workers[0])
    for number, run in enumerate(runs):
        if number % 2:
            run.send(graphs.approval_given.create_signal(number))
        else:
            client.send(graphs.approval_given.create_signal(number), key=f"k{number}", idempotency_key="once")
    stage.all_completed(runs)
    for number, run in enumerate(runs):
        _assert_answered(stage, run, number)

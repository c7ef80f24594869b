"""A step with ``transaction=True``: what it does in the database and its hop commit together, once, whatever dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from cnstra import Run
from cnstra.stores import PostgresContextStore
from cnstra.stores.blobs import RedisBlobStore
from support import bank
from support.points import Fault
from support.proxy import LosesCommitReplies
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

COLOURS = ["sync", "async", "generator"]
TELLER = 2  # the number of its activation
_REFUSED = "its claim was taken away, so its result was refused; nothing was committed"
_LEASE = timedelta(seconds=6)
_BY_ITSELF = {"look_every": timedelta(hours=1), "lease": timedelta(hours=3)}


@pytest.fixture(autouse=True)
def _tables(stage: Stage) -> None:
    bank.tables(stage.database_url)
    bank.grant_to_all(stage.database_url)


def _submit(stage: Stage, colour: str, **order: Any) -> Run:
    return stage.client(bank.bank).submit(bank.asked.create_signal({"amount": 5, "colour": colour, **order}))


def _balance(stage: Stage) -> int:
    return int(stage.row("select balance from account")["balance"])


def _bookings(stage: Stage) -> list[dict[str, Any]]:
    return stage.rows("select key, amount from booking")


def _assert_booked_once(stage: Stage, run: Run) -> None:
    result = stage.completed(run)
    assert [output.payload for output in result.outputs] == [5]
    assert _balance(stage) == 5
    assert _bookings(stage) == [{"key": f"{run.id}:{TELLER}:do", "amount": 5}]
    assert_sound(stage, run.id)


def _blobs_in_use(stage: Stage, run: Run) -> int:
    """Those of the run that nobody has noted as litter: what was put for nothing must be."""
    put = set(RedisBlobStore.from_url(stage.redis_url).keys(str(run.id)))
    return len(put - {row["key"] for row in stage.rows("select key from cnstra.context_litter")})


# -- death ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streak", [0, 100], ids=["through the broker", "kept in the process"])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("point", "calls"),
    [
        ("call.begin", 0),
        ("call.inside", 1),
        ("call.end", 1),
        ("settle.begin", 1),
        ("settle.commit", 1),
        ("settle.done", 1),
    ],
)
def test_g2_g4_a_worker_that_is_killed_leaves_the_effect_once(
    stage: Stage, point: str, calls: int, colour: str, streak: int
) -> None:
    """Before the commit nothing of it is there, and the step is done again; after it, never."""
    fault = Fault(point=point, action="kill", activation=TELLER)
    doomed = stage.launch(bank.bank, fault, streak=streak)
    run = _submit(stage, colour)
    doomed.reached(point)
    assert doomed.died() == -signal.SIGKILL
    assert _balance(stage) == (5 if point == "settle.done" else 0)
    stage.lose(doomed)

    stage.start(bank.bank, streak=streak)

    _assert_booked_once(stage, run)
    again = 0 if point == "settle.done" else 1
    assert stage.ledger.calls(run.id) == {1: 1, TELLER: calls + again, 3: 1}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("point", ["keep.begin", "keep.done", "settle.commit", "settle.done"])
def test_g2_g4_a_worker_that_is_killed_while_contexts_are_kept_elsewhere(stage: Stage, point: str, colour: str) -> None:
    """The blob is put before the settlement, with the handler's transaction open; all three are there once."""
    stage.contexts_url = stage.redis_url
    doomed = stage.launch(bank.bank, Fault(point=point, action="kill", activation=TELLER))
    run = _submit(stage, colour, wrong="conflict")
    doomed.reached(point)
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)

    stage.start(bank.bank)

    _assert_booked_once(stage, run)
    assert run.context() == {"turn": 1}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("point", ["call.inside", "call.end", "settle.begin", "settle.commit"])
def test_g3_a_worker_that_stalls_past_its_lease_commits_nothing_and_holds_up_nobody(
    stage: Stage, point: str, colour: str
) -> None:
    """It is stopped with locks in its hands, which the next one to do the step needs; what it does then is refused."""
    zombie = stage.start(bank.bank, Fault(point=point, action="stop", activation=TELLER), lease=_LEASE)
    run = _submit(stage, colour)
    zombie.reached(point)
    zombie.frozen()
    stage.lose(zombie)
    stage.start(bank.bank)
    _assert_booked_once(stage, run)

    zombie.thaw()

    eventually(lambda: _REFUSED in zombie.log(), PATIENCE, what="the zombie's settlement is refused")
    _assert_booked_once(stage, run)
    assert stage.ledger.calls(run.id) == {1: 1, TELLER: 2, 3: 1}


# -- commits whose outcome nobody knows ----------------------------------------------------------------------------


@pytest.fixture
def proxy(stage: Stage) -> Iterator[LosesCommitReplies]:
    """On the way to the stage's database."""
    with LosesCommitReplies(stage.database_url) as proxy:
        yield proxy


@pytest.mark.parametrize("colour", COLOURS)
def test_g4_a_commit_whose_reply_was_lost_is_not_done_again(
    stage: Stage, proxy: LosesCommitReplies, colour: str
) -> None:
    """The worker asks with its fence, learns that it was committed, and goes on with the successor that it had kept."""
    fault = Fault(point="settle.commit", action="block", activation=TELLER)
    worker = stage.start(bank.bank, fault, database_url=proxy.url, **_BY_ITSELF)
    run = _submit(stage, colour)
    worker.reached(fault.point)
    proxy.arm()
    worker.release(fault.point)
    eventually(lambda: proxy.has_lost_one, PATIENCE, what="a reply is lost")

    _assert_booked_once(stage, run)
    assert stage.ledger.calls(run.id) == {1: 1, TELLER: 1, 3: 1}
    assert stage.activation(run, TELLER)["tries"] == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_g2_a_connection_that_is_cut_before_the_commit_takes_all_of_it_back(stage: Stage, colour: str) -> None:
    """The handler did nothing wrong: it runs again, and that is no failed try."""
    fault = Fault(point="settle.commit", action="block", activation=TELLER)
    worker = stage.start(bank.bank, fault)
    run = _submit(stage, colour)
    worker.reached(fault.point)
    cut = (
        "select pg_terminate_backend(pid) as cut from pg_stat_activity where application_name like 'cnstra step %%-%%'"
    )
    assert stage.rows(cut.replace("%%", "%")) == [{"cut": True}]

    worker.release(fault.point)

    _assert_booked_once(stage, run)
    assert stage.ledger.calls(run.id) == {1: 1, TELLER: 2, 3: 1}
    (tried,) = stage.rows("select error_type from cnstra.tries where error is not null")
    assert tried["error_type"] == "cnstra.StoreUnavailable"
    assert stage.row("select failures from cnstra.activation where activation_id = 2")["failures"] == 0


# -- others write the context meanwhile ----------------------------------------------------------------------------


def _write_meanwhile(stage: Stage, colour: str, wrong: str, *, elsewhere: bool) -> Run:
    """Another branch of the run writes, while the handler is inside, the key that it reads and writes."""
    if elsewhere:
        stage.contexts_url = stage.redis_url
    worker = stage.start(bank.bank, Fault(point="call.inside", action="block", activation=TELLER))
    run = _submit(stage, colour, wrong=wrong, rival=10)
    worker.reached("call.inside")
    eventually(lambda: stage.activation(run, 3)["status"] == "done", PATIENCE, what="the other branch has written")
    worker.release("call.inside")
    return run


@pytest.mark.parametrize("elsewhere", [False, True], ids=["context here", "context elsewhere"])
@pytest.mark.parametrize("colour", COLOURS)
def test_g6_a_conflict_rolls_the_steps_own_writes_back(stage: Stage, colour: str, elsewhere: bool) -> None:
    """It runs again on the fresh context; as with others, that is no failed try."""
    run = _write_meanwhile(stage, colour, "conflict", elsewhere=elsewhere)

    _assert_booked_once(stage, run)
    assert run.context() == {"turn": 11}
    assert stage.ledger.calls(run.id) == {1: 1, TELLER: 2, 3: 1, 4: 1}
    assert not elsewhere or _blobs_in_use(stage, run) == 2
    (tried,) = stage.rows("select error_type from cnstra.tries where error is not null")
    assert tried["error_type"] == "cnstra.ContextConflict"
    row = stage.row("select failures, conflicts from cnstra.activation where activation_id = 2")
    assert row == {"failures": 0, "conflicts": 1}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["context here", "context elsewhere"])
@pytest.mark.parametrize("colour", COLOURS)
def test_g6_an_update_takes_the_newest_value_in_within_the_same_transaction(
    stage: Stage, colour: str, elsewhere: bool
) -> None:
    """The handler is not called again."""
    run = _write_meanwhile(stage, colour, "stale", elsewhere=elsewhere)

    _assert_booked_once(stage, run)
    assert run.context() == {"turn": 11}
    assert stage.ledger.calls(run.id) == {1: 1, TELLER: 1, 3: 1, 4: 1}
    assert not elsewhere or _blobs_in_use(stage, run) == 2


def test_g6_a_step_that_is_in_conflict_over_and_over_runs_alone(stage: Stage) -> None:
    """After three times, as any other activation."""
    stage.contexts_url = None  # it is written from outside
    blocks = [Fault(point="call.inside", action="block", activation=TELLER) for _ in range(3)]
    worker = stage.start(bank.bank, *blocks)
    run = _submit(stage, "sync", wrong="conflict")
    with psycopg.connect(stage.database_url, autocommit=True) as connection:
        store = PostgresContextStore(connection, run.id)
        for turn in range(3):
            worker.reached("call.inside")
            store.update(lambda value: {**(value or {}), "turn": 10 * (turn + 1)})  # noqa: B023 - called at once
            worker.release("call.inside")

    _assert_booked_once(stage, run)
    assert run.context() == {"turn": 31}
    assert stage.row("select conflicts from cnstra.activation where activation_id = 2")["conflicts"] == 3

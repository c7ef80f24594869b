"""What a test asks to go wrong does, at the call that it names, and the run goes on as in production."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cnstra import CNS, Context, collateral, neuron
from cnstra.testing import CrashPoint, HandlerCall, Lab, LabError
from support.shop import (
    REMINDED_AFTER,
    Bank,
    Order,
    charge,
    cns,
    order_placed,
    payment,
    remind,
    reserve,
    shipping,
    stock,
)

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=15)
BACKOFF = timedelta(seconds=1)
SECOND = timedelta(seconds=1)
ORDER = Order("17")

begun = collateral("begun", int)


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def lab(bank: Bank) -> Any:
    with Lab(cns, services=bank, start=START) as lab:
        yield lab


# -- failures ------------------------------------------------------------------------------------------------------


def test_a_failure_comes_instead_of_the_call_and_the_policy_decides(lab: Lab, bank: Bank) -> None:
    """Twice, a minute apart, and then the handler is called."""
    lab.fail(charge, ConnectionError("the bank is away"), times=2)
    run = lab.submit(order_placed.create_signal(ORDER))
    assert run.wait().status == "completed"

    [call] = run.calls(charge)
    assert (call.try_number, call.at) == (3, START + timedelta(minutes=2))
    assert list(bank.asked.values()) == [1]


def test_a_failure_that_outlasts_the_policy_fails_the_run(lab: Lab) -> None:
    """With the error that was asked for."""
    lab.fail("payment", ConnectionError("the bank is away"), times=3)
    run = lab.submit(order_placed.create_signal(ORDER))
    result = run.wait()

    assert (result.status, result.error_type, result.error) == ("failed", "ConnectionError", "the bank is away")
    assert run.calls(payment) == []


def test_calls_are_counted_from_the_first_that_fits() -> None:
    """``nth`` and ``when`` choose; what they leave out is called."""
    with Lab(cns, services=Bank()) as lab:
        lab.fail(stock, ValueError("second"), nth=2)
        lab.fail(None, ValueError("big"), when=lambda call: call.payload.amount > 100 and call.neuron == "stock")
        runs = lab.submit_many(
            [order_placed.create_signal(Order(str(number), amount)) for number, amount in enumerate([1, 1, 999])]
        )
        for run in runs:
            run.wait()

        assert [run.calls(stock)[0].try_number for run in runs] == [1, 2, 2]


def test_an_error_may_be_made_anew_each_time(lab: Lab) -> None:
    """A class, or whatever makes one."""
    made = iter([OSError("first"), OSError("second")])
    lab.fail(stock, lambda: next(made), times=2)
    lab.fail(shipping, TimeoutError)
    run = lab.submit(order_placed.create_signal(ORDER))
    assert run.wait().status == "completed"

    assert [call.try_number for call in run.calls() if call.neuron != "payment"] == [3, 2]


@pytest.mark.parametrize(
    ("which", "options", "problem"),
    [
        ("bank", {}, "'bank' is not in the graph; give a neuron, its name, or a dendrite: payment, shipping, stock"),
        (neuron("stock"), {}, "is not in the graph"),
        (3, {}, "3 is not in the graph"),
        (stock, {"nth": 0}, "nth=0 must be at least 1"),
        (stock, {"times": 0}, "times=0 must be at least 1"),
    ],
)
def test_what_can_never_strike_is_refused(lab: Lab, which: Any, options: Any, problem: str) -> None:
    """A fault that never comes would make a test pass for nothing."""
    with pytest.raises(LabError, match=problem):
        lab.fail(which, ValueError(), **options)


def test_calls_of_what_is_not_in_the_graph_are_refused(lab: Lab) -> None:
    """A name with a typo has no calls, and would prove nothing."""
    with pytest.raises(LabError, match="'paymnt' is not in the graph"):
        lab.calls("paymnt")
    with pytest.raises(LabError, match="is not in the graph"):
        lab.submit(order_placed.create_signal(ORDER)).calls(neuron("payment"))


def test_a_point_that_there_is_not_is_refused(lab: Lab) -> None:
    """The points are three."""
    with pytest.raises(
        LabError, match=r"cannot crash at 'during'; the points are before_call, after_call, after_commit"
    ):
        lab.crash(stock, "during")  # type: ignore[arg-type]


# -- crashes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "outcomes"),
    [
        ("before_call", ["committed"]),
        ("after_call", ["lost", "committed"]),
        ("after_commit", ["committed"]),
    ],
)
def test_a_crash_is_survived_under_the_same_key(lab: Lab, bank: Bank, point: CrashPoint, outcomes: list[str]) -> None:
    """Before the commit the step is called again, after it never; and what it did, it did once."""
    lab.crash(charge, point)
    run = lab.submit(order_placed.create_signal(ORDER))
    lab.run_until_idle()
    assert run.activations()[1]["status"] == ("done" if point == "after_commit" else "running")
    result = run.wait()

    assert result.status == "completed"
    assert [call.outcome for call in run.calls(charge)] == outcomes
    assert list(bank.asked.values()) == [len(outcomes)]
    assert bank.charged == {f"{run.id}:2:do": 100}
    assert len(run.history()) == 4


def test_what_a_lost_worker_held_is_tried_again_after_its_lease_and_a_backoff(lab: Lab) -> None:
    """Until the lease has run out, nobody knows that the worker is gone."""
    lab.crash(reserve)
    run = lab.submit(order_placed.create_signal(ORDER))
    lab.advance(LEASE)
    assert [row["status"] for row in run.activations()] == ["running"]
    lab.advance(SECOND)
    assert [(row["status"], row["error_type"]) for row in run.activations()] == [("scheduled", "cnstra.WorkerLost")]
    lab.advance(BACKOFF)

    [lost, committed] = run.calls(reserve)
    assert (lost.outcome, committed.outcome, committed.try_number) == ("lost", "committed", 2)
    assert committed.at - lost.at == LEASE + BACKOFF + timedelta(microseconds=1)


def test_a_worker_that_dies_after_the_commit_loses_the_successor_that_it_kept(lab: Lab) -> None:
    """It was claimed with the commit, and is tried again; its handler had not been called."""
    lab.crash(reserve, "after_commit")
    run = lab.submit(order_placed.create_signal(ORDER))
    run.wait()

    [call] = run.calls(charge)
    assert (call.try_number, call.outcome) == (2, "committed")


def test_a_step_that_loses_too_many_workers_is_poison(lab: Lab, bank: Bank) -> None:
    """As in workers: after five it is not called again in this attempt. The others end well."""
    lab.crash(charge, "after_call", times=5, when=lambda call: call.payload.id == "17")
    poisoned, other = lab.submit_many([order_placed.create_signal(Order(id)) for id in ("17", "18")])
    result = poisoned.wait()

    assert (result.status, result.error_type) == ("failed", "cnstra.Poisoned")
    assert [call.outcome for call in poisoned.calls(charge)] == ["lost"] * 5
    assert other.wait().status == "completed"

    poisoned.retry()
    assert poisoned.wait().status == "completed"
    assert set(bank.charged.values()) == {100}
    assert len(bank.charged) == 2


def test_a_poison_suspect_takes_nobody_along(lab: Lab) -> None:
    """A worker that holds it holds nothing beside it: the loss that makes it poison is its own alone."""
    for seed in range(20):
        with Lab(cns, services=Bank(), start=START) as lab:
            lab.crash(stock, times=5, when=lambda call: call.payload.id == "bad")
            bad = lab.submit(order_placed.create_signal(Order("bad")))
            while bad.activations()[0]["tries"] < 4 or bad.activations()[0]["status"] != "scheduled":
                lab.advance(SECOND)
            again = bad.activations()[0]["available_at"] - lab.now
            lab.storm(seed, crash=0, stall=0)
            others = lab.submit_many([order_placed.create_signal(Order("good"))] * 6, delay=again)
            assert bad.wait().error_type == "cnstra.Poisoned"
            for other in others:
                other.wait()
            assert {call.try_number for other in others for call in other.calls()} == {1}


def test_the_limits_of_workers_can_be_set() -> None:
    """``lease``, ``crash_backoff`` and ``poison_limit``."""
    minute = timedelta(minutes=1)
    with Lab(cns, services=Bank(), start=START, lease=minute, crash_backoff=minute, poison_limit=2) as lab:
        lab.crash(stock, times=2)
        run = lab.submit(order_placed.create_signal(ORDER))
        assert run.wait().error_type == "cnstra.Poisoned"
        assert [call.at for call in run.calls()] == [START, START + 2 * minute + timedelta(microseconds=1)]


def test_a_stalled_worker_comes_back_and_can_commit_nothing(lab: Lab, bank: Bank) -> None:
    """It was taken for lost, and another has done the step by then, under the same key."""
    lab.stall(charge)
    run = lab.submit(order_placed.create_signal(ORDER))
    lab.run_until_idle()
    assert [call.outcome for call in run.calls(charge)] == ["called"]
    result = run.wait()

    assert result.status == "completed"
    assert [call.outcome for call in run.calls(charge)] == ["refused", "committed"]
    assert bank.asked == {f"{run.id}:2:do": 2}
    assert [written.neuron for written in run.history()] == ["stock", "payment", "shipping", "payment"]


def test_a_worker_that_has_lived_for_long_stalls_for_a_lease_of_its_own(lab: Lab) -> None:
    """Its lease was renewed, so it is lost only after it has stalled for that long."""
    lab.stall(remind)
    run = lab.submit(order_placed.create_signal(ORDER))
    lab.advance(REMINDED_AFTER)
    lab.run_until_idle()
    assert [call.outcome for call in run.calls(remind)] == ["called"]
    result = run.wait()

    assert [call.outcome for call in run.calls(remind)] == ["refused", "committed"]
    assert result.context["reminders"] == 1


def test_a_crash_may_take_an_await_along() -> None:
    """An async handler's worker dies like a sync one's; of several faults at one call, the first that was asked for comes."""
    seen: list[HandlerCall] = []

    def looks(call: HandlerCall) -> bool:
        seen.append(call)
        return True

    with Lab(cns, services=Bank()) as lab:
        lab.crash(remind, "before_call", when=looks)
        lab.fail(remind, ValueError())
        run = lab.submit(order_placed.create_signal(ORDER))
        lab.advance(REMINDED_AFTER)
        assert [row["status"] for row in run.activations()] == ["done", "done", "done", "running"]
        assert run.wait().status == "completed"

        assert [call.try_number for call in seen] == [1, 2]
        assert [call.try_number for call in run.calls(remind)] == [2]


def test_a_hop_in_conflict_runs_again_and_says_so() -> None:
    """Branches that write the same key, on workers that work at the same time."""
    fork, left, right = neuron("fork", {"go": collateral("go", int)}), neuron("left"), neuron("right")
    fork.dendrite(begun)(lambda number, axon: axon.go.create_signal(number))

    def count(number: int, axon: Any, ctx: Context) -> None:
        ctx["count"] = ctx.get("count", 0) + number

    left.dendrite(fork.axon.go)(count)
    right.dendrite(fork.axon.go)(count)
    outcomes: set[str] = set()
    for seed in range(30):
        with Lab(CNS([fork, left, right], name="fork")) as lab:
            lab.storm(seed, crash=0, stall=0)
            run = lab.submit(begun.create_signal(3))
            assert run.wait().context == {"count": 6}
            outcomes |= {call.outcome for call in run.calls()}

    assert outcomes == {"committed", "conflicted"}

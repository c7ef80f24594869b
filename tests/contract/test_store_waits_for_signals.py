"""Stores of runs: signals from outside, expected by hops and sent to runs or by key; first come, first served, each once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.store import Portion, Posted, Posting
from support.worlds import (
    GRAPH,
    Worker,
    World,
    cancel_asked,
    deadline_due,
    expectation_due,
    expects,
    failed,
    pause_asked,
    resume_asked,
    retry_asked,
    sent,
    succeeded,
    target,
)


def waiting_run(world: World, worker: Worker, **options: Any) -> UUID:
    """A run that expects an answer."""
    run_id = world.submit("stock")
    [work] = worker.claim(dendrites=(("stock", "order"),))
    world.settle(succeeded(work, expected=[expects(**options)]))
    return run_id


def rows(world: World, run_id: UUID) -> list[tuple[str, str]]:
    return [(row["neuron"], row["status"]) for row in world.activations(run_id).values()]


def posting(payload: str = "1", *, key: str = "k", idempotency_key: str = "once") -> Posting:
    return Posting(graph=GRAPH, key=key, collateral="answer", payload=payload, idempotency_key=idempotency_key)


def post(world: World, which: Posting) -> Posted:
    return world.store.run(world.store.post(which))


# -- expected, then sent ---------------------------------------------------------------------------------------


def test_a_run_waits_until_its_signal_comes_which_then_starts_its_dendrites(world: World) -> None:
    """It holds no worker meanwhile; all who hear the signal are called with it."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(succeeded(worker.claim_one(), expected=[expects("ship", "report")]))
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("waiting", 2)
    assert rows(world, run_id) == [("stock", "done"), ("ship", "waiting"), ("report", "waiting")]
    assert worker.claim() == []
    assert world.activations(run_id)[1]["outputs"] == []

    applied = world.apply(sent(run_id, '{"ok":true}'))

    assert [ring.activations for ring in applied.rings] == [((run_id, 2), (run_id, 3))]
    assert world.status(run_id) == "running"
    works = worker.claim()
    assert {work.neuron: work.payload.replace(" ", "") for work in works} == {
        "ship": '{"ok":true}',
        "report": '{"ok":true}',
    }
    assert {work.collateral for work in works} == {"answer"}
    world.apply(*map(succeeded, works))
    assert world.status(run_id) == "completed"


def test_a_signal_that_is_sent_before_it_is_expected_is_kept_and_taken_once(world: World) -> None:
    """In the order of sending, each by one expectation."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.apply(sent(run_id, "1"), sent(run_id, "2", collateral="other"))
    world.settle(sent(run_id, "3"))
    world.settle(succeeded(worker.claim_one(), expected=[expects("ship"), expects("bank"), expects("report")]))
    assert {work.neuron: work.payload for work in worker.claim()} == {"ship": "1", "bank": "3"}
    assert ("report", "waiting") in rows(world, run_id)


def test_signals_feed_one_expectation_each_the_oldest_first(world: World) -> None:
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(succeeded(worker.claim_one(), expected=[expects("ship"), expects("bank")]))
    world.apply(sent(run_id, "1"))
    assert [(work.neuron, work.payload) for work in worker.claim()] == [("ship", "1")]
    world.apply(sent(run_id, "2"))
    assert [(work.neuron, work.payload) for work in worker.claim()] == [("bank", "2")]


def test_a_hop_that_expects_and_the_signal_may_come_in_one_batch(world: World) -> None:
    """In either order."""
    worker = world.worker()
    for turned in (False, True):
        run_id = world.submit("stock")
        events = [succeeded(worker.claim_one(), expected=[expects("ship")]), sent(run_id, "7")]
        world.apply(*(reversed(events) if turned else events))
        [work] = worker.claim()
        assert (work.neuron, work.payload) == ("ship", "7")
        world.settle(succeeded(work))
        assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("completed", 0)


def test_the_same_signal_again_is_sent_once_and_another_under_its_key_is_refused(world: World) -> None:
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(succeeded(worker.claim_one(), expected=[expects("ship"), expects("bank")]))
    assert world.settle(sent(run_id, "1", idempotency_key="a")).verdict is Verdict.APPLIED
    assert world.settle(sent(run_id, "1.0", idempotency_key="a")).verdict is Verdict.REPEATED
    assert world.settle(sent(run_id, "2", idempotency_key="a")).verdict is Verdict.REFUSED
    assert world.settle(sent(run_id, "1", collateral="other", idempotency_key="a")).verdict is Verdict.REFUSED
    answers = world.apply(sent(run_id, "3", idempotency_key="b"), sent(run_id, "4", idempotency_key="b")).answers
    assert [answer.verdict for answer in answers] == [Verdict.APPLIED, Verdict.REFUSED]
    assert [(work.neuron, work.payload) for work in worker.claim()] == [("ship", "1"), ("bank", "3")]


def test_a_run_that_has_ended_or_ends_takes_no_signals(world: World) -> None:
    worker = world.worker()
    run_id = world.submit("stock")
    work = worker.claim_one()
    world.settle(cancel_asked(run_id))
    assert world.settle(sent(run_id)).verdict is Verdict.VOID
    world.settle(succeeded(work, expected=[expects()]))
    assert (world.status(run_id), rows(world, run_id)) == ("cancelled", [("stock", "done")])
    assert world.settle(sent(run_id)).verdict is Verdict.VOID
    lost = world.submit("stock")
    world.settle(failed(worker.claim_one()))
    assert world.settle(sent(lost)).verdict is Verdict.VOID
    world.settle(retry_asked(lost))
    assert world.settle(sent(lost)).verdict is Verdict.APPLIED


def test_what_waits_is_cancelled_with_its_run(world: World) -> None:
    worker = world.worker()
    run_id = waiting_run(world, worker, key="k", timeout=timedelta(seconds=5), late=[target("bank")])
    world.settle(cancel_asked(run_id))
    assert (world.status(run_id), rows(world, run_id)[1]) == ("cancelled", ("ship", "cancelled"))
    world.clock.advance(6)
    assert world.look(worker).expectations_due == ()
    assert post(world, posting()).run_id is None


def test_a_paused_run_takes_signals_and_starts_nothing_until_it_goes_on(world: World) -> None:
    worker = world.worker()
    run_id = waiting_run(world, worker)
    world.settle(pause_asked(run_id))
    assert world.settle(sent(run_id)).verdict is Verdict.APPLIED
    assert (world.status(run_id), worker.claim()) == ("paused", [])
    world.settle(resume_asked(run_id))
    assert [work.neuron for work in worker.claim()] == ["ship"]


# -- too late --------------------------------------------------------------------------------------------------


def test_when_nothing_comes_in_time_what_was_to_happen_then_does(world: World) -> None:
    """Not early, and once; a signal that comes after that waits for the next expectation."""
    worker = world.worker()
    run_id = waiting_run(
        world, worker, timeout=timedelta(seconds=5), late=[target("bank", payload='"late"')], told='"expired"'
    )
    world.clock.advance(4.9)
    assert world.look(worker).expectations_due == ()
    assert world.settle(expectation_due(run_id, 2)).verdict is Verdict.VOID
    world.clock.advance(0.1)
    assert world.look(worker).expectations_due == ((run_id, 2),)

    assert world.settle(expectation_due(run_id, 2)).verdict is Verdict.APPLIED

    assert rows(world, run_id) == [("stock", "done"), ("ship", "cancelled"), ("bank", "ready")]
    assert world.settle(expectation_due(run_id, 2)).verdict is Verdict.VOID
    assert world.settle(sent(run_id)).verdict is Verdict.APPLIED
    [work] = worker.claim()
    assert (work.neuron, work.payload) == ("bank", '"late"')
    world.settle(succeeded(work))
    row = world.row(run_id)
    assert (row["status"], [output["payload"] for output in row["outputs"]]) == ("completed", ["expired"])


def test_a_run_whose_last_expectation_comes_to_nothing_has_ended(world: World) -> None:
    """With what is emitted then among its outputs, though nobody hears it."""
    worker = world.worker()
    run_id = waiting_run(world, worker, timeout=timedelta(seconds=5), told='"expired"')
    world.clock.advance(5)
    world.fire_everything(worker)
    row = world.row(run_id)
    assert (row["status"], row["outstanding"]) == ("completed", 0)
    assert [output["payload"] for output in row["outputs"]] == ["expired"]


def test_what_happens_too_late_may_wait_itself(world: World) -> None:
    """From the time of the timeout on."""
    worker = world.worker()
    later = target("bank", delay=timedelta(days=400, microseconds=3))
    run_id = waiting_run(world, worker, timeout=timedelta(seconds=5), late=[later])
    world.clock.advance(5)
    world.fire_everything(worker)
    row = world.activations(run_id)[3]
    assert (row["status"], row["available_at"]) == (
        "scheduled",
        world.clock.now() + timedelta(days=400, microseconds=3),
    )
    assert row["parent_activation_id"] == 2


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("sent_first", [True, False])
def test_of_a_signal_and_a_timeout_that_meet_one_wins(world: World, at_once: bool, sent_first: bool) -> None:
    """Either all of what the signal starts, or all of what the timeout does; in one transaction or in two."""
    worker = world.worker()
    run_id = waiting_run(world, worker, timeout=timedelta(seconds=1), late=[target("bank")])
    world.clock.advance(2)
    events = [sent(run_id), expectation_due(run_id, 2)][:: 1 if sent_first else -1]
    for batch in [events] if at_once else [[event] for event in events]:
        world.apply(*batch)
    [work] = worker.claim()
    assert work.neuron == ("ship" if sent_first else "bank")
    world.settle(succeeded(work))
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("completed", 0)


# -- by key ----------------------------------------------------------------------------------------------------


def test_a_signal_by_key_finds_the_run_that_expects_it(world: World) -> None:
    """The oldest of several; not one with another key, and not one without."""
    worker = world.worker()
    waiting_run(world, worker)
    waiting_run(world, worker, key="other")
    older, younger = waiting_run(world, worker, key="k"), waiting_run(world, worker, key="k")

    posted = post(world, posting("1"))

    assert (posted.run_id, posted.same) == (older, True)
    assert [ring.activations for ring in posted.rings] == [((older, 2),)]
    assert [(work.run_id, work.payload) for work in worker.claim()] == [(older, "1")]
    assert post(world, posting("2", idempotency_key="twice")).run_id == younger
    assert [(work.run_id, work.payload) for work in worker.claim()] == [(younger, "2")]


def test_a_signal_by_key_that_nobody_expects_yet_is_kept_for_the_next_one_that_does(world: World) -> None:
    """In the order of sending, each once."""
    worker = world.worker()
    for number in ("1", "2"):
        assert post(world, posting(number, idempotency_key=number)).run_id is None
    assert post(world, posting("9", key="other", idempotency_key="9")).run_id is None
    one, other = waiting_run(world, worker, key="k"), waiting_run(world, worker, key="k")
    assert [(work.run_id, work.payload) for work in worker.claim()] == [(one, "1"), (other, "2")]
    third = waiting_run(world, worker, key="k")
    assert (world.status(third), worker.claim()) == ("waiting", [])


def test_of_a_runs_several_keys_a_signal_finds_its_own(world: World) -> None:
    """Not the one that was expected first."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(succeeded(worker.claim_one(), expected=[expects("ship", key="a"), expects("bank", key="b")]))
    assert post(world, posting("1", key="b")).run_id == run_id
    work = worker.claim_one()
    assert (work.neuron, work.payload) == ("bank", "1")
    assert [row for row in rows(world, run_id) if row[1] == "waiting"] == [("ship", "waiting")]


def test_what_was_sent_to_the_run_is_taken_before_what_was_sent_by_key(world: World) -> None:
    """Each in its order; their numbers say nothing of each other."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.apply(sent(run_id, "1"), sent(run_id, "2"))
    assert post(world, posting("9")).run_id is None
    wait = expects(key="k")
    world.settle(succeeded(worker.claim_one(), expected=[wait, wait, wait]))
    assert [work.payload for work in sorted(worker.claim(), key=lambda work: work.activation_id)] == ["1", "2", "9"]


def test_runs_of_one_batch_that_expect_the_same_key_take_one_signal_each(world: World) -> None:
    worker = world.worker()
    post(world, posting("1"))
    runs = [world.submit("stock"), world.submit("stock")]
    world.apply(*(succeeded(work, expected=[expects(key="k")]) for work in worker.claim()))
    [work] = worker.claim()
    assert work.run_id in runs
    assert sorted(str(world.status(run_id)) for run_id in runs) == ["running", "waiting"]


def test_an_expectation_with_a_key_takes_what_is_sent_to_its_run_too(world: World) -> None:
    worker = world.worker()
    run_id = waiting_run(world, worker, key="k")
    world.settle(sent(run_id, "5"))
    assert [(work.run_id, work.payload) for work in worker.claim()] == [(run_id, "5")]
    assert post(world, posting()).run_id is None


def test_the_same_signal_by_key_again_is_sent_once(world: World) -> None:
    """Also when its reply was lost; another one under its idempotency key is refused."""
    worker = world.worker()
    first, second = waiting_run(world, worker, key="k"), waiting_run(world, worker, key="k")
    assert world.replayed(world.store.post(posting("1"))).run_id == first
    assert post(world, posting("1.0")) == Posted(run_id=first)
    assert not post(world, posting("2")).same
    assert (world.status(second), len(worker.claim())) == ("waiting", 1)


@pytest.mark.parametrize("senders", [1, 3])
def test_who_sends_by_key_and_who_begins_to_expect_at_the_same_moment_find_each_other(
    world: World, senders: int
) -> None:
    """However they meet: the signal is taken, once, and no run waits beside one that is kept."""
    worker = world.worker()
    for turn in range(4):
        run_id = world.submit("stock")
        [work] = worker.claim()
        expecting = world.store.apply([succeeded(work, expected=[expects(key=f"k{turn}")])])
        same = [world.store.post(posting("1", key=f"k{turn}")) for _ in range(senders)]
        hold = "select pg_advisory_xact_lock(hashtextextended('shop' || chr(31) || 'k%d', 0))" % turn  # noqa: UP031
        world.at_once(expecting, *same, hold=hold)
        [work] = worker.claim()
        assert (work.run_id, work.neuron) == (run_id, "ship")
        world.settle(succeeded(work))
        assert world.status(run_id) == "completed"


def test_signals_by_key_are_kept_as_long_as_the_rule_says(world: World) -> None:
    """From the sending on; then the next expectation does not find it, and its idempotency key is free."""
    worker = world.worker()
    world.store.run(world.store.set_retention({"sent": timedelta(hours=1)}))
    post(world, posting("1"))
    world.clock.advance(3_599)
    assert world.store.run(world.store.expire(Portion())).sent == 0
    world.clock.advance(2)
    assert world.store.run(world.store.expire(Portion())).sent == 1
    run_id = waiting_run(world, worker, key="k")
    assert world.status(run_id) == "waiting"
    assert post(world, posting("2")).run_id == run_id


def test_a_deadline_and_a_timeout_that_pass_in_one_batch_end_the_run_once(world: World) -> None:
    """The deadline counts first: what was expected is over by then, and its timeout does nothing any more."""
    worker = world.worker()
    run_id = world.submit("stock", deadline=timedelta(seconds=5))
    late = expects(timeout=timedelta(seconds=5), late=[target("bank")])
    world.settle(succeeded(worker.claim_one(), expected=[late]))
    world.clock.advance(6)
    answers = world.apply(deadline_due(run_id), expectation_due(run_id, 2)).answers
    assert [answer.verdict for answer in answers] == [Verdict.APPLIED, Verdict.VOID]
    assert (world.status(run_id), world.row(run_id)["error_type"]) == ("failed", "cnstra.DeadlineExceeded")
    assert rows(world, run_id) == [("stock", "done"), ("ship", "cancelled")]


def test_what_is_expected_by_the_batch_that_cancels_its_run_is_expected_no_more(world: World) -> None:
    """No later look finds that its time is over."""
    worker = world.worker()
    run_id = world.submit("stock")
    wait = expects(timeout=timedelta(seconds=5), late=[target("bank")])
    world.apply(succeeded(worker.claim_one(), expected=[wait]), cancel_asked(run_id))
    assert rows(world, run_id) == [("stock", "done"), ("ship", "cancelled")]
    world.clock.advance(5)
    assert world.look(worker).expectations_due == ()
    assert world.settle(expectation_due(run_id, 2)).verdict is Verdict.VOID
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("cancelled", 0)


def test_nobody_who_waited_for_a_signal_waits_beyond_its_timeout(world: World) -> None:
    """Several would have been called with it: none is left to keep the run from its end."""
    worker = world.worker()
    run_id = world.submit("stock")
    wait = expects("ship", "report", timeout=timedelta(seconds=5), late=[target("bank")])
    world.settle(succeeded(worker.claim_one(), expected=[wait]))
    world.clock.advance(5)
    assert world.settle(expectation_due(run_id, 2)).verdict is Verdict.APPLIED
    assert world.row(run_id)["outstanding"] == 1
    world.settle(succeeded(worker.claim_one()))
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("completed", 0)


def test_a_run_that_waited_for_nothing_but_a_signal_that_did_not_come_ends(world: World) -> None:
    """Also where nothing follows on that: nobody hears what is emitted then, or nothing is."""
    worker = world.worker()
    for told in ('"late"', ""):
        run_id = world.submit("stock")
        world.settle(succeeded(worker.claim_one(), expected=[expects(timeout=timedelta(seconds=5), told=told)]))
        world.clock.advance(5)
        assert world.settle(expectation_due(run_id, 2)).verdict is Verdict.APPLIED
        row = world.row(run_id)
        assert (row["status"], row["outstanding"], len(row["outputs"])) == ("completed", 0, bool(told))


def test_what_failed_beside_a_signal_that_did_not_come_fails_the_run(world: World) -> None:
    """The end of the wait is the end of the attempt, whose policy is asked then."""
    worker = world.worker()
    for revive_after, status in ((None, "failed"), (1.0, "waiting")):
        run_id = world.submit("stock")
        wait = expects(timeout=timedelta(seconds=5))
        world.settle(succeeded(worker.claim_one(), targets=[target("bank")], expected=[wait]))
        world.settle(failed(worker.claim_one(), revive_after=revive_after))
        assert world.status(run_id) == "waiting"
        world.clock.advance(5)
        [number] = [n for n, row in world.activations(run_id).items() if row["status"] == "waiting"]
        world.settle(expectation_due(run_id, number))
        row = world.row(run_id)
        assert (row["status"], row["next_retry_at"] is not None) == (status, revive_after is not None)


def test_a_timeout_and_a_signal_of_one_batch_leave_the_signal_to_the_next_expectation(world: World) -> None:
    """The oldest has just ended, so that the next one is the oldest."""
    worker = world.worker()
    run_id = world.submit()
    waits = [expects("ship", timeout=timedelta(seconds=5)), expects("bank")]
    world.settle(succeeded(worker.claim_one(), expected=waits))
    world.clock.advance(5)
    world.apply(expectation_due(run_id, 2), sent(run_id, "8"))
    work = worker.claim_one()
    assert (work.neuron, work.payload) == ("bank", "8")

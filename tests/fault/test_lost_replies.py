"""The reply to a COMMIT is lost: whoever waited for it asks again, and learns what had happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from cnstra import Run
from cnstra.orchestrator.store import RunEvent
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.transactions import PostgresOperation
from support.graphs import backoffs, routes
from support.points import Fault
from support.proxy import LosesCommitReplies
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

# With sweeps and renewals this far apart nothing but the worker itself mends what the lost reply breaks.
_BY_ITSELF = {"look_every": timedelta(hours=1), "lease": timedelta(hours=3)}


@pytest.fixture
def proxy(stage: Stage) -> Iterator[LosesCommitReplies]:
    """On the way to the stage's database."""
    with LosesCommitReplies(stage.database_url) as proxy:
        yield proxy


def _lose_reply(stage: Stage, proxy: LosesCommitReplies, fault: Fault, *, streak: int = 100) -> Run:
    """Let a worker, left to itself, lose the reply to the COMMIT at this point of a new run."""
    worker = stage.start(routes.chain, fault, database_url=proxy.url, streak=streak, **_BY_ITSELF)
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    worker.reached(fault.point)
    proxy.arm()
    worker.release(fault.point)
    eventually(lambda: proxy.has_lost_one, PATIENCE, what="a reply is lost")
    return run


def _assert_as_if_nothing_had_happened(stage: Stage, run: Run) -> None:
    assert stage.completed(run).context == {"step 1": 0, "step 2": 1, "step 3": 2, "steps": 3}
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert [stage.activation(run, number)["tries"] for number in (1, 2, 3)] == [1, 1, 1]
    assert_sound(stage, run.id)


def test_g4_a_settlement_whose_reply_was_lost_goes_on_with_what_it_had_kept(
    stage: Stage, proxy: LosesCommitReplies
) -> None:
    """Sent again, it learns that it was done, and which successor its worker holds: that one goes on in the process."""
    run = _lose_reply(stage, proxy, Fault(point="settle.commit", action="block", activation=2))

    _assert_as_if_nothing_had_happened(stage, run)
    assert len({entry.pid for entry in stage.ledger.entries(run.id)}) == 1


def test_g4_a_settlement_whose_reply_was_lost_has_made_its_successor_once(
    stage: Stage, proxy: LosesCommitReplies
) -> None:
    """Where successors go through the broker, nobody rings for this one: another worker's sweep finds it."""
    run = _lose_reply(stage, proxy, Fault(point="settle.commit", action="block", activation=2), streak=0)
    stage.start(routes.chain)

    _assert_as_if_nothing_had_happened(stage, run)


def test_g3_g4_a_claim_whose_reply_was_lost_is_answered_again(stage: Stage, proxy: LosesCommitReplies) -> None:
    """What the worker had been given is its own under the claim's nonce: no call is lost, and no try."""
    run = _lose_reply(stage, proxy, Fault(point="claim.commit", action="block", activation=1))

    _assert_as_if_nothing_had_happened(stage, run)


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
def test_g1_a_submit_whose_reply_was_lost_is_one_run(stage: Stage, proxy: LosesCommitReplies, keyed: bool) -> None:
    """The client gets the run that it had made; nobody rang for it, and it ends all the same."""
    client = stage.client(routes.chain, database_url=proxy.url)
    client.list_runs()  # so that the next COMMIT is the submit's
    stage.start(routes.chain)
    proxy.arm()

    run = client.submit(routes.set_out.create_signal(10), idempotency_key="only once" if keyed else None)

    assert proxy.has_lost_one
    _assert_as_if_nothing_had_happened(stage, run)
    assert stage.rows("select run_id from cnstra.run") == [{"run_id": run.id}]


@pytest.mark.beneath_the_seal
@pytest.mark.parametrize("fails", [1, 2], ids=["which goes on", "which has failed before it is asked for again"])
def test_g9_a_retry_whose_reply_was_lost_begins_one_attempt(
    stage: Stage, proxy: LosesCommitReplies, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """The client is told that the attempt has begun, which it has, once: also where it has ended before the client knew."""
    stage.start(backoffs.moody)
    run = stage.client(backoffs.moody).submit(backoffs.ask.create_signal({"fails": fails}))
    assert stage.ended(run).status == "failed"
    far = stage.client(backoffs.moody, database_url=proxy.url)
    store = cast("PostgresStore", far._store)
    apply = store.apply

    def apply_and_lose_the_reply(events: Sequence[RunEvent]) -> PostgresOperation[Any]:
        operation = cast("PostgresOperation[Any]", apply(events))

        def steps(repeated: bool) -> Any:
            if repeated:
                eventually(lambda: run.status() in ("completed", "failed"), PATIENCE, what="the attempt has ended")
            return (yield from operation.steps(repeated))

        proxy.arm()
        return PostgresOperation(operation.name, steps)

    monkeypatch.setattr(store, "apply", apply_and_lose_the_reply)

    far.get_run(run.id).retry()

    assert proxy.has_lost_one
    assert stage.ended(run).status == ("completed" if fails == 1 else "failed")
    assert stage.row("select attempt from cnstra.runs")["attempt"] == 2
    assert stage.ledger.calls(run.id) == {1: 2}
    assert_sound(stage, run.id)


def test_g4_a_claim_whose_reply_comes_after_it_was_given_back_is_not_called(stage: Stage) -> None:
    """Its worker lives, and misses it at two renewals; others do the work, and no try is called twice."""
    slow = stage.start(routes.chain, lease=timedelta(seconds=1.5), look_every=timedelta(hours=1))
    slow.arm(Fault(point="claim.done", action="block", activation=1))
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    slow.reached("claim.done")
    other = stage.start(routes.chain)
    stage.completed(run)

    slow.release("claim.done")

    after = stage.client(routes.chain).submit(routes.set_out.create_signal(20))
    assert other.drain()
    stage.completed(after)
    assert slow.drain()
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert {entry.pid for entry in stage.ledger.entries(run.id)} == {other.pid}
    assert_sound(stage, run.id)

"""The primary dies and its standby is promoted: workers and clients whose URL names both go on by themselves.

What was accepted is kept where the standby was synchronous. Where it lacks the last moments, these are done again, by the same
workers, which have them in their memory as done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cnstra import AsyncOrchestrator, Orchestrator, Run, RunNotFound, StoreUnavailable
from cnstra.servers import HeldServers
from cnstra.stores.postgres import migrate
from support import bank
from support.brokers import RedisBroker
from support.customers import Coming
from support.graphs import contexts
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage, on_stage
from support.standby import Standby, standby_of
from support.waiting import eventually
from support.wire import Wire

_LEGS = 6
_LEASE = timedelta(seconds=6)
"""Of workers that are to find out what the new primary believes them to hold: they compare at two renewals."""
_ENDED = "select count(*) as number from cnstra.run where finished_at is not null"


@pytest.fixture
def standby(own_servers: HeldServers) -> Iterator[Standby]:
    """A standby of the test's own Postgres, which has the schema."""
    migrate(own_servers.database_url)
    with standby_of(own_servers) as standby:
        yield standby


@pytest.fixture
def stage(standby: Standby, own_servers: HeldServers, tmp_path: Path) -> Iterator[Stage]:
    """Everybody's URL names both servers."""
    broker = RedisBroker(own_servers.broker_url, own_servers)
    with on_stage(standby.url_of_both, broker, tmp_path, own_servers.broker_url) as stage:
        yield stage


class _Customers(Coming):
    """Each submits one run after another, each again and again until it is accepted."""

    def __init__(self, database_url: str, client: Orchestrator) -> None:
        super().__init__(database_url)
        self.accepted: dict[str, Run] = {}
        self._client = client

    def submit(self, key: str) -> Run:
        return self._client.submit(contexts.start_with_baton.create_signal(_LEGS), idempotency_key=key)

    def _come(self) -> None:
        number = 0
        while not self._enough.wait(0.01):
            if self._is_crowded(self.accepted.values()):
                continue
            key = f"customer {number}"
            with suppress(StoreUnavailable):
                self.accepted[key] = self.submit(key)
                number += 1


def _runs_end(stage: Stage, more: int) -> None:
    ended = stage.row(_ENDED)["number"]
    eventually(lambda: stage.row(_ENDED)["number"] >= ended + more, PATIENCE, what=f"{more} more runs end")


def _assert_there_once(stage: Stage, accepted: dict[str, Run]) -> None:
    """Each key has its one run, and there is no other run."""
    found = stage.rows("select idempotency_key, run_id from cnstra.runs")
    assert {row["idempotency_key"]: row["run_id"] for row in found} == {key: run.id for key, run in accepted.items()}
    assert len(found) == len(accepted)


def test_g1_g2_g3_g4_a_synchronous_standby_is_promoted_under_load(stage: Stage, standby: Standby) -> None:
    """SIGKILL to the primary. All that was accepted ends, from where it was; nothing is there twice; no try is called twice.
    The workers are those of before."""
    standby.make_synchronous()
    workers = [stage.start(contexts.baton, streak=streak) for streak in (0, 0, 100)]
    customers = _Customers(stage.database_url, stage.client(contexts.baton))
    with customers.coming():
        _runs_end(stage, 10)
        standby.kill_primary()
        standby.promote()
        _runs_end(stage, 10)

    for run in customers.accepted.values():
        assert stage.completed(run).context["legs"] == _LEGS + 1
        assert_sound(stage, run.id)
    _assert_there_once(stage, customers.accepted)
    assert stage.rows("select * from cnstra.try where error_type not like '%ContextConflict'") == []
    assert all(worker.alive for worker in workers)


def test_g1_g4_a_standby_that_lacks_the_last_moments_is_promoted_under_load(stage: Stage, standby: Standby) -> None:
    """What it has ends, though the workers remember more. What it has not, callers submit again under their keys: all of it is
    there once in the end. Steps that are done again have the keys that they had."""
    workers = [stage.start(contexts.baton, streak=streak, lease=_LEASE) for streak in (0, 0, 100)]
    customers = _Customers(stage.database_url, stage.client(contexts.baton))
    with customers.coming():
        _runs_end(stage, 10)
        standby.cut_off()
        _runs_end(stage, 10)
        standby.kill_primary()
        standby.promote()
        _runs_end(stage, 10)

    known = {row["run_id"] for row in stage.rows("select run_id from cnstra.run")}
    lost = [key for key, run in customers.accepted.items() if run.id not in known]
    assert lost
    customers.accepted |= {key: customers.submit(key) for key in customers.accepted}
    for run in customers.accepted.values():
        assert stage.completed(run).context["legs"] == _LEGS + 1
        assert_sound(stage, run.id, same_try_twice=True)
    _assert_there_once(stage, customers.accepted)
    assert all(worker.alive for worker in workers)


@pytest.mark.parametrize("streak", [0, 100], ids=["through the broker", "kept in the process"])
def test_g3_g4_g5_steps_that_the_standby_lacks_are_done_again(stage: Stage, standby: Standby, streak: int) -> None:
    """By a worker that has done them, and is in the middle of one that the new primary has never heard of: its result is
    refused. What is done again has the same keys, and what comes after it sees what was written the second time."""
    client = stage.client(contexts.baton)
    fault = Fault(point="call.inside", action="block", activation=2)
    worker = stage.start(contexts.baton, fault, streak=streak, lease=_LEASE)
    run = client.submit(contexts.start_with_baton.create_signal(_LEGS))
    worker.reached("call.inside")
    standby.catch_up()
    standby.cut_off()
    worker.arm(Fault(point="call.inside", action="block", activation=5))
    worker.release("call.inside")
    worker.reached("call.inside")
    standby.kill_primary()
    standby.promote()
    worker.release("call.inside")

    assert stage.completed(run).context["legs"] == _LEGS + 1
    entries = stage.ledger.entries(run.id)
    calls = stage.ledger.calls(run.id)
    assert calls[1] == 1
    assert all(calls[number] == 2 for number in (2, 3, 4, 5)), calls
    for number in (2, 3, 4, 5):
        first, second = [entry for entry in entries if entry.activation_id == number]
        assert first.key == second.key
        assert first.what != second.what
    assert_sound(stage, run.id, same_try_twice=True)
    assert worker.alive


def test_g3_a_claim_that_the_standby_lacks_is_fenced_by_its_nonce(stage: Stage, standby: Standby) -> None:
    """The new primary gives out the same epoch again, to another worker: what the first one brings then is refused."""
    run = stage.client(contexts.baton).submit(contexts.start_with_baton.create_signal(_LEGS))
    standby.catch_up()
    standby.cut_off()
    first = stage.launch(contexts.baton, Fault(point="call.inside", action="stop", activation=1))
    first.reached("call.inside")
    first.frozen()
    epoch = "select epoch from cnstra.activation where run_id = %s and activation_id = 1"
    forgotten = stage.row(epoch, run.id)
    standby.kill_primary()
    standby.promote()
    second = stage.start(contexts.baton, Fault(point="call.inside", action="block", activation=1))
    second.reached("call.inside")
    assert stage.row(epoch, run.id) == forgotten

    first.thaw()
    refused = "its claim was taken away, so its result was refused; nothing was committed"
    eventually(lambda: refused in first.log(), PATIENCE, what="the first holder's settlement is refused")
    second.release("call.inside")

    assert stage.completed(run).context["legs"] == _LEGS + 1
    assert [entry.pid for entry in stage.ledger.entries(run.id) if entry.activation_id == 1] == [first.pid, second.pid]
    assert_sound(stage, run.id, same_try_twice=True)


def test_what_was_accepted_and_lost_is_told_of_and_can_be_submitted_again(stage: Stage, standby: Standby) -> None:
    """The caller's run is not found; under its key it is submitted again, and is one from then on."""
    client = stage.client(contexts.baton)
    standby.cut_off()
    lost = client.submit(contexts.start_with_baton.create_signal(_LEGS), idempotency_key="order 1")
    standby.kill_primary()
    standby.promote()

    with pytest.raises(RunNotFound):
        lost.status()
    again = client.submit(contexts.start_with_baton.create_signal(_LEGS), idempotency_key="order 1")
    worker = stage.start(contexts.baton)
    assert stage.completed(again).context["legs"] == _LEGS + 1
    assert client.submit(contexts.start_with_baton.create_signal(_LEGS), idempotency_key="order 1").id == again.id
    assert stage.row("select count(*) as number from cnstra.run")["number"] == 1
    assert_sound(stage, again.id)
    assert worker.alive


def test_a_worker_whom_the_standby_has_never_heard_of_goes_on_under_another_name(
    stage: Stage, standby: Standby
) -> None:
    """It began after the standby was cut off; it is not started again."""
    client = stage.client(contexts.baton)
    run = client.submit(contexts.start_with_baton.create_signal(_LEGS))
    standby.catch_up()
    standby.cut_off()
    worker = stage.start(contexts.baton, lease=_LEASE)
    stage.completed(run)
    standby.kill_primary()
    standby.promote()

    assert stage.completed(run).context["legs"] == _LEGS + 1
    assert_sound(stage, run.id, same_try_twice=True)
    eventually(
        lambda: stage.rows("select from cnstra.workers where pid = %s", worker.pid), PATIENCE, what="it is known"
    )


def test_a_name_that_led_to_a_standby_for_a_while_is_asked_again(
    stage: Stage, standby: Standby, own_servers: HeldServers
) -> None:
    """As with one name for whichever is the primary, which still leads to the one of before, a standby by now. Sessions there
    can only read: they are given up, and neither a worker nor a client keeps one."""
    with Wire(own_servers.database_url) as wire:
        client = stage.client(contexts.baton, database_url=wire.url)
        worker = stage.start(contexts.baton, database_url=wire.url)
        stage.completed(client.submit(contexts.start_with_baton.create_signal(_LEGS)))
        standby.catch_up()

        wire.lead_to(standby.url)
        wire.cut()
        with pytest.raises(StoreUnavailable, match="read-only"):
            client.submit(contexts.start_with_baton.create_signal(_LEGS))
        eventually(lambda: "read-only" in worker.log(), PATIENCE, what="the worker is there, too")
        wire.lead_to(own_servers.database_url)

        stage.completed(client.submit(contexts.start_with_baton.create_signal(_LEGS)))
        assert worker.alive


def test_a_name_that_led_to_a_standby_for_a_while_is_asked_again_awaited(
    stage: Stage, standby: Standby, own_servers: HeldServers
) -> None:
    """The same with an async client, which was there from its first connection on."""

    async def submit(wire: Wire) -> UUID:
        async with AsyncOrchestrator(contexts.baton, database=wire.url, broker=stage.broker_url) as client:
            with pytest.raises(StoreUnavailable, match="read-only"):
                await client.submit(contexts.start_with_baton.create_signal(_LEGS))
            wire.lead_to(own_servers.database_url)
            return (await client.submit(contexts.start_with_baton.create_signal(_LEGS))).id

    standby.catch_up()
    with Wire(standby.url) as wire:
        run_id = asyncio.run(asyncio.wait_for(submit(wire), PATIENCE))

    assert stage.rows("select run_id from cnstra.runs") == [{"run_id": run_id}]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_step_in_the_database_does_not_begin_on_a_standby(
    stage: Stage, standby: Standby, own_servers: HeldServers, colour: str
) -> None:
    """Where the name led there when its connection was made. The handler, which could write nothing there, is not called, and
    has no failed try; it waits for a primary."""
    bank.tables(own_servers.database_url)
    with Wire(own_servers.database_url) as wire:
        client = stage.client(bank.bank, database_url=own_servers.database_url)
        worker = stage.start(bank.bank, database_url=wire.url)
        standby.catch_up()
        wire.lead_to(standby.url)
        run = client.submit(bank.asked.create_signal({"amount": 5, "colour": colour}))
        eventually(lambda: "takes no writes; it waits for one" in worker.log(), PATIENCE, what="the step waits")
        wire.lead_to(own_servers.database_url)

        assert [output.payload for output in stage.completed(run).outputs] == [5]
        assert stage.row("select balance from account")["balance"] == 5
        assert stage.rows("select from cnstra.try where error_type is not null") == []
        assert_sound(stage, run.id)

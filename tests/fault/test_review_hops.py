"""A worker process on a real database: whatever handlers, policies and races do to it, its claims come to an end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tenacity import Retrying, stop_after_attempt, wait_none

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.ports import Ring, SystemEntropy
from cnstra.orchestrator.store import AppliedBatch, Operation
from cnstra.orchestrator.submitting import submission_of
from cnstra.stores.postgres import PostgresStore
from cnstra.workers import calling
from cnstra.workers.hop import Hops
from cnstra.workers.lease import Lease
from cnstra.workers.settings import WorkerSettings
from support.waiting import eventually

PATIENCE = 20.0


@dataclass
class LoudBell:
    """A bell that does as the test says while it rings."""

    ringing: Callable[[], None] = lambda: None
    rung: list[Ring] = field(default_factory=list)

    def ring(self, rings: Sequence[Ring]) -> None:
        self.rung += rings
        self.ringing()

    def close(self) -> None: ...


class LoudStore(PostgresStore):
    """A store that does as the test says when it has settled something, before anybody is told."""

    settled: Callable[[AppliedBatch], None] = staticmethod(lambda batch: None)

    def run(self, operation: Operation[Any], /) -> Any:
        result = super().run(operation)
        if isinstance(result, AppliedBatch):
            self.settled(result)
        return result


@dataclass
class Process:
    """One worker process's hops and lease, without a listener and without a supervisor."""

    cns: CNS
    store: LoudStore
    bell: LoudBell
    hops: Hops
    lease: Lease

    def submit(self, signal: Signal[Any]) -> UUID:
        submission = submission_of(self.cns, signal, {}, SystemEntropy())
        self.store.run(self.store.submit([submission]))
        self.hops.nudge()
        return submission.run_id

    def row(self, run_id: UUID) -> dict[str, Any]:
        row = self.store.run(self.store.run_row(run_id))
        assert row is not None
        return dict(row)

    def ended(self, run_id: UUID) -> dict[str, Any]:
        """The run's row, once it has ended."""
        return eventually(
            lambda: row if (row := self.row(run_id))["finished_at"] else None, PATIENCE, what="the run ends"
        )

    def held(self, run_id: UUID) -> list[bool]:
        """For each claim that the store believes to be here: whether it is."""
        claims = self.store.run(self.store.renew(self.lease.worker())) or []
        return [self.hops.holds(claim.run_id, claim.fence) for claim in claims if claim.run_id == run_id]

    def room(self) -> int:
        return self.hops._claimer.room()


Start = Callable[..., Process]


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    """Starts worker processes' hops on the test's database, each for one graph; stops them at the end."""
    begun: list[Process] = []

    def begin(cns: CNS, **changes: Any) -> Process:
        store, bell, entropy = LoudStore(database_url), LoudBell(), SystemEntropy()
        settings = WorkerSettings(**{"threads": 2, "drain": timedelta(seconds=5), **changes})
        lease = Lease(cns, store, bell, settings, entropy)
        hops = Hops(cns, store, bell, settings, entropy, lease.worker)
        lease.register(hops.skills.queues, hops.skills.dendrites)
        hops.start()
        process = Process(cns, store, bell, hops, lease)
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.hops.stop(1.0)
        process.lease.stop()
        process.store.close()


# -- claims that come again --------------------------------------------------------------------------------------------


@dataclass
class Race:
    """A graph whose first neuron loses a race for a key, and is called again at once."""

    cns: CNS
    go: Signal[None]
    first_call: threading.Event
    may_lose: threading.Event
    second_call: threading.Event
    may_win: threading.Event


def race() -> Race:
    go = collateral("race.go")
    loser, winner = neuron("loser", {}), neuron("winner", {})
    events = [threading.Event() for _ in range(4)]
    first_call, may_lose, second_call, may_win = events

    @loser.dendrite(go)
    def lose(payload: None, axon: Any, ctx: Context) -> None:
        entered, leave = (first_call, may_lose) if ctx.try_number == 1 else (second_call, may_win)
        entered.set()
        leave.wait(PATIENCE)
        ctx["key"] = "loser"

    @winner.dendrite(go)
    def win(payload: None, axon: Any, ctx: Context) -> None:
        ctx["key"] = "winner"

    return Race(CNS([loser, winner], name="race"), go.create_signal(None), *events)


def test_a_claim_that_comes_again_before_the_first_ones_answer_is_taken_in_stays_held(start: Start) -> None:
    """A conflict's activation may be claimed again while the commit's answer is on its way: the new claim is not let go."""
    raced = race()
    process = start(raced.cns)
    empty = process.room()
    run_id = process.submit(raced.go)
    assert raced.first_call.wait(PATIENCE)
    eventually(lambda: process.row(run_id)["context_version"] == 1, PATIENCE, what="the winner has written")

    def claim_again(batch: AppliedBatch) -> None:
        if batch.answers[0].verdict is Verdict.CONFLICTED:
            process.hops.nudge()
            assert raced.second_call.wait(PATIENCE)

    process.store.settled = claim_again
    raced.may_lose.set()
    assert raced.second_call.wait(PATIENCE)
    eventually(lambda: process.room() == empty - 1, PATIENCE, what="the first claim is let go, and no other")

    assert process.held(run_id) == [True]
    raced.may_win.set()
    assert process.ended(run_id)["status"] == "completed"
    eventually(lambda: process.room() == empty, PATIENCE, what="all room is free again")


# -- what users' code may do after its call -----------------------------------------------------------------------------


class Touchy:
    """What cannot be compared: as arrays of numbers, it gives no plain answer."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Unspeakable(Exception):
    """An error that breaks whoever looks at it."""

    def __str__(self) -> str:
        raise SystemExit("no message")

    def add_note(self, note: str) -> None:
        raise TypeError("no notes")


def _touchy(ctx: Context) -> Any:
    ctx["list"] = [1]
    ctx["list"][0] = Touchy()


def _quits_late(ctx: Context) -> Any:
    yield from ()
    raise SystemExit("from a generator")


def _quits(ctx: Context) -> Any:
    raise SystemExit("from a handler")


def _unspeakable(ctx: Context) -> Any:
    raise Unspeakable


def _quits_in_update(ctx: Context) -> Any:
    ctx.update("key", lambda value: (_ for _ in ()).throw(SystemExit("from an update")))


HOSTILE = {
    "changed in place to what cannot be compared": (_touchy, "completed"),
    "a generator that quits": (_quits_late, "failed"),
    "a handler that quits": (_quits, "failed"),
    "an error that cannot be read": (_unspeakable, "failed"),
    "an update that quits": (_quits_in_update, "failed"),
}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_a_handler_leaves_behind_its_run_ends_and_the_worker_goes_on(
    start: Start, what: str, asynchronous: bool
) -> None:
    """No claim stays with a call that has ended, and no thread dies of it: one more run is served than there are threads."""
    body, status = HOSTILE[what]
    go = collateral("hostile.go")
    one = neuron("one", {})
    once = Retrying(stop=stop_after_attempt(1), wait=wait_none())
    if asynchronous:

        @one.dendrite(go, retry=once)
        async def handle(payload: None, axon: Any, ctx: Context) -> Any:
            return body(ctx)
    else:

        @one.dendrite(go, retry=once)
        def handle(payload: None, axon: Any, ctx: Context) -> Any:
            return body(ctx)

    process = start(CNS([one], name="hostile"))
    empty = process.room()

    runs = [process.submit(go.create_signal(None)) for _ in range(3)]

    assert {process.ended(run_id)["status"] for run_id in runs} == {status}
    eventually(lambda: process.room() == empty, PATIENCE, what="all room is free again")


def test_an_update_that_quits_on_others_values_fails_its_try(start: Start) -> None:
    """It is called again while the hop is settled, where no handler is left to blame: the try fails all the same."""
    go = collateral("update.go")
    late, early = neuron("late", {}), neuron("early", {})
    entered, leave = threading.Event(), threading.Event()

    def only_once(value: int | None) -> int:
        if value is not None:
            raise SystemExit("from an update")
        return 1

    @late.dendrite(go, retry=Retrying(stop=stop_after_attempt(1)))
    def wait(payload: None, axon: Any, ctx: Context) -> None:
        ctx.update("key", only_once)
        entered.set()
        leave.wait(PATIENCE)

    @early.dendrite(go)
    def write(payload: None, axon: Any, ctx: Context) -> None:
        ctx["key"] = 7

    process = start(CNS([late, early], name="update"))
    run_id = process.submit(go.create_signal(None))
    assert entered.wait(PATIENCE)
    eventually(lambda: process.row(run_id)["context_version"] == 1, PATIENCE, what="the other has written")

    leave.set()

    row = process.ended(run_id)
    assert (row["status"], row["error_type"]) == ("failed", "SystemExit")


def test_a_payload_that_fits_no_more_is_told_in_the_log(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Its handler is never called: who looks at the worker's log finds the run and the activation all the same."""
    caplog.set_level(logging.INFO, logger="cnstra")
    given: Any = collateral("go", Any)
    before, now = neuron("one", {}), neuron("one", {})
    before.dendrite(given)(lambda payload: None)
    now.dendrite(collateral("go", int), retry=Retrying(stop=stop_after_attempt(1)))(lambda payload: None)
    submission = submission_of(CNS([before], name="typed"), given.create_signal("three"), {}, SystemEntropy())
    process = start(CNS([now], name="typed"))

    process.store.run(process.store.submit([submission]))
    process.hops.nudge()

    assert process.ended(submission.run_id)["error_type"] == "cnstra.PayloadError"
    told = f"run {submission.run_id}, activation 1 (one on go), try 1: cnstra.PayloadError; failed for good"
    assert told in caplog.messages


def test_a_policy_that_quits_fails_the_try(start: Start) -> None:
    """A policy's own function may raise what is no error: the activation has failed, and is not held for ever."""
    go = collateral("policy.go")
    one = neuron("one", {})

    def quit_(state: Any) -> bool:
        raise SystemExit("from a policy")

    @one.dendrite(go, retry=Retrying(retry=quit_, stop=stop_after_attempt(3)))
    def handle(payload: None, axon: Any, ctx: Context) -> None:
        raise ValueError("no")

    process = start(CNS([one], name="policy"))

    assert process.ended(process.submit(go.create_signal(None)))["status"] == "failed"


def test_a_handler_that_stops_the_event_loop_stops_no_other(start: Start) -> None:
    """The loop is the worker's: it goes on until the worker stops it."""
    import asyncio

    go = collateral("loop.go")
    one = neuron("one", {})

    @one.dendrite(go)
    async def handle(payload: None, axon: Any, ctx: Context) -> None:
        asyncio.get_running_loop().stop()

    process = start(CNS([one], name="loop"))

    for _ in range(2):
        assert process.ended(process.submit(go.create_signal(None)))["status"] == "completed"


# -- the broker --------------------------------------------------------------------------------------------------------


class StepAxon(Axon):
    next = collateral("steps.next", int)


def test_a_bell_that_breaks_takes_no_committer_along(start: Start) -> None:
    """What is settled is settled, whoever could not be told: the answers are taken in, and the next batch commits."""
    go = collateral("steps.go")
    one, two, three = neuron("one", StepAxon), neuron("two", {}), neuron("three", {})

    @one.dendrite(go)
    def begin(payload: None, axon: StepAxon) -> Signal[int]:
        return axon.next.create_signal(1)

    two.dendrite(StepAxon.next)(lambda payload: None)
    three.dendrite(StepAxon.next)(lambda payload: None)
    process = start(CNS([one, two, three], name="steps"))

    def broken() -> None:
        raise OSError("the bell broke")

    process.bell.ringing = broken
    for _ in range(2):
        assert process.ended(process.submit(go.create_signal(None)))["status"] == "completed"


def test_a_successor_is_held_before_the_broker_is_told_of_others(start: Start) -> None:
    """A broker that hangs delays nothing that stays here: else its claim would be given back as one that never came."""
    go = collateral("steps.go")
    one, two, three = neuron("one", StepAxon), neuron("two", {}), neuron("three", {})
    called, seen = threading.Event(), list[bool]()

    @one.dendrite(go)
    def begin(payload: None, axon: StepAxon) -> Signal[int]:
        return axon.next.create_signal(1)

    @two.dendrite(StepAxon.next)
    def stay(payload: int) -> None:
        called.set()

    three.dendrite(StepAxon.next)(lambda payload: None)
    process = start(CNS([one, two, three], name="steps"))
    process.bell.ringing = lambda: seen.append(called.wait(PATIENCE))

    assert process.ended(process.submit(go.create_signal(None)))["status"] == "completed"
    assert seen[0]


# -- waiting for a thread ------------------------------------------------------------------------------------------------


def test_work_that_waits_too_long_for_a_thread_goes_to_another_worker(start: Start) -> None:
    """A handler that takes its time keeps no other run from a worker that is free; and it claims no more to wait."""
    go = collateral("slow.go", bool)
    one = neuron("one", {})
    entered, leave = threading.Event(), threading.Event()

    @one.dendrite(go)
    def handle(slow: bool) -> None:
        if slow:
            entered.set()
            leave.wait(2 * PATIENCE)

    cns = CNS([one], name="slow")
    busy = start(cns, threads=1)
    slow_run = busy.submit(go.create_signal(True))
    assert entered.wait(PATIENCE)
    quick_run = busy.submit(go.create_signal(False))
    eventually(lambda: busy.held(quick_run) == [True], PATIENCE, what="the quick one waits behind the slow one")

    busy.hops.renewed()
    assert busy.held(quick_run) == [True]
    busy.hops.renewed()
    eventually(lambda: busy.held(quick_run) == [], PATIENCE, what="it is given back")
    busy.hops.rung("default", [])

    assert busy.held(quick_run) == []
    start(cns, threads=1)
    assert busy.ended(quick_run)["status"] == "completed"
    leave.set()
    assert busy.ended(slow_run)["status"] == "completed"
    assert busy.ended(busy.submit(go.create_signal(False)))["status"] == "completed"
    activations = busy.store.run(busy.store.activation_rows(quick_run))
    assert [row["tries"] for row in activations] == [1]


# -- too much at once --------------------------------------------------------------------------------------------------


def test_g15_a_hop_that_writes_more_than_a_statement_holds_is_refused_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each signal would fit, all of them do not: the try fails with a name for it, before it can spoil a batch."""
    monkeypatch.setattr(calling, "MOST_PER_HOP", 1_000)
    go = collateral("much.go", int)
    one, two = neuron("one", {"told": (told := collateral("much.told", str))}), neuron("two", {})

    @one.dendrite(go, retry=Retrying(stop=stop_after_attempt(1)))
    def handle(signals: int) -> list[Signal[str]]:
        return [told.create_signal("x" * 100) for _ in range(signals)]

    two.dendrite(told)(lambda payload: None)
    process = start(CNS([one, two], name="much"))
    too_much, enough = process.submit(go.create_signal(10)), process.submit(go.create_signal(9))

    row = process.ended(too_much)
    assert (row["status"], row["error_type"]) == ("failed", "cnstra.PayloadError")
    assert "1,020 characters" in row["error"]
    assert process.ended(enough)["status"] == "completed"

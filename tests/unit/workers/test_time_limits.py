"""Time limits and heartbeats in a worker, over a store in memory. The watch's time passes as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from queue import Queue
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Neuron, Signal, collateral, neuron
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.store import HeldClaim
from cnstra.orchestrator.submitting import submission_of
from cnstra.stores.memory import MemoryStore
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.worker import Worker
from support.clocks import ManualTime
from support.waiting import eventually

PATIENCE = 60.0
MINUTE = timedelta(minutes=1)
COLOURS = ["sync", "async", "async part"]

start = collateral("start", int)


class OneAxon(Axon):
    out = collateral("out", int)


class Quiet:
    """A bell, and a door at which nobody rings."""

    def ring(self, rings: Any) -> None: ...
    def close(self) -> None: ...
    def start(self) -> None: ...
    def stop(self, timeout: float = 0.0) -> None: ...


def graph_of(handler: Callable[..., Any], *others: Neuron[Any, Any]) -> CNS:
    """A graph whose one handler may take a minute; its failed tries are followed by others at once."""
    one = neuron("one", OneAxon, retry=Retrying(stop=stop_after_attempt(3), wait=wait_fixed(0)))
    one.dendrite(start, max_duration=MINUTE)(handler)
    return CNS([one, *others], name="one")


class Serving:
    """A worker of one graph, its store, and its time."""

    def __init__(self, cns: CNS, **settings: Any) -> None:
        self.time = ManualTime()
        self.store = MemoryStore()
        self.cns = cns
        told = WorkerSettings(**({"drain": timedelta(seconds=1), "look_every": timedelta(milliseconds=20)} | settings))

        def listen(queues: tuple[str, ...], rung: Callable[[str, Iterable[tuple[UUID, int]]], None]) -> Quiet:
            return Quiet()

        self.worker = Worker(cns, self.store, Quiet(), listen, told, SystemEntropy(), clock=self.time)
        self.worker.start()

    def submit(self, signal: Signal[Any] | None = None) -> UUID:
        submission = submission_of(self.cns, signal or start.create_signal(1), {}, SystemEntropy())
        self.store.run(self.store.submit([submission]))
        return submission.run_id

    def row(self, run_id: UUID) -> dict[str, Any]:
        [row] = self.store.run(self.store.activation_rows(run_id))
        return dict(row)

    def ended(self, run_id: UUID) -> str:
        def status() -> str | None:
            found = self.store.run(self.store.run_status(run_id))
            return found if found in ("completed", "failed") else None

        return str(eventually(status, PATIENCE, what=f"run {run_id} has ended"))


class Led:
    """A handler in each colour that does what the test tells it, step by step."""

    def __init__(self, colour: str) -> None:
        self.begun: Queue[tuple[Context, Queue[Callable[[Context], Any]]]] = Queue()
        self._steps = Queue[tuple[Queue[Callable[[Context], Any]], Queue[Any]]]()
        self._colour = colour

    def handler(self) -> Callable[..., Any]:
        if self._colour == "sync":
            return self._sync
        if self._colour == "async":

            async def wait(n: int, axon: OneAxon, ctx: Context) -> Signal[int]:
                return await self._wait(n, axon, ctx)

            return wait

        def begin(n: int, axon: OneAxon, ctx: Context) -> Any:
            return self._wait(n, axon, ctx)

        return begin

    def _sync(self, n: int, axon: OneAxon, ctx: Context) -> Signal[int]:
        orders: Queue[Callable[[Context], Any]] = Queue()
        self.begun.put((ctx, orders))
        while orders.get(timeout=PATIENCE)(ctx) is not True:
            pass
        return axon.out.create_signal(n)

    async def _wait(self, n: int, axon: OneAxon, ctx: Context) -> Signal[int]:
        orders: Queue[Callable[[Context], Any]] = Queue()
        self.begun.put((ctx, orders))
        while (await asyncio.to_thread(orders.get, True, PATIENCE))(ctx) is not True:
            pass
        return axon.out.create_signal(n)

    def next(self) -> Try:
        return Try(*self.begun.get(timeout=PATIENCE))


class Try:
    """One call that has begun."""

    def __init__(self, ctx: Context, orders: Queue[Callable[[Context], Any]]) -> None:
        self.ctx = ctx
        self._orders = orders

    def do(self, what: Callable[[Context], Any]) -> Any:
        """Let it do this, and wait until it has; what that gave, or raised."""
        told: Queue[Any] = Queue()

        def step(ctx: Context) -> None:
            try:
                told.put(what(ctx))
            except Exception as error:
                told.put(error)

        self._orders.put(step)
        return told.get(timeout=PATIENCE)

    def end(self) -> None:
        self._orders.put(lambda ctx: True)


@pytest.fixture(params=COLOURS)
def led(request: pytest.FixtureRequest) -> Led:
    return Led(request.param)


@pytest.fixture
def serving(led: Led) -> Iterator[Serving]:
    serving = Serving(graph_of(led.handler()), threads=1)
    yield serving
    serving.worker.stop()


def test_heartbeats_keep_a_long_handler_alive(led: Led, serving: Serving) -> None:
    """Its max_duration counts from the last one: it ends as its first try, hours after its beginning."""
    run_id = serving.submit()
    call = led.next()
    for _ in range(5):
        serving.time.advance(59)
        assert call.do(lambda ctx: ctx.heartbeat()) is None
    call.end()
    assert serving.ended(run_id) == "completed"
    assert serving.row(run_id)["tries"] == 1


def test_a_handler_that_takes_too_long_loses_its_result(led: Led, serving: Serving) -> None:
    """Its context writes and its signal are not committed, those of the next try are; one thread serves both."""
    run_id = serving.submit()
    stuck = led.next()
    stuck.do(lambda ctx: ctx.set({"left by": ctx.try_number}))
    serving.time.advance(60)

    second = led.next()

    assert second.ctx.try_number == 2
    second.do(lambda ctx: ctx.set({"kept by": ctx.try_number}))
    stuck.end()
    second.end()
    assert serving.ended(run_id) == "completed"
    assert serving.row(run_id)["tries"] == 2
    snapshot = serving.store.run(serving.store.context_at(run_id, None))
    assert snapshot is not None
    assert [slot.text for slot in snapshot.slots.values()] == ["2"]
    assert [output["payload"] for output in serving.row(run_id)["outputs"]] == [1]


def test_what_a_try_reported_is_there_for_the_next(led: Led, serving: Serving) -> None:
    """Also right before its time was over; and after the end the last one stays."""
    run_id = serving.submit()
    first = led.next()
    assert first.ctx.progress is None
    first.do(lambda ctx: ctx.heartbeat({"row": 17}))
    serving.time.advance(60)
    second = led.next()
    assert second.ctx.progress == {"row": 17}
    second.do(lambda ctx: ctx.heartbeat({"row": 99}))
    first.end()
    second.end()
    assert serving.ended(run_id) == "completed"
    assert serving.row(run_id)["progress"] == {"row": 99}


def test_a_run_that_is_being_ended_tells_its_handlers(led: Led, serving: Serving) -> None:
    """Found out by the renewal of the lease; the handler's end counts all the same, and others know nothing of it."""
    run_id = serving.submit()
    call = led.next()
    renew = serving.store.renew

    def ending(worker: UUID) -> Any:
        plain: Any = renew(worker)
        return type(plain)(
            plain.name,
            lambda state: [
                HeldClaim(run_id=one.run_id, fence=one.fence, ending=one.run_id == run_id)
                for one in plain.carry_out(state) or []
            ],
        )

    assert call.ctx.cancelled is False
    serving.store.renew = ending  # type: ignore[method-assign]
    serving.worker._lease._renew(lambda run_id, fence: True)
    assert call.do(lambda ctx: ctx.cancelled) is True
    call.end()
    assert serving.ended(run_id) == "completed"


def test_a_stuck_thread_learns_by_its_heartbeat_that_it_works_for_nothing() -> None:
    """And its last thread's place was taken: the worker has as many free threads as before, also after it came back."""
    led = Led("sync")
    serving = Serving(graph_of(led.handler()), threads=1)
    try:
        run_id = serving.submit()
        stuck = led.next()
        serving.time.advance(60)
        second = led.next()
        assert stuck.ctx.cancelled
        assert not second.ctx.cancelled
        error = stuck.do(lambda ctx: ctx.heartbeat("late"))
        assert type(error).__name__ == "MaxDurationExceeded"
        second.do(lambda ctx: ctx.heartbeat("mine"))
        second.end()
        assert serving.ended(run_id) == "completed"
        assert serving.row(run_id)["progress"] == "mine"
        stuck.end()
        serving.submit()
        led.next().end()
    finally:
        serving.worker.stop()


def test_a_generator_that_comes_too_late_does_not_begin() -> None:
    """A handler that was stuck before it returned it has lost its claim: nothing of its body may happen."""
    led, bodies = Led("sync"), Queue[int]()

    def body(ctx: Context) -> Iterator[Signal[int]]:
        bodies.put(ctx.try_number)
        yield OneAxon.out.create_signal(1)

    def begin(n: int, axon: OneAxon, ctx: Context) -> Iterator[Signal[int]]:
        led._sync(n, axon, ctx)
        return body(ctx)

    serving = Serving(graph_of(begin), threads=1)
    try:
        run_id = serving.submit()
        stuck = led.next()
        serving.time.advance(60)
        second = led.next()
        stuck.end()
        eventually(lambda: serving.worker._hops._watch.stuck(is_async=False) == 0, PATIENCE, what="it came back")
        second.end()
        assert serving.ended(run_id) == "completed"
        assert (bodies.get(timeout=PATIENCE), bodies.empty()) == (2, True)
    finally:
        serving.worker.stop()


def test_with_too_many_stuck_a_worker_takes_no_more_sync_work() -> None:
    """It goes on with async handlers, and takes sync work again when one of the stuck has come back."""
    led, told = Led("sync"), Queue[int]()
    other, two = collateral("other", int), neuron("two")

    @two.dendrite(other)
    async def answer(n: int) -> None:
        told.put(n)

    serving = Serving(graph_of(led.handler(), two), threads=1, most_stuck=1)
    try:
        run_id = serving.submit()
        stuck = led.next()
        serving.time.advance(60)
        eventually(lambda: serving.row(run_id)["status"] == "ready", PATIENCE, what="its retry waits")
        serving.submit(other.create_signal(7))
        assert told.get(timeout=PATIENCE) == 7  # claimed while the retry, which is older, waits
        assert (led.begun.empty(), serving.row(run_id)["status"]) == (True, "ready")

        stuck.end()

        led.next().end()
        assert serving.ended(run_id) == "completed"
    finally:
        serving.worker.stop()


def test_work_that_waits_for_an_event_loop_that_hangs_is_given_back() -> None:
    """One async handler that blocks must not hold others' claims for ever; it goes on when the loop does."""
    blocked, let_go, told = Event(), Event(), Queue[int]()
    other, two = collateral("other", int), neuron("two")

    async def block(n: int) -> None:
        blocked.set()
        assert let_go.wait(PATIENCE)

    @two.dendrite(other)
    async def answer(n: int) -> None:
        told.put(n)

    serving = Serving(graph_of(block, two))
    try:
        serving.submit()
        assert blocked.wait(PATIENCE)
        run_id = serving.submit(other.create_signal(7))
        eventually(lambda: serving.row(run_id)["status"] == "running", PATIENCE, what="it is claimed")
        for _ in range(2):
            serving.worker._hops.renewed()
        eventually(lambda: serving.row(run_id)["status"] == "ready", PATIENCE, what="it is given back")
        let_go.set()
        assert told.get(timeout=PATIENCE) == 7
        assert serving.row(run_id)["tries"] == 1
    finally:
        serving.worker.stop()

"""Who waits, who interrupts, and who holds a stimulation that nobody waits for."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from cnstra import CNS, Axon, Response, Stimulation, StimulationAborted, collateral, neuron
from support.stimulating import ended_well, in_a_loop


class Out(Axon):
    out = collateral("out", int)


start = collateral("start", int)


class Waits:
    """A graph whose first handler waits until it is let go, and whose second notes that it ran."""

    def __init__(self) -> None:
        self.go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard: list[int] = []
        first, second = neuron("first", Out), neuron("second")

        @first.dendrite(start)
        async def wait(n: int, axon: Out) -> Any:
            await self.go
            return axon.out.create_signal(n)

        second.dendrite(Out.out)(self.heard.append)
        self.cns = CNS([first, second])


@in_a_loop
async def test_to_stop_waiting_stops_nothing_else() -> None:
    """The waiter is cancelled; the stimulation ends all the same, and another waiter is told."""
    graph = Waits()
    stimulation = graph.cns.stimulate(start.create_signal(1))
    waiter = asyncio.create_task(stimulation.wait_until_complete())
    other = asyncio.create_task(stimulation.wait_until_complete())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    open_before = stimulation.is_complete
    graph.go.set_result(None)
    await other

    assert open_before is False
    assert graph.heard == [1]
    await stimulation.wait_until_complete()


@in_a_loop
async def test_it_may_be_waited_for_on_other_loops() -> None:
    """From a thread with a loop of its own: it is woken there."""
    graph = Waits()
    stimulation = graph.cns.stimulate(start.create_signal(1))
    waiting = threading.Event()

    async def wait() -> None:
        waiting.set()
        await stimulation.wait_until_complete()

    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, wait()))
    await asyncio.to_thread(waiting.wait, 60)
    graph.go.set_result(None)
    await thread

    assert graph.heard == [1]


class Late(asyncio.SelectorEventLoop):
    """An event loop that does something else just before it makes its next future."""

    before: Callable[[], object] | None = None

    def create_future(self) -> asyncio.Future[Any]:
        before, self.before = self.before, None
        if before is not None:
            before()
        return super().create_future()


@in_a_loop
async def test_an_end_that_comes_while_another_thread_begins_to_wait_is_not_missed() -> None:
    """It ends between the waiter's look and its getting in line: the waiter is not left there."""
    graph, loop, ended = Waits(), asyncio.get_running_loop(), threading.Event()
    stimulation = graph.cns.stimulate(
        start.create_signal(1), on_drain=lambda drain: ended.set() if drain.queue_length == 0 else None
    )

    def end_it() -> None:
        loop.call_soon_threadsafe(graph.go.set_result, None)
        assert ended.wait(60)

    async def wait() -> None:
        waiting = asyncio.get_running_loop()
        assert isinstance(waiting, Late)
        waiter = asyncio.ensure_future(stimulation.wait_until_complete())
        waiting.before = end_it
        await asyncio.sleep(0)
        done, _ = await asyncio.wait({waiter}, timeout=60)
        assert done, "the waiter was never woken"
        await waiter

    def on_another_thread() -> None:
        with asyncio.Runner(loop_factory=Late) as runner:
            runner.run(wait())

    await asyncio.to_thread(on_another_thread)


@in_a_loop
async def test_an_error_is_raised_to_whoever_waits_as_often_as_asked() -> None:
    """The same object, before and after the end."""
    graph = Waits()
    stimulation = graph.cns.stimulate(start.create_signal(1))
    early = asyncio.create_task(stimulation.wait_until_complete())
    graph.go.set_exception(ConnectionError("away"))
    errors = []
    for waiter in (early, stimulation.wait_until_complete(), stimulation.wait_until_complete()):
        with pytest.raises(Exception, match="first of them") as caught:
            await waiter
        errors.append(caught.value)

    assert errors[0] is errors[1] is errors[2]


@in_a_loop
async def test_a_forgotten_stimulation_goes_on_while_it_is_suspended() -> None:
    """Nobody holds it, nor what it waits for, but itself and the CNS: the collector leaves it alone; then it goes."""
    ended, hold = list[int](), list[Any]()
    forgotten = neuron("forgotten")

    @forgotten.dendrite(start)
    async def wait(n: int) -> None:
        future = asyncio.get_running_loop().create_future()
        hold.append(weakref.ref(future))
        await future
        ended.append(n)

    cns = CNS([forgotten])
    stimulation = weakref.ref(cns.stimulate(start.create_signal(1)))
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
    future = hold[0]()
    assert future is not None
    assert stimulation() is not None
    future.set_result(None)
    del future
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()

    assert ended == [1]
    assert stimulation() is None


def test_an_interrupt_in_a_handler_comes_out_of_run_and_of_stimulate() -> None:
    """At once, as itself; nothing that was queued is started after it."""
    for interrupt in (KeyboardInterrupt, SystemExit):
        heard: list[int] = []
        stops, hears = neuron("stops", Out), neuron("hears")

        def stop(_: int, axon: Out, *, interrupt: type[BaseException] = interrupt) -> Any:
            raise interrupt

        stops.dendrite(start)(stop)
        hears.dendrite(start)(heard.append)
        cns = CNS([stops, hears])

        with pytest.raises(interrupt):
            cns.run(start.create_signal(1))
        with pytest.raises(interrupt):
            cns.stimulate(start.create_signal(1))
        assert heard == []


def test_an_interrupt_after_a_handler_suspended_comes_out_of_run(caplog: pytest.LogCaptureFixture) -> None:
    """It reaches whoever called run; no successor starts while the loop is taken down, and asyncio has nothing to bemoan."""
    heard: list[int] = []
    stops, waits, hears = neuron("stops", Out), neuron("waits", Out), neuron("hears")

    @stops.dendrite(start)
    async def stop(_: int) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    @waits.dendrite(start)
    async def wait(n: int, axon: Out) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return axon.out.create_signal(n)

    hears.dendrite(Out.out)(heard.append)

    with pytest.raises(KeyboardInterrupt):
        CNS([waits, stops, hears]).run(start.create_signal(1))
    gc.collect()
    assert heard == []
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@in_a_loop
async def test_a_drain_that_aborts_ends_it_in_the_next_turn() -> None:
    """A drain listener may set the abort signal: what was told of as under way ends, and nothing more starts."""
    graph, abort = Waits(), threading.Event()
    stimulation = graph.cns.stimulate(start.create_signal(1), abort_signal=abort, on_drain=lambda _: abort.set())
    graph.go.set_result(None)
    with pytest.raises(StimulationAborted):
        await stimulation.wait_until_complete()

    assert graph.heard == []
    assert [failure.task.neuron.name for failure in stimulation.failed_tasks] == ["second"]


@in_a_loop
async def test_the_tasks_that_are_outstanding_are_told_while_it_runs() -> None:
    """Running, then none; a copy each time, that changes nothing."""
    graph = Waits()
    stimulation = graph.cns.stimulate(start.create_signal(1))
    running = stimulation.outstanding_tasks
    stimulation.outstanding_tasks.clear()
    stimulation.failed_tasks.append(running)  # type: ignore[arg-type]
    graph.go.set_result(None)
    await stimulation.wait_until_complete()

    assert [(task.neuron.name, task.collateral.name) for task in running] == [("first", "start")]
    assert stimulation.outstanding_tasks == stimulation.failed_tasks == []


def test_an_interrupt_in_a_listener_comes_out_too() -> None:
    """It is no error of the listener's to be kept: it is for whoever runs the program. The CNS can be used afterwards."""
    quiet = neuron("quiet", concurrency=1)
    quiet.dendrite(start)(lambda _: None)
    cns = CNS([quiet])

    def interrupt(response: Response) -> None:
        if response.neuron is quiet:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cns.stimulate(start.create_signal(1), on_response=interrupt)
    ended_well(cns.stimulate(start.create_signal(1)))


def test_an_interrupted_handler_gives_its_place_up() -> None:
    """The neuron's gate is the CNS's, and outlives the stimulation that was interrupted."""
    calls = list[int]()
    stops = neuron("stops", concurrency=1)

    @stops.dendrite(start)
    def stop(n: int) -> None:
        calls.append(n)
        if n == 0:
            raise KeyboardInterrupt

    cns = CNS([stops])
    with pytest.raises(KeyboardInterrupt):
        cns.stimulate(start.create_signal(0))
    ended_well(cns.stimulate(start.create_signal(1)))

    assert calls == [0, 1]


def test_a_sync_listener_that_raises_a_cancellation_is_one_that_failed() -> None:
    """``CancelledError`` is no Exception, and no interrupt either: it is kept, and the stimulation goes on to its end."""
    heard = list[int]()
    hears = neuron("hears")
    hears.dendrite(start)(heard.append)

    def cancelled(_: Response) -> None:
        raise asyncio.CancelledError

    stimulation = CNS([hears]).stimulate(start.create_signal(1), on_response=cancelled)

    assert heard == [1]
    assert stimulation.is_complete


def test_two_stimulations_have_two_ids() -> None:
    """A UUIDv7 each, the same as the handlers' ``ctx.run_id``; calls are numbered from 1."""
    seen: list[Any] = []
    notes = neuron("notes")
    notes.dendrite(start)(lambda _, axon, ctx: seen.append((ctx.run_id, ctx.activation_id, ctx.stimulation)))
    cns = CNS([notes])
    found: list[Stimulation] = [cns.stimulate([start.create_signal(1)] * 2) for _ in range(2)]

    assert found[0].id != found[1].id
    assert seen == [(each.id, number, each) for each in found for number in (1, 2)]

"""What the siblings in Swift and Kotlin pin down beyond the tests of the original."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import timedelta
from typing import Any

import pytest

from cnstra import (
    CNS,
    Axon,
    Context,
    GraphError,
    HopLimitReached,
    MaxDurationExceeded,
    StimulationFailed,
    collateral,
    neuron,
)
from support.stimulating import Told, end_of, in_a_loop


class Mids(Axon):
    mid = collateral("mid", int)
    out = collateral("out", int)


start = collateral("start", int)


def test_one_neuron_may_hear_what_it_emits() -> None:
    """Two dendrites of one neuron in a row, with a slot that both see: the second adds what the first one kept."""
    both, told = neuron("both", Mids), Told()

    @both.dendrite(start)
    def first(n: int, axon: Mids, ctx: Context) -> Any:
        ctx.local.set(n + 1)
        return axon.mid.create_signal(n + 10)

    both.dendrite(Mids.mid)(lambda n, axon, ctx: axon.out.create_signal(n + ctx.local.get()))
    CNS([both]).stimulate(start.create_signal(5), on_response=told)

    assert told.outputs == [("start", 5), ("mid", 15), ("out", 21)]
    told.check()


def test_a_neuron_with_one_place_may_emit_to_itself() -> None:
    """The place is given up before what was emitted wants it."""
    both, told = neuron("both", Mids, concurrency=1), Told()
    both.dendrite(start)(lambda n, axon: axon.mid.create_signal(n))
    both.dendrite(Mids.mid)(lambda n, axon: axon.out.create_signal(n))

    CNS([both]).stimulate(start.create_signal(1), on_response=told)

    assert told.outputs == [("start", 1), ("mid", 1), ("out", 1)]


def test_a_sync_handler_that_aborts_ends_its_own_stimulation() -> None:
    """It ran to its end, its signal was told of, and nobody heard it."""
    abort, passed = threading.Event(), list[str]()
    stops, hears = neuron("stops", Mids), neuron("hears")

    @stops.dendrite(start)
    def stop(n: int, axon: Mids, ctx: Context) -> Any:
        abort.set()
        passed.append("stop")
        return axon.out.create_signal(n)

    hears.dendrite(Mids.out)(lambda _: passed.append("hear"))
    told = Told()
    stimulation = CNS([stops, hears]).stimulate(start.create_signal(1), abort_signal=abort, on_response=told)

    assert passed == ["stop"]
    assert told.outputs == [("start", 1), ("out", 1)]
    assert [(failure.task.neuron.name, failure.aborted) for failure in stimulation.failed_tasks] == [("hears", True)]


def test_what_an_axon_does_not_have_cannot_be_emitted() -> None:
    """An attribute that is not there is an error that says what there is; the task fails with it."""
    wrong = neuron("wrong", Mids)
    wrong.dendrite(start)(lambda n, axon: axon.missing.create_signal(n))

    stimulation = CNS([wrong]).stimulate(start.create_signal(1))

    [failure] = stimulation.failed_tasks
    assert isinstance(failure.error, AttributeError)
    assert "mid, out" in str(failure.error)


def test_two_dendrites_of_one_neuron_on_one_collateral_are_refused() -> None:
    """There both answered; here an activation is known by neuron and collateral, so it has one answer: join them."""
    twice = neuron("twice", Mids)
    twice.dendrite(start)(lambda _: None)

    with pytest.raises(GraphError, match="two dendrites on 'start'"):
        twice.dendrite(start)(lambda _: None)


@in_a_loop
async def test_work_on_another_thread_comes_back_to_the_loop() -> None:
    """A handler awaits what a thread computes; its signal goes out on the thread of the stimulation."""
    heavy, threads, told = neuron("heavy", Mids), list[int](), Told()

    @heavy.dendrite(start)
    async def compute(n: int, axon: Mids) -> Any:
        total = await asyncio.to_thread(lambda: threads.append(threading.get_ident()) or sum(range(n)))
        threads.append(threading.get_ident())
        return axon.out.create_signal(total)

    await CNS([heavy]).stimulate(start.create_signal(100), on_response=told).wait_until_complete()

    assert told.payloads("out") == [4950]
    assert threads[0] != threads[1] == threading.get_ident()


@pytest.mark.parametrize(("bound", "fails"), [(3, False), (2, True)])
def test_a_neuron_is_visited_as_often_as_it_may(bound: int, fails: bool) -> None:
    """A loop of three visits under a bound of three; one more than the bound is a failed task, and the rest goes on."""
    loop, told = neuron("loop", Mids), Told()
    loop.dendrite(start, Mids.mid)(lambda n, axon: (axon.mid if n < 2 else axon.out).create_signal(n + 1))

    stimulation = CNS([loop]).stimulate(start.create_signal(0), max_neuron_hops=bound, on_response=told)

    assert told.payloads("out") == ([] if fails else [3])
    assert [type(failure.error) for failure in stimulation.failed_tasks] == ([HopLimitReached] if fails else [])
    told.check()


@in_a_loop
async def test_a_handler_that_takes_too_long_is_stopped() -> None:
    """Its task is cancelled and has failed, whatever it makes of that; the dendrite's bound goes before its neuron's."""
    ended = list[str]()
    slow = neuron("slow", max_duration=timedelta(hours=1))

    @slow.dendrite(start, max_duration=timedelta(milliseconds=1))
    async def wait(n: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            if n == 0:
                raise

    stimulation = CNS([slow]).stimulate([start.create_signal(0), start.create_signal(1)])

    assert isinstance(await end_of(stimulation), StimulationFailed)
    assert ended == ["cancelled", "cancelled"]
    assert [type(failure.error) for failure in stimulation.failed_tasks] == [MaxDurationExceeded] * 2


@in_a_loop
async def test_a_handler_that_ends_in_time_is_not_stopped() -> None:
    """Its bound is forgotten with its end."""
    slow, told = neuron("quick", Mids, max_duration=timedelta(hours=1)), Told()

    @slow.dendrite(start)
    async def answer(n: int, axon: Mids) -> Any:
        await asyncio.sleep(0)
        return axon.out.create_signal(n)

    await CNS([slow]).stimulate(start.create_signal(1), on_response=told).wait_until_complete()

    assert told.payloads("out") == [1]


@in_a_loop
async def test_handlers_of_one_stimulation_run_on_its_thread() -> None:
    """Sync and async, before and after they suspend: state that they share needs no lock."""
    threads = set[int]()
    hops, variable = neuron("hops", Mids), contextvars.ContextVar("of the caller", default="none")
    variable.set("caller")
    found = set[str]()

    @hops.dendrite(start)
    async def suspends(n: int, axon: Mids) -> Any:
        threads.add(threading.get_ident())
        await asyncio.sleep(0)
        threads.add(threading.get_ident())
        found.add(variable.get())
        return axon.mid.create_signal(n)

    @hops.dendrite(Mids.mid)
    def returns(_: int) -> None:
        threads.add(threading.get_ident())
        found.add(variable.get())

    await CNS([hops]).stimulate(start.create_signal(1)).wait_until_complete()

    assert threads == {threading.get_ident()}
    assert found == {"caller"}

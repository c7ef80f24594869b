"""Response listeners: async ones are barriers, run together, and fail the stimulation without stopping it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cnstra import (
    CNS,
    Axon,
    Response,
    Stimulation,
    StimulationAborted,
    StimulationError,
    StimulationFailed,
    collateral,
    neuron,
)
from support.stimulating import Told, end_of, in_a_loop


class Out(Axon):
    out = collateral("out", int)


start = collateral("start", int)


def one_hop(seen: list[int] | None = None) -> CNS:
    passes, sink = neuron("passes", Out), neuron("sink")
    passes.dendrite(start)(lambda n, axon: axon.out.create_signal(n))
    sink.dendrite(Out.out)(lambda n: None if seen is None else seen.append(n))
    return CNS([passes, sink])


@in_a_loop
async def test_async_listeners_of_one_response_run_together() -> None:
    """Each of three waits for all three to have begun: one after the other they would wait for ever."""
    waiting, meetings = list[asyncio.Future[None]](), list[int]()
    cns = one_hop()

    async def meet(_: Response) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        if len(waiting) == 3:
            meetings.append(3)
            while waiting:
                waiting.pop().set_result(None)
        await mine

    cns.add_response_listener(meet)
    cns.add_response_listener(meet)
    stimulation = cns.stimulate(start.create_signal(1), on_response=meet)
    async with asyncio.timeout(30):
        await stimulation.wait_until_complete()

    assert meetings == [3, 3, 3]


@in_a_loop
async def test_what_a_signal_starts_waits_for_the_listeners() -> None:
    """The next response comes only after the barrier of this one was opened."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seen, order = list[int](), list[str]()

    async def hold(response: Response) -> None:
        name = response.output_signal.collateral.name if response.output_signal else "end"
        order.append(f"begin {name}")
        if name == "out":
            await go
        order.append(f"end {name}")

    stimulation = one_hop(seen).stimulate(start.create_signal(1), on_response=hold)
    for _ in range(10):
        await asyncio.sleep(0)
    held = (list(order), list(seen))
    go.set_result(None)
    await stimulation.wait_until_complete()

    assert held == (["begin start", "end start", "begin out"], [])
    assert order == ["begin start", "end start", "begin out", "end out", "begin end", "end end"]
    assert seen == [1]


@in_a_loop
async def test_the_error_of_the_stimulations_own_listener_is_raised_as_itself() -> None:
    """All that was to run has run first."""
    seen, error = list[int](), LookupError("own")

    def bad(_: Response) -> None:
        raise error

    stimulation = one_hop(seen).stimulate(start.create_signal(1), on_response=bad)

    assert await end_of(stimulation) is error
    assert seen == [1]
    assert stimulation.failed_tasks == []


@in_a_loop
async def test_the_error_of_an_async_listener_of_the_cns_is_raised_as_itself() -> None:
    """Whether it was raised before or after it suspended."""
    for suspends in (False, True):
        seen, error = list[int](), LookupError("of the CNS")

        async def bad(_: Response, suspends: bool = suspends, error: Exception = error) -> None:
            if suspends:
                await asyncio.sleep(0)
            raise error

        cns = one_hop(seen)
        cns.add_response_listener(bad)

        assert await end_of(cns.stimulate(start.create_signal(1), on_response=lambda _: None)) is error
        assert seen == [1]


def test_sync_listeners_need_no_loop_and_no_wait() -> None:
    """With them alone a stimulation is over when stimulate returns."""
    told = Told()

    stimulation = one_hop().stimulate(start.create_signal(1), on_response=told)

    assert stimulation.is_complete
    assert told.line == "1(1/0) 1(1/0) 0(0/0)"


@in_a_loop
async def test_every_listener_runs_though_another_one_fails() -> None:
    """The first in the order of registration counts, not the first in time."""
    ran, cns = list[str](), one_hop()
    first_may_fail: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def late(response: Response) -> None:
        if response.input_signal is None:
            await first_may_fail
            raise LookupError("first registered")

    async def early(response: Response) -> None:
        if response.input_signal is None:
            first_may_fail.set_result(None)
            raise LookupError("first in time")

    async def fine(_: Response) -> None:
        await asyncio.sleep(0)
        ran.append("fine")

    for listener in (late, early, fine):
        cns.add_response_listener(listener)
    error = await end_of(cns.stimulate(start.create_signal(1)))

    assert str(error) == "first registered"
    assert ran == ["fine"] * 3


@in_a_loop
async def test_an_abort_behind_a_barrier_starts_nothing_more() -> None:
    """The signal was told of; its subscriber does not run, and is kept among the failed tasks."""
    abort, go = threading.Event(), asyncio.get_running_loop().create_future()
    reached, seen = asyncio.Event(), list[int]()

    async def hold(response: Response) -> None:
        if response.output_signal and response.output_signal.collateral is Out.out:
            reached.set()
            await go

    stimulation = one_hop(seen).stimulate(start.create_signal(1), on_response=hold, abort_signal=abort)
    await reached.wait()
    abort.set()
    go.set_result(None)
    error = await end_of(stimulation)

    assert isinstance(error, StimulationAborted)
    assert seen == []
    [failure] = stimulation.failed_tasks
    assert (failure.task.neuron.name, failure.aborted) == ("sink", True)


@in_a_loop
async def test_it_is_complete_only_after_the_last_async_listener() -> None:
    """The terminal response's listener is waited for, too; its error counts."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def hold(response: Response) -> None:
        if response.queue_length == 0:
            await go

    stimulation = one_hop().stimulate(start.create_signal(1), on_response=hold)
    for _ in range(20):
        await asyncio.sleep(0)
    open_before = stimulation.is_complete
    go.set_exception(LookupError("at the very end"))
    error = await end_of(stimulation)

    assert open_before is False
    assert str(error) == "at the very end"


def test_each_registration_is_its_own() -> None:
    """The same function twice is told twice; a remover takes its own one away, once, and may be called again."""
    cns, told = one_hop(), Told()
    first = cns.add_response_listener(told)
    second = cns.add_response_listener(told)

    cns.stimulate(start.create_signal(1))
    twice = len(told.counts)
    first()
    first()
    cns.stimulate(start.create_signal(1))
    once = len(told.counts) - twice
    second()
    cns.stimulate(start.create_signal(1))

    assert (twice, once, len(told.counts)) == (6, 3, 9)


def test_a_listener_may_come_and_go_within_a_stimulation() -> None:
    """One that is added at a response is told from the next one on; one that is removed is told no more."""
    cns, order = one_hop(), list[str]()
    removers: list[Any] = []

    def guest(_: Response) -> None:
        order.append("guest")
        removers[0]()

    def host(response: Response) -> None:
        order.append("host")
        if response.input_signal is None:
            removers.append(cns.add_response_listener(guest))

    cns.add_response_listener(host)
    cns.stimulate(start.create_signal(1))

    assert order == ["host", "host", "guest", "host"]


def test_a_listener_may_stimulate_the_same_cns() -> None:
    """The inner one runs to its end within the outer one's response, with counters of its own."""
    cns, inner = one_hop(), Told()
    outer = Told()

    def nest(response: Response) -> None:
        outer(response)
        if response.queue_length == 0:
            inner_stimulation = cns.stimulate(start.create_signal(2), on_response=inner)
            assert inner_stimulation.is_complete

    cns.stimulate(start.create_signal(1), on_response=nest)

    outer.check()
    inner.check()


@pytest.mark.parametrize("given", [None, 1, "text"])
def test_what_cannot_be_called_is_no_listener(given: Any) -> None:
    """It is refused where it is given, for responses and for drains."""
    with pytest.raises(StimulationError, match="listener"):
        one_hop().add_response_listener(given)
    with pytest.raises(StimulationError, match="listener"):
        one_hop().add_drain_listener(given)


@in_a_loop
async def test_a_listeners_error_goes_before_failed_tasks() -> None:
    """Both happened: the listener's own error is raised, and the failed tasks are there to be read."""
    fails = neuron("fails")
    fails.dendrite(start)(lambda n: 1 // n)

    def bad(_: Response) -> None:
        raise LookupError("listener")

    cns = CNS([fails])
    stimulation: Stimulation = cns.stimulate(start.create_signal(0), on_response=bad)
    alone = await end_of(cns.stimulate(start.create_signal(0)))

    assert isinstance(await end_of(stimulation), LookupError)
    assert len(stimulation.failed_tasks) == 1
    assert isinstance(alone, StimulationFailed)
    assert isinstance(alone.__cause__, ZeroDivisionError)

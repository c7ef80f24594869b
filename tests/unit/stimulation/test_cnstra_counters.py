"""The counters of responses: queue length is pending plus active, and zero in the last response alone."""

from __future__ import annotations

import asyncio
from typing import Any

from cnstra import CNS, StimulationFailed, Task, UnknownDendrite, collateral, neuron
from support.stimulating import Told, end_of, in_a_loop

a, b, c = collateral("a", int), collateral("b", int), collateral("c", int)


def leaf(name: str, hears: Any) -> Any:
    made = neuron(name)
    made.dendrite(hears)(lambda _: None)
    return made


def passes(name: str, hears: Any, emits: Any) -> Any:
    made = neuron(name, {"out": emits})
    made.dendrite(hears)(lambda n, axon: axon.out.create_signal(n + 1))
    return made


def test_zero_comes_once_and_in_the_last_response() -> None:
    """A chain of two, from its first response to its last."""
    told = Told()

    CNS([passes("first", a, b), leaf("last", b)]).stimulate(a.create_signal(1), on_response=told)

    assert told.line == "1(1/0) 1(1/0) 0(0/0)"
    told.check()


@in_a_loop
async def test_a_handler_that_has_suspended_is_active() -> None:
    """While it waits the other subscriber ends: one active, none pending; then its signal's subscriber is pending."""
    late = collateral("late", int)
    go: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    slow = neuron("slow", {"late": late})

    @slow.dendrite(a)
    async def wait(_: int, axon: Any) -> Any:
        return axon.late.create_signal(await go)

    told = Told()
    stimulation = CNS([slow, leaf("fast", a), leaf("after", late)]).stimulate(a.create_signal(1), on_response=told)
    go.set_result(1)
    await stimulation.wait_until_complete()

    assert told.line == "2(2/0) 1(0/1) 1(1/0) 0(0/0)"


def test_an_initial_signal_that_nobody_hears_is_not_the_end_of_those_to_come() -> None:
    """The first of two has no subscriber: the second one's activation counts already."""
    told = Told()

    CNS([leaf("only", b)]).stimulate([a.create_signal(1), b.create_signal(2)], on_response=told)

    assert told.line == "1(1/0) 1(1/0) 0(0/0)"


def test_trailing_signals_that_nobody_hears_count_until_they_were_told_of() -> None:
    """Zero is in the last response and in no other, although after the first one nothing is left to run."""
    told = Told()

    CNS([leaf("only", c)]).stimulate([a.create_signal(1), b.create_signal(2)], on_response=told)

    assert told.line == "1(1/0) 0(0/0)"


def test_the_end_of_one_initial_signals_subtree_is_not_the_end_of_all() -> None:
    """All that the first signal starts is over before the second one is told of; the second one's tasks count."""
    told = Told()
    cns = CNS([leaf("of a", a), passes("b to c", b, c), leaf("of c", c)])

    cns.stimulate([a.create_signal(1), b.create_signal(2)], on_response=told)

    caused = [response.input_signal.payload for response in told.responses if response.input_signal]
    assert caused == [1, 2, 3]
    assert told.line == "2(2/0) 1(1/0) 1(1/0) 1(1/0) 0(0/0)"


def test_it_is_complete_when_every_initial_signal_has_been_heard() -> None:
    """Without a listener, too: both handlers have run."""
    seen: list[int] = []
    first, second = neuron("first"), neuron("second")
    first.dendrite(a)(seen.append)
    second.dendrite(b)(seen.append)

    stimulation = CNS([first, second]).stimulate([a.create_signal(1), b.create_signal(2)])

    assert seen == [1, 2]
    assert stimulation.is_complete


@in_a_loop
async def test_what_an_async_listener_holds_back_is_pending() -> None:
    """Its handler was not called, so it is never active."""
    told = Told()
    cns = CNS([passes("first", a, b), leaf("last", b)])

    await cns.stimulate(a.create_signal(1), on_response=told.slowly).wait_until_complete()

    assert told.line == "1(1/0) 1(1/0) 0(0/0)"


def test_a_task_that_has_no_dendrite_ends_with_a_response() -> None:
    """It fails, as every failure is told of; the queue is empty then."""
    orphan = collateral("orphan", int)
    last = leaf("last", a)
    told = Told()

    stimulation = CNS([last]).activate([Task(neuron=last, collateral=orphan, signal=None)], on_response=told)

    assert told.line == "0(0/0)"
    assert isinstance(told.responses[0].error, UnknownDendrite)
    [failure] = stimulation.failed_tasks
    assert failure.error is told.responses[0].error


@in_a_loop
async def test_a_handler_that_raised_is_not_active_any_more() -> None:
    """Its own response counts it no longer, whether it raised at once or after it had suspended."""
    fails, fails_late = neuron("fails"), neuron("fails late")

    @fails.dendrite(a)
    def at_once(_: int) -> None:
        raise ValueError("at once")

    @fails_late.dendrite(b)
    async def later(_: int) -> None:
        await asyncio.sleep(0)
        raise ValueError("later")

    cns = CNS([fails, fails_late])
    for signal, message in ((a.create_signal(1), "at once"), (b.create_signal(1), "later")):
        told = Told()
        error = await end_of(cns.stimulate(signal, on_response=told))
        assert isinstance(error, StimulationFailed)
        assert str(told.responses[-1].error) == message
        assert told.line == "1(1/0) 0(0/0)"


@in_a_loop
async def test_what_waits_at_a_neurons_gate_is_pending() -> None:
    """Its handler was not called yet: one active, one pending."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    one = neuron("one", concurrency=1)

    @one.dendrite(a)
    async def wait(_: int) -> None:
        await go

    drained = Told()
    stimulation = CNS([one]).stimulate([a.create_signal(1), a.create_signal(2)], on_drain=drained)
    go.set_result(None)
    await stimulation.wait_until_complete()

    assert drained.counts[0] == (2, 1, 1)
    assert drained.counts[-1] == (0, 0, 0)


def test_hops_count_the_visits_of_the_neuron_that_answered() -> None:
    """A visit counts from when its task is made: a loop's own next one is in it already. Without a bound none is counted."""
    loop = neuron("loop", {"again": a})
    loop.dendrite(a)(lambda n, axon: axon.again.create_signal(n - 1) if n else None)
    cns = CNS([loop])
    counted, uncounted = Told(), Told()

    cns.stimulate(a.create_signal(2), on_response=counted, max_neuron_hops=9)
    cns.stimulate(a.create_signal(2), on_response=uncounted)

    assert [response.hops for response in counted.responses] == [None, 2, 3, 3]
    assert {response.hops for response in uncounted.responses} == {None}

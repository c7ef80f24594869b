"""Signals on their way through a graph: the order of responses, chains, fan-outs, async handlers, odd ends."""

from __future__ import annotations

import asyncio
from typing import Any

from cnstra import CNS, Axon, Stimulation, collateral, neuron
from support.stimulating import Told, ended_well, in_a_loop


class Doubled(Axon):
    out = collateral("doubled", int)


class Described(Axon):
    out = collateral("described", str)


start = collateral("start", int)


def doubling_and_describing() -> CNS:
    double, describe = neuron("double", Doubled), neuron("describe", Described)
    double.dendrite(start)(lambda number, axon: axon.out.create_signal(number * 2))
    describe.dendrite(Doubled.out)(lambda number, axon: axon.out.create_signal(f"is {number}"))
    return CNS([double, describe])


def test_each_response_has_what_came_in_and_what_went_out() -> None:
    """The first response is of the initial signal, which nothing caused; then one comes for each hop, by reference."""
    told = Told()
    first = start.create_signal(21)

    stimulation = doubling_and_describing().stimulate(first, on_response=told)

    initial, doubled, described = told.responses
    assert initial.input_signal is None
    assert initial.output_signal is first
    assert initial.neuron is None
    assert doubled.input_signal is first
    assert doubled.output_signal is not None
    assert (doubled.output_signal.collateral, doubled.output_signal.payload) == (Doubled.out, 42)
    assert described.input_signal is doubled.output_signal
    assert [response.neuron.name for response in told.responses if response.neuron] == ["double", "describe"]
    assert all(response.stimulation is stimulation and response.error is None for response in told.responses)


def test_a_chain_ends_with_the_last_neurons_signal() -> None:
    """What one neuron emits is what the next one gets; all of it has happened when stimulate returns."""
    told = Told()

    stimulation = doubling_and_describing().stimulate(start.create_signal(5), on_response=told)

    assert told.outputs == [("start", 5), ("doubled", 10), ("described", "is 10")]
    assert stimulation.is_complete


def test_every_neuron_that_hears_a_signal_answers_in_the_order_of_the_graph() -> None:
    """A fan-out by subscription: one signal, several neurons, first registered first."""
    seen: list[str] = []

    def answering(name: str) -> Any:
        made = neuron(name, {"out": collateral(f"out.{name}", str)})

        @made.dendrite(start)
        def answer(number: int, axon: Any) -> Any:
            seen.append(name)
            return axon.out.create_signal(f"{name}{number}")

        return made

    neurons = [answering(name) for name in ("a", "b", "c")]
    told = Told()

    CNS(neurons).stimulate(start.create_signal(1), on_response=told)

    assert seen == ["a", "b", "c"]
    assert told.outputs == [("start", 1), ("out.a", "a1"), ("out.b", "b1"), ("out.c", "c1")]
    assert told.line == "3(3/0) 2(2/0) 1(1/0) 0(0/0)"


def test_what_a_handler_emits_lines_up_behind_what_is_queued() -> None:
    """Breadth first within the graph; what comes in from outside is run with all that it starts, one by one."""
    first, hop = collateral("first", int), collateral("hop", str)
    seen: list[str] = []
    root, left, right, end = (
        neuron("root", {"first": first}),
        neuron("left", {"hop": hop}),
        neuron("right", {"hop": hop}),
        neuron("end"),
    )
    root.dendrite(start)(lambda n, axon: axon.first.create_signal(n))
    left.dendrite(first)(lambda _, axon: seen.append("left") or axon.hop.create_signal("of left"))
    right.dendrite(first)(lambda _, axon: seen.append("right") or axon.hop.create_signal("of right"))
    end.dendrite(hop)(seen.append)
    cns = CNS([root, left, right, end])

    cns.stimulate(start.create_signal(0))
    within, seen[:] = list(seen), []
    cns.stimulate(first.create_signal(0))

    assert within == ["left", "right", "of left", "of right"]
    assert seen == ["left", "of left", "right", "of right"]


def test_listeners_of_the_cns_and_of_the_stimulation_are_told_the_same() -> None:
    """``on_response`` is told first; both see every response."""
    cns = doubling_and_describing()
    told: list[tuple[str, str]] = []
    cns.add_response_listener(lambda response: told.append(("cns", response.output_signal.collateral.name)))

    cns.stimulate(
        start.create_signal(1),
        on_response=lambda response: told.append(("own", response.output_signal.collateral.name)),
    )

    names = ["start", "doubled", "described"]
    assert told == [(who, name) for name in names for who in ("own", "cns")]


def test_a_chain_of_a_thousand_neurons_tells_as_many_responses() -> None:
    """One response a hop, the queue length equal to the outstanding tasks in each, and zero in the last alone."""
    size = 1000
    links = [collateral(f"link.{index}") for index in range(size + 1)]
    neurons = []
    for index in range(size):
        made = neuron(f"n{index}", {"next": links[index + 1]})
        made.dendrite(links[index])(lambda _, axon: axon.next.create_signal())
        neurons.append(made)
    told, outstanding = Told(), list[int]()

    def listen(response: Any) -> None:
        told(response)
        outstanding.append(len(response.stimulation.outstanding_tasks))

    CNS(neurons).stimulate(links[0].create_signal(), on_response=listen)

    assert len(told.counts) == size + 1
    assert outstanding == [length for length, _, _ in told.counts]
    assert told.outputs[-1] == (f"link.{size}", None)
    told.check()


def test_a_short_branch_that_ends_early_is_not_the_end() -> None:
    """While the long branch goes on, the response of the short one's end counts it."""
    one, two, end = collateral("one"), collateral("two"), collateral("end")
    short = neuron("short", {"one": one})
    first, second, third = neuron("first", {"one": one}), neuron("second", {"two": two}), neuron("third", {"end": end})
    short.dendrite(start)(lambda _: None)
    first.dendrite(start)(lambda _, axon: axon.one.create_signal())
    second.dendrite(one)(lambda _, axon: axon.two.create_signal())
    third.dendrite(two)(lambda _, axon: axon.end.create_signal())
    told = Told()

    CNS([short, first, second, third]).stimulate(start.create_signal(0), on_response=told)

    assert told.line == "2(2/0) 1(1/0) 1(1/0) 1(1/0) 0(0/0)"
    assert told.responses[1].output_signal is None
    assert told.outputs[-1] == ("end", None)


@in_a_loop
async def test_an_async_handler_answers_when_it_has_ended() -> None:
    """Its response comes after the future that it waits for, and stimulate has returned long before."""
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    described = neuron("describe", Described)

    @described.dendrite(start)
    async def describe(number: int, axon: Described) -> Any:
        return axon.out.create_signal(f"{await gate} {number}")

    told = Told()
    stimulation = CNS([described]).stimulate(start.create_signal(7), on_response=told)
    before = list(told.outputs)
    gate.set_result("late")
    await stimulation.wait_until_complete()

    assert before == [("start", 7)]
    assert told.outputs == [("start", 7), ("described", "late 7")]
    assert told.line == "1(1/0) 0(0/0)"


@in_a_loop
async def test_async_handlers_can_follow_each_other() -> None:
    """A chain in which every handler suspends keeps its order and its values."""
    double, describe = neuron("double", Doubled), neuron("describe", Described)

    @double.dendrite(start)
    async def doubled(number: int, axon: Doubled) -> Any:
        await asyncio.sleep(0)
        return axon.out.create_signal(number * 2)

    @describe.dendrite(Doubled.out)
    async def described(number: int, axon: Described) -> Any:
        await asyncio.sleep(0)
        return axon.out.create_signal(f"is {number}")

    told = Told()
    await CNS([double, describe]).stimulate(start.create_signal(4), on_response=told).wait_until_complete()

    assert told.outputs == [("start", 4), ("doubled", 8), ("described", "is 8")]
    assert told.line == "1(1/0) 1(1/0) 0(0/0)"


def test_a_neuron_without_dendrites_changes_nothing() -> None:
    """A signal that nobody hears is told of once, and the stimulation is over."""
    told = Told()

    stimulation = CNS([neuron("deaf", Described)]).stimulate(start.create_signal(1), on_response=told)

    assert told.outputs == [("start", 1)]
    assert told.line == "0(0/0)"
    assert stimulation.is_complete
    ended_well(stimulation)


def test_a_collateral_without_a_type_hands_over_none() -> None:
    """The payload that was left out arrives as None."""
    ping, got = collateral("ping"), list[Any]()
    hears = neuron("hears", Described)
    hears.dendrite(ping)(lambda payload, axon: got.append(payload) or axon.out.create_signal("heard"))
    told = Told()

    CNS([hears]).stimulate(ping.create_signal(), on_response=told)

    assert got == [None]
    assert told.outputs == [("ping", None), ("described", "heard")]


def test_nobody_has_to_wait_for_a_stimulation() -> None:
    """Fire and forget: it is started, an object comes back, and what fails is kept there in silence."""
    fails = neuron("fails")
    fails.dendrite(start)(lambda number: 1 // number)

    stimulation = CNS([fails]).stimulate(start.create_signal(0))

    assert isinstance(stimulation, Stimulation)
    [failure] = stimulation.failed_tasks
    assert isinstance(failure.error, ZeroDivisionError)
    assert failure.aborted is False

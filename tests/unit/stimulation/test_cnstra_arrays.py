"""Several signals at once: returned, initial, empty, from async handlers and generators; and when the queue is empty."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cnstra import CNS, Axon, Signal, collateral, neuron
from support.stimulating import Told, in_a_loop


class Split(Axon):
    left = collateral("left", int)
    right = collateral("right", int)


class Merged(Axon):
    out = collateral("merged", str)


start = collateral("start", int)


def test_a_handler_may_return_signals_on_several_collaterals() -> None:
    """Each finds its own subscribers; all of them count from the first response on."""
    split, merge = neuron("split", Split), neuron("merge", Merged)
    split.dendrite(start)(lambda n, axon: [axon.left.create_signal(n), axon.right.create_signal(n + 1)])
    merge.dendrite(Split.left)(lambda n, axon: axon.out.create_signal(f"left {n}"))
    merge.dendrite(Split.right)(lambda n, axon: axon.out.create_signal(f"right {n}"))
    told = Told()

    CNS([split, merge]).stimulate(start.create_signal(42), on_response=told)

    assert told.payloads("merged") == ["left 42", "right 43"]
    assert told.line == "1(1/0) 2(2/0) 2(2/0) 1(1/0) 0(0/0)"
    assert [response.input_signal.payload for response in told.responses[1:3] if response.input_signal] == [42, 42]


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda signals: (signal for signal in signals)])
@in_a_loop
async def test_an_async_handler_may_return_any_iterable_of_signals(kind: Any) -> None:
    """They are told of in their order, once it has ended."""
    split = neuron("split", Split)

    @split.dendrite(start)
    async def count(n: int, axon: Split) -> Any:
        await asyncio.sleep(0)
        return kind([axon.left.create_signal(index) for index in range(n)])

    told = Told()
    await CNS([split]).stimulate(start.create_signal(3), on_response=told).wait_until_complete()

    assert told.payloads("left") == [0, 1, 2]
    told.check()


def test_a_generator_may_be_the_handler() -> None:
    """Its signals are collected to the end before the first of them starts anything."""
    split, order = neuron("split", Split), list[str]()

    @split.dendrite(start)
    def count(n: int, axon: Split) -> Iterator[Signal[int]]:
        for index in range(n):
            order.append(f"make {index}")
            yield axon.left.create_signal(index)

    hears = neuron("hears")
    hears.dendrite(Split.left)(lambda n: order.append(f"hear {n}"))

    CNS([split, hears]).stimulate(start.create_signal(2))

    assert order == ["make 0", "make 1", "hear 0", "hear 1"]


def test_a_stimulation_may_begin_with_several_signals() -> None:
    """One initial response each, and each with all that it starts before the next one."""
    double = neuron("double", Split)
    double.dendrite(start)(lambda n, axon: axon.left.create_signal(n * 2))
    told = Told()

    CNS([double]).stimulate([start.create_signal(n) for n in (1, 2, 3)], on_response=told)

    assert told.outputs == [("start", 1), ("left", 2), ("start", 2), ("left", 4), ("start", 3), ("left", 6)]
    assert [response.input_signal is None for response in told.responses] == [True, False] * 3
    assert told.line == "3(3/0) 2(2/0) 2(2/0) 1(1/0) 1(1/0) 0(0/0)"


def test_an_empty_list_is_one_response_without_a_signal() -> None:
    """Nothing follows, and the queue is empty."""
    quiet = neuron("quiet", Split)
    quiet.dendrite(start)(lambda n, axon: [axon.left.create_signal(n)] if n else [])
    told = Told()

    CNS([quiet]).stimulate(start.create_signal(0), on_response=told)

    assert told.outputs == [("start", 0)]
    assert told.responses[1].output_signal is None
    assert told.line == "1(1/0) 0(0/0)"


def test_a_stimulation_that_begins_with_nothing_tells_one_response() -> None:
    """An empty list of initial signals: one response with no signal at all, in which the queue is empty."""
    told, drained = Told(), Told()

    stimulation = CNS([neuron("deaf")]).stimulate([], on_response=told, on_drain=drained)

    [response] = told.responses
    assert (response.input_signal, response.output_signal, response.error, response.neuron) == (None,) * 4
    assert told.line == "0(0/0)"
    assert drained.line == "0(0/0)"
    assert stimulation.is_complete


def test_one_neuron_may_return_one_signal_or_several() -> None:
    """By the payload, from one handler."""
    either = neuron("either", Split)

    @either.dendrite(start)
    def answer(n: int, axon: Split) -> Any:
        if n == 1:
            return axon.left.create_signal(1)
        return [axon.left.create_signal(index) for index in range(n)]

    cns = CNS([either])
    single, several = Told(), Told()
    cns.stimulate(start.create_signal(1), on_response=single)
    cns.stimulate(start.create_signal(2), on_response=several)

    assert single.payloads("left") == [1]
    assert several.payloads("left") == [0, 1]
    single.check()
    several.check()


def test_a_signal_that_nobody_hears_keeps_the_queue_from_being_empty_until_it_was_told_of() -> None:
    """Three signals without a subscriber are three responses: zero comes with the last of them, and not before."""
    split = neuron("split", Split)
    split.dendrite(start)(lambda n, axon: [axon.left.create_signal(index) for index in range(n)])
    told = Told()

    CNS([split]).stimulate(start.create_signal(3), on_response=told)

    assert told.payloads("left") == [0, 1, 2]
    assert told.line == "1(1/0) 2(2/0) 1(1/0) 0(0/0)"


def test_a_signal_that_is_not_the_neurons_own_fails_its_task_and_starts_nothing() -> None:
    """One wrong signal among right ones: none of them goes out, and the failed task says which it was."""
    foreign, seen = collateral("foreign", int), list[int]()
    split, hears = neuron("split", Split), neuron("hears")
    split.dendrite(start)(lambda n, axon: [axon.left.create_signal(n), foreign.create_signal(n)])
    hears.dendrite(Split.left)(seen.append)
    told = Told()

    stimulation = CNS([split, hears]).stimulate(start.create_signal(1), on_response=told)

    assert seen == []
    [failure] = stimulation.failed_tasks
    assert "foreign" in str(failure.error)
    assert told.responses[-1].error is failure.error
    told.check()

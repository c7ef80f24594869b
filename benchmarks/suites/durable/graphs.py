"""The work: the graphs that worker processes load, each with the signal that starts a run of it and what it must come to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cnstra import CNS, Collateral, Context, collateral, neuron

STEPS = 5
"""The hops of a chain."""
MEMBERS = 10
"""Of a fan's scatter: with the hop that scatters and the one that gathers, a run has two more."""
LINE = 50
"""The hops of a line."""
PIECE = "x" * 4096
"""What a hop writes to the context."""
BLOCKED = 0.010
"""Seconds that a sync handler blocks."""
AWAITED = 0.200
"""Seconds that an async handler awaits."""

start = collateral("start", int)
ended = collateral("ended", int)


def _chain(name: str, handler_of: Callable[[], Callable[..., Any]], steps: int = STEPS) -> CNS:
    """Neurons in a row; each hears what the one before it emits."""
    heard: Collateral[int] = start
    neurons = []
    for number in range(1, steps + 1):
        emitted = ended if number == steps else collateral(f"step.{number}", int)
        member = neuron(f"n{number}", {"out": emitted})
        member.dendrite(heard, max_duration=timedelta(minutes=1))(handler_of())
        neurons.append(member)
        heard = emitted
    return CNS(neurons, name=name)


def _counting() -> Callable[..., Any]:
    def count(number: int, axon: Any) -> Any:
        return axon.out.create_signal(number + 1)

    return count


def _counting_async() -> Callable[..., Any]:
    async def count(number: int, axon: Any) -> Any:
        return axon.out.create_signal(number + 1)

    return count


def _writing() -> Callable[..., Any]:
    def write(number: int, axon: Any, ctx: Context[Any, Any]) -> Any:
        read = 0 if number == 0 else len(ctx[f"piece {number - 1}"])
        ctx[f"piece {number}"] = PIECE
        return axon.out.create_signal(number + 1 if number == 0 or read == len(PIECE) else -1_000)

    return write


def _blocking() -> Callable[..., Any]:
    def block(number: int, axon: Any) -> Any:
        time.sleep(BLOCKED)
        return axon.out.create_signal(number + 1)

    return block


def _awaiting() -> Callable[..., Any]:
    async def wait(number: int, axon: Any) -> Any:
        await asyncio.sleep(AWAITED)
        return axon.out.create_signal(number + 1)

    return wait


chain = _chain("bench-chain", _counting)
async_chain = _chain("bench-async-chain", _counting_async)
writing = _chain("bench-writing", _writing)
blocking = _chain("bench-blocking", _blocking)
awaiting = _chain("bench-awaiting", _awaiting)


def _line() -> CNS:
    again = collateral("again", int)
    one = neuron("line", {"again": again, "out": ended})

    @one.dendrite(start, again)
    def count(number: int, axon: Any) -> Any:
        return (axon.out if number + 1 == LINE else axon.again).create_signal(number + 1)

    return CNS([one], name="bench-line")


line = _line()


def _fan() -> CNS:
    item, counted = collateral("item", int), collateral("counted", int)
    scatters, member, gathers = (
        neuron("scatters", {"item": item}),
        neuron("member", {"counted": counted}),
        neuron("gathers", {"out": ended}),
    )

    @scatters.dendrite(start)
    def scatter(_: int, axon: Any) -> Any:
        return axon.item.scatter(list(range(MEMBERS)))

    @member.dendrite(item)
    def count(number: int, axon: Any) -> Any:
        return axon.counted.create_signal(number)

    @gathers.gather(counted, of=item)
    def gather(numbers: list[int], axon: Any) -> Any:
        return axon.out.create_signal(sum(numbers))

    return CNS([scatters, member, gathers], name="bench-fan")


fan = _fan()
FAN_SUM = sum(range(MEMBERS))
FAN_STEPS = MEMBERS + 2


def _clock() -> CNS:
    """One hop, which tells when it began: nanoseconds since the epoch, by this machine's clock."""
    one = neuron("clock", {"out": ended})

    @one.dendrite(start)
    def tell(_: int, axon: Any) -> Any:
        return axon.out.create_signal(time.time_ns())

    return CNS([one], name="bench-clock")


clock = _clock()

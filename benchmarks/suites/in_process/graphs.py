"""The graphs that are measured: handlers that do as little as can be checked.

A count travels as the payload, from 1, and each hop adds one to it. Only the last hop writes it down. So the end says that
every hop was made, in its order and once: a hop that was left out would have to have been counted by another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.measuring import WrongResult
from cnstra import CNS, Axon, Collateral, Context, Neuron, Signal, Stimulation, collateral, neuron

FAN = 10
"""How many handlers hear a pulse, and how many signals a list has."""


class LoopAxon(Axon):
    """What a self-loop emits: the next round to itself; in the lists, a leaf beside it."""

    next = collateral("loop.next", int)
    leaf = collateral("loop.leaf", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A graph, its first signal, and what there is to see once all of it has run."""

    cns: CNS
    first: Signal[int]
    hops: int
    expected: tuple[int, ...]
    ends: list[int]
    """What the handlers have written down."""

    def begin(self) -> None:
        """Forget the run before."""
        self.ends.clear()

    def check(self, stimulation: Stimulation | None = None) -> None:
        """Raises ``WrongResult`` unless the work was done, all of it, and once."""
        if stimulation is not None and not stimulation.is_complete:
            raise WrongResult(f"{stimulation} is not complete, after {self.hops:,} hops should have been made")
        if stimulation is not None and stimulation.failed_tasks:
            raise WrongResult(f"{stimulation} has failed tasks: {stimulation.failed_tasks[0]}")
        if tuple(self.ends) != self.expected:
            raise WrongResult(
                f"after {self.hops:,} hops the handlers should have written down {self.expected}, "
                f"and have written {tuple(self.ends[:20])}"
            )


def chain(hops: int, arguments: Literal[1, 2, 3] = 2) -> Work:
    """A self-loop of plain handlers that take the payload; the axon, too; the context, too."""
    ends: list[int] = []
    loop = neuron("loop", LoopAxon)

    def one(count: int) -> Signal[int] | None:
        if count < hops:
            return LoopAxon.next.create_signal(count + 1)
        ends.append(count)
        return None

    def two(count: int, axon: LoopAxon) -> Signal[int] | None:
        if count < hops:
            return axon.next.create_signal(count + 1)
        ends.append(count)
        return None

    def three(count: int, axon: LoopAxon, ctx: Context) -> Signal[int] | None:  # noqa: ARG001 - being given it is the work
        if count < hops:
            return axon.next.create_signal(count + 1)
        ends.append(count)
        return None

    handler: Any = {1: one, 2: two, 3: three}[arguments]
    loop.dendrite(LoopAxon.next)(handler)
    return _work([loop], ends, hops)


def async_chain(hops: int, *, suspends: bool) -> Work:
    """A self-loop of async handlers, that suspend once each, or never."""
    ends: list[int] = []
    loop = neuron("loop", LoopAxon)

    async def straight(count: int, axon: LoopAxon) -> Signal[int] | None:
        if count < hops:
            return axon.next.create_signal(count + 1)
        ends.append(count)
        return None

    async def suspending(count: int, axon: LoopAxon) -> Signal[int] | None:
        await asyncio.sleep(0)
        if count < hops:
            return axon.next.create_signal(count + 1)
        ends.append(count)
        return None

    loop.dendrite(LoopAxon.next)(suspending if suspends else straight)
    return _work([loop], ends, hops)


def lists(pulses: int, length: int) -> Work:
    """A self-loop whose handler returns lists: the next round, and leaves that another neuron hears."""
    leaves = length - 1
    ends: list[int] = []
    heard = _Heard()
    loop, hearer = neuron("loop", LoopAxon), neuron("leaf", {})

    @loop.dendrite(LoopAxon.next)
    def pulse(count: int, axon: LoopAxon) -> list[Signal[int]]:
        if count < pulses:
            signals = [axon.leaf.create_signal(1) for _ in range(leaves)]
            signals.append(axon.next.create_signal(count + 1))
            return signals
        ends.append(count)
        ends.append(heard.taken())
        return []

    @hearer.dendrite(LoopAxon.leaf)
    def leaf(amount: int) -> None:
        heard.amount += amount

    leaves_heard = leaves * (pulses - 1)
    return _work([loop, hearer], ends, pulses + leaves_heard, expected=(pulses, leaves_heard))


def fan_out(pulses: int) -> Work:
    """A self-loop whose one signal is heard by others, too; the loop itself comes last, so they hear the last pulse."""
    others = FAN - 1
    ends: list[int] = []
    heard = _Heard()
    loop = neuron("loop", LoopAxon)
    hearers = [neuron(f"hearer-{number}", {}) for number in range(others)]

    def hear(_: int) -> None:
        heard.amount += 1

    for hearer in hearers:
        hearer.dendrite(LoopAxon.next)(hear)

    @loop.dendrite(LoopAxon.next)
    def pulse(count: int, axon: LoopAxon) -> Signal[int] | None:
        if count < pulses:
            return axon.next.create_signal(count + 1)
        ends.append(count)
        ends.append(heard.taken())
        return None

    return _work([*hearers, loop], ends, pulses * FAN, expected=(pulses, others * pulses))


KEY = "count"
"""The key of the context that is read and written."""


def writing(hops: int) -> Work:
    """A self-loop whose handler writes its count into the context."""
    ends: list[int] = []
    loop = neuron("loop", LoopAxon)

    @loop.dendrite(LoopAxon.next)
    def write(count: int, axon: LoopAxon, ctx: Context) -> Signal[int] | None:
        ctx[KEY] = count
        if count < hops:
            return axon.next.create_signal(count + 1)
        ends.append(ctx.get(KEY))
        return None

    return _work([loop], ends, hops)


def reading(hops: int) -> Work:
    """A self-loop whose handler finds in the context where to stop."""
    ends: list[int] = []
    loop = neuron("loop", LoopAxon)

    @loop.dendrite(LoopAxon.next)
    def read(count: int, axon: LoopAxon, ctx: Context) -> Signal[int] | None:
        if count < ctx[KEY]:
            return axon.next.create_signal(count + 1)
        ends.append(count)
        return None

    return _work([loop], ends, hops)


wanted: Collateral[int] = collateral("flow.wanted", int)


@dataclass(slots=True)
class Flows:
    """A graph of one hop, to be started again and again; its handler adds up the payloads."""

    cns: CNS = field(init=False)
    sum: int = 0

    def check(self, flows: int) -> None:
        """Raises ``WrongResult`` unless that many flows of 1 were counted. Forgets them."""
        found, self.sum = self.sum, 0
        if found != flows:
            raise WrongResult(f"{flows:,} flows of one hop were started, and {found:,} hops were made")


def flows(*, is_async: bool = False) -> Flows:
    """Flows of one hop."""
    made = Flows()

    def count(amount: int) -> None:
        made.sum += amount

    async def count_async(amount: int) -> None:
        made.sum += amount

    single = neuron("single", {})
    handler: Callable[[int], Any] = count_async if is_async else count
    single.dendrite(wanted)(handler)
    made.cns = CNS([single])
    return made


@dataclass(slots=True)
class _Heard:
    """What handlers that emit nothing have heard."""

    amount: int = 0

    def taken(self) -> int:
        amount, self.amount = self.amount, 0
        return amount


def _work(neurons: Sequence[Neuron[Any, Any]], ends: list[int], hops: int, *, expected: tuple[int, ...] = ()) -> Work:
    """The work of a graph; unless something else is expected, its last hop writes the number of hops."""
    return Work(
        cns=CNS(neurons),
        first=LoopAxon.next.create_signal(1),
        hops=hops,
        expected=expected or (hops,),
        ends=ends,
    )

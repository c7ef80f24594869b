"""Chains of any length: neither the stack nor the memory grows with them."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from cnstra import CNS, Axon, Response, collateral, neuron
from support.stimulating import in_a_loop

HOPS = 100_000


class Loop(Axon):
    again = collateral("again", int)
    ping = collateral("ping", int)
    pong = collateral("pong", int)


class Depths:
    """How deep the stack is at a call, looked at now and then: to walk it is slow."""

    def __init__(self) -> None:
        self.found: set[int] = set()
        self._calls = 0

    def look(self) -> None:
        self._calls += 1
        if self._calls % (HOPS // 20) == 2:
            depth, frame = 0, sys._getframe()
            while frame.f_back is not None:
                depth, frame = depth + 1, frame.f_back
            self.found.add(depth)


def self_loop(look: Callable[[], None]) -> CNS:
    loop = neuron("loop", Loop)

    @loop.dendrite(Loop.again)
    def hop(n: int, axon: Loop) -> Any:
        look()
        return axon.again.create_signal(n - 1) if n else None

    return CNS([loop])


def self_loop_async(look: Callable[[], None]) -> CNS:
    loop = neuron("loop", Loop)

    @loop.dendrite(Loop.again)
    async def hop(n: int, axon: Loop) -> Any:
        look()
        return axon.again.create_signal(n - 1) if n else None

    return CNS([loop])


def self_loop_gated(look: Callable[[], None]) -> CNS:
    loop = neuron("loop", Loop, concurrency=1)

    @loop.dendrite(Loop.again)
    def hop(n: int, axon: Loop) -> Any:
        look()
        return axon.again.create_signal(n - 1) if n else None

    return CNS([loop])


def self_loop_of_arrays(look: Callable[[], None]) -> CNS:
    loop = neuron("loop", Loop)

    @loop.dendrite(Loop.again)
    def hop(n: int, axon: Loop) -> Any:
        look()
        return [axon.again.create_signal(n - 1), axon.ping.create_signal(n)] if n else []

    return CNS([loop])


KINDS = [self_loop, self_loop_async, self_loop_gated, self_loop_of_arrays]


@pytest.mark.parametrize("listens", [False, True], ids=["alone", "with a listener"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_loop_of_100_000_hops_keeps_the_stack_flat(kind: Any, listens: bool) -> None:
    """Inside an event loop and without one, the last hop is called from as deep as the first."""
    for inside in (True, False):
        depths, lengths = Depths(), [0]

        def listen(response: Response, lengths: list[int] = lengths) -> None:
            lengths[0] += 1

        cns = kind(depths.look)
        options: dict[str, Any] = {"on_response": listen} if listens else {}

        async def stimulate(cns: CNS = cns, options: dict[str, Any] = options) -> None:
            await cns.stimulate(Loop.again.create_signal(HOPS), **options).wait_until_complete()

        if inside:
            asyncio.run(stimulate())
        else:
            cns.run(Loop.again.create_signal(HOPS), **options)

        assert len(depths.found) == 1
        if listens:
            assert lengths[0] >= HOPS + 2


@in_a_loop
async def test_a_listener_that_is_async_and_never_suspends_keeps_the_stack_flat() -> None:
    """A barrier that is open at once is passed without a call deeper for each."""
    depths = Depths()

    async def listen(_: Response) -> None:
        return None

    stimulation = self_loop(depths.look).stimulate(Loop.again.create_signal(20_000), on_response=listen)
    await stimulation.wait_until_complete()

    assert len(depths.found) == 1


def test_a_ping_pong_between_fans_keeps_the_stack_flat() -> None:
    """Two neurons that hear each other, and each time a third one beside them."""
    depths, heard = Depths(), [0]
    ping, pong, audience = neuron("ping", Loop), neuron("pong", Loop), neuron("audience")

    @ping.dendrite(Loop.ping)
    def to_pong(n: int, axon: Loop) -> Any:
        depths.look()
        return axon.pong.create_signal(n - 1) if n else None

    @pong.dendrite(Loop.pong)
    def to_ping(n: int, axon: Loop) -> Any:
        depths.look()
        return axon.ping.create_signal(n - 1) if n else None

    @audience.dendrite(Loop.ping, Loop.pong)
    def hear(_: int) -> None:
        heard[0] += 1

    CNS([ping, pong, audience]).run(Loop.ping.create_signal(HOPS))

    assert len(depths.found) == 1
    assert heard == [HOPS + 1]


def test_a_failing_chain_keeps_the_stack_flat_too() -> None:
    """Wide rather than long: 20,000 signals at once, each of which fails."""
    fan, fails, depths = neuron("fan", Loop), neuron("fails"), Depths()
    fan.dendrite(Loop.again)(lambda n, axon: [axon.ping.create_signal(index) for index in range(n)])

    @fails.dendrite(Loop.ping)
    def fail(_: int) -> None:
        depths.look()
        raise ValueError("each")

    stimulation = CNS([fan, fails]).stimulate(Loop.again.create_signal(20_000))

    assert len(stimulation.failed_tasks) == 20_000
    assert len(depths.found) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_memory_does_not_grow_with_the_length_of_a_chain(kind: Any) -> None:
    """Thirty times the hops take no more memory at their highest, within a few kilobytes of noise."""

    def highest(hops: int) -> int:
        async def stimulate() -> int:
            gc.collect()
            tracemalloc.start()
            try:
                cns = kind(lambda: None)
                await cns.stimulate(Loop.again.create_signal(hops), on_response=lambda _: None).wait_until_complete()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        return asyncio.run(stimulate())

    highest(300)  # what is made once, and kept, is made now

    assert highest(9_000) < highest(300) + 40_000

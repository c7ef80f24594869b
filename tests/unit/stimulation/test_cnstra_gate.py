"""StimulationGate: many triggers, one stimulation at a time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cnstra import (
    CNS,
    Context,
    StimulationAborted,
    StimulationError,
    StimulationFailed,
    StimulationGate,
    collateral,
    neuron,
)
from support.stimulating import Told, in_a_loop

start = collateral("start", int)


class Held:
    """A neuron whose handler waits until it is let go."""

    def __init__(self) -> None:
        self.starts = 0
        self.waiting: asyncio.Future[None] | None = None
        held = neuron("held")

        @held.dendrite(start)
        async def wait(_: int) -> None:
            self.starts += 1
            self.waiting = asyncio.get_running_loop().create_future()
            await self.waiting

        self.cns = CNS([held])

    def let_go(self) -> None:
        assert self.waiting is not None
        self.waiting.set_result(None)


@in_a_loop
async def test_whoever_asks_while_it_runs_joins_what_runs() -> None:
    """The same awaitable, one start; who asks afterwards starts anew."""
    held = Held()
    gate = StimulationGate(held.cns, start.create_signal(1))

    first, second = gate.drain(), gate.drain()
    running = (gate.is_draining(), gate.current_stimulation is first.stimulation, held.starts)
    held.let_go()
    await asyncio.gather(_waited(first), _waited(second))
    idle = (gate.is_draining(), gate.current_stimulation)
    third = gate.drain()
    held.let_go()
    await third

    assert first is second
    assert running == (True, True, 1)
    assert idle == (False, None)
    assert third is not first
    assert held.starts == 2
    assert gate.is_draining() is False


async def _waited(draining: Any) -> None:
    await draining


@in_a_loop
async def test_a_gate_can_abort_what_runs() -> None:
    """The handler sees the abort and gives up; waiting raises; a second abort has nothing to do."""
    gives_up, look = neuron("gives up"), asyncio.Event()

    @gives_up.dendrite(start)
    async def wait(_: int, axon: Any, ctx: Context) -> None:
        await look.wait()
        if ctx.abort_signal is not None and ctx.abort_signal.is_set():
            raise ConnectionError("gave up")

    gate = StimulationGate(CNS([gives_up]), start.create_signal(1))
    before = gate.abort()
    draining = gate.drain()
    aborts = (gate.abort(), gate.abort())
    look.set()
    with pytest.raises(StimulationAborted) as caught:
        await draining

    assert before is False
    assert aborts == (True, False)
    assert [failure.aborted for failure in caught.value.failures] == [True]
    assert gate.is_draining() is False
    assert gate.abort() is False


@in_a_loop
async def test_whoever_gave_an_abort_signal_decides() -> None:
    """The gate does not abort then; the signal does."""
    abort, held = threading.Event(), Held()
    gate = StimulationGate(held.cns, start.create_signal(1), abort_signal=abort)

    draining = gate.drain()
    refused = (gate.abort(), gate.is_draining())
    abort.set()
    held.let_go()
    with pytest.raises(StimulationAborted):
        await draining

    assert refused == (False, True)
    assert gate.is_draining() is False


@in_a_loop
async def test_an_abort_is_of_one_stimulation() -> None:
    """The next one starts with a signal of its own, which is not set."""
    held = Held()
    gate = StimulationGate(held.cns, start.create_signal(1))
    first = gate.drain()
    gate.abort()
    held.let_go()
    with pytest.raises(StimulationAborted):
        await first

    second = gate.drain()
    held.let_go()
    await second

    assert held.starts == 2


@in_a_loop
async def test_an_abort_while_only_the_queue_is_left_ends_it_without_another_event() -> None:
    """Its tasks wait at a full gate: nobody of this stimulation is active, and the abort alone ends it."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    one = neuron("one", concurrency=1)

    @one.dendrite(start)
    async def wait(_: int) -> None:
        await go

    cns = CNS([one])
    holder = cns.stimulate(start.create_signal(0))
    gate = StimulationGate(cns, start.create_signal(1))
    draining = gate.drain()
    gate.abort()
    with pytest.raises(StimulationAborted):
        await draining
    open_holder = holder.is_complete
    go.set_result(None)
    await holder.wait_until_complete()

    assert open_holder is False


def test_a_gate_passes_its_options_on() -> None:
    """A loop that emits its own signal is one drain; listeners, bounds and contexts are as for ``stimulate``."""
    batches, told = [3], Told()
    loop = neuron("loop", {"again": start})

    @loop.dendrite(start)
    def take(n: int, axon: Any) -> Any:
        batches[0] -= 1
        return axon.again.create_signal(n) if batches[0] else None

    gate = StimulationGate(CNS([loop]), start.create_signal(1), on_response=told, max_neuron_hops=10)
    draining = gate.drain()

    assert draining.is_over
    assert gate.is_draining() is False
    assert len(told.counts) == 4
    told.check()


@in_a_loop
async def test_a_drain_that_failed_is_raised_and_the_next_one_starts() -> None:
    """A failure is the one drain's; the gate goes on."""
    starts = [0]
    fails = neuron("fails")

    @fails.dendrite(start)
    def fail(_: int) -> None:
        starts[0] += 1
        raise ValueError("bad")

    gate = StimulationGate(CNS([fails]), start.create_signal(1))
    for _ in range(2):
        with pytest.raises(StimulationFailed):
            await gate.drain()

    assert starts == [2]


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"ctx": object()}, {"abort_signal": True}])
def test_options_that_cannot_be_are_refused_when_the_gate_is_made(options: Any) -> None:
    """Not at the first trigger, at night."""
    with pytest.raises(StimulationError):
        StimulationGate(CNS([neuron("any")]), start.create_signal(1), **options)
    with pytest.raises(StimulationError):
        StimulationGate(CNS([neuron("any")]), "no signal")  # type: ignore[arg-type]


@in_a_loop
async def test_whoever_asks_on_another_thread_waits_for_the_end_too() -> None:
    """Also while the first part, which is sync, is still running on the thread that asked first."""
    inside, go = threading.Event(), threading.Event()
    blocks = neuron("blocks")

    @blocks.dendrite(start)
    def block(_: int) -> None:
        inside.set()
        assert go.wait(60)

    gate = StimulationGate(CNS([blocks]), start.create_signal(1))
    first = asyncio.create_task(asyncio.to_thread(gate.drain))
    await asyncio.to_thread(inside.wait, 60)
    joined = gate.drain()
    waiting = asyncio.create_task(_waited(joined))
    for _ in range(10):
        await asyncio.sleep(0)
    returned_early = waiting.done()
    go.set()
    await waiting

    assert returned_early is False
    assert joined is await first
    assert joined.is_over


def test_g15_a_gate_before_no_graph_is_refused_when_it_is_made() -> None:
    """G15: not when somebody asks for the work."""
    with pytest.raises(StimulationError, match=r"before a graph, CNS\(\[...\]\), got Neuron"):
        StimulationGate(neuron("held"), start.create_signal(1))  # type: ignore[arg-type]

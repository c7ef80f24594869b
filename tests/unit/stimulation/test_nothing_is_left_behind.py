"""What a process keeps of stimulations that have ended: nothing, however many there were and however they ended."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

from cnstra import CNS, Context, collateral, neuron
from support.stimulating import end_of, in_a_loop

start = collateral("start", int)


def graph() -> CNS:
    """A neuron that returns, suspends or fails, by its payload; through a gate."""
    mixed = neuron("mixed", concurrency=2)

    @mixed.dendrite(start)
    async def handle(n: int, axon: Any, ctx: Context) -> None:
        ctx["n"] = n
        ctx.local.set(n)
        if n % 2:
            await asyncio.sleep(0)
        if n % 3 == 0:
            raise ValueError(n)

    return CNS([mixed])


@in_a_loop
async def test_ended_stimulations_are_not_kept() -> None:
    """Completed, failed and aborted ones, with their contexts, while their CNS lives on."""
    cns, aborted = graph(), threading.Event()
    aborted.set()
    found: list[weakref.ref[Any]] = []
    for n in range(60):
        stimulation = cns.stimulate([start.create_signal(n)] * 3, abort_signal=aborted if n % 5 == 0 else None)
        await end_of(stimulation)
        found += [weakref.ref(stimulation), weakref.ref(stimulation.context_store)]
    del stimulation
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()

    assert [each() for each in found if each() is not None] == []


def test_a_cns_is_not_kept_either() -> None:
    """With its gates, its listeners and its plan, once nobody holds it."""
    cns = graph()
    cns.add_response_listener(lambda _: None)
    cns.run(start.create_signal(1))
    plan = weakref.ref(next(iter(cns.neurons.values())).dendrites["start"].handler)
    del cns
    gc.collect()

    assert plan() is None

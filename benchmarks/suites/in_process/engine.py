"""The engine at the same work, through the names that users call it by, each run checked."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from time import thread_time

from benchmarks.measuring import WrongResult
from benchmarks.suites.in_process.graphs import KEY, Flows, Work, wanted
from cnstra import Response
from cnstra.orchestrator.contexts import InMemoryContextStore


def run(work: Work) -> float:
    """Hops per second of ``cns.run``, with no listener."""
    work.begin()
    began = thread_time()
    stimulation = work.cns.run(work.first)
    seconds = thread_time() - began
    work.check(stimulation)
    return work.hops / seconds


def run_with_listener(work: Work) -> float:
    """The same with one response listener, which counts the responses and keeps the last."""
    told, last = 0, None

    def listener(response: Response) -> None:
        nonlocal told, last
        told += 1
        last = response

    work.begin()
    began = thread_time()
    stimulation = work.cns.run(work.first, on_response=listener)
    seconds = thread_time() - began
    work.check(stimulation)
    if told != work.hops + 1 or last is None or last.queue_length != 0:
        raise WrongResult(f"a listener was told of {told:,} responses of {work.hops:,} hops and one initial signal")
    return work.hops / seconds


def in_a_loop(work: Work) -> float:
    """Hops per second of ``await cns.stimulate(...).wait_until_complete()`` in a running event loop."""

    async def all_of_it() -> float:
        began = thread_time()
        stimulation = work.cns.stimulate(work.first)
        await stimulation.wait_until_complete()
        seconds = thread_time() - began
        work.check(stimulation)
        return seconds

    work.begin()
    return work.hops / asyncio.run(all_of_it())


def without_a_loop(work: Work) -> float:
    """Hops per second of ``cns.stimulate`` where no event loop runs: for async handlers that never suspend."""
    work.begin()
    began = thread_time()
    stimulation = work.cns.stimulate(work.first)
    seconds = thread_time() - began
    work.check(stimulation)
    return work.hops / seconds


# -- contexts ------------------------------------------------------------------------------------------------------


def run_writing(work: Work) -> float:
    """Hops per second of ``cns.run`` with a store in memory, to which each hop writes."""
    store = InMemoryContextStore()
    figure = _run_on(work, store)
    if store.get() != {KEY: work.hops} or store.version != work.hops:
        raise WrongResult(f"{work.hops:,} hops that write ended at {store.get()}, version {store.version:,}")
    return figure


def run_reading(work: Work) -> float:
    """Hops per second of ``cns.run`` with a store in memory, which each hop reads."""
    return _run_on(work, InMemoryContextStore({KEY: work.hops}))


def _run_on(work: Work, store: InMemoryContextStore) -> float:
    work.begin()
    began = thread_time()
    stimulation = work.cns.run(work.first, ctx=store)
    seconds = thread_time() - began
    work.check(stimulation)
    return work.hops / seconds


# -- short flows ---------------------------------------------------------------------------------------------------


def short_runs(flows: Flows, count: int) -> float:
    """Flows per second of ``cns.run``, one after the other."""
    run = flows.cns.run
    began = thread_time()
    for _ in range(count):
        run(wanted.create_signal(1))
    seconds = thread_time() - began
    flows.check(count)
    return count / seconds


def short_stimulations(flows: Flows, count: int) -> float:
    """Flows per second of ``await cns.stimulate(...).wait_until_complete()``, one after the other."""

    async def all_of_it() -> float:
        stimulate = flows.cns.stimulate
        began = thread_time()
        for _ in range(count):
            await stimulate(wanted.create_signal(1)).wait_until_complete()
        return thread_time() - began

    seconds = asyncio.run(all_of_it())
    flows.check(count)
    return count / seconds


# -- memory --------------------------------------------------------------------------------------------------------


def peak(way: Callable[[Work], float], made: Callable[[int], Work], hops: int) -> float:
    """The most bytes that were allocated at once while a chain ran, above what was there before it."""
    work = made(hops)
    way(made(100))  # what is made once, at first use, is no part of a chain
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        way(work)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return float(most - before)

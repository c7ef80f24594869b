"""Bare loops over the handlers of the graphs: what Python itself takes to do the same work.

A loop here has a queue, calls handlers, and lines up what they return. It has no failures, listeners, counters, limits or
aborts, and trusts whatever it is given. So it is a limit, and no rival.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from time import thread_time
from typing import Any

from benchmarks.measuring import WrongResult
from benchmarks.suites.in_process.graphs import KEY, Flows, Work, wanted
from cnstra import Signal
from cnstra.orchestrator.contexts import InMemoryContextStore


def one_handler(work: Work) -> float:
    """Hops per second of: take a signal from a deque, call the one handler, line up the signal that it returns."""
    [(handler, axon)] = _hearers(work)
    queue = deque([work.first])
    append, take = queue.append, queue.popleft
    work.begin()
    began = thread_time()
    while queue:
        signal = take()
        result = handler(signal.payload, axon)
        if result is not None:
            append(result)
    seconds = thread_time() - began
    work.check()
    return work.hops / seconds


class Plain:
    """A signal as one would write it without any library."""

    __slots__ = ("name", "payload")

    def __init__(self, name: str, payload: int) -> None:
        self.name = name
        self.payload = payload


def plain_class(hops: int) -> float:
    """The same with a slotted class for the signals, that nothing checks."""
    ends: list[int] = []

    def handler(count: int, name: str) -> Plain | None:
        if count < hops:
            return Plain(name, count + 1)
        ends.append(count)
        return None

    queue = deque([Plain("next", 1)])
    append, take = queue.append, queue.popleft
    began = thread_time()
    while queue:
        signal = take()
        result = handler(signal.payload, signal.name)
        if result is not None:
            append(result)
    seconds = thread_time() - began
    if ends != [hops]:
        raise WrongResult(f"the loop of the plain class should have ended at {hops}, and has ended at {ends}")
    return hops / seconds


def several_handlers(work: Work) -> float:
    """Hops per second where a signal's collateral is looked up for those who hear it, and lists are taken apart."""
    heard = {
        collateral: [
            (dendrite.handler, dendrite.arity, dendrite.neuron.axon) for dendrite in work.cns.subscribers(name)
        ]
        for name, collateral in work.cns.collaterals.items()
    }
    queue: deque[Any] = deque((hearer, work.first) for hearer in heard[work.first.collateral])
    append, take = queue.append, queue.popleft
    work.begin()
    began = thread_time()
    while queue:
        (handler, arity, axon), signal = take()
        result = handler(signal.payload) if arity == 1 else handler(signal.payload, axon)
        if result is None:
            continue
        for emitted in result if type(result) is list else (result,):
            for hearer in heard[emitted.collateral]:
                append((hearer, emitted))
    seconds = thread_time() - began
    work.check()
    return work.hops / seconds


# -- async handlers ------------------------------------------------------------------------------------------------


def sent(work: Work) -> float:
    """Hops per second where each coroutine is carried to its end by ``send``, outside of any task and any loop."""
    [(handler, axon)] = _hearers(work)
    queue = deque([work.first])
    append, take = queue.append, queue.popleft
    work.begin()
    began = thread_time()
    while queue:
        signal = take()
        try:
            handler(signal.payload, axon).send(None)
        except StopIteration as stop:
            if stop.value is not None:
                append(stop.value)
    seconds = thread_time() - began
    work.check()
    return work.hops / seconds


eager_tasks: Callable[[Work], float] | None = None
"""None before Python 3.12, which has none."""

if sys.version_info >= (3, 12):

    def _eager_tasks(work: Work) -> float:
        """Hops per second where each coroutine is a task of its own that starts at once, and is done when it is made."""
        [(handler, axon)] = _hearers(work)

        async def all_of_it() -> float:
            loop = asyncio.get_running_loop()
            queue = deque([work.first])
            append, take = queue.append, queue.popleft
            began = thread_time()
            while queue:
                signal = take()
                task = asyncio.Task(handler(signal.payload, axon), loop=loop, eager_start=True)
                if (result := task.result()) is not None:
                    append(result)
            return thread_time() - began

        return _in_a_loop(work, all_of_it)

    eager_tasks = _eager_tasks


def awaited_tasks(work: Work) -> float:
    """Hops per second where each coroutine is a task, and the loop of tasks waits for it."""
    [(handler, axon)] = _hearers(work)

    async def all_of_it() -> float:
        loop = asyncio.get_running_loop()
        queue = deque([work.first])
        append, take = queue.append, queue.popleft
        began = thread_time()
        while queue:
            signal = take()
            result = await asyncio.Task(handler(signal.payload, axon), loop=loop)
            if result is not None:
                append(result)
        return thread_time() - began

    return _in_a_loop(work, all_of_it)


def _in_a_loop(work: Work, all_of_it: Callable[[], Coroutine[Any, Any, float]]) -> float:
    work.begin()
    seconds = asyncio.run(all_of_it())
    work.check()
    return work.hops / seconds


# -- short flows, contexts -----------------------------------------------------------------------------------------


def short_flows(flows: Flows, count: int) -> float:
    """Flows per second where each has a deque of its own, and makes one call."""
    [dendrite] = flows.cns.subscribers(wanted.name)
    handler = dendrite.handler
    began = thread_time()
    for _ in range(count):
        queue: deque[Signal[int]] = deque([wanted.create_signal(1)])
        while queue:
            handler(queue.popleft().payload)
    seconds = thread_time() - began
    flows.check(count)
    return count / seconds


def store_updates(count: int) -> float:
    """Updates of one key per second, of the store alone."""
    store = InMemoryContextStore()
    number = 0

    def change(value: Any) -> dict[str, Any]:
        return {**(value or {}), KEY: number}

    began = thread_time()
    while number < count:
        number += 1
        store.update(change)
    seconds = thread_time() - began
    if store.get() != {KEY: count} or store.version != count:
        raise WrongResult(f"{count:,} updates of a store ended at {store.get()}, version {store.version:,}")
    return count / seconds


def store_reads(count: int) -> float:
    """Reads of one key per second, of the store alone."""
    store = InMemoryContextStore({KEY: 1})
    found = 0
    began = thread_time()
    for _ in range(count):
        found += store.get()[KEY]
    seconds = thread_time() - began
    if found != count:
        raise WrongResult(f"{count:,} reads of a store found {found:,}")
    return count / seconds


def _hearers(work: Work) -> list[tuple[Callable[..., Any], Any]]:
    dendrites = work.cns.subscribers(work.first.collateral.name)
    return [(dendrite.handler, dendrite.neuron.axon) for dendrite in dendrites]

"""The engine inside one process: hops per second, flows per second, and memory, beside bare loops of the same handlers.

``graphs`` has the work, ``engine`` and ``bare`` the two ways to do it; here stands who races whom, and the goals.

A second, here, is one of CPU time of the one thread that does it all, as the goals are those of one core. Where nothing
else runs it is a second of the clock; where others take turns on the core, their turns are not counted.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import partial
from typing import Literal

from benchmarks.measuring import Beside, Contestant, Effort, Goal, Race
from benchmarks.suites.in_process import bare, engine, graphs

SYNC_GOAL = Goal(at_least=800_000)
ASYNC_GOAL = Goal(at_least=400_000) if bare.eager_tasks is not None else None
"""Python 3.11 has no eager tasks in C: there a figure is taken, and nothing is promised."""
NO_GROWTH = Goal(at_most=1.1)

_PYTHON = "Python " + ".".join(platform.python_version_tuple()[:2])


def races(effort: Effort) -> Iterator[Race]:
    """The races, one after the other."""
    yield _sync_chains(effort.size(200_000))
    yield _fans(effort.size(20_000))
    yield _async_chains(effort.size(100_000))
    yield _suspending_chains(effort.size(20_000))
    yield _short_flows(effort.size(30_000))
    yield _contexts(effort.size(40_000))
    yield _memory(effort.size(10_000), effort.size(1_000_000))


def _sync_chains(hops: int) -> Race:
    loop, plain = "bare loop: deque, call, Signal", "bare loop: deque, call, plain class"
    beside = (Beside(other=loop), Beside(other=plain))
    two = graphs.chain(hops)

    def chain(arguments: Literal[1, 3], which: str) -> Contestant:
        return Contestant(
            name=f"cns.run, {which}",
            says=f"a self-loop of {hops:,} hops, whose handler takes {which}; no listener",
            take=partial(engine.run, graphs.chain(hops, arguments)),
            beside=beside,
        )

    return Race(
        name="a chain of sync handlers",
        unit="hops/s of CPU",
        contestants=(
            Contestant(
                name=plain,
                says="takes a slotted object from a deque, calls one function, lines up what it returns",
                take=partial(bare.plain_class, hops),
            ),
            Contestant(
                name=loop,
                says="the same with CNStra's signals and the very handler that the engine calls",
                take=partial(bare.one_handler, two),
            ),
            Contestant(
                name="cns.run, payload and axon",
                says=f"a self-loop of {hops:,} hops, whose handler takes payload and axon; no listener",
                take=partial(engine.run, two),
                goal=SYNC_GOAL,
                beside=beside,
            ),
            Contestant(
                name="cns.run, one listener",
                says="the same with a response listener that counts",
                take=partial(engine.run_with_listener, two),
                goal=SYNC_GOAL,
                beside=beside,
            ),
            chain(1, "the payload alone"),
            chain(3, "payload, axon and ctx"),
        ),
    )


def _fans(pulses: int) -> Race:
    fan_out = graphs.fan_out(pulses)
    tens, ones = graphs.lists(pulses, graphs.FAN), graphs.lists(pulses * graphs.FAN // 2, 1)

    def pair(name: str, says: str, work: graphs.Work) -> tuple[Contestant, Contestant]:
        loop = f"bare loop: {name}"
        return (
            Contestant(name=loop, says=f"{says}, in a bare loop", take=partial(bare.several_handlers, work)),
            Contestant(name=name, says=says, take=partial(engine.run, work), beside=(Beside(other=loop),)),
        )

    return Race(
        name="sync handlers, several signals or several who hear them",
        unit="hops/s of CPU",
        contestants=(
            *pair(
                f"fan-out to {graphs.FAN}", f"a signal that {graphs.FAN} handlers hear, one of which goes on", fan_out
            ),
            *pair("lists of one", "a chain whose handler returns its signal in a list", ones),
            *pair(
                f"lists of {graphs.FAN}", f"handlers return lists of {graphs.FAN} signals, one of which goes on", tens
            ),
        ),
    )


def _async_chains(hops: int) -> Race:
    work = graphs.async_chain(hops, suspends=False)
    sent, eager = "bare loop: coroutine.send", "bare loop: eager tasks"
    limits = [Contestant(name=sent, says="each coroutine is sent None once, in no task", take=partial(bare.sent, work))]
    if bare.eager_tasks is not None:
        limits.append(
            Contestant(
                name=eager,
                says="each coroutine is an asyncio.Task(..., eager_start=True)",
                take=partial(bare.eager_tasks, work),
            )
        )
    beside = tuple(Beside(other=limit.name) for limit in limits)
    return Race(
        name=f"a chain of async handlers that do not suspend ({_PYTHON})",
        unit="hops/s of CPU",
        contestants=(
            *limits,
            Contestant(
                name="await cns.stimulate",
                says=f"a self-loop of {hops:,} hops in an event loop, where each handler is a task of its own",
                take=partial(engine.in_a_loop, work),
                goal=ASYNC_GOAL,
                beside=beside,
            ),
            Contestant(
                name="cns.stimulate, no event loop",
                says="the same where no event loop runs, and handlers are carried as far as they go without one",
                take=partial(engine.without_a_loop, work),
                beside=beside[:1],
            ),
        ),
    )


def _suspending_chains(hops: int) -> Race:
    work = graphs.async_chain(hops, suspends=True)
    tasks = "bare loop: await asyncio.Task"
    return Race(
        name=f"a chain of async handlers that suspend once, by asyncio.sleep(0) ({_PYTHON})",
        unit="hops/s of CPU",
        contestants=(
            Contestant(
                name=tasks, says="each coroutine is a task that is awaited", take=partial(bare.awaited_tasks, work)
            ),
            Contestant(
                name="await cns.stimulate",
                says=f"a self-loop of {hops:,} hops",
                take=partial(engine.in_a_loop, work),
                beside=(Beside(other=tasks),),
            ),
        ),
    )


def _short_flows(count: int) -> Race:
    sync_flows, async_flows = graphs.flows(), graphs.flows(is_async=True)
    loop = "bare loop: a deque and a call"
    beside = (Beside(other=loop),)
    return Race(
        name="flows of one hop, one after the other",
        unit="flows/s of CPU",
        contestants=(
            Contestant(
                name=loop,
                says="for each flow a deque with one signal, and one call",
                take=partial(bare.short_flows, sync_flows, count),
            ),
            Contestant(
                name="cns.run",
                says="a stimulation for each signal, sync handler, no event loop",
                take=partial(engine.short_runs, sync_flows, count),
                beside=beside,
            ),
            Contestant(
                name="await cns.stimulate",
                says="the same, awaited in an event loop",
                take=partial(engine.short_stimulations, sync_flows, count),
                beside=beside,
            ),
            Contestant(
                name="await cns.stimulate, async handler",
                says="the same with an async handler that does not suspend",
                take=partial(engine.short_stimulations, async_flows, count),
                beside=beside,
            ),
        ),
    )


def _contexts(hops: int) -> Race:
    writes, reads = "the store alone: update", "the store alone: get"
    return Race(
        name="a chain of sync handlers with a context in memory",
        unit="hops/s of CPU",
        contestants=(
            Contestant(
                name=writes, says="InMemoryContextStore.update of one key", take=partial(bare.store_updates, hops)
            ),
            Contestant(
                name="ctx[key] = value",
                says="each handler writes one key",
                take=partial(engine.run_writing, graphs.writing(hops)),
                beside=(Beside(other=writes),),
            ),
            Contestant(name=reads, says="InMemoryContextStore.get of one key", take=partial(bare.store_reads, hops)),
            Contestant(
                name="ctx[key]",
                says="each handler reads one key",
                take=partial(engine.run_reading, graphs.reading(hops)),
                beside=(Beside(other=reads),),
            ),
        ),
    )


def _memory(short: int, long: int) -> Race:
    ways = (
        ("sync", engine.run, graphs.chain, long),
        ("sync, one listener", engine.run_with_listener, graphs.chain, long),
        ("async", engine.in_a_loop, partial(graphs.async_chain, suspends=False), long),
        ("async, suspending", engine.in_a_loop, partial(graphs.async_chain, suspends=True), long // 10),
    )
    contestants: list[Contestant] = []
    for name, way, made, most in ways:
        of_short, of_long = f"{name}, {short:,} hops", f"{name}, {most:,} hops"
        says = "the most bytes that tracemalloc saw allocated at once while the chain ran"
        contestants += [
            Contestant(name=of_short, says=says, take=partial(engine.peak, way, made, short)),
            Contestant(
                name=of_long,
                says=says,
                take=partial(engine.peak, way, made, most),
                beside=(Beside(other=of_short, goal=NO_GROWTH),),
            ),
        ]
    return Race(
        name="memory that a chain takes, by its length",
        unit="bytes at most",
        contestants=tuple(contestants),
        warm_ups=0,
        most_rounds=3,
    )

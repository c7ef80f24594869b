"""The durable engine: steps per second, milliseconds per step, and what they cost, beside others doing the same work.

``graphs`` has the work, ``ours`` does it with CNStra, ``bare`` and ``relay`` with the servers alone, ``benchmarks.peers`` has
others do it; here stands who races whom, and the goals. All figures are by the clock, servers and load generator included, on
private servers with Postgres's durable defaults.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from benchmarks.measuring import Beside, Contestant, Effort, Goal, Race
from benchmarks.peers.environments import Unprepared
from benchmarks.peers.roster import CELERY, DBOS, DRAMATIQ, PROCRASTINATE, Peer
from benchmarks.peers.taking import Servers, Work, Workload, contestant
from benchmarks.suites.durable import bare, graphs, ours
from benchmarks.suites.durable.relay import handed_on_per_second, relay
from benchmarks.suites.durable.servers import Place, fresh, servers, workers
from cnstra import Orchestrator

_OURS = "cnstra"
_BARE = "Postgres: one client's insert and commit"
_RELAY = "Postgres and Redis: a row handed on to another process"
_HANDED_ON = "Postgres and Redis: a row kept, and its id pushed"
_MOST_ROUNDS = 5
_FIRST_HOPS = 50_000
"""Of a worker, before which its memory may grow."""

_CHAINS = {DBOS: 400, CELERY: 600, PROCRASTINATE: 500, DRAMATIQ: 3_000}
_FANS = {DBOS: 100, CELERY: 100, PROCRASTINATE: 150, DRAMATIQ: 500}
"""Runs of each peer: enough for some seconds."""


def races(effort: Effort) -> Iterator[Race]:
    """The races, one after the other."""
    with servers() as place:
        costs = ours.Costs()
        yield _chains(place, effort, costs)
        yield _fans(place, effort)
        if not effort.is_quick:
            yield from _costs_of_a_step(costs)
            yield from _one_at_a_time(place, effort)
            yield _contexts(place, effort)
            yield from _submits(place, effort)
            yield from _slow_handlers(place, effort)
            yield _backlog(place, effort)
            yield _memory(place, effort)
            yield from _idling(place, effort)


# -- many runs at once ---------------------------------------------------------------------------------------------


def _rounds(effort: Effort) -> int:
    return 2 if effort.is_quick else _MOST_ROUNDS


def _chains(place: Place, effort: Effort, costs: ours.Costs) -> Race:
    runs, rows = effort.size(20_000), effort.size(4_000)
    others = _peers(place, effort, "chains", {peer: effort.size(size) for peer, size in _CHAINS.items()})
    return Race(
        name=f"W1: runs of {graphs.STEPS} no-op steps",
        unit="steps/s",
        contestants=(
            Contestant(
                name=_BARE, says=f"{rows:,} rows, one a commit", take=partial(bare.inserts_per_second, place, rows)
            ),
            Contestant(
                name=_OURS,
                says=f"{runs:,} runs, submitted by the thousand, two worker processes of eight threads",
                take=partial(ours.steps_per_second, place, "chain", runs, costs=costs),
                goal=Goal(at_least=10_000),
                beside=(
                    Beside(other=_BARE, goal=Goal(at_least=3)),
                    *_beside(others, {DBOS: Goal(at_least=25), DRAMATIQ: Goal(at_least=3)}),
                ),
            ),
            Contestant(
                name=f"{_OURS}, async handlers",
                says="the same with async handlers",
                take=partial(ours.steps_per_second, place, "async_chain", runs),
                beside=(Beside(other=_BARE),),
            ),
            *others.values(),
        ),
        warm_ups=0,
        most_rounds=_rounds(effort),
    )


def _fans(place: Place, effort: Effort) -> Race:
    runs = effort.size(3_000)
    others = _peers(place, effort, "fans", {peer: effort.size(size) for peer, size in _FANS.items()})
    return Race(
        name=f"W2: runs that scatter to {graphs.MEMBERS} and gather",
        unit="steps/s",
        contestants=(
            Contestant(
                name=_OURS,
                says=f"{runs:,} runs of {graphs.FAN_STEPS} steps, two worker processes of eight threads",
                take=partial(ours.fans_per_second, place, runs),
                goal=Goal(at_least=8_000),
                beside=_beside(others, {DBOS: Goal(at_least=20), DRAMATIQ: Goal(at_least=5)}),
            ),
            *others.values(),
        ),
        warm_ups=0,
        most_rounds=_rounds(effort),
    )


def _peers(place: Place, effort: Effort, workload: Workload, sizes: Mapping[Peer, int]) -> dict[Peer, Contestant]:
    """The peers as contestants, without those whose environment cannot be made here."""
    found: dict[Peer, Contestant] = {}
    if not effort.has_peers:
        return found
    there = Servers(database_url=place.database_url, broker_url=place.broker_url)
    for peer, size in sizes.items():
        repetitions = size if workload in {"line", "start"} else 1
        work = Work(workload=workload, size=1 if repetitions > 1 else size, repetitions=repetitions)
        try:
            found[peer] = contestant(peer, work, there)
        except Unprepared as problem:
            sys.stderr.write(f"durable: without {peer.name}: {problem}\n")
    return found


def _beside(others: Mapping[Peer, Contestant], goals: Mapping[Peer, Goal]) -> tuple[Beside, ...]:
    return tuple(Beside(other=other.name, goal=goals.get(peer)) for peer, other in others.items())


def _contexts(place: Place, effort: Effort) -> Race:
    runs = effort.size(4_000)
    return Race(
        name="W5: each step reads the context and writes 4 KB of it",
        unit="steps/s",
        contestants=(
            Contestant(
                name=_OURS,
                says=f"{runs:,} runs of {graphs.STEPS} steps, each with a key of its own",
                take=partial(ours.writing_steps_per_second, place, runs),
                goal=Goal(at_least=4_000),
            ),
        ),
        warm_ups=0,
        most_rounds=3,
    )


def _costs_of_a_step(costs: ours.Costs) -> Iterator[Race]:
    yield _read_off("W1: commits", "commits a step", costs.commits, Goal(at_most=0.02))
    yield _read_off("W1: write-ahead log", "bytes a step", costs.wal, Goal(at_most=1_100))


def _read_off(name: str, unit: str, figures: deque[float], goal: Goal) -> Race:
    """A race of figures that were taken beside those of an earlier one."""
    return Race(
        name=name,
        unit=unit,
        contestants=(
            Contestant(name=_OURS, says="as the server counts, load included", take=figures.popleft, goal=goal),
        ),
        warm_ups=0,
        most_rounds=max(len(figures), 1),
    )


# -- one run, and nobody else --------------------------------------------------------------------------------------


def _one_at_a_time(place: Place, effort: Effort) -> Iterator[Race]:
    rows = effort.size(200)
    others = _peers(place, effort, "line", dict.fromkeys(_CHAINS, 5))
    with ExitStack() as stack:
        idle: dict[str, ours.Idle] = {}
        for graph in ("line", "clock"):
            here = stack.enter_context(fresh(place))
            stack.enter_context(workers(here, graph, processes=1))
            client = stack.enter_context(
                Orchestrator(getattr(graphs, graph), database=here.database_url, broker=here.broker_url)
            )
            idle[graph] = ours.Idle(client, stack.enter_context(here.connect()))
        yield Race(
            name=f"W3: one run of {graphs.LINE} steps on an idle system",
            unit="ms a step",
            contestants=(
                Contestant(
                    name=_BARE,
                    says=f"{rows:,} rows, one a commit",
                    take=partial(bare.milliseconds_per_insert, place, rows),
                ),
                Contestant(
                    name=_OURS,
                    says="from the call of submit to the end of the run, the median of five",
                    take=partial(idle["line"].milliseconds_per_step, 5),
                    goal=Goal(at_most=1.2),
                    beside=(Beside(other=_BARE, goal=Goal(at_most=4)), *_beside(others, {})),
                ),
                *others.values(),
            ),
            warm_ups=1,
            most_rounds=_MOST_ROUNDS,
        )
        least = stack.enter_context(relay(place))
        yield Race(
            name="W4: from submit to the first line of the handler, on an idle system",
            unit="ms",
            contestants=(
                Contestant(
                    name=_RELAY,
                    says="insert, commit, push; in another process pop, update, commit; the median of ten",
                    take=partial(least.milliseconds_to_start, 10),
                ),
                Contestant(
                    name=_OURS,
                    says="runs of one step, 50 ms after each other, the median of ten",
                    take=partial(idle["clock"].milliseconds_to_start, 10),
                    goal=Goal(at_most=3),
                    beside=(Beside(other=_RELAY, goal=Goal(at_most=2.5)),),
                ),
            ),
            warm_ups=1,
            most_rounds=_MOST_ROUNDS,
        )


# -- submits -------------------------------------------------------------------------------------------------------


def _submits(place: Place, effort: Effort) -> Iterator[Race]:
    one_by_one, at_once = effort.size(3_000), effort.size(40_000)
    yield Race(
        name="submit",
        unit="runs/s",
        contestants=(
            Contestant(
                name=_HANDED_ON,
                says=f"{one_by_one:,} rows, each inserted, committed and pushed by itself, by one client",
                take=partial(handed_on_per_second, place, one_by_one),
            ),
            Contestant(
                name=_OURS,
                says=f"{one_by_one:,} runs, one by one, one client, no worker",
                take=partial(ours.submits_per_second, place, one_by_one, at_once=False),
                goal=Goal(at_least=1_500),
                beside=(Beside(other=_HANDED_ON, goal=Goal(at_least=0.5)),),
            ),
        ),
        warm_ups=0,
        most_rounds=_MOST_ROUNDS,
    )
    yield Race(
        name="submit_many",
        unit="runs/s",
        contestants=(
            Contestant(
                name=_OURS,
                says=f"{at_once:,} runs, by the thousand, one client, no worker",
                take=partial(ours.submits_per_second, place, at_once, at_once=True),
                goal=Goal(at_least=20_000),
            ),
        ),
        warm_ups=0,
        most_rounds=_MOST_ROUNDS,
    )


# -- handlers that take their time, and workers that live long -----------------------------------------------------


def _slow_handlers(place: Place, effort: Effort) -> Iterator[Race]:
    threads, at_once = 32, 500
    blocking, awaiting = 2 * threads / graphs.BLOCKED, 2 * at_once / graphs.AWAITED
    runs = effort.size(8_000)
    yield Race(
        name=f"sync handlers that block {graphs.BLOCKED * 1000:.0f} ms, 2 × {threads} threads",
        unit="steps/s",
        contestants=(
            Contestant(
                name=_OURS,
                says=f"{runs:,} runs; ideal is {blocking:,.0f}",
                take=partial(ours.steps_per_second, place, "blocking", runs, threads=threads),
                goal=Goal(at_least=0.9 * blocking),
            ),
        ),
        warm_ups=0,
        most_rounds=3,
    )
    yield Race(
        name=f"async handlers that await {graphs.AWAITED * 1000:.0f} ms, 2 × {at_once} at once",
        unit="steps/s",
        contestants=(
            Contestant(
                name=_OURS,
                says=f"{runs:,} runs; ideal is {awaiting:,.0f}",
                take=partial(ours.steps_per_second, place, "awaiting", runs),
                goal=Goal(at_least=0.9 * awaiting),
            ),
        ),
        warm_ups=0,
        most_rounds=3,
    )


def _backlog(place: Place, effort: Effort) -> Race:
    runs, waiting = effort.size(4_000), effort.size(1_000_000)
    empty = "empty tables"
    return Race(
        name="pages that a step touches, of tables and indexes",
        unit="pages a step",
        contestants=(
            Contestant(
                name=empty, says=f"{runs:,} chains alone", take=partial(ours.pages_per_step, place, runs, waiting=0)
            ),
            Contestant(
                name=f"{waiting:,} runs that wait",
                says="the same, beside runs that wait for a timer; no statistics were taken of them",
                take=partial(ours.pages_per_step, place, runs, waiting=waiting),
                beside=(Beside(other=empty, goal=Goal(at_most=2)),),
            ),
        ),
        warm_ups=0,
        most_rounds=1,
    )


def _memory(place: Place, effort: Effort) -> Race:
    first = _FIRST_HOPS // graphs.STEPS
    runs = first + effort.size(1_000_000 // graphs.STEPS)
    return Race(
        name=f"a worker's memory after {runs * graphs.STEPS:,} hops, to that after {_FIRST_HOPS:,}",
        unit="times as much",
        contestants=(
            Contestant(
                name=_OURS,
                says="resident memory of one process",
                take=partial(ours.growth, place, runs, first=first),
                goal=Goal(at_most=1.05),
            ),
        ),
        warm_ups=0,
        most_rounds=1,
    )


def _idling(place: Place, effort: Effort) -> Iterator[Race]:
    idling = ours.Idling()
    seconds = max(effort.size(20), 5)
    rounds = 3
    take: Callable[[], float] = partial(idling.measure, place, seconds)
    yield Race(
        name="an idle worker process",
        unit="share of a core",
        contestants=(Contestant(name=_OURS, says=f"CPU time over {seconds} s", take=take, goal=Goal(at_most=0.01)),),
        warm_ups=0,
        most_rounds=rounds,
    )
    yield _read_off("an idle worker process: Redis", "commands/s", idling.commands, Goal(at_most=2))
    yield _read_off("an idle worker process: Postgres", "queries/s", idling.queries, Goal(at_most=2))

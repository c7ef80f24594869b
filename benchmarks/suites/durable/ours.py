"""CNStra's durable engine at work: each function does its work once, checks all that came of it, and gives a figure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from statistics import median
from typing import Any
from uuid import UUID

from benchmarks.measuring import WrongResult
from benchmarks.suites.durable import graphs
from benchmarks.suites.durable.servers import (
    IDLE,
    Place,
    Spent,
    all_ended,
    check,
    commands,
    fresh,
    queries,
    until,
    workers,
)
from cnstra import CNS, Orchestrator
from cnstra.orchestrator.graph import Signal

_AT_ONCE = 1_000
"""Signals of one ``submit_many``."""
_SETTLES = 1.0
"""Seconds for what the workers did at their start to be over."""


class Costs:
    """What takes of W1 have cost the database, take by take: measured beside the speed, and read by races after it."""

    def __init__(self) -> None:
        self.commits: deque[float] = deque()
        self.wal: deque[float] = deque()


def _client(place: Place, cns: CNS) -> Orchestrator:
    return Orchestrator(cns, database=place.database_url, broker=place.broker_url)


def _signals(runs: int) -> Iterator[list[Signal[int]]]:
    for done in range(0, runs, _AT_ONCE):
        yield [graphs.start.create_signal(0) for _ in range(min(_AT_ONCE, runs - done))]


def seconds_of(place: Place, connection: Any, graph: str, runs: int) -> float:
    """Submit so many runs of a graph; how long it takes from the first submit to the end of the last run."""
    with _client(place, getattr(graphs, graph)) as client:
        began = time.perf_counter()
        for signals in _signals(runs):
            client.submit_many(signals)
        until(lambda: all_ended(connection), f"{runs} runs of {graph}")
        return time.perf_counter() - began


# -- many runs at once ---------------------------------------------------------------------------------------------


def steps_per_second(
    place: Place,
    graph: str,
    runs: int,
    *,
    steps: int = graphs.STEPS,
    result: int = graphs.STEPS,
    threads: int = 8,
    costs: Costs | None = None,
) -> float:
    """Submit so many runs, and have two processes carry them out: steps a second from the first submit to the last end."""
    with fresh(place) as here, workers(here, graph, threads=threads), here.connect() as connection:
        before = Spent.by(connection) if costs is not None else None
        took = seconds_of(here, connection, graph, runs)
        check(connection, runs, result)
        if costs is not None and before is not None:
            after = Spent.by(connection)
            costs.commits.append((after.commits - before.commits) / (runs * steps))
            costs.wal.append((after.wal - before.wal) / (runs * steps))
    return runs * steps / took


def fans_per_second(place: Place, runs: int) -> float:
    """Steps a second of runs that scatter and gather."""
    return steps_per_second(place, "fan", runs, steps=graphs.FAN_STEPS, result=graphs.FAN_SUM)


def writing_steps_per_second(place: Place, runs: int) -> float:
    """Steps a second where each reads the context and writes 4 KB of it; and each value is stored once."""
    with fresh(place) as here, workers(here, "writing"), here.connect() as connection:
        took = seconds_of(here, connection, "writing", runs)
        check(connection, runs, graphs.STEPS)
        row = connection.execute("select count(*), min(length(value #>> '{}')) from cnstra.context_entry").fetchone()
        if row != (runs * graphs.STEPS, len(graphs.PIECE)):
            raise WrongResult(
                f"each value was to be stored once, and there are {row} values of so many characters at least"
            )
    return runs * graphs.STEPS / took


# -- a backlog -----------------------------------------------------------------------------------------------------

_WAITING = """
with r as (
    insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                            last_activation, submitted_at)
    select gen_random_uuid(), 'bench-chain', '-', false, 'start', '0', 'waiting', 1, 0, 1, now()
    from generate_series(1, %s)
    returning run_id)
insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue,
                               priority, attempt, status, created_at, available_at)
select r.run_id, 1, 0, 'bench-chain', '', 'n1', 'count', 'start', '0', 'default', 0, 1, 'scheduled', now(),
       now() + interval '1 day'
from r
"""
_PAGES = """
select sum(shared_blks_hit + shared_blks_read)::float8
from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database()) and query !~ 'finished_at is null and ending'
"""


def pages_per_step(place: Place, runs: int, *, waiting: int) -> float:
    """Pages of tables and indexes that all statements touch for a step, while so many other runs wait for a timer."""
    with fresh(place) as here, here.connect() as connection:
        connection.execute("create extension if not exists pg_stat_statements")
        if waiting:
            connection.execute(_WAITING, [waiting])
        with workers(here, "chain"), _client(here, graphs.chain) as client:
            time.sleep(_SETTLES)
            connection.execute("select pg_stat_statements_reset()")
            for signals in _signals(runs):
                client.submit_many(signals)
            until(lambda: _completed(connection, runs), f"{runs} runs beside {waiting} that wait")
        row = connection.execute(_PAGES).fetchone()
    return float(row[0]) / (runs * graphs.STEPS) if row else 0.0


def _completed(connection: Any, runs: int) -> bool:
    row = connection.execute("select count(*) from cnstra.run where finished_at is not null").fetchone()
    return bool(row == (runs,))


# -- one run, and nobody else --------------------------------------------------------------------------------------


class Idle:
    """Servers and one worker process that have nothing to do, and a client that asks now and then."""

    def __init__(self, client: Orchestrator, connection: Any) -> None:
        self._client = client
        self._connection = connection

    def milliseconds_per_step(self, repetitions: int) -> float:
        """Runs of a line, one by one: from the call of submit to the run's end, by its steps; the median."""
        return median(self._per_step() for _ in range(repetitions))

    def _per_step(self) -> float:
        time.sleep(IDLE)
        began = time.time()
        run = self._client.submit(graphs.start.create_signal(0))
        result = run.wait(timeout=30)
        if [output.payload for output in result.outputs] != [graphs.LINE]:
            raise WrongResult(f"a line came to {result}")
        return (self._finished(UUID(str(run.id))) - began) * 1000 / graphs.LINE

    def milliseconds_to_start(self, repetitions: int) -> float:
        """From the call of submit to the first line of the handler; the median."""
        return median(self._to_start() for _ in range(repetitions))

    def _to_start(self) -> float:
        time.sleep(IDLE)
        began = time.time_ns()
        result = self._client.submit(graphs.start.create_signal(0)).wait(timeout=30)
        [output] = result.outputs
        return (int(output.payload) - began) / 1e6

    def _finished(self, run_id: UUID) -> float:
        row = self._connection.execute(
            "select extract(epoch from finished_at)::float8 from cnstra.run where run_id = %s", [run_id]
        ).fetchone()
        return float(row[0])


# -- submits -------------------------------------------------------------------------------------------------------


def submits_per_second(place: Place, runs: int, *, at_once: bool) -> float:
    """Runs that one client submits in a second, one by one or by the thousand; nobody carries them out."""
    with fresh(place) as here, here.connect() as connection, _client(here, graphs.chain) as client:
        client.submit(graphs.start.create_signal(0))  # connects
        began = time.perf_counter()
        if at_once:
            for signals in _signals(runs):
                client.submit_many(signals)
        else:
            for _ in range(runs):
                client.submit(graphs.start.create_signal(0))
        took = time.perf_counter() - began
        row = connection.execute("select count(*) from cnstra.run").fetchone()
        if row != (runs + 1,):
            raise WrongResult(f"{runs + 1} runs were submitted, and {row} are kept")
    return runs / took


# -- workers -------------------------------------------------------------------------------------------------------


def growth(place: Place, runs: int, *, first: int) -> float:
    """How many times the memory of a worker after ``first`` runs its memory at the end is."""
    with fresh(place) as here, workers(here, "chain", processes=1) as crew, here.connect() as connection:
        with _client(here, graphs.chain) as client:
            sizes = []
            for portion in (first, runs - first):
                for signals in _signals(portion):
                    client.submit_many(signals)
                    until(lambda: all_ended(connection), "runs whose memory is measured")
                sizes.append(crew.bytes_resident())
        check(connection, runs, graphs.STEPS)
    return sizes[1] / sizes[0]


class Idling:
    """What an idle worker process spends a second, take by take."""

    def __init__(self) -> None:
        self.commands: deque[float] = deque()
        self.queries: deque[float] = deque()

    def measure(self, place: Place, seconds: float) -> float:
        """The share of a core; the others beside."""
        with fresh(place) as here, workers(here, "chain", processes=1) as crew, here.connect() as connection:
            time.sleep(_SETTLES + 2)
            connection.execute("create extension if not exists pg_stat_statements")
            cpu, served, asked = crew.seconds_of_cpu(), commands(here), queries(connection)
            began = time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - began
            cpu, served = crew.seconds_of_cpu() - cpu, commands(here) - served - 1
            asked = queries(connection) - asked
        self.commands.append(served / took)
        self.queries.append(asked / took)
        return cpu / took

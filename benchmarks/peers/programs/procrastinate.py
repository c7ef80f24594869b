"""Procrastinate: tasks in Postgres. A step is a job, and defers the next one.

It has no groups, so a fan is joined by hand, as its users have to: the scatter makes a row with a counter, each member
counts it down and adds its number, and whoever comes last defers the gather. Jobs that ended stay in the table, so what
was done is read from there; nothing is written for the check alone.

What was tried, on two cores that others used as well, in steps/s (the figures of quiet moments only: with the cores taken
half of it was left), with ``python -m benchmarks.peers.programs procrastinate chains --way polls-quickly --processes P
--threads T --size 100``, ``fans --size 30`` and ``line``:

=======  ========  ========  ============
P and T  chains    fans      line, ms
=======  ========  ========  ============
1, 1     243..261  213..269  3.9..4.4
2, 1     428..470  347..381  3.8..4.8
4, 1     345..349  428..428  4.9..5.2
2, 4     500..549  502..560  3.8..4.2
2, 10    527..567  448..541  4.9..5.2
1, 10    173..201  195..221  10.9..11.2
=======  ========  ========  ============

A notification that comes while a worker fetches is forgotten, and the next job then waits for the poll. With the default
interval of 5 s a line took up to 319 ms a step with 1, 10, and ``polls-slowly`` did 283..365 and 151..163 with 2, 10.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any, LiteralString

import procrastinate
import psycopg

from benchmarks.peers.programs.crew import Crew, crew, wait_until
from benchmarks.peers.programs.speaking import (
    CHAIN,
    DATABASE_URL,
    LINE,
    MEMBERS,
    PAUSE,
    SUM,
    Asked,
    Best,
    answer,
    must_be,
    per_second,
)

WAYS = {
    "polls-slowly": "async tasks, submitted with batch_defer; workers listen, and poll each 5 s (the default)",
    "polls-quickly": "async tasks, submitted with batch_defer; workers listen, and poll each 50 ms",
}
INTERVALS = {"polls-slowly": 5.0, "polls-quickly": 0.05}
BEST = {
    "chains": Best(way="polls-quickly", processes=2, threads=10),
    "fans": Best(way="polls-quickly", processes=2, threads=4),
    "line": Best(way="polls-quickly", processes=2, threads=1),
    "start": Best(way="polls-quickly", processes=2, threads=1),
}
SERVE = "serve"
WARM_UP = 20
"""Runs before the clock starts."""
BATCH = 500
"""Runs that one call of ``batch_defer`` submits."""

TABLES = """
create table peer_fans (run int primary key, outstanding int not null, sum int not null, gathered int);
create table peer_moments (run int primary key, began double precision not null);
"""

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ[DATABASE_URL], min_size=4, max_size=10)
)
execute = app.connector.execute_query_async
one_row = app.connector.execute_query_one_async


# -- the work ------------------------------------------------------------------------------------------------------


@app.task(name="add")
async def add(run: int, count: int, steps: int) -> None:
    count += 1
    if count < steps:
        await add.defer_async(run=run, count=count, steps=steps)


@app.task(name="scatter")
async def scatter(run: int) -> None:
    await execute("insert into peer_fans values (%(run)s, %(members)s, 0)", run=run, members=MEMBERS)
    await member.batch_defer_async(*({"run": run, "number": number} for number in range(MEMBERS)))


@app.task(name="member")
async def member(run: int, number: int) -> None:
    counted = await one_row(
        "update peer_fans set outstanding = outstanding - 1, sum = sum + %(number)s where run = %(run)s"
        " returning outstanding",
        run=run,
        number=number,
    )
    if counted["outstanding"] == 0:
        await gather.defer_async(run=run)


@app.task(name="gather")
async def gather(run: int) -> None:
    await execute("update peer_fans set gathered = sum where run = %(run)s", run=run)


@app.task(name="moment")
async def moment(run: int) -> None:
    began = time.time()
    await execute("insert into peer_moments values (%(run)s, %(began)s)", run=run, began=began)


def serve(way: str, concurrency: int) -> None:
    """A worker process, until it is told to end."""

    async def work() -> None:
        async with app.open_async():
            await app.run_worker_async(concurrency=concurrency, fetch_job_polling_interval=INTERVALS[way])

    asyncio.run(work())


# -- the figures ---------------------------------------------------------------------------------------------------


def measure(asked: Asked) -> list[float]:
    """Make the tables, start the workers, wait for all of them, and take the figures."""
    with psycopg.connect(os.environ[DATABASE_URL], autocommit=True) as connection, app.open():
        app.schema_manager.apply_schema()
        connection.execute(TABLES)
        commands = [[__package__, "procrastinate", SERVE, asked.way, str(asked.threads)]] * asked.processes
        with crew(commands) as workers:
            course = Course(asked, connection, workers)
            course.wait_for_workers()
            course.run(WARM_UP)
            return [course.figure() for _ in range(asked.repetitions)]


class Course:
    """The runs of one call, which are numbered."""

    def __init__(self, asked: Asked, connection: psycopg.Connection, workers: Crew) -> None:
        self._asked = asked
        self._connection = connection
        self._workers = workers
        self._next = 0

    def wait_for_workers(self) -> None:
        wait_until(
            lambda: self._one("select count(*) from procrastinate_workers") == self._asked.processes,
            "the workers",
            self._workers,
        )

    def figure(self) -> float:
        workload, size = self._asked.workload, self._asked.size
        if workload in {"chains", "fans"}:
            return per_second(workload, size, self.run(size))
        time.sleep(PAUSE)
        if workload == "line":
            return self.run(1) * 1000 / LINE
        return self._start()

    def run(self, runs: int) -> float:
        """Submit so many, wait for the end of all, check them; gives the seconds that it took."""
        numbers = range(self._next, self._next + runs)
        self._next += runs
        steps = LINE if self._asked.workload == "line" else CHAIN
        fans = self._asked.workload == "fans"
        began = time.perf_counter()
        for first in range(numbers.start, numbers.stop, BATCH):
            batch = range(first, min(first + BATCH, numbers.stop))
            if fans:
                scatter.batch_defer(*({"run": run} for run in batch))
            else:
                add.batch_defer(*({"run": run, "count": 0, "steps": steps} for run in batch))
        self._wait(0.002 if runs == 1 else 0.02)
        seconds = time.perf_counter() - began
        if fans:
            self._check_fans(numbers)
        else:
            self._check_chains(numbers, steps)
        return seconds

    def _start(self) -> float:
        self._next += 1
        submitted = time.time()
        moment.defer(run=self._next)
        self._wait(0.002)
        began = self._one("select began from peer_moments where run = %s", self._next)
        return float(began - submitted) * 1000

    def _wait(self, every: float) -> None:
        """A job defers the next before it is done: once none is to do or being done, all have ended."""
        unfinished = "select exists (select from procrastinate_jobs where status in ('todo', 'doing'))"
        wait_until(lambda: not self._one(unfinished), "the last of the jobs", self._workers, every=every)

    def _check_chains(self, numbers: range, steps: int) -> None:
        """Each run has a job that succeeded for each count, up to the one that came to ``steps``."""
        right = self._one(
            """
            select count(*) from (
                select args->>'run' from procrastinate_jobs
                where task_name = 'add' and status = 'succeeded' and (args->>'run')::int between %s and %s
                group by args->>'run'
                having array_agg((args->>'count')::int order by (args->>'count')::int) = %s::int[]
            ) as complete
            """,
            numbers.start,
            numbers.stop - 1,
            list(range(steps)),
        )
        must_be("chains that are complete", right, len(numbers))

    def _check_fans(self, numbers: range) -> None:
        right = self._one(
            "select count(*) from peer_fans where run between %s and %s and outstanding = 0 and gathered = %s",
            numbers.start,
            numbers.stop - 1,
            SUM,
        )
        must_be(f"fans that came to {SUM}", right, len(numbers))
        failed = self._one("select count(*) from procrastinate_jobs where status <> 'succeeded'")
        must_be("jobs that did not succeed", failed, 0)

    def _one(self, statement: LiteralString, *arguments: object) -> Any:
        row = self._connection.execute(statement, arguments).fetchone()
        assert row is not None
        return row[0]


def main() -> int:
    if sys.argv[1:2] == [SERVE]:
        serve(sys.argv[2], int(sys.argv[3]))
        return 0
    return answer("procrastinate", WAYS, BEST, measure)

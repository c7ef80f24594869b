"""DBOS: durable workflows in Postgres, whose steps are written as they end.

A workflow runs in the process that starts it, or, from a queue, in any process; its steps are calls inside it. So each
process starts and runs its share of the runs; where the way is ``queued``, it enqueues its share, and all of them run it.
At the end the program asks the database, too, how many workflows succeeded and how many steps were written.

What was tried, on two cores that others used as well, in steps/s (the least and the most of 2 to 13 figures, not all of
the same moments), with ``python -m benchmarks.peers.programs dbos chains --way WAY --processes P --threads T --size 150``,
and ``fans --size 40``:

=============  =======  =========  =========
way            P and T  chains     fans
=============  =======  =========  =========
``threads``    2, 2     132..315   84..125
``threads``    2, 4     244..552   143..196
``threads``    2, 8     260..524   178..275
``threads``    2, 20    356..427   -
``threads``    1, 8     279..363   -
``loop``       2, 4     224..331   233..583
``loop``       2, 8     329        356..561
``loop``       2, 20    248..258   218..249
``loop``       1, 20    285..319   213..217
``queued``     2, 4     171..308   129..151
=============  =======  =========  =========

Side by side in quiet moments ``threads`` did 552 and 546 with 2, 4, and 512 and 524 with 2, 8. A line took 3.1 to 3.5 ms a
step with ``threads``, 5.1 to 5.7 with ``loop``. The pool has a connection for each thread; with its default of 20
connections the figures were the same, as far as could be told.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import psycopg
from dbos import DBOS, DBOSConfig

from benchmarks.peers.programs.speaking import (
    CHAIN,
    DATABASE_URL,
    FAN,
    LINE,
    MEMBERS,
    PATIENCE,
    PAUSE,
    SUM,
    Asked,
    Best,
    Wrong,
    answer,
    must_all_come_to,
    must_be,
    per_second,
)

WAYS = {
    "threads": "sync workflows, called on the application's threads; a fan is child workflows",
    "loop": "async workflows, awaited on the application's loop; a fan is steps under asyncio.gather",
    "queued": "sync workflows, from a queue that is polled each 10 ms; a fan is child workflows",
}
BEST = {
    "chains": Best(way="threads", processes=2, threads=4),
    "fans": Best(way="loop", processes=2, threads=4),
    "line": Best(way="threads", processes=1, threads=8),
    "start": Best(way="threads", processes=1, threads=8),
}
QUEUE = "peer"
POLL = 0.01
WARM_UP = 20
"""Runs of each process before the clock starts."""


# -- the work ------------------------------------------------------------------------------------------------------


@DBOS.step()
def add(count: int) -> int:
    return count + 1


@DBOS.step()
def scatter() -> list[int]:
    return list(range(MEMBERS))


@DBOS.step()
def gather(numbers: list[int]) -> int:
    return sum(numbers)


@DBOS.step()
def moment() -> float:
    return time.time()


@DBOS.workflow()
def chain(steps: int) -> int:
    count = 0
    for _ in range(steps):
        count = add(count)
    return count


@DBOS.workflow()
def member(number: int) -> int:
    return number


@DBOS.workflow()
def fan() -> int:
    members = [DBOS.start_workflow(member, number) for number in scatter()]
    return gather([each.get_result() for each in members])


@DBOS.workflow()
def beginning() -> float:
    return moment()


@DBOS.step()
async def add_async(count: int) -> int:
    return count + 1


@DBOS.step()
async def scatter_async() -> list[int]:
    return list(range(MEMBERS))


@DBOS.step()
async def member_async(number: int) -> int:
    return number


@DBOS.step()
async def gather_async(numbers: list[int]) -> int:
    return sum(numbers)


@DBOS.workflow()
async def chain_async(steps: int) -> int:
    count = 0
    for _ in range(steps):
        count = await add_async(count)
    return count


@DBOS.workflow()
async def fan_async() -> int:
    members = [member_async(number) for number in await scatter_async()]
    return await gather_async(await asyncio.gather(*members))


# -- one process ---------------------------------------------------------------------------------------------------


def serve(asked: Asked, number: int, pipe: Connection) -> None:
    """In a process of its own: launch, warm up, then run as many runs as the pipe says, until it says 0."""
    config: DBOSConfig = {
        "name": "peer",
        "system_database_url": os.environ[DATABASE_URL],
        "executor_id": f"peer-{number}",
        "log_level": "ERROR",
        "sys_db_pool_size": asked.threads,
    }
    if asked.way == "loop":
        config["max_executor_threads"] = asked.threads
    DBOS(config=config)
    DBOS.launch()
    if asked.way == "queued":
        DBOS.register_queue(QUEUE, worker_concurrency=asked.threads, polling_interval_sec=POLL)
    try:
        share = _shares(asked)
        share(WARM_UP)
        pipe.send(True)
        while runs := pipe.recv():
            pipe.send(share(runs))
    finally:
        DBOS.destroy()


Share = Callable[[int], Sequence[object]]
"""Does so many runs, and gives what they came to."""


def _shares(asked: Asked) -> Share:
    fans = asked.workload == "fans"
    if asked.way == "loop":
        return lambda runs: asyncio.run(_on_a_loop(runs, fans=fans, at_once=asked.threads * 2))
    arguments = () if fans else (CHAIN,)
    workflow: Callable[..., int] = fan if fans else chain
    if asked.way == "queued":
        return lambda runs: _from_the_queue([DBOS.enqueue_workflow(QUEUE, workflow, *arguments) for _ in range(runs)])
    pool = ThreadPoolExecutor(asked.threads)
    return lambda runs: list(pool.map(lambda _: workflow(*arguments), range(runs)))


def _from_the_queue(handles: Sequence[Any]) -> list[object]:
    return [each.get_result(polling_interval_sec=POLL) for each in handles]


async def _on_a_loop(runs: int, *, fans: bool, at_once: int) -> list[object]:
    free = asyncio.Semaphore(at_once)

    async def one() -> int:
        async with free:
            return await (fan_async() if fans else chain_async(CHAIN))

    return await asyncio.gather(*(one() for _ in range(runs)))


# -- all of them ---------------------------------------------------------------------------------------------------


def measure(asked: Asked) -> list[float]:
    """Take the figures: in this process where one run is on its own, in as many as are asked for otherwise."""
    if asked.workload in {"line", "start"}:
        return _alone(asked)
    expected = CHAIN if asked.workload == "chains" else SUM
    with _processes(asked) as pipes:
        figures = []
        for _ in range(asked.repetitions):
            shares = [asked.size // len(pipes) + (number < asked.size % len(pipes)) for number in range(len(pipes))]
            busy = [(pipe, share) for pipe, share in zip(pipes, shares, strict=True) if share]
            began = time.perf_counter()
            for pipe, share in busy:
                pipe.send(share)
            found = [value for pipe, _ in busy for value in _received(pipe)]
            figures.append(per_second(asked.workload, asked.size, time.perf_counter() - began))
            must_all_come_to(expected, found, asked.size)
    _check(asked, asked.size * asked.repetitions + WARM_UP * len(pipes))
    return figures


@contextmanager
def _processes(asked: Asked) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for number in range(asked.processes):
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(asked, number, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(mine)
            processes.append(process)
            _received(mine)  # the first makes the tables, so the next one waits for it
        yield pipes
        for pipe in pipes:
            pipe.send(0)
        for process in processes:
            process.join(PATIENCE)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _received(pipe: Connection) -> Any:
    if not pipe.poll(PATIENCE):
        raise Wrong(f"a process has not answered for {PATIENCE:.0f} s")
    return pipe.recv()


def _alone(asked: Asked) -> list[float]:
    DBOS(
        config={
            "name": "peer",
            "system_database_url": os.environ[DATABASE_URL],
            "log_level": "ERROR",
            "sys_db_pool_size": asked.threads,
        }
    )
    DBOS.launch()
    try:
        for _ in range(WARM_UP):
            chain(CHAIN)
        return [_line(asked.way) if asked.workload == "line" else _start() for _ in range(asked.repetitions)]
    finally:
        DBOS.destroy()


def _line(way: str) -> float:
    time.sleep(PAUSE)

    async def timed() -> tuple[int, float]:
        began = time.perf_counter()
        return await chain_async(LINE), time.perf_counter() - began

    if way == "loop":
        found, seconds = asyncio.run(timed())
    else:
        began = time.perf_counter()
        found, seconds = chain(LINE), time.perf_counter() - began
    must_be("the line", found, LINE)
    return seconds * 1000 / LINE


def _start() -> float:
    time.sleep(PAUSE)
    submitted = time.time()
    return (DBOS.start_workflow(beginning).get_result() - submitted) * 1000


def _check(asked: Asked, runs: int) -> None:
    """What the database has of them, after all: workflows that ended well, and a row for each step."""
    children = asked.workload == "fans" and asked.way != "loop"
    with psycopg.connect(os.environ[DATABASE_URL]) as connection:
        ended = connection.execute(
            "select count(*), count(*) filter (where status = 'SUCCESS') from dbos.workflow_status"
        ).fetchone()
        steps = connection.execute("select count(*) from dbos.operation_outputs").fetchone()
    workflows = runs * (MEMBERS + 1) if children else runs
    must_be("workflows, and those that succeeded", ended, (workflows, workflows))
    if not children:
        must_be("steps that were written", steps, (runs * (CHAIN if asked.workload == "chains" else FAN),))


def main() -> int:
    return answer("dbos", WAYS, BEST, measure)

"""Celery: canvas chains and chords, on Redis as the broker and as the result backend. Nothing in it is durable by step.

Only the last task of a run keeps a result, and the program looks for those with the backend's own keys, many at a time,
instead of subscribing to each: that is the least that can be asked of the workers and of the program.

What was tried, on two cores that others used as well (the least and the most of 4 figures), with
``python -m benchmarks.peers.programs celery chains --way WAY --processes P --threads T --size 120``, ``fans --size 30`` and
``line``; hiredis came in later, and changed nothing that could be seen:

===========  =======  ===============  =============  ============
way          P and T  chains, steps/s  fans, steps/s  line, ms
===========  =======  ===============  =============  ============
``prefork``  1, 2     226..579         373..446       2.2..7.5
``prefork``  2, 1     183..447         165..307       3.7..5.3
``threads``  2, 4     648..801         532..585       2.4..3.5
``threads``  1, 2     534..617         289..430       2.1..3.5
``solo``     2, 1     723..1,082       735..813       1.8..2.5
``solo``     1, 1     323..681         265..375       1.7..4.6
===========  =======  ===============  =============  ============
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import celery
from celery.result import AsyncResult

from benchmarks.peers.programs.crew import Crew, crew, wait_for_all, wait_until
from benchmarks.peers.programs.speaking import (
    BROKER_URL,
    CHAIN,
    LINE,
    MEMBERS,
    PAUSE,
    SUM,
    Asked,
    Best,
    answer,
    must_all_come_to,
    must_be,
    per_second,
)

WAYS = {
    "prefork": "canvas on Redis, one worker with a prefork pool",
    "threads": "canvas on Redis, workers with a pool of threads",
    "solo": "canvas on Redis, workers that run tasks themselves, one after the other",
}
BEST = {
    "chains": Best(way="solo", processes=2, threads=1),
    "fans": Best(way="solo", processes=2, threads=1),
    "line": Best(way="solo", processes=1, threads=1),
    "start": Best(way="solo", processes=1, threads=1),
}
WARM_UP = 20
"""Runs before the clock starts."""

app = celery.Celery("peer", broker=os.environ[BROKER_URL], backend=os.environ[BROKER_URL])
app.conf.update(
    worker_prefetch_multiplier=128,
    task_ignore_result=True,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    result_serializer="json",
)


# -- the work ------------------------------------------------------------------------------------------------------


@app.task(name="add")
def add(count: int) -> int:
    return count + 1


@app.task(name="end", ignore_result=False)
def end(count: int) -> int:
    return count + 1


@app.task(name="scatter")
def scatter() -> None:
    return None


@app.task(name="member")
def member(number: int) -> int:
    return number


@app.task(name="gather", ignore_result=False)
def gather(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="moment", ignore_result=False)
def moment() -> float:
    return time.time()


@app.task(name="who", ignore_result=False)
def who() -> int:
    time.sleep(0.01)
    return os.getpid()


def line(steps: int) -> celery.Signature:
    """A chain that comes to as many."""
    return celery.chain(add.s(0), *(add.s() for _ in range(steps - 2)), end.s())


def fan() -> celery.Signature:
    """A scatter, its members, and a gather of what they return."""
    return celery.chain(scatter.si(), celery.chord([member.si(number) for number in range(MEMBERS)], gather.s()))


# -- the figures ---------------------------------------------------------------------------------------------------


def measure(asked: Asked) -> list[float]:
    """Start the workers, wait for all of them, and take the figures."""
    pool = ["--pool", asked.way, "--concurrency", str(asked.threads), "--loglevel", "ERROR"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    commands = [
        ["celery", "--quiet", "--app", __name__, "worker", "--hostname", f"peer-{number}@%h", *pool, *quiet]
        for number in range(asked.processes)
    ]
    with crew(commands) as workers:
        wait_for_all(workers, asked.processes * (asked.threads if asked.way == "prefork" else 1), _who)
        if asked.workload in {"line", "start"}:
            _figure(asked)  # the first finds no connections yet
        return [_figure(asked) for _ in range(asked.repetitions)]


def _who(workers: Crew, times: int) -> list[Any]:
    """Which processes so many tasks came to."""
    asked = [who.delay() for _ in range(times)]
    wait_until(lambda: _there_are(asked), "the first tasks", workers)
    return _values(asked)


def _figure(asked: Asked) -> float:
    if asked.workload == "chains":
        return _throughput(asked, lambda: line(CHAIN).apply_async(), CHAIN)
    if asked.workload == "fans":
        return _throughput(asked, lambda: fan().apply_async(), SUM)
    time.sleep(PAUSE)
    if asked.workload == "line":
        began = time.perf_counter()
        found = line(LINE).apply_async().get()
        seconds = time.perf_counter() - began
        must_be("the line", found, LINE)
        return seconds * 1000 / LINE
    submitted = time.time()
    return float(moment.delay().get() - submitted) * 1000


def _throughput(asked: Asked, submit: Callable[[], AsyncResult], expected: int) -> float:
    _run([submit() for _ in range(WARM_UP)], expected)
    began = time.perf_counter()
    _run([submit() for _ in range(asked.size)], expected)
    return per_second(asked.workload, asked.size, time.perf_counter() - began)


def _run(last: Sequence[AsyncResult], expected: int) -> None:
    wait_until(lambda: _there_are(last), "the last of the results")
    must_be("results with a key of their own", len(set(_keys(last))), len(last))
    must_all_come_to(expected, _values(last), len(last))


def _there_are(results: Sequence[AsyncResult]) -> bool:
    return app.backend.client.exists(*_keys(results)) == len(results)


def _values(results: Sequence[AsyncResult]) -> list[Any]:
    return [app.backend.decode_result(each)["result"] for each in app.backend.mget(_keys(results))]


def _keys(results: Sequence[AsyncResult]) -> list[bytes]:
    return [app.backend.get_key_for_task(each.id) for each in results]


def main() -> int:
    return answer("celery", WAYS, BEST, measure)

"""dramatiq: pipelines, and groups with completion callbacks, on Redis. Nothing in it is durable by step.

It is measured as its documentation has it: only the last message of a pipeline stores its result, the members of a group
store theirs because the callback is not given them, and the callback is sent by the last member, by a barrier in Redis.

What was tried, on two cores that others used as well (the least and the most of 4 figures), with
``python -m benchmarks.peers.programs dramatiq chains --way WAY --processes P --threads T --size 500``, ``fans --size 100``
and ``line``:

===============  =======  ===============  =============  ========
way              P and T  chains, steps/s  fans, steps/s  line, ms
===============  =======  ===============  =============  ========
``plain``        2, 4     1,728..1,860     1,067..1,357   5.1..6.6
``plain``        2, 8     2,255..2,919     980..1,190     5.5..8.7
``prefetching``  2, 2     1,485..2,856     541..1,562     5.5..8.8
``prefetching``  2, 4     3,006..3,236     1,104..1,449   4.0..7.0
``prefetching``  2, 8     2,157..3,030     1,076..1,220   4.8..6.3
``prefetching``  1, 8     1,343..2,214     614..970       7.7..11.3
``wakeful``      2, 4     -                -              1.4..3.5
===============  =======  ===============  =============  ========

An idle worker sleeps longer each time that it finds no message, up to ``dramatiq_worker_timeout``: a second, or 2 ms. The
first handler of a run started after 2 to 64 ms with the one, after 1 to 7 with the other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as Barriers
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend as Values

from benchmarks.peers.programs.crew import Crew, crew, wait_for_all, wait_until
from benchmarks.peers.programs.speaking import (
    BROKER_URL,
    CHAIN,
    LINE,
    MEMBERS,
    PATIENCE,
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
    "plain": "pipelines and groups on Redis, as it comes",
    "prefetching": "pipelines and groups on Redis, each worker process prefetches 200 messages",
    "wakeful": "pipelines and groups on Redis, workers prefetch 200 messages, and look for them each 2 ms when idle",
}
ENVIRONMENTS = {
    "plain": {},
    "prefetching": {"dramatiq_queue_prefetch": "200"},
    "wakeful": {"dramatiq_queue_prefetch": "200", "dramatiq_worker_timeout": "2"},
}
BEST = {
    "chains": Best(way="prefetching", processes=2, threads=4),
    "fans": Best(way="prefetching", processes=2, threads=4),
    "line": Best(way="wakeful", processes=2, threads=4),
    "start": Best(way="wakeful", processes=2, threads=4),
}

broker = RedisBroker(url=os.environ[BROKER_URL])
values = Values(client=broker.client)
# The last that was added is told first of a processed message: the value is stored before the barrier counts it.
broker.add_middleware(GroupCallbacks(Barriers(client=broker.client)))
broker.add_middleware(Results(backend=values))
dramatiq.set_broker(broker)


@dramatiq.actor
def add(count: int) -> int:
    return count + 1


@dramatiq.actor(store_results=True)
def end(count: int) -> int:
    return count + 1


@dramatiq.actor(store_results=True)
def member(number: int) -> int:
    return number


@dramatiq.actor(store_results=True)
def gather(members: list[dict[str, Any]]) -> int:
    return sum(values.get_result(dramatiq.Message(**fields)) for fields in members)


@dramatiq.actor
def scatter(callback: dict[str, Any]) -> None:
    members = [member.message(number) for number in range(MEMBERS)]
    after = dramatiq.Message(**callback).copy(args=([each.asdict() for each in members],))
    group = dramatiq.group(members)
    group.add_completion_callback(after)
    group.run()


@dramatiq.actor(store_results=True)
def moment() -> float:
    return time.time()


@dramatiq.actor(store_results=True)
def who() -> int:
    time.sleep(0.01)
    return os.getpid()


Message = Any
"""``dramatiq.Message``, of whatever it returns."""


def measure(asked: Asked) -> list[float]:
    """Start the workers, wait for all of them, and take the figures."""
    command = ["dramatiq", __name__, "--processes", str(asked.processes), "--threads", str(asked.threads)]
    with crew([[*command, "--skip-logging"]], ENVIRONMENTS[asked.way]) as workers:
        wait_for_all(workers, asked.processes, _who)
        if asked.workload in {"line", "start"}:
            _figure(asked)  # the first finds no connections yet
        return [_figure(asked) for _ in range(asked.repetitions)]


def _who(workers: Crew, times: int) -> list[Any]:
    """Which processes so many messages came to."""
    asked = [who.send() for _ in range(times)]
    wait_until(lambda: _there_are(asked), "the first messages", workers)
    return _values(asked)


def _figure(asked: Asked) -> float:
    if asked.workload == "chains":
        return _throughput(asked, _chain, CHAIN)
    if asked.workload == "fans":
        return _throughput(asked, _fan, SUM)
    time.sleep(PAUSE)
    if asked.workload == "line":
        began = time.perf_counter()
        found = values.get_result(_line(LINE), block=True, timeout=int(PATIENCE * 1000))
        seconds = time.perf_counter() - began
        must_be("the line", found, LINE)
        return seconds * 1000 / LINE
    submitted = time.time()
    started = values.get_result(moment.send(), block=True, timeout=int(PATIENCE * 1000))
    return float(started - submitted) * 1000


def _throughput(asked: Asked, submit: Callable[[], Message], expected: int) -> float:
    _run([submit() for _ in range(50)], expected)
    began = time.perf_counter()
    _run([submit() for _ in range(asked.size)], expected)
    return per_second(asked.workload, asked.size, time.perf_counter() - began)


def _run(last: Sequence[Message], expected: int) -> None:
    wait_until(lambda: _there_are(last), "the last of the results")
    must_be("results with a key of their own", len({each.message_id for each in last}), len(last))
    must_all_come_to(expected, _values(last), len(last))


def _chain() -> Message:
    return _line(CHAIN)


def _line(steps: int) -> Message:
    last = end.message_with_options()
    first = add.message(0)
    dramatiq.pipeline([first, *(add.message_with_options() for _ in range(steps - 2)), last]).run()
    return last


def _fan() -> Message:
    last = gather.message_with_options()
    scatter.send(last.asdict())
    return last


def _there_are(messages: Sequence[Message]) -> bool:
    return broker.client.exists(*(values.build_message_key(each) for each in messages)) == len(messages)


def _values(messages: Sequence[Message]) -> list[Any]:
    return [values.get_result(each) for each in messages]


def main() -> int:
    return answer("dramatiq", WAYS, BEST, measure)

"""Listens: answers the doorbells of some queues by calling the worker, on threads of a ``dramatiq.Worker``.

Owns the start and the quick stop of these threads. Refuses all duties: what ``on_ring`` raises is logged, and
the doorbell counts as answered, for the work that it told of is in Postgres.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dramatiq import Actor, Broker, Middleware, Worker

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.workers.doorbell.brokers import open_broker
from cnstra.workers.doorbell.doorbells import Doorbells
from cnstra.workers.doorbell.messages import RING_ACTOR, Hints

OnRing = Callable[[str, Hints], None]
"""Called with a queue and hints, in a thread of the listener. Returns when the work is claimed or refused."""

_log = logging.getLogger("cnstra.listener")

_LOOK_UP_AFTER = 100
"""Milliseconds after which an idle Dramatiq thread looks whether it shall stop. It asks no server."""

_FAREWELL = 500
"""Milliseconds that the threads which wait for the broker have to come back when all shall stop. With a broker that answers
they do at once. One that has fallen silent holds them for seconds, in which a worker would go on claiming: it closes after."""


class DramatiqListener:
    """Waits for the doorbells of some queues and answers each by ``on_ring(queue, hints)``.

    While idle it costs the broker one blocking command a queue and ``wait`` seconds; a ring wakes it at once.
    It outlives its broker: it starts without one, reports an outage once, and hears again within about a
    second of its return. It installs no signal handlers. Start it in the process that listens, after a fork.

    Args:
        broker_url: of Redis or RabbitMQ, the same for bell and listener; see ``open_broker``.
        queues: the names of the queues to listen on.
        on_ring: what answers. While all ``threads`` are in it, doorbells are left to other workers.
        threads: how many doorbells, of all queues together, are answered at the same time.
        wait: seconds that one blocking command waits.

    Raises:
        ConfigurationError: the URL cannot be used, or there is no queue, thread or time.
    """

    def __init__(
        self,
        broker_url: str,
        queues: Iterable[str],
        on_ring: OnRing,
        *,
        threads: int = 1,
        wait: float = 1.0,
    ) -> None:
        self._queues = sorted(set(queues))
        if not self._queues or threads < 1 or wait <= 0:
            raise ConfigurationError(
                "A listener needs a queue, a thread and time to wait, "
                f"and got queues={self._queues}, threads={threads}, wait={wait}."
            )
        self._on_ring = on_ring
        self._threads = threads
        self._booted = _Booted()
        self._broker = open_broker(
            broker_url,
            client_name="cnstra-listener",
            wait=wait,
            middleware=[self._booted],
        )
        self._worker: Worker | None = None
        self._started = False

    def start(self) -> None:
        """Listen, from now on, in threads of its own. Once in a listener's life."""
        if self._started:
            raise RuntimeError("A listener starts once; make a new one.")
        self._started = True
        declare_ring(self._broker, self._queues, self._answer)
        self._worker = Worker(self._broker, worker_threads=self._threads, worker_timeout=_LOOK_UP_AFTER)
        # As many as can be answered: a doorbell that waited in this process could have woken another one.
        self._worker.queue_prefetch = self._threads
        self._worker.start()
        self._booted.wait_for(self._threads + len(self._queues))

    def stop(self, timeout: float = 10.0) -> None:
        """Take no more doorbells, let running answers end, put back what was not begun. Idempotent.

        An answer that does not end within ``timeout`` seconds goes on in its daemon thread; so does an attempt to reach a
        broker that is silent, which is not waited for.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return
        stop_taking(worker)
        end_answering(worker, timeout)
        worker.stop(timeout=_FAREWELL)
        self._broker.close()

    def _answer(self, *, queue: str, activations: Hints) -> None:
        try:
            self._on_ring(queue, activations)
        except Exception:
            _log.exception("A doorbell of queue %r with %d hints was not answered.", queue, len(activations))


def stop_taking(worker: Worker) -> None:
    """Have a dramatiq worker take no more doorbells, at once. By itself it stops its consumers last, for their heartbeats; ours
    have none, and would go on taking.
    """
    for consumer in worker.consumers.values():
        consumer.stop()
    if isinstance(worker.broker, Doorbells):
        worker.broker.hush()


def end_answering(worker: Worker, timeout: float) -> None:
    """Let the answers that a dramatiq worker has begun end within so many seconds, and have it begin no more."""
    until = time.monotonic() + timeout
    for thread in worker.workers:
        thread.stop()
    for thread in worker.workers:
        thread.join(max(until - time.monotonic(), 0.0))


def declare_ring(broker: Broker, queues: Sequence[str], answer: Callable[..., None]) -> None:
    """Have ``answer(queue=…, activations=…)`` called by a dramatiq worker of this broker for each doorbell of these queues."""
    for queue in queues:
        broker.declare_queue(queue)
    Actor(answer, broker=broker, actor_name=RING_ACTOR, queue_name=queues[0], priority=0, options={})


class _Booted(Middleware):
    """Counts the threads that run. A thread that is told to stop before it runs would overlook it."""

    def __init__(self) -> None:
        self._running = threading.Semaphore(0)

    def after_consumer_thread_boot(self, broker: Broker, thread: Any) -> None:  # noqa: ARG002
        self._running.release()

    def after_worker_thread_boot(self, broker: Broker, thread: Any) -> None:  # noqa: ARG002
        self._running.release()

    def wait_for(self, threads: int) -> None:
        """Return when so many threads run."""
        for _ in range(threads):
            self._running.acquire()

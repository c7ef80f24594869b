"""Workers under plain ``dramatiq``: a broker for its command line, whose processes serve a graph.

For who has that set up already, with its process handling, its reloading and its logs::

    broker = dramatiq_broker(cns)        # in shop_workers.py; then: dramatiq shop_workers:broker --threads 1

Dramatiq starts the processes, and each of them lives as one of ``cnstra worker`` does: the threads of dramatiq only answer
doorbells. Owns how the two lives meet: ours begins when a process has booted, and drains before its consumers stop. Dramatiq
swallows what its hooks raise, so a life that cannot begin, or breaks, ends its process. Nor does it look after processes whose
parent was killed, or that wait at their end for threads of a handler: these end, too.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn
from uuid import UUID

from dramatiq import Broker, Middleware, Worker

from cnstra import settings
from cnstra.exits import Exit, code_of, line_of
from cnstra.orchestrator.errors import CnstraError
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.ports import door
from cnstra.running.life import Life, check_queues
from cnstra.running.logs import let_be_heard, name_runs
from cnstra.running.orders import Orders
from cnstra.running.process import insist_on_ending
from cnstra.workers.doorbell.brokers import open_broker
from cnstra.workers.doorbell.listener import declare_ring, stop_taking
from cnstra.workers.doorbell.messages import Hints

_log = logging.getLogger("cnstra.worker")

_WAIT = 1.0
_GRACE = 5.0
"""Seconds, beside the time to drain, that a life has to end before its process goes on without it."""

_LOOK_FOR_PARENT = 1.0
"""Seconds between two looks whether the parent lives. Its pipes would not tell: processes that it forked later hold them, too."""


def dramatiq_broker(
    cns: CNS,
    *,
    database: str | None = None,
    broker: str | None = None,
    queues: Sequence[str] | None = None,
    threads: int = 8,
    coroutines: int = 200,
    transactions: int | None = None,
    lease: float = 15.0,
    drain: float = 25.0,
    contexts: Sequence[str] = (),
    codec: str | None = None,
) -> Broker:
    """A broker whose processes, under ``dramatiq module:broker``, serve a graph. Nothing connects before they boot.

    Args:
        cns: the graph.
        database: the URL of Postgres; by default that of ``CNSTRA_DATABASE_URL``.
        broker: the URL of the broker; by default that of ``CNSTRA_BROKER_URL``.
        queues: those of the graph that are served; by default all. Dramatiq's own ``--queues`` knows other names.
        threads: how many sync handlers a process runs at once. Dramatiq's ``--threads`` answer doorbells: one is enough.
        coroutines: how many async ones.
        transactions: how many handlers with ``transaction=True`` may have their connection at once.
        lease: seconds after which a process that is not heard of is taken for lost.
        drain: seconds that running handlers have to end when dramatiq stops the process.
        contexts: stores that keep contexts, each as ``cnstra worker --context`` takes it.
        codec: what seals the data of runs, as ``cnstra worker --codec`` takes it: ``module:attribute``.

    Raises:
        ConfigurationError: a URL is missing or cannot be used, a queue is none of the graph's, or a number is too small.
    """
    orders = Orders(
        app=cns.durable_name,
        database_url=settings.database_url(database),
        broker_url=settings.broker_url(broker),
        processes=1,
        threads=threads,
        coroutines=coroutines,
        queues=None if queues is None else tuple(queues),
        lease=lease,
        drain=drain,
        log_level="",  # dramatiq sets the logs up
        contexts=tuple(contexts),
        codec=codec,
        transactions=transactions,
    )
    orders.settings()
    check_queues(cns, orders.queues)
    life = _LifeUnderDramatiq(cns, orders)
    doorbells = open_broker(orders.broker_url, client_name="cnstra-listener", wait=_WAIT, middleware=[life])
    declare_ring(doorbells, [door(cns.durable_name, queue) for queue in orders.queues or cns.queues], life.answer)
    return doorbells


class _LifeUnderDramatiq(Middleware):
    """The life of the process that this is in, at dramatiq's word."""

    def __init__(self, cns: CNS, orders: Orders) -> None:
        self._cns = cns
        self._orders = orders
        self._life: Life | None = None
        self._rung: Callable[[str, Iterable[tuple[UUID, int]]], None] | None = None
        self._ended = threading.Event()
        self._stopping = False

    def answer(self, *, queue: str, activations: Hints) -> None:
        """A doorbell."""
        if self._rung is not None:
            self._rung(queue, activations)

    # At dramatiq's word; it swallows what these raise.

    def after_process_boot(self, broker: Broker) -> None:  # noqa: ARG002
        name_runs()
        let_be_heard()
        try:
            self._life = life = Life(self._cns, self._orders, ready=_ready, listen=self._listen)
        except Exception as error:
            _leave(error)
        threading.Thread(target=self._attend, args=(life,), name="cnstra-attend", daemon=True).start()
        life.begin()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        self._stopping = True
        stop_taking(worker)  # what it took from now on, nobody would answer
        if self._life is not None:
            self._life.drain()
            if not self._ended.wait(self._orders.drain + _GRACE):
                _log.warning("the time to drain is over, and handlers still run; others take their work over")
                self._life.cut_short(_GRACE)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        insist_on_ending(Exit.DONE if self._life is None or self._life.drained else Exit.CUT_SHORT)

    # ----

    def _listen(self, _doors: tuple[str, ...], rung: Callable[[str, Iterable[tuple[UUID, int]]], None]) -> _NoListener:
        self._rung = rung
        return _NoListener()

    def _attend(self, life: Life) -> None:
        """Wait for the end of the life; one that dramatiq did not ask for ends the process, and so does the end of its parent."""
        parent = multiprocessing.parent_process()
        while not select.select([life.ended], [], [], _LOOK_FOR_PARENT)[0]:
            if parent is not None and os.getppid() != parent.pid:
                os.kill(os.getpid(), signal.SIGKILL)  # nobody would end us, nor read what we log
        self._ended.set()
        if life.error is not None:
            _leave(life.error)
        if not self._stopping:
            _leave(RuntimeError("the worker ended, and nobody had told it to"))


class _NoListener:
    """Dramatiq itself listens."""

    def start(self) -> None:
        """It does already."""

    def stop(self, timeout: float = 0.0) -> None:
        """It is about to."""


def _ready() -> None:
    _log.info("ready")


def _leave(error: BaseException) -> NoReturn:
    """End the process: dramatiq sees it, and stops the others."""
    _log.critical("the worker ends: %s", line_of(error), exc_info=None if isinstance(error, CnstraError) else error)
    logging.shutdown()
    os._exit(code_of(error))

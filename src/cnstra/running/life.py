"""The life of one worker process: load, start, take work, drain, end; on a thread, so that the main thread can wait for
orders meanwhile.

Starts while Postgres is away, for a while; while the broker is away, anyway: the listener goes on trying, and sweeps
find the work. Ends no process: that is its caller's.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from cnstra.loading import load_codec, load_context
from cnstra.orchestrator.blobs import Blobs
from cnstra.orchestrator.errors import AccessRefused, ConfigurationError, StoreUnavailable
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.sealed_store import sealed_store
from cnstra.orchestrator.sealing import Vault
from cnstra.running.health import Pulse, State, lost_threads
from cnstra.running.orders import Orders
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.reaching import reach
from cnstra.workers.doorbell import DramatiqBell, DramatiqListener
from cnstra.workers.worker import OpenListener, Worker

_log = logging.getLogger("cnstra.worker")

PATIENCE = 60.0
"""Seconds for which a worker waits at its start for a Postgres that is away."""
_PAUSE = 0.5


class Life:
    """One worker's life. ``ended`` becomes readable when it is over; then ``drained`` or ``error`` says how. ``listen`` is for
    who hears doorbells in another way than on threads of this process's own.

    Raises ``ConfigurationError`` when the orders do not fit the graph.
    """

    def __init__(
        self, cns: CNS, orders: Orders, *, ready: Callable[[], None], listen: OpenListener | None = None
    ) -> None:
        check_queues(cns, orders.queues)
        broker_url = orders.broker_url
        self._cns = cns
        self._database_url = orders.database_url
        self._ready = ready
        vault = None if orders.codec is None else Vault(load_codec(orders.codec))
        self._store = sealed_store(PostgresStore(orders.database_url), vault)
        self._bell = DramatiqBell(broker_url)
        self._worker = Worker(
            cns,
            self._store,
            self._bell,
            listen or (lambda queues, rung: DramatiqListener(broker_url, queues, rung)),
            orders.settings(),
            SystemEntropy(),
            _contexts(orders.contexts, vault),
        )
        self._takes_work = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cnstra-life", daemon=True)
        self.ended, self._ended = os.pipe()
        self.drained = False
        self.error: BaseException | None = None

    def begin(self) -> None:
        """Start to live."""
        self._thread.start()

    def drain(self) -> None:
        """Take no more work, give back what was not begun, let handlers end. Idempotent."""
        self._stopping.set()

    def pulse(self) -> Pulse:
        """How it is."""
        lost, renewed = (
            lost_threads(),
            self._worker.renewed_at,
        )  # before the state: it is what they are to be held against
        return Pulse(
            state=self._state(),
            renewed=None if renewed is None else time.monotonic() - renewed,
            lost=lost if self._state() == "ready" else (),
        )

    def _state(self) -> State:
        if self._stopping.is_set():
            return "draining"
        return "ready" if self._takes_work else "starting"

    def cut_short(self, seconds: float) -> None:
        """End the lease, so that others take the work over at once; give up after ``seconds``."""
        ending = threading.Thread(target=self._worker.abandon, name="cnstra-abandon", daemon=True)
        ending.start()
        ending.join(seconds)

    def _run(self) -> None:
        try:
            if self._start():
                _collect_seldom()
                self._takes_work = True
                self._ready()
                self._stopping.wait()
                self.drained = self._worker.stop()
                _log.info("drained" if self.drained else "not drained in time")
            else:
                self.drained = True
            if self.drained:
                self._store.close()
                self._bell.close()
        except BaseException as error:
            self.error = error
        finally:
            os.write(self._ended, b".")

    def _start(self) -> bool:
        """Take work, as soon as Postgres is there; False when it was told to stop before."""
        until = time.monotonic() + PATIENCE
        away = False
        while not self._stopping.is_set():
            try:
                reach(self._database_url)
                self._worker.start()
            except AccessRefused:
                raise
            except StoreUnavailable as error:
                if time.monotonic() > until:
                    raise
                if not away:
                    _log.warning("waiting up to %.0f s for Postgres: %s", PATIENCE, error)
                away = True
                self._stopping.wait(_PAUSE)
            else:
                _log.info("%s, process %d, takes work", self._cns, os.getpid())
                return True
        return False


def _collect_seldom() -> None:
    """Python's collector looks for cycles after 700 new objects, which a batch of hops makes in a moment; and at all that
    lives, which a graph and its libraries are. Hops leave no cycles: what handlers leave is found somewhat later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _contexts(given: Sequence[str], vault: Vault | None) -> list[Blobs]:
    found = [load_context(one, vault) for one in given]
    for place, count in Counter(blobs.place for blobs in found).items():
        if count > 1:
            raise ConfigurationError(f"--context: {count} stores are named {place!r}; give names: --context NAME=STORE")
    return found


def check_queues(cns: CNS, queues: tuple[str, ...] | None) -> None:
    """Raises ``ConfigurationError`` for a queue that is none of the graph's."""
    unknown = sorted(set(queues or ()) - set(cns.queues))
    if unknown:
        raise ConfigurationError(
            f"no neuron of CNS {cns.name!r} is on queue {', '.join(map(repr, unknown))}; "
            f"its queues are {', '.join(cns.queues)}"
        )

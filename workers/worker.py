"""One worker process's parts, put together: the listener at the door, the hops, the lease, the supervisor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from uuid import UUID

from cnstra.orchestrator.blobs import Blobs
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.ports import Bell, Entropy, door
from cnstra.orchestrator.store import Store
from cnstra.workers.hop import Hops
from cnstra.workers.lease import Lease
from cnstra.workers.retention import Retention
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.supervisor import Supervisor
from cnstra.workers.watching import Clock, SystemClock

_log = logging.getLogger("cnstra.worker")


class Listener(Protocol):
    """Hears doorbells."""

    def start(self) -> None: ...
    def stop(self, timeout: float = ...) -> None: ...


OpenListener = Callable[[tuple[str, ...], Callable[[str, Iterable[tuple[UUID, int]]], None]], Listener]


class Worker:
    """Serves one graph until it is stopped. ``contexts`` are the stores, beside that of runs, that keep contexts; by
    ``clock`` it sees how long handlers take."""

    def __init__(
        self,
        cns: CNS,
        store: Store,
        bell: Bell,
        listen: OpenListener,
        settings: WorkerSettings,
        entropy: Entropy,
        contexts: Sequence[Blobs] = (),
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._lease = Lease(cns, store, bell, settings, entropy)
        self._hops = Hops(cns, store, bell, settings, entropy, self._lease.worker, contexts, clock or SystemClock())
        self._retention = Retention(store, settings.expire_every)
        self._supervisor = Supervisor(
            store,
            bell,
            settings,
            self._lease.worker,
            self._hops.nudge,
            self._hops.look_for_suspects,
            self._retention.ask,
        )
        self.renewed_at: float | None = None
        """When the lease was taken, or renewed last, in monotonic seconds: then the database was there."""
        self._listener = listen(
            tuple(door(cns.durable_name, queue) for queue in self._hops.skills.queues), self._hops.rung
        )

    def start(self) -> None:
        """Take work. Raises ``SchemaError`` or ``StoreUnavailable`` when the store cannot serve."""
        self._store.run(self._store.check_schema())
        skills = self._hops.skills
        self._lease.register(skills.queues, skills.dendrites, self._hops.places, skills.compensations, skills.limits)
        self.renewed_at = time.monotonic()
        self._hops.start()
        self._lease.start(self._hops.holds, self._hops.disown, self._renewed, self._hops.cancel)
        self._retention.start()
        self._supervisor.start()
        self._listener.start()

    def _renewed(self) -> None:
        self.renewed_at = time.monotonic()
        self._hops.renewed()

    def stop(self) -> bool:
        """Drain within the time of the settings; whether every running handler ended in it."""
        until = time.monotonic() + self._settings.drain.total_seconds()
        self._listener.stop(5.0)
        self._hops.close()
        _log.info("draining: no more work is taken, what was not begun is given back")
        self._retention.stop()
        self._supervisor.stop()
        drained = self._hops.stop(max(until - time.monotonic(), 0.0))
        self._retention.stop(1.0)
        self._lease.stop()
        return drained

    def abandon(self) -> None:
        """End the lease at once, whatever still runs: others take it over without waiting for the lease to run out."""
        self._lease.stop()

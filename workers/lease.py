"""The one lease of a worker process: it covers all that the process runs and has queued.

Owns the process's incarnation: its id, its registration, its renewal. A process that stalled so long that it was taken for
lost comes back as a new incarnation; what it still holds from before is refused by the fence, or not, claim by claim. Each
renewal also reconciles: a claim that the store believes to be here, and that is not, is given back, so that nothing is
stuck on a worker that lives.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from uuid import UUID

from cnstra.orchestrator.context import naming
from cnstra.orchestrator.errors import CnstraError
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.machine.events import Returned
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.ports import Bell, Entropy
from cnstra.orchestrator.store import HeldClaim, RunEvent, Store, WorkerInfo
from cnstra.workers.settings import WorkerSettings

_log = logging.getLogger("cnstra.worker")

NO_LIMITS: Mapping[str, int] = MappingProxyType({})

_BREATH = 0.01
_WAIT = 1.0

Holds = Callable[[UUID, Claimed], bool]
Ending = Callable[[UUID], None]


class Lease:
    """Keeps this process's lease."""

    def __init__(self, cns: CNS, store: Store, bell: Bell, settings: WorkerSettings, entropy: Entropy) -> None:
        self._cns = cns
        self._store = store
        self._bell = bell
        self._settings = settings
        self._entropy = entropy
        self._worker = entropy.run_id()
        self._missing: set[tuple[UUID, Claimed]] = set()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._ending: Ending = lambda _: None
        self._disown: Holds = lambda *_: True

    def worker(self) -> UUID:
        """The id of the present incarnation."""
        return self._worker

    def register(
        self,
        queues: tuple[str, ...],
        dendrites: tuple[tuple[str, str], ...],
        places: tuple[str, ...] = (),
        compensations: tuple[tuple[str, str], ...] = (),
        limits: Mapping[str, int] = NO_LIMITS,
    ) -> None:
        """Begin the lease of the present incarnation."""
        self._queues, self._dendrites, self._places, self._compensations = queues, dendrites, places, compensations
        self._limits = limits
        info = WorkerInfo(
            worker=self._worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            graph=self._cns.durable_name,
            graph_version=self._cns.version,
            queues=queues,
            dendrites=dendrites,
            lease=self._settings.lease,
            places=places,
            compensations=compensations,
            limits=limits,
        )
        if self._store.run(self._store.register(info)):
            threading.Thread(target=self._readmit, args=(info,), name="cnstra-readmit", daemon=True).start()

    def _readmit(self, info: WorkerInfo) -> None:
        """Take up the rest of what nobody knew, portion by portion, while the work that is there begins."""
        more = True
        while more and self._worker == info.worker and not self._stopped.wait(_BREATH):
            try:
                more = self._store.run(self._store.readmit(info))
            except CnstraError as error:
                if not self._stopped.wait(_WAIT):  # else the store was closed
                    _log.warning("worker %s could not take up yet what nobody knew: %s", info.worker, error)

    def start(
        self,
        holds: Holds,
        disown: Holds,
        renewed: Callable[[], None] = lambda: None,
        ending: Ending = lambda _: None,
    ) -> None:
        """Renew, on a thread, three times a lease; tell of each time by ``renewed``, and by ``ending`` of runs that are
        being ended while claims of theirs are held here. What ``disown`` agrees to is not called any more when it comes."""
        self._disown = disown
        self._ending = ending
        self._thread = threading.Thread(target=self._run, args=(holds, renewed), name="cnstra-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the lease; claims that are still held become ready for others at the next sweep."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(10.0)
        try:
            self._store.run(self._store.leave(self._worker))
        except CnstraError as error:
            _log.warning("worker %s could not end its lease, which runs out by itself: %s", self._worker, error)

    def _run(self, holds: Holds, renewed: Callable[[], None]) -> None:
        while not self._stopped.wait(self._settings.lease.total_seconds() / 3):
            try:
                self._renew(holds)
                renewed()
            except CnstraError as error:
                _log.warning("worker %s could not renew its lease: %s", self._worker, error)
            except Exception:
                _log.exception("worker %s could not renew its lease", self._worker)

    def _renew(self, holds: Holds) -> None:
        held = self._store.run(self._store.renew(self._worker))
        if held is None:
            lost, self._worker = self._worker, self._entropy.run_id()
            self._missing.clear()
            _log.warning("worker %s was taken for lost; it goes on as worker %s", lost, self._worker)
            self.register(self._queues, self._dendrites, self._places, self._compensations, self._limits)
            return
        self._reconcile(held, holds)

    def _reconcile(self, held: list[HeldClaim], holds: Holds) -> None:
        """Tell of runs that are being ended. Give back claims that were not here at two renewals in a row: one that is on
        its way here is left alone. One that comes later than that is not called: others may have it by then."""
        for run_id in sorted({claim.run_id for claim in held if claim.ending}):
            self._ending(run_id)
        missing = {(claim.run_id, claim.fence) for claim in held if not holds(claim.run_id, claim.fence)}
        stuck = sorted(missing & self._missing, key=lambda claim: (claim[0], claim[1].activation_id))
        stuck = [claim for claim in stuck if self._disown(*claim)]
        self._missing = missing - set(stuck)
        if not stuck:
            return
        for run_id, fence in stuck:
            _log.warning(
                "run %s, activation %d: claimed by this worker and not here; given back",
                run_id,
                fence.activation_id,
                extra=naming((run_id, fence.activation_id)),
            )
        events = [RunEvent(run_id=run_id, event=Returned(fence=fence)) for run_id, fence in stuck]
        applied = self._store.run(self._store.apply(events))
        self._bell.ring(applied.rings)

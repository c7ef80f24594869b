"""Looks after what nobody holds: due timers, attempts and deadlines, lost workers, lost doorbells.

Any worker may supervise; one at a time does, elected by a row with a short lease on the database's clock. Everything it
does is short and idempotent, so two at once would do no harm.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from cnstra.orchestrator.context import naming
from cnstra.orchestrator.errors import CnstraError, StoreUnavailable, WorkerLost
from cnstra.orchestrator.machine.events import AttemptDue, DeadlineDue, Due, Event, ExpectationDue, Lost
from cnstra.orchestrator.machine.records import Failure
from cnstra.orchestrator.ports import Bell, Ring
from cnstra.orchestrator.store import Findings, LostClaim, RunEvent, Store
from cnstra.workers.settings import WorkerSettings

_log = logging.getLogger("cnstra.supervisor")

MOST_PER_LOOK = 500
SWEEPS_PER_LOOK = 20
_LOST = f"{WorkerLost.__module__}.{WorkerLost.__qualname__}"


class Supervisor:
    """Looks around in turns, on a thread of its own."""

    def __init__(
        self,
        store: Store,
        bell: Bell,
        settings: WorkerSettings,
        worker: Callable[[], UUID],
        nudge: Callable[[], None],
        suspects: Callable[[], None],
        retention: Callable[[], None],
    ) -> None:
        self._store = store
        self._bell = bell
        self._settings = settings
        self._worker = worker
        self._nudge = nudge
        self._suspects = suspects
        self._retention = retention
        self._stopped = threading.Event()
        self._spoilers: set[RunEvent] = set()  # what could not be carried out, and was told of
        self._thread = threading.Thread(target=self._run, name="cnstra-supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        away = False
        pause = self._settings.look_every.total_seconds()
        while not self._stopped.wait(pause):
            try:
                elected = self.look_around()
                pause = self._settings.look_every.total_seconds() * (1 if elected else 1.5)
                away = False
            except CnstraError as error:
                if not away:
                    _log.warning("the supervisor could not look around: %s", error)
                away = True
            except Exception:
                _log.exception("the supervisor could not look around")

    def look_around(self) -> bool:
        """One turn: find what is to be done, and do it. Whether this worker supervises."""
        settings = self._settings
        found = self._store.run(
            self._store.look(self._worker(), settings.supervisor_lease, settings.unclaimed_after, MOST_PER_LOOK)
        )
        if not found.elected:
            if found.waits:
                self._nudge()  # were the broker away, nobody but the supervisor would hear of work
            return False
        if found.unclaimed:
            self._bell.ring(found.unclaimed)
            self._nudge()
        if found.suspects:
            self._suspects()
        if found.workers_lost:
            self._take_back()
        self._fire(found)
        if found.unclaimed:
            self._set_aside()
        if found.limited:
            self._ring(self._store.run(self._store.lift_limits(MOST_PER_LOOK)))
        self._retention()
        return True

    def _fire(self, found: Findings) -> None:
        """Timers, attempts, deadlines and the ends of expectations whose time has come."""
        events = [RunEvent(run_id=run_id, event=Due(activation_id=number)) for run_id, number in found.due]
        events += [RunEvent(run_id=run_id, event=AttemptDue()) for run_id in found.attempts_due]
        events += [RunEvent(run_id=run_id, event=DeadlineDue()) for run_id in found.deadlines_due]
        events += [
            RunEvent(run_id=run_id, event=ExpectationDue(expectation_id=n)) for run_id, n in found.expectations_due
        ]
        if events:
            self._apply(events)

    def _set_aside(self) -> None:
        """Work that nobody knows leaves the way of the rest soon, however much it is: each claim reads over what stays."""
        for _ in range(SWEEPS_PER_LOOK):
            aside = self._store.run(self._store.set_unknown_aside(self._settings.unclaimed_after, MOST_PER_LOOK))
            if aside < MOST_PER_LOOK or self._stopped.is_set():
                return

    def _take_back(self) -> None:
        """Claims of workers that are lost: another try, after a while. What cannot be taken back is found again at each turn."""
        for _ in range(SWEEPS_PER_LOOK):
            lost = self._store.run(self._store.lost_claims(MOST_PER_LOOK))
            _report(lost)
            if lost:
                self._apply([RunEvent(run_id=claim.run_id, event=self._lost(claim)) for claim in lost])
            if len(lost) < MOST_PER_LOOK or self._stopped.is_set():
                return

    def _lost(self, claim: LostClaim) -> Lost:
        problem = f"worker {claim.worker} ({claim.host}, pid {claim.pid}) died, or stalled past its lease"
        return Lost(
            fence=claim.fence,
            failure=Failure(error_type=_LOST, error=problem),
            backoff=self._settings.crash_backoff.total_seconds(),
            suspect_at=max(self._settings.poison_limit - 1, 1),
        )

    def _apply(self, events: Sequence[RunEvent]) -> None:
        """Apply events of many runs. One run that cannot be carried on, whatever is the matter with it, holds up no other."""
        try:
            applied = self._store.run(self._store.apply(events))
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(events) == 1:
                self._tell_of_spoiler(events[0], error)
                return
            middle = len(events) // 2
            self._apply(events[:middle])
            self._apply(events[middle:])
        else:
            self._ring(applied.rings)

    def _tell_of_spoiler(self, happening: RunEvent, error: Exception) -> None:
        """It comes again at every turn, and is told of once."""
        if happening not in self._spoilers:
            if len(self._spoilers) >= MOST_PER_LOOK:
                self._spoilers.clear()
            self._spoilers.add(happening)
            about = naming((happening.run_id, _activation_of(happening.event)))
            _log.error(
                "run %s: %s could not be carried out: %s", happening.run_id, _named(happening.event), error, extra=about
            )

    def _ring(self, rings: Sequence[Ring]) -> None:
        if rings:
            self._bell.ring(rings)
            self._nudge()


def _named(event: Event) -> str:
    """An event for the log: what it is, and of which activation; nothing that a handler gave."""
    match event:
        case Due():
            return f"the timer of activation {event.activation_id}"
        case ExpectationDue():
            return f"the timeout of what activation {event.expectation_id} waits for"
        case Lost():
            return f"the loss of the worker of activation {event.fence.activation_id}"
        case _:
            return type(event).__name__


def _activation_of(event: Event) -> int | None:
    match event:
        case Due():
            return event.activation_id
        case ExpectationDue():
            return event.expectation_id
        case Lost():
            return event.fence.activation_id
        case _:
            return None


def _report(lost: list[LostClaim]) -> None:
    """One line a worker, however much it held; each activation has its own among the tries."""
    workers = {claim.worker: [each for each in lost if each.worker == claim.worker] for claim in lost}
    for worker, claims in workers.items():
        first = claims[0]
        _log.warning(
            "worker %s (%s, pid %d) was lost with %s, tried again: run %s, activation %d%s",
            worker,
            first.host,
            first.pid,
            "1 activation" if len(claims) == 1 else f"{len(claims)} activations",
            first.run_id,
            first.fence.activation_id,
            "" if len(claims) == 1 else ", and others",
            extra=naming(*((claim.run_id, claim.fence.activation_id) for claim in claims)),
        )

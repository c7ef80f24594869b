"""What running handlers report of their progress, on its way to the store.

Owns the last report of each claim, and the one thread that writes them: all of a process's in one statement, at most one
in a while, and none while nothing is reported. What a try reported is written before its end is settled: the next try can
count on it. Refuses to decide whose a claim is: the store's fence does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from uuid import UUID

from cnstra.orchestrator.context import naming
from cnstra.orchestrator.errors import DataRefused, StoreUnavailable
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.store import Report, Store

_log = logging.getLogger("cnstra.worker")

MOST_AT_ONCE = 1024 * 1024
"""Characters of one statement's reports, unless it is one alone; the rest follows in the next."""

Key = tuple[UUID, Claimed]


class Reports:
    """Writes progress, ``every`` so many seconds at most. ``refused`` is told of claims that stand no more."""

    def __init__(self, store: Store, every: float, refused: Callable[[Report], None]) -> None:
        self._store = store
        self._every = every
        self._refused = refused
        self._pending: dict[Key, str] = {}
        self._sending: set[Key] = set()  # on their way to the store
        self._change = threading.Condition()
        self._writing = threading.Lock()  # one statement at a time: an older report must not overtake a newer one
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cnstra-progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write what is pending, and end."""
        self._stopped.set()
        with self._change:
            self._change.notify_all()
        self._thread.join(timeout)

    def put(self, run_id: UUID, fence: Claimed, progress: str) -> None:
        """Write this soon, in the place of what the same claim reported before."""
        with self._change:
            self._pending[run_id, fence] = progress
            self._change.notify_all()

    def write_before(self, keys: Iterable[Key]) -> None:
        """Write now what is pending of these claims, whose ends are about to be settled; wait for what is under way.

        Raises ``StoreUnavailable``; nothing is lost then.
        """
        wanted = set(keys)
        with self._change:
            if not (wanted & self._pending.keys() or wanted & self._sending):
                return
        with self._writing:
            while taken := self._take(wanted):
                try:
                    self._write(taken)
                except StoreUnavailable:
                    raise
                except Exception:  # the end of a try goes before what it said on the way
                    _log.exception("progress could not be written")

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._pending or self._stopped.is_set())
            try:
                with self._writing:
                    if taken := self._take(None):
                        self._write(taken)
            except StoreUnavailable as error:
                _log.info("progress waits for the store, which is away: %s", error)
            except Exception:
                _log.exception("progress could not be written")
            if self._stopped.wait(self._every):
                return

    def _take(self, wanted: set[Key] | None) -> dict[Key, str]:
        """What is to be written in one statement: those that have waited longest, or of these claims."""
        taken: dict[Key, str] = {}
        size = 0
        with self._change:
            for key, text in self._pending.items():
                if wanted is None or key in wanted:
                    size += len(text)
                    if taken and size > MOST_AT_ONCE:
                        break
                    taken[key] = text
            for key in taken:
                del self._pending[key]
            self._sending = set(taken)
        return taken

    def _write(self, taken: dict[Key, str]) -> None:
        reports = [Report(run_id=key[0], fence=key[1], progress=text) for key, text in taken.items()]
        try:
            self._send(reports)
        except StoreUnavailable:
            with self._change:  # what was reported meanwhile is newer
                self._pending = taken | self._pending
            raise
        finally:
            with self._change:
                self._sending = set()

    def _send(self, reports: list[Report]) -> None:
        """Write these; one that the store cannot hold is left out, and named."""
        try:
            refused = self._store.run(self._store.report(reports))
        except DataRefused as error:
            if len(reports) > 1:
                for one in reports:
                    self._send([one])
            else:
                _log.warning(
                    "run %s, activation %d: its progress could not be stored: %s",
                    reports[0].run_id,
                    reports[0].fence.activation_id,
                    error,
                    extra=naming((reports[0].run_id, reports[0].fence.activation_id)),
                )
            return
        for one in refused:
            self._refused(one)

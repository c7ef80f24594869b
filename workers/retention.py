"""Carries out the retention: deletes, in the background, what the rules of the store no longer keep.

On a thread of its own, so that timers and lost work do not wait for it. It begins when the supervisor says so, now and then;
each transaction is short, and followed by a pause that is as long: hops come first. By a clock that jumped nothing is
deleted. Whatever is left when it stops is found the next time, and two at once take different runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cnstra.orchestrator.errors import CnstraError
from cnstra.orchestrator.store import Expired, Portion, Store

_log = logging.getLogger("cnstra.retention")

_AT_ONCE = 30.0
"""Seconds after which it lets go, so that somebody else may have become the supervisor meanwhile."""
_FARTHEST = timedelta(hours=1)
"""So far apart may the clocks of the database and of this machine be. Where one is wrong, nothing is deleted by its word."""
_SHORTEST_PAUSE = 0.01
_LONGEST_PAUSE = 5.0


class Retention:
    """Deletes in turns, on a thread of its own."""

    def __init__(self, store: Store, every: timedelta, now: Callable[[], datetime] | None = None) -> None:
        """``now`` tells an aware time, this machine's by default."""
        self._store = store
        self._now = now or _system_time
        self._every = every.total_seconds()
        self._next = time.monotonic()
        self._asked = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cnstra-retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 0.0) -> None:
        """Begin no further transaction; wait so many seconds for the one that is under way. It may be cut off at any time."""
        self._stopped.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def ask(self) -> None:
        """Delete what is due, if that was not looked for lately. Returns at once."""
        if time.monotonic() >= self._next:
            self._asked.set()

    def _run(self) -> None:
        away = False
        while self._asked.wait() and not self._stopped.is_set():
            self._asked.clear()
            self._next = time.monotonic() + self._every
            try:
                if self.sweep():
                    self._next = time.monotonic()  # there is more: go on at the supervisor's next word
                away = False
            except CnstraError as error:
                if not away:
                    _log.warning("what is no longer kept could not be deleted, and stays for now: %s", error)
                away = True
            except Exception:
                _log.exception("what is no longer kept could not be deleted, and stays for now")

    def sweep(self) -> bool:
        """Delete portion by portion until nothing is due, or for a while; whether there is more."""
        if not self._clocks_agree():
            return False
        until = time.monotonic() + _AT_ONCE
        runs, contexts, free, more = 0, 0, 0, True
        while more and not self._stopped.is_set() and time.monotonic() < until:
            began = time.monotonic()
            gone: Expired = self._store.run(self._store.expire(Portion()))
            runs, contexts = runs + len(gone.runs), contexts + len(gone.contexts)
            free, more = free + gone.free_contexts, gone.more
            took = time.monotonic() - began
            if more:
                self._stopped.wait(min(max(took, _SHORTEST_PAUSE), _LONGEST_PAUSE))
        if runs or contexts or free:
            _log.info(
                "no longer to be kept, and deleted: %d runs, the contexts of %d others, %d contexts of no run",
                runs,
                contexts,
                free,
            )
        return more

    def _clocks_agree(self) -> bool:
        apart = self._store.run(self._store.now()) - self._now()
        if abs(apart) <= _FARTHEST:
            return True
        _log.error(
            "the database's clock and this machine's are %s apart, so one of them is wrong: nothing is deleted by it",
            apart,
        )
        return False


def _system_time() -> datetime:
    return datetime.now(UTC)

"""Tells that a server went away, and that it came back: once each, however many threads notice it."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress


class Outage:
    """One outage at a time, in the log.

    The lock is the flag: who takes it reports the beginning, who gives it back reports the end. Nobody ever
    waits for it, so a fork at the wrong moment cannot hang the child.
    """

    def __init__(self, log: logging.Logger, *, who: str, meanwhile: str, back: str = "the broker is back.") -> None:
        self._log = log
        self._who = who
        self._meanwhile = meanwhile
        self._back = back
        self._reported = threading.Lock()

    def began(self, error: Exception) -> None:
        """Something failed. Says so, unless it has been said."""
        if self._reported.acquire(blocking=False):
            self._log.warning("%s: %s %s", self._who, error, self._meanwhile)

    def ended(self) -> None:
        """Something worked. Says so, if an outage was reported."""
        if self._reported.locked():
            with suppress(RuntimeError):  # another thread was quicker
                self._reported.release()
                self._log.info("%s: %s", self._who, self._back)

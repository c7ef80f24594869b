"""The main thread of one worker process: it waits for signals, for its parent's orders, and for the end of its life.

The first request to stop drains; a second one, or the end of the time to drain, ends the process at once, whatever
handlers do. A parent that has died leaves a pipe at its end: then the process is gone as if killed, too.
"""

from __future__ import annotations

import atexit
import logging
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from cnstra.exits import Exit
from cnstra.running.life import Life
from cnstra.running.orders import DRAIN, NOW
from cnstra.running.signals import STOPPING, SignalPipe

_log = logging.getLogger("cnstra.worker")

GRACE = 2.0
"""Seconds after the end of the time to drain in which what was drained may still be settled, and the lease ended."""
LEASE_ENDS_WITHIN = 1.5


class Process:
    """Conducts one ``Life``. ``orders`` is the pipe to a parent, which alone may cut short; without one, signals do. ``every``
    so many seconds something is called, as long as this thread turns.
    """

    def __init__(
        self,
        life: Life,
        *,
        drain: float,
        orders: int | None = None,
        every: tuple[float, Callable[[], None]] | None = None,
    ) -> None:
        self._life = life
        self._drain = drain
        self._orders = orders
        self._every = every
        self._next = 0.0
        self._deadline: float | None = None

    def run(self) -> Exit:
        """Live until told to stop. Raises what the life ended with; does not return when it was cut short."""
        with SignalPipe() as signals, selectors.DefaultSelector() as selector:
            selector.register(signals, selectors.EVENT_READ, self._signalled)
            selector.register(self._life.ended, selectors.EVENT_READ, None)
            if self._orders is not None:
                selector.register(self._orders, selectors.EVENT_READ, self._ordered)
            self._life.begin()
            while True:
                for key, _ in selector.select(self._patience(time.monotonic())):
                    if key.data is None:
                        return self._over()
                    for request in key.data(signals):
                        self._obey(request)

    def _patience(self, now: float) -> float | None:
        """Do what is due; seconds until something else is."""
        moments = [] if self._deadline is None else [self._deadline]
        if self._deadline is not None and now >= self._deadline:
            self._cut_short("the time to drain is over")
        if self._every is not None:
            seconds, call = self._every
            if now >= self._next:
                call()
                self._next = now + seconds
            moments.append(self._next)
        return max(min(moments) - now, 0.0) if moments else None

    def _signalled(self, signals: SignalPipe) -> list[bytes]:
        again = NOW if self._orders is None else DRAIN
        requests: list[bytes] = []
        for number in signals.read():
            _log.info("received %s", number.name)
            requests.append(DRAIN if self._deadline is None and not requests else again)
        return requests

    def _ordered(self, _signals: SignalPipe) -> list[bytes]:
        assert self._orders is not None
        told = os.read(self._orders, 4096)
        if not told:
            os.kill(os.getpid(), signal.SIGKILL)  # the parent is gone, and nobody would end us
        return told.split()

    def _obey(self, request: bytes) -> None:
        if request == NOW:
            self._cut_short("told to stop a second time")
        if self._deadline is None:
            self._deadline = time.monotonic() + self._drain + GRACE
            self._life.drain()

    def _over(self) -> Exit:
        if self._life.error is not None:
            raise self._life.error
        if not self._life.drained:
            leave(Exit.CUT_SHORT, "the time to drain is over, and handlers still run")
        return Exit.DONE

    def _cut_short(self, why: str) -> NoReturn:
        self._life.cut_short(LEASE_ENDS_WITHIN)
        leave(Exit.CUT_SHORT, why)


def leave(code: Exit, why: str) -> NoReturn:
    """End this process at once, whatever its threads are in."""
    _log.warning("ending at once: %s; other workers take over what was running", why)
    _end(code)


def insist_on_ending(code: int) -> None:
    """From here on this process ends, soon and with ``code``, once its main thread has returned.

    Signals do not change that any more. Threads of the user's own, and what was registered with ``atexit``, have ``GRACE``
    seconds. What Python does after them is left out: it calls finalizers, and that of a pool of connections which nobody
    closed waits for threads that are gone by then.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    insisting = threading.Timer(GRACE, _end, (code,))
    insisting.daemon = True
    insisting.start()
    atexit.register(_run_the_others_and_end, code)  # the last one is called first


def _run_the_others_and_end(code: int) -> None:
    atexit.unregister(_run_the_others_and_end)
    atexit._run_exitfuncs()
    _end(code)


def _end(code: int) -> NoReturn:
    _flush()
    os._exit(code)


def _flush() -> None:
    """Flush the logs and the standard streams, unless somebody who is stuck holds them."""

    def flush() -> None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()

    flushing = threading.Thread(target=flush, daemon=True)
    flushing.start()
    flushing.join(0.5)

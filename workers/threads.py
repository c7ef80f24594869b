"""The threads on which sync handlers are called, and what happens to one that does not come back.

A thread cannot be interrupted. One that is stuck in its job is replaced, so that as many as before are free; it ends as
soon as its job does. Refuses to know what a job is, and when it has taken too long.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress

_log = logging.getLogger("cnstra.worker")

Job = Callable[[], None]


class Seat:
    """A thread's place in one job: by it, whoever watches the job names the thread."""

    __slots__ = ("left", "replaced", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.left = False
        self.replaced = False

    def stack(self) -> str:
        """Where the thread is now; nothing when it has left its seat."""
        frame = None if self.left else sys._current_frames().get(self.thread)
        return "" if frame is None else "".join(traceback.format_stack(frame))


class Threads:
    """So many threads, which work off jobs in the order in which they come."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._made = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._here = threading.local()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to work."""
        for _ in range(self._count):
            self._add()

    def put(self, job: Job) -> None:
        """Do this, as soon as a thread is free."""
        self._jobs.put(job)

    def seat(self) -> Seat:
        """That of the calling thread, in the job that it does now."""
        seat: Seat = self._here.seat
        return seat

    def replace(self, seat: Seat) -> None:
        """Put another thread in the place of one that is stuck in its job; nothing to do when it came back meanwhile."""
        with self._lock:
            if seat.left:
                return
            seat.replaced = True
        self._add()

    def empty(self) -> None:
        """Do what waits for a thread on the calling one."""
        with suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    self._do(job)

    def stop(self) -> None:
        """End each thread after its job; returns at once."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _add(self) -> None:
        with self._lock:
            self._made += 1
            name = f"cnstra-call-{self._made}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._do(job).replaced:
                return

    def _do(self, job: Job) -> Seat:
        seat = self._here.seat = Seat()
        try:
            job()
        except Exception:  # the thread must live on, whatever a handler left behind
            _log.exception("a call's end could not be taken in")
        with self._lock:
            seat.left = True
        return seat

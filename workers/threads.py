"""The threads on which sync handlers are called, and what happens to one that does not come back.

Jobs wait in one line. One thread at a time is woken for them, and wakes the next one when it takes a job and others wait: so
many quick jobs are done by few threads, which do not fight over the interpreter, and slow ones soon have all. A thread cannot be
interrupted. One that is stuck in its job is replaced, so that as many as before are free; it ends as soon as its job does.
Refuses to know what a job is, and when it has taken too long.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable

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
        self._jobs: deque[Job] = deque()
        self._idle = 0
        self._waking = False  # one that was idle is on its way
        self._stopped = False
        self._lock = threading.Lock()  # by itself quicker to take than through the condition
        self._change = threading.Condition(self._lock)
        self._here = threading.local()

    def start(self) -> None:
        """Begin to work."""
        for _ in range(self._count):
            self._add()

    def put(self, jobs: Iterable[Job]) -> None:
        """Do these, as soon as threads are free. A thread of these that puts them is as good as free: it comes for the first."""
        with self._lock:
            self._jobs.extend(jobs)
            coming = 1 if hasattr(self._here, "seat") else 0
            if len(self._jobs) > coming:
                self._wake()

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
        while (job := self._taken()) is not None:
            self._do(job).left = True

    def stop(self) -> None:
        """End each thread after its job, and after those that wait; returns at once."""
        with self._lock:
            self._stopped = True
            self._change.notify_all()

    def _add(self) -> None:
        with self._lock:
            self._made += 1
            name = f"cnstra-call-{self._made}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        seat: Seat | None = None
        while (job := self._next(seat)) is not None:
            seat = self._do(job)

    def _next(self, left: Seat | None) -> Job | None:
        """Leave the seat of the last job; the next one, when it has come. None at the end, and for who was replaced."""
        with self._lock:
            if left is not None:
                left.left = True
                if left.replaced:
                    self._wake()  # for what it has put, and does not come for
                    return None
            while not self._jobs:
                if self._stopped:
                    return None
                self._idle += 1
                self._change.wait()
                self._idle -= 1
                self._waking = False
            job = self._jobs.popleft()
            self._wake()
            return job

    def _taken(self) -> Job | None:
        with self._lock:
            return self._jobs.popleft() if self._jobs else None

    def _wake(self) -> None:
        if self._jobs and self._idle and not self._waking:
            self._waking = True
            self._change.notify()

    def _do(self, job: Job) -> Seat:
        seat = self._here.seat = Seat()
        try:
            job()
        except Exception:  # the thread must live on, whatever a handler left behind
            _log.exception("a call's end could not be taken in")
        return seat

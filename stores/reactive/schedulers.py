"""When a turn is: at once, on an event loop, or when somebody says so.

Owns the moment, and nothing of what is delivered. A scheduler of your own is any object with ``schedule``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol


class Scheduler(Protocol):
    """Decides when what is due is delivered."""

    def schedule(self, deliver: Callable[[], None], /) -> None:
        """See to it that ``deliver`` is called once, sooner or later.

        Called after each write that leaves something due, from the thread that wrote, with no lock held; so it comes many
        times before one turn, always with an equal ``deliver`` for one database. A call of ``deliver`` too many does no
        harm. It delivers one turn; when that turn's subscribers wrote, ``schedule`` is called again.
        """


class ImmediateScheduler:
    """A turn after each write, before the write returns.

    What subscribers write is delivered in turns of its own, after the one that is under way, without recursion. So
    subscribers that always answer each other's writes never come to an end.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def schedule(self, deliver: Callable[[], None], /) -> None:
        """Deliver now; or, inside of a turn of this thread, after it."""
        asked: dict[Callable[[], None], None] | None = getattr(self._thread, "asked", None)
        if asked is not None:
            asked[deliver] = None
            return
        self._thread.asked = asked = {deliver: None}
        try:
            while asked:
                first = next(iter(asked))
                del asked[first]
                first()
        finally:
            del self._thread.asked


class ManualScheduler:
    """A turn whenever ``flush()`` is called: at the end of a frame, of a request, of a turn of a CNS.

    ``flush()`` does nothing when nothing is due, so it may be called as often as you like, from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer that writes may run while it is held
        self._asked: dict[Callable[[], None], None] = {}

    @property
    def pending(self) -> bool:
        """Whether ``flush()`` has something to do."""
        return bool(self._asked)

    def schedule(self, deliver: Callable[[], None], /) -> None:
        """Remember it for the next ``flush()``."""
        with self._lock:
            self._asked[deliver] = None

    def flush(self) -> None:
        """Deliver one turn. What its subscribers write waits for the next ``flush()``."""
        with self._lock:
            asked, self._asked = self._asked, {}
        try:
            while asked:
                first = next(iter(asked))
                del asked[first]
                first()
        finally:
            if asked:
                with self._lock:
                    self._asked = asked | self._asked


class AsyncioScheduler:
    """A turn in the next iteration of an event loop: what was written between two awaits is told in one.

    Subscribers are called on one loop, wherever the writes come from; those of other threads wake it. It is the loop that
    is given; without one, the loop that runs where the scheduler is made; without that, too, the loop of the first write
    that is made on one. When that loop has been closed, the next write made on a running loop chooses anew; a loop that
    was given stays. While there is no loop, what is due waits: for such a write, or for ``Database.flush()``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._fixed = loop is not None
        self._loop = _running_loop() if loop is None else loop
        self._lock = threading.RLock()  # a finalizer that writes may run while it is held
        self._asked: set[Callable[[], None]] = set()

    def schedule(self, deliver: Callable[[], None], /) -> None:
        """Deliver in the loop's next iteration. From any thread."""
        running = _running_loop()
        with self._lock:
            loop = self._choose(running)
            if loop is None or deliver in self._asked:
                return
            self._asked.add(deliver)
            try:
                if loop is running:
                    loop.call_soon(self._run, deliver)
                else:
                    loop.call_soon_threadsafe(self._run, deliver)
            except RuntimeError:
                self._asked.discard(deliver)
                if not loop.is_closed():  # else its end came in between, and what is due waits
                    raise

    def _choose(self, running: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop | None:
        if not self._fixed and (self._loop is None or self._loop.is_closed()):
            self._loop = running
            self._asked.clear()  # a closed loop calls nobody any more
        if self._loop is None or self._loop.is_closed():
            return None
        return self._loop

    def _run(self, deliver: Callable[[], None]) -> None:
        with self._lock:
            self._asked.discard(deliver)
        deliver()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

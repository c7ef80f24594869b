"""A reactive database, as its users see it: what its collections have in common.

Owns nothing but the doors: ``Turns`` does the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cnstra.stores.reactive.schedulers import ImmediateScheduler, Scheduler
from cnstra.stores.reactive.turns import Turns


class Database:
    """Collections that are written under one lock, and whose subscribers are told in the same turns.

    ``scheduler`` decides when turns are; without one, each write is followed by a turn at once.

    Threads may share it: each write takes effect as a whole, and each read sees whole writes. Subscribers are called
    without the lock and never two at a time: a thread that writes while another one delivers leaves its changes to that
    one, for its next turn. An exception of a subscriber is logged on ``cnstra.reactive``, without keys or entities, and
    the others are still called.
    """

    def __init__(self, scheduler: Scheduler | None = None) -> None:
        self.turns = Turns(ImmediateScheduler() if scheduler is None else scheduler)
        """What collections and indexes work with; not for users."""

    @property
    def pending(self) -> bool:
        """Whether a subscriber has something coming."""
        return bool(self.turns.due)

    def flush(self) -> None:
        """Deliver one turn now, in this thread, whatever the scheduler.

        What subscribers write meanwhile comes in the next turn. Does nothing inside of ``batch()``, and while a turn is
        being delivered. No exception of a subscriber comes out; only what ends a program does, such as
        ``KeyboardInterrupt``, and then those who were not called yet stay due.
        """
        self.turns.flush()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Hold turns back until the end of the block: whatever is written in it is told in one.

        Writes take effect, and can be read, at once; nothing is undone when the block raises. Turns are held back for
        all threads: so wait for nothing in it, and await nothing.
        """
        with self.turns.lock:
            self.turns.hold_back()
        try:
            yield
        finally:
            with self.turns.lock:
                self.turns.let_go()
            self.turns.wake()

"""One reactive database: the lock of its collections, what is due to their subscribers, and the turns that deliver it.

A *turn* is one delivery of all that is due: each subscriber that has something coming is called once, in the order of
subscribing, however much changed. Writers never call subscribers: they note what changed under the lock, and ask the
scheduler for a turn once they have let go of it. Owns that order of things; refuses to decide when a turn is, which is the
scheduler's part.
"""

from __future__ import annotations

import logging
import threading
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from cnstra.stores.reactive.schedulers import ImmediateScheduler, Scheduler
from cnstra.stores.reactive.subscriptions import Subscription

_log = logging.getLogger("cnstra.reactive")


class Database:
    """Collections that are written under one lock and whose subscribers are told in the same turns.

    ``scheduler`` decides when turns are; without one, each write is followed by a turn at once. Safe to write and to read
    from several threads. Subscribers are called without the lock, and never two at a time: a thread that writes while
    another one delivers leaves it to that one to deliver this, too, in its next turn.
    """

    def __init__(self, scheduler: Scheduler | None = None) -> None:
        self._scheduler = ImmediateScheduler() if scheduler is None else scheduler
        self._numbers = count(1)
        self._held_back = 0
        self._delivering = False
        # What collections, indexes and audiences work with. Not for users.
        self.lock = threading.RLock()
        self.due: dict[Subscription, dict[Any, None]] = {}
        self.writing = _Writing(self)

    @property
    def pending(self) -> bool:
        """Whether a subscriber has something coming."""
        return bool(self.due)

    def flush(self) -> None:
        """Deliver one turn now, in this thread, whatever the scheduler.

        What subscribers write meanwhile comes in the next turn. Does nothing inside of ``batch()`` and while a turn is
        being delivered. An exception of a subscriber is logged, and the others are still called: nothing but a
        ``BaseException`` such as ``KeyboardInterrupt`` comes out, and then who was not called yet stays due.
        """
        with self.lock:
            if self._delivering or self._held_back or not self.due:
                return
            self._delivering = True
            turn, self.due = self.due, {}
        try:
            _deliver(turn)
        finally:
            with self.lock:
                self._delivering = False
                self._put_back(turn)
        self.wake()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Hold turns back until the end of the block: whatever is written in it is told in one.

        Writes take effect, and can be read, at once; nothing is undone when the block raises. Turns are held back for
        all threads, so do not wait for anything in it, and await nothing.
        """
        self.hold()
        try:
            yield
        finally:
            self.let_go()
            self.wake()

    def hold(self) -> None:
        """Begin to hold turns back. Not for users."""
        with self.lock:
            self._held_back += 1

    def let_go(self) -> None:
        """End what ``hold`` began. Not for users."""
        with self.lock:
            self._held_back -= 1

    def wake(self) -> None:
        """Ask for a turn if one is wanted. Called without the lock. Not for users."""
        if self.due and not self._held_back:
            self._scheduler.schedule(self.flush)

    def next_number(self) -> int:
        """The next place in the order of subscribing. Not for users."""
        return next(self._numbers)

    def _put_back(self, turn: dict[Subscription, dict[Any, None]]) -> None:
        """Who was not called in a turn that was broken off goes before what has come since."""
        left = {subscription: keys for subscription, keys in turn.items() if subscription.active}
        if left:
            for subscription, keys in self.due.items():
                left.setdefault(subscription, {}).update(keys)
            self.due = left


class _Writing:
    """Around a write in which functions of the user run: under the lock, and no turn before its end."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.lock.acquire()
        self._database.hold()

    def __exit__(self, *_: object) -> None:
        self._database.let_go()
        self._database.lock.release()
        self._database.wake()


def _deliver(turn: dict[Subscription, dict[Any, None]]) -> None:
    """Call everybody; takes out of the turn who has been called."""
    for subscription in sorted(turn, key=_number):
        keys = tuple(turn.pop(subscription))
        if not subscription.active:
            continue
        try:
            subscription.callback(keys)
        except (Exception, CancelledError):  # a plain function is never cancelled: it met another one's cancellation
            # Neither keys nor entities: they may be what must not stand in a log.
            name = getattr(subscription.callback, "__qualname__", type(subscription.callback).__qualname__)
            _log.exception("%s: the subscriber %s failed; the others are still told", subscription.source, name)


def _number(subscription: Subscription) -> int:
    return subscription.number

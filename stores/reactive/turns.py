"""What is due to subscribers, and the turns that deliver it.

A *turn* is one delivery of all that is due: each subscriber that has something coming is called once, in the order of
subscribing, however much changed. Writers never call subscribers: they note what changed under the lock, and ask the
scheduler for a turn once they have let go of it. Owns that order of things, and the lock; refuses to decide when a turn is,
which is the scheduler's part.
"""

from __future__ import annotations

import logging
import threading
from asyncio import CancelledError
from itertools import count
from typing import Any

from cnstra.stores.reactive.schedulers import Scheduler
from cnstra.stores.reactive.subscriptions import Subscription

_log = logging.getLogger("cnstra.reactive")


class Turns:
    """The lock and the turns of one database. Collections, indexes and their audiences work with this; users do not."""

    __slots__ = ("_delivering", "_held_back", "_numbers", "_scheduler", "due", "lock", "writing")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._numbers = count(1)
        self._held_back = 0
        self._delivering = False
        self.lock = threading.RLock()
        self.due: dict[Subscription, dict[Any, None]] = {}
        """Who has something coming: the keys that changed, in the order in which they first did."""
        self.writing = _Writing(self)
        """Around a write: under the lock, no turn before its end, and one asked for then."""

    def next_number(self) -> int:
        """The next place in the order of subscribing."""
        return next(self._numbers)

    def hold_back(self) -> None:
        """No turn from now on, until ``let_go`` has been called as often. Called under the lock."""
        self._held_back += 1

    def let_go(self) -> None:
        """End what ``hold_back`` began. Called under the lock."""
        self._held_back -= 1

    def wake(self) -> None:
        """Ask for a turn if one is wanted. Called without the lock."""
        if self.due and not self._held_back:
            self._scheduler.schedule(self.flush)

    def flush(self) -> None:
        """Deliver one turn, in this thread; nothing while turns are held back, or one is being delivered."""
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

    def _put_back(self, turn: dict[Subscription, dict[Any, None]]) -> None:
        """Who was not called in a turn that was broken off goes before what has come since."""
        if turn:
            for subscription, keys in self.due.items():
                turn.setdefault(subscription, {}).update(keys)
            self.due = turn


class _Writing:
    """Functions of the user's may run in it. Should they write, too, their turns are held back with this one."""

    __slots__ = ("_turns",)

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        self._turns.lock.acquire()
        self._turns.hold_back()

    def __exit__(self, *_: object) -> None:
        self._turns.let_go()
        self._turns.lock.release()
        if self._turns.due:
            self._turns.wake()


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

"""Who wants to be told of what: subscriptions by key, and to everything.

Owns the lists of subscribers of one source (a collection, or an index), and what a change means to them: a note in the
list of what is due. Refuses to call anybody: that is what turns are for. Nothing is kept for a key that nobody
follows, or for a subscriber that has left.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from cnstra.orchestrator.errors import ReactiveError
from cnstra.stores.reactive.keys import checked_key

if TYPE_CHECKING:
    from cnstra.stores.reactive.turns import Turns

K = TypeVar("K")

Subscriber: TypeAlias = Callable[[tuple[K, ...]], object]
"""Called once a turn with the keys that changed in it, each once, in the order in which they first changed."""


class Subscription:
    """One registration of one subscriber. Two of the same function are two."""

    __slots__ = ("active", "callback", "number", "source")

    def __init__(self, callback: Subscriber[Any], *, number: int, source: str) -> None:
        self.callback = callback
        self.number = number
        self.source = source
        self.active = True


class Audience(Generic[K]):
    """The subscribers of one source. All methods but ``add`` are called under the lock of the turns."""

    __slots__ = ("_by_key", "_everything", "_source", "_turns", "listening")

    def __init__(self, turns: Turns, source: str) -> None:
        self._turns = turns
        self._source = source
        self._by_key: dict[K, dict[Subscription, None]] = {}
        self._everything: dict[Subscription, None] = {}
        self.listening = False
        """Whether there is any subscriber; spares writers the work for nobody."""

    def add(self, callback: Subscriber[K], keys: Iterable[K] | None = None) -> Callable[[], None]:
        """Register a subscriber of these keys, or of all; gives what removes it, which may be called again."""
        _check(callback, self._source)
        followed = None if keys is None else tuple(dict.fromkeys(checked_key(key, self._source) for key in keys))
        with self._turns.lock:
            subscription = Subscription(callback, number=self._turns.next_number(), source=self._source)
            if followed is None:
                self._everything[subscription] = None
            else:
                for key in followed:
                    self._by_key.setdefault(key, {})[subscription] = None
            self._look()

        def remove() -> None:
            self._remove(subscription, followed)

        return remove

    def changed(self, key: K) -> None:
        """Note that a key has changed, for everybody who follows it."""
        due = self._turns.due
        for subscription in self._by_key.get(key, ()):
            due.setdefault(subscription, {})[key] = None
        for subscription in self._everything:
            due.setdefault(subscription, {})[key] = None

    def _remove(self, subscription: Subscription, keys: tuple[K, ...] | None) -> None:
        with self._turns.lock:
            if not subscription.active:
                return
            subscription.active = False
            subscription.callback = _nobody  # whoever keeps the remover does not keep the subscriber
            self._turns.due.pop(subscription, None)
            if keys is None:
                del self._everything[subscription]
            else:
                for key in keys:
                    followers = self._by_key[key]
                    del followers[subscription]
                    if not followers:
                        del self._by_key[key]
            self._look()

    def _look(self) -> None:
        self.listening = bool(self._by_key or self._everything)


def _nobody(_keys: tuple[Any, ...]) -> None:
    pass


def _check(callback: object, source: str) -> None:
    if not callable(callback):
        raise ReactiveError(f"{source}: a subscriber must be callable, and {type(callback).__name__} is not")
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__):
        raise ReactiveError(
            f"{source}: an async function cannot be a subscriber, because nobody would await it; "
            "subscribe a plain function that starts a task or sets an asyncio.Event"
        )

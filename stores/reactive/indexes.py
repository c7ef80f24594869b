"""Indexes: which primary keys stand under an index key, and who is told when that changes.

Owns what all indexes share, and the two that the user fills: ``SetIndex`` and ``OrderedIndex``. An entity that is removed
leaves every index; a primary key may stand in these two before its entity has come. Nothing is kept of an index key under
which nothing stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Collection as Keys
from functools import partial
from typing import Generic, TypeVar

from cnstra.orchestrator.errors import ReactiveError
from cnstra.stores.reactive.collection import PK, Collection, T
from cnstra.stores.reactive.keys import checked_key, listed_keys
from cnstra.stores.reactive.subscriptions import Audience, Subscriber

K = TypeVar("K")


class Index(Generic[K, PK, T]):
    """What all indexes share: reading, and subscribing. Lives as long as its collection."""

    def __init__(self, collection: Collection[PK, T], name: str) -> None:
        self.name = f"{collection.name}.{name}"
        self.collection = collection
        self._turns = collection.database.turns
        self._lock = self._turns.lock
        self._of_keys: Audience[K] = Audience(self._turns, self.name)
        self._of_entities: Audience[K] = Audience(self._turns, self.name)

    # -- reading ---------------------------------------------------------------------------------------------------

    def keys(self) -> list[K]:
        """The index keys under which anything stands, in the order in which they came to be."""
        raise NotImplementedError

    def select(self, key: K) -> list[T]:
        """The entities under an index key, in the index's order: of a set, that of coming under the key."""
        with self._lock:
            return self.collection.select_present(list(self._standing(key)))

    def count(self, key: K) -> int:
        """How many primary keys stand under an index key."""
        with self._lock:
            return len(self._standing(key))

    # -- subscribing -----------------------------------------------------------------------------------------------

    def subscribe(self, callback: Subscriber[K], *, entities: bool = False) -> Callable[[], None]:
        """Have the changes of all index keys told; gives what ends that.

        An index key has changed when a primary key came under it, left it, or has another place there. With
        ``entities=True`` also when an entity under it was upserted.
        """
        return self._audience(entities).add(callback)

    def subscribe_key(self, key: K, callback: Subscriber[K], *, entities: bool = False) -> Callable[[], None]:
        """Have changes of one index key told, whether anything stands under it already or not."""
        return self._audience(entities).add(callback, [key])

    def subscribe_keys(
        self, keys: Iterable[K], callback: Subscriber[K], *, entities: bool = False
    ) -> Callable[[], None]:
        """Have changes of several index keys told: at most one call a turn, with those of them that changed."""
        return self._audience(entities).add(callback, listed_keys(keys, self.name))

    # -- for the kinds of indexes ----------------------------------------------------------------------------------

    def _standing(self, key: K) -> Keys[PK]:
        """The primary keys under an index key, in order; nobody outside of the lock may see it."""
        raise NotImplementedError

    def _audience(self, entities: bool) -> Audience[K]:
        return self._of_entities if entities else self._of_keys

    def _changed(self, key: K) -> None:
        """Other primary keys stand under this key, or in another order."""
        if self._of_keys.listening:
            self._of_keys.changed(key)
        if self._of_entities.listening:
            self._of_entities.changed(key)

    def _touched(self, keys: Iterable[K]) -> None:
        """An entity that stands under these keys was upserted, and stays where it was."""
        if self._of_entities.listening:
            for key in keys:
                self._of_entities.changed(key)


class FilledIndex(Index[K, PK, T]):
    """What is common to the indexes that the user fills: which index keys a primary key stands under."""

    def __init__(self, collection: Collection[PK, T], name: str) -> None:
        super().__init__(collection, name)
        self._keys_of: dict[PK, dict[K, None]] = {}
        collection.follow(self)

    def plan(self, changes: Mapping[PK, T | None], /) -> Callable[[], None]:
        """Called by the collection: what is removed there leaves here."""
        return partial(self._follow, changes)

    def _follow(self, changes: Mapping[PK, T | None]) -> None:
        gone: dict[K, dict[PK, None]] = {}
        for primary_key, entity in changes.items():
            keys = self._keys_of.get(primary_key, {})
            if entity is not None:
                self._touched(keys)
            else:
                for key in keys:
                    gone.setdefault(key, {})[primary_key] = None
        for key, primary_keys in gone.items():
            self._take_out(key, primary_keys)

    def _take_out(self, key: K, primary_keys: Keys[PK]) -> None:
        """Take out some that are there, and whatever is empty then."""
        if primary_keys:
            self._forget(key, primary_keys)
            self._unnote(key, primary_keys)
            self._changed(key)

    def _forget(self, key: K, primary_keys: Keys[PK]) -> None:
        raise NotImplementedError

    def _note(self, key: K, primary_keys: Iterable[PK]) -> None:
        for primary_key in primary_keys:
            self._keys_of.setdefault(primary_key, {})[key] = None

    def _unnote(self, key: K, primary_keys: Iterable[PK]) -> None:
        for primary_key in primary_keys:
            keys = self._keys_of[primary_key]
            del keys[key]
            if not keys:
                del self._keys_of[primary_key]

    def _stands(self, key: K, primary_key: PK) -> bool:
        return key in self._keys_of.get(primary_key, ())


class SetIndex(FilledIndex[K, PK, T]):
    """Index keys, each with a set of primary keys. You fill it; removed entities leave it by themselves.

    For what no entity says: what is selected, what a search found, who is online.
    """

    def __init__(self, collection: Collection[PK, T], *, name: str = "set") -> None:
        self._sets: dict[K, dict[PK, None]] = {}
        super().__init__(collection, name)

    def keys(self) -> list[K]:
        with self._lock:
            return list(self._sets)

    def primary_keys(self, key: K) -> frozenset[PK]:
        """The primary keys under an index key."""
        with self._lock:
            return frozenset(self._standing(key))

    def add(self, key: K, *primary_keys: PK) -> None:
        """Put primary keys under an index key; those that stand there already are passed over."""
        checked_key(key, self.name)
        wanted = listed_keys(primary_keys, self.name)
        with self._turns.writing:
            self._put(key, [found for found in wanted if not self._stands(key, found)])

    def discard(self, key: K, *primary_keys: PK) -> None:
        """Take primary keys away from an index key; those that do not stand there are passed over."""
        checked_key(key, self.name)
        wanted = listed_keys(primary_keys, self.name)
        with self._turns.writing:
            self._take_out(key, [found for found in dict.fromkeys(wanted) if self._stands(key, found)])

    def replace(self, key: K, primary_keys: Iterable[PK]) -> None:
        """Have exactly these primary keys under an index key."""
        checked_key(key, self.name)
        wanted = dict.fromkeys(listed_keys(primary_keys, self.name))
        with self._turns.writing:
            self._take_out(key, [found for found in self._standing(key) if found not in wanted])
            self._put(key, [found for found in wanted if not self._stands(key, found)])

    def _put(self, key: K, primary_keys: list[PK]) -> None:
        if primary_keys:
            self._sets.setdefault(key, {}).update(dict.fromkeys(primary_keys))
            self._note(key, primary_keys)
            self._changed(key)

    def _standing(self, key: K) -> Keys[PK]:
        return self._sets.get(checked_key(key, self.name), ())

    def _forget(self, key: K, primary_keys: Keys[PK]) -> None:
        standing = self._sets[key]
        for primary_key in primary_keys:
            del standing[primary_key]
        if not standing:
            del self._sets[key]


class OrderedIndex(FilledIndex[K, PK, T]):
    """Index keys, each with a list of primary keys in the order that you give. Removed entities leave it by themselves.

    For an order that no entity says: the page that a server sent, a queue that a user arranged. A primary key stands once
    under an index key. All but ``append`` takes time in proportion to the list's length.
    """

    def __init__(self, collection: Collection[PK, T], *, name: str = "ordered") -> None:
        self._lists: dict[K, list[PK]] = {}
        super().__init__(collection, name)

    def keys(self) -> list[K]:
        with self._lock:
            return list(self._lists)

    def primary_keys(self, key: K) -> tuple[PK, ...]:
        """The primary keys under an index key, in order."""
        with self._lock:
            return tuple(self._standing(key))

    def append(self, key: K, *primary_keys: PK) -> None:
        """Put primary keys at the end; those that stand there already keep their places."""
        checked_key(key, self.name)
        wanted = listed_keys(primary_keys, self.name)
        with self._turns.writing:
            new = [found for found in dict.fromkeys(wanted) if not self._stands(key, found)]
            if new:
                self._lists.setdefault(key, []).extend(new)
                self._note(key, new)
                self._changed(key)

    def insert(self, key: K, position: int, primary_key: PK) -> None:
        """Put a primary key at a position, as ``list.insert`` does; one that stands elsewhere in the list moves there."""
        checked_key(key, self.name)
        checked_key(primary_key, self.name)
        with self._turns.writing:
            order = [found for found in self._standing(key) if found != primary_key]
            order.insert(position, primary_key)
            self._arrange(key, order)

    def remove(self, key: K, *primary_keys: PK) -> None:
        """Take primary keys away from an index key; those that do not stand there are passed over."""
        checked_key(key, self.name)
        gone = set(listed_keys(primary_keys, self.name))
        with self._turns.writing:
            self._arrange(key, [found for found in self._standing(key) if found not in gone])

    def replace(self, key: K, primary_keys: Iterable[PK]) -> None:
        """Have exactly these primary keys under an index key, in this order. Raises ``ReactiveError`` if one comes twice."""
        checked_key(key, self.name)
        order = listed_keys(primary_keys, self.name)
        if len(set(order)) != len(order):
            raise ReactiveError(
                f"{self.name}: a primary key comes twice in the new order; each stands once under a key"
            )
        with self._turns.writing:
            self._arrange(key, order)

    def _arrange(self, key: K, order: list[PK]) -> None:
        old = self._lists.get(key, [])
        if old == order:
            return
        staying = set(order)
        self._unnote(key, [found for found in old if found not in staying])
        self._note(key, order)
        if order:
            self._lists[key] = order
        else:
            del self._lists[key]
        self._changed(key)

    def _standing(self, key: K) -> Keys[PK]:
        return self._lists.get(checked_key(key, self.name), ())

    def _forget(self, key: K, primary_keys: Keys[PK]) -> None:
        left = [found for found in self._lists[key] if found not in primary_keys]
        if left:
            self._lists[key] = left
        else:
            del self._lists[key]

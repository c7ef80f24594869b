"""Indexes that keep themselves: the index key is worked out from the entity, and so is the order.

Owns where each entity stands, so that an entity which was changed in place, or replaced by one with other keys, leaves
exactly the places that it had. Refuses keys that cannot be hashed and orders that cannot be compared while the write is
planned, before anything is changed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as Keys
from functools import partial
from itertools import count
from typing import Any, NamedTuple, overload

from cnstra.orchestrator.errors import ReactiveError
from cnstra.stores.reactive.collection import PK, Collection, T
from cnstra.stores.reactive.indexes import Index, K
from cnstra.stores.reactive.keys import checked_key, key_reader, several


class DerivedIndex(Index[K, PK, T]):
    """What is common to derived indexes: the keys of an entity.

    ``key`` is the name of a field, a tuple of such names, or a pure function of the entity; where it gives None the entity
    stands nowhere. ``keys`` is for entities that stand under several: a field that holds them, or a function.
    """

    def __init__(
        self,
        collection: Collection[PK, T],
        key: Callable[[T], K | None] | str | Sequence[str] | None,
        keys: Callable[[T], Iterable[K]] | str | None,
        name: str,
    ) -> None:
        super().__init__(collection, name)
        if (key is None) == (keys is None):
            raise ReactiveError(f"{self.name}: give key= for one index key an entity, or keys= for several")
        self._read_one = None if key is None else key_reader(key, self.name)
        self._read_several = None if keys is None else several(keys, self.name)

    def _keys_for(self, entity: T) -> tuple[K, ...]:
        if self._read_one is not None:
            key = self._read_one(entity)
            return () if key is None else (checked_key(key, self.name),)
        assert self._read_several is not None
        found = [checked_key(key, self.name) for key in self._read_several(entity) if key is not None]
        return tuple(dict.fromkeys(found))


class DerivedSetIndex(DerivedIndex[K, PK, T]):
    """Index keys, each with the set of the primary keys whose entities have it: users by team, posts by tag."""

    @overload
    def __init__(
        self, collection: Collection[PK, T], key: Callable[[T], K | None], *, name: str = "derived"
    ) -> None: ...
    @overload
    def __init__(
        self: DerivedSetIndex[Any, PK, T],
        collection: Collection[PK, T],
        key: str | Sequence[str],
        *,
        name: str = "derived",
    ) -> None: ...
    @overload
    def __init__(
        self, collection: Collection[PK, T], *, keys: Callable[[T], Iterable[K]], name: str = "derived"
    ) -> None: ...
    @overload
    def __init__(
        self: DerivedSetIndex[Any, PK, T], collection: Collection[PK, T], *, keys: str, name: str = "derived"
    ) -> None: ...
    def __init__(
        self,
        collection: Collection[PK, T],
        key: Callable[[T], K | None] | str | Sequence[str] | None = None,
        *,
        keys: Callable[[T], Iterable[K]] | str | None = None,
        name: str = "derived",
    ) -> None:
        super().__init__(collection, key, keys, name)
        self._sets: dict[K, dict[PK, None]] = {}
        self._places: dict[PK, tuple[K, ...]] = {}
        collection.follow(self)

    def keys(self) -> list[K]:
        with self._lock:
            return list(self._sets)

    def primary_keys(self, key: K) -> frozenset[PK]:
        """The primary keys under an index key."""
        with self._lock:
            return frozenset(self._standing(key))

    def plan(self, changes: Mapping[PK, T | None], /) -> Callable[[], None]:
        """Called by the collection: works out the keys, and gives what moves the entities to them."""
        return partial(
            self._move,
            [
                (primary_key, () if entity is None else self._keys_for(entity))
                for primary_key, entity in changes.items()
            ],
        )

    def _move(self, moves: list[tuple[PK, tuple[K, ...]]]) -> None:
        for primary_key, new in moves:
            old = self._places.get(primary_key, ())
            if old == new:
                self._touched(new)
                continue
            for key in old:
                if key not in new:
                    self._leave(key, primary_key)
            for key in new:
                if key not in old:
                    self._sets.setdefault(key, {})[primary_key] = None
                    self._changed(key)
            self._touched([key for key in new if key in old])
            if new:
                self._places[primary_key] = new
            else:
                del self._places[primary_key]

    def _leave(self, key: K, primary_key: PK) -> None:
        standing = self._sets[key]
        del standing[primary_key]
        if not standing:
            del self._sets[key]
        self._changed(key)

    def _standing(self, key: K) -> Keys[PK]:
        return self._sets.get(checked_key(key, self.name), ())


class _Entry(NamedTuple):
    """A primary key's place in the lists. Compared in this order; ``number`` is unique, so that keys are never compared."""

    order: Any
    number: int
    primary_key: Any


class _Place(NamedTuple):
    """Where an entity stands: the same entry under each of its keys."""

    keys: tuple[Any, ...]
    entry: _Entry


class DerivedOrderedIndex(DerivedIndex[K, PK, T]):
    """Index keys, each with a list of the primary keys whose entities have it, sorted: messages of a chat by time.

    ``order_by`` is the name of a field, a tuple of such names, or a pure function; what it gives must be comparable. Equal
    ones stand in the order in which they came to the index. ``descending=True`` puts the greatest first.
    """

    @overload
    def __init__(
        self,
        collection: Collection[PK, T],
        key: Callable[[T], K | None],
        *,
        order_by: Callable[[T], Any] | str | Sequence[str],
        descending: bool = False,
        name: str = "derived",
    ) -> None: ...
    @overload
    def __init__(
        self: DerivedOrderedIndex[Any, PK, T],
        collection: Collection[PK, T],
        key: str | Sequence[str],
        *,
        order_by: Callable[[T], Any] | str | Sequence[str],
        descending: bool = False,
        name: str = "derived",
    ) -> None: ...
    @overload
    def __init__(
        self,
        collection: Collection[PK, T],
        *,
        keys: Callable[[T], Iterable[K]],
        order_by: Callable[[T], Any] | str | Sequence[str],
        descending: bool = False,
        name: str = "derived",
    ) -> None: ...
    @overload
    def __init__(
        self: DerivedOrderedIndex[Any, PK, T],
        collection: Collection[PK, T],
        *,
        keys: str,
        order_by: Callable[[T], Any] | str | Sequence[str],
        descending: bool = False,
        name: str = "derived",
    ) -> None: ...
    def __init__(
        self,
        collection: Collection[PK, T],
        key: Callable[[T], K | None] | str | Sequence[str] | None = None,
        *,
        keys: Callable[[T], Iterable[K]] | str | None = None,
        order_by: Callable[[T], Any] | str | Sequence[str],
        descending: bool = False,
        name: str = "derived",
    ) -> None:
        super().__init__(collection, key, keys, name)
        self._order_of = key_reader(order_by, self.name)
        self._descending = descending
        # Descending lists are kept ascending, too, and read backwards: so later ones have smaller numbers there.
        self._numbers = count(-1, -1) if descending else count(1)
        self._lists: dict[K, list[_Entry]] = {}
        self._places: dict[PK, _Place] = {}
        collection.follow(self)

    def keys(self) -> list[K]:
        with self._lock:
            return list(self._lists)

    def primary_keys(self, key: K) -> tuple[PK, ...]:
        """The primary keys under an index key, in order."""
        with self._lock:
            return tuple(self._standing(key))

    def _standing(self, key: K) -> Keys[PK]:
        entries = self._lists.get(checked_key(key, self.name), ())
        return [entry.primary_key for entry in (reversed(entries) if self._descending else entries)]

    # -- following -------------------------------------------------------------------------------------------------

    def plan(self, changes: Mapping[PK, T | None], /) -> Callable[[], None]:
        """Called by the collection: makes all comparisons, and gives what moves the entities."""
        places = {primary_key: self._place_for(primary_key, entity) for primary_key, entity in changes.items()}
        try:
            if len(places) == 1:
                [(primary_key, place)] = places.items()
                return self._plan_one(primary_key, place)
            return self._plan_many(places)
        except TypeError as error:
            raise ReactiveError(f"{self.name}: what order_by= gave cannot be compared: {error}") from error

    def _place_for(self, primary_key: PK, entity: T | None) -> _Place | None:
        keys = () if entity is None else self._keys_for(entity)
        if entity is None or not keys:
            return None
        order = self._order_of(entity)
        if order != order:  # only NaN is unequal to itself, and it would spoil the whole list
            raise ReactiveError(f"{self.name}: order_by= gave {order!r}, which has no place in an order")
        old = self._places.get(primary_key)
        number = next(self._numbers) if old is None else old.entry.number
        return _Place(keys, _Entry(order, number, primary_key))

    def _plan_one(self, primary_key: PK, new: _Place | None) -> Callable[[], None]:
        """One entity: find its positions by bisection, as the lists are now."""
        old = self._places.get(primary_key)
        old_keys: tuple[K, ...] = old.keys if old else ()
        new_keys: tuple[K, ...] = new.keys if new else ()
        moves: list[tuple[K, int | None, int | None]] = []
        for key in dict.fromkeys(old_keys + new_keys):
            entries = self._lists.get(key, [])
            leaves = _position(entries, old.entry) if old and key in old_keys else None
            comes = bisect_left(entries, new.entry) if new and key in new_keys else None
            if leaves is not None and comes is not None and comes > leaves:
                comes -= 1  # it will have left by then
            moves.append((key, leaves, comes))
        return partial(self._move_one, primary_key, new, moves)

    def _move_one(self, primary_key: PK, new: _Place | None, moves: list[tuple[K, int | None, int | None]]) -> None:
        for key, leaves, comes in moves:
            entries = self._lists.setdefault(key, [])
            if leaves is not None:
                del entries[leaves]
            if comes is not None and new is not None:
                entries.insert(comes, new.entry)
            if not entries:
                del self._lists[key]
            if leaves == comes:
                self._touched((key,))
            else:
                self._changed(key)
        self._keep(primary_key, new)

    def _plan_many(self, places: Mapping[PK, _Place | None]) -> Callable[[], None]:
        """Many entities: make each list anew that one of them was or will be in."""
        coming: dict[K, list[_Entry]] = {}
        for primary_key, place in places.items():
            old = self._places.get(primary_key)
            for key in old.keys if old else ():
                coming.setdefault(key, [])
            for key in place.keys if place else ():
                coming.setdefault(key, []).append(place.entry)  # type: ignore[union-attr]
        lists: dict[K, list[_Entry]] = {}
        for key, entries in coming.items():
            staying = [entry for entry in self._lists.get(key, ()) if entry.primary_key not in places]
            lists[key] = sorted(staying + entries)
        return partial(self._move_many, places, lists)

    def _move_many(self, places: Mapping[PK, _Place | None], lists: Mapping[K, list[_Entry]]) -> None:
        for key, entries in lists.items():
            before = [entry.number for entry in self._lists.get(key, ())]
            if entries:
                self._lists[key] = entries
            else:
                del self._lists[key]
            if before == [entry.number for entry in entries]:
                self._touched((key,))
            else:
                self._changed(key)
        for primary_key, place in places.items():
            self._keep(primary_key, place)

    def _keep(self, primary_key: PK, place: _Place | None) -> None:
        if place is None:
            self._places.pop(primary_key, None)
        else:
            self._places[primary_key] = place


def _position(entries: list[_Entry], entry: _Entry) -> int:
    """Where an entry is; also when what it is ordered by was changed in place, and the list is no longer in order."""
    position = bisect_left(entries, entry)
    if position < len(entries) and entries[position] is entry:
        return position
    return next(at for at, found in enumerate(entries) if found is entry)

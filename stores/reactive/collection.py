"""A collection: entities by their primary key, with indexes that follow and subscribers that are told.

Owns the entities and the order of a write: keys and places are worked out first, with all that may be refused; then nothing
can fail any more, and entities and indexes change together. So a write takes effect as a whole or not at all. Refuses
entities without a primary key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from cnstra.orchestrator.errors import ReactiveError
from cnstra.stores.reactive.database import Database
from cnstra.stores.reactive.keys import checked_key, key_reader, listed_keys
from cnstra.stores.reactive.subscriptions import Audience, Subscriber

PK = TypeVar("PK")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Follower(Protocol[PK, T_contra]):
    """An index, as its collection sees it."""

    def plan(self, changes: Mapping[PK, T_contra | None], /) -> Callable[[], None]:
        """Work out what a write means here (None: removed), changing nothing; gives what carries it out and cannot fail."""


class Collection(Generic[PK, T]):
    """Entities of one kind, by primary key.

    ``primary_key`` is the name of a field (an item of a dict, an attribute of anything else), a tuple of such names, or a
    pure function of the entity. Entities are kept as they are given: what you read is the very object that was written. So
    they should not be changed in place; and who does so all the same, upserts them again, to have indexes follow and
    subscribers told.

    An upsert replaces the entity under its key. ``merge``, a pure function of the old and the new entity, makes it
    anything else. Collections with one ``database`` are told of in the same turns; without one a collection has its own,
    with a turn after each write. ``name`` stands in errors and logs.

    Every write is one change, also when the entity is equal to the old one. A write that is refused leaves all as it was.
    """

    def __init__(
        self,
        primary_key: Callable[[T], PK] | str | Sequence[str],
        *,
        database: Database | None = None,
        merge: Callable[[T, T], T] | None = None,
        name: str = "collection",
    ) -> None:
        self.name = name
        self.database = Database() if database is None else database
        self._key_of: Callable[[T], PK] = key_reader(primary_key, name)
        self._merge = merge
        self._turns = self.database.turns
        self._lock = self._turns.lock
        self._entities: dict[PK, T] = {}
        self._followers: list[Follower[PK, T]] = []
        self._planning = False
        self._audience: Audience[PK] = Audience(self._turns, name)

    # -- writing ---------------------------------------------------------------------------------------------------

    def upsert_one(self, entity: T) -> T:
        """Put an entity in, in place of the one with its key; gives what is kept now."""
        key = self.primary_key_of(entity)
        try:
            if self._merge is None:
                with self._lock:
                    # Nobody looks on: by far the most frequent case while data is loaded.
                    if not (self._followers or self._audience.listening):
                        self._entities[key] = entity
                        return entity
            with self._turns.writing:
                kept = self._merged(key, entity, self._entities.get(key))
                self._write({key: kept})
                return kept
        except TypeError:
            checked_key(key, self.name)
            raise

    def upsert_many(self, entities: Iterable[T]) -> None:
        """Put entities in, as one write: all of them, or none when one is refused. Of two with one key the last counts."""
        given = [(self.primary_key_of(entity), entity) for entity in entities]
        for key, _ in given:
            checked_key(key, self.name)
        with self._turns.writing:
            changes: dict[PK, T | None] = {}
            for key, entity in given:
                changes[key] = self._merged(key, entity, changes.get(key, self._entities.get(key)))
            self._write(changes)

    def update_one(self, primary_key: PK, function: Callable[[T | None], T | None]) -> T | None:
        """Replace an entity by a function of it, with no other write in between; gives what is kept now.

        ``function`` gets None where there is no entity, and gives None to leave things as they are. It is called under the
        database's lock: it should be quick, and write nothing itself.
        """
        checked_key(primary_key, self.name)
        with self._turns.writing:
            old = self._entities.get(primary_key)
            new = function(old)
            if new is None:
                return old
            self._check_same(primary_key, new, "update_one")
            self._write({primary_key: new})
            return new

    def remove(self, primary_key: PK) -> T | None:
        """Take out the entity with this key; gives it, or None when there was none."""
        checked_key(primary_key, self.name)
        with self._turns.writing:
            old = self._entities.get(primary_key)
            if old is not None:
                self._write({primary_key: None})
            return old

    def remove_many(self, primary_keys: Iterable[PK]) -> int:
        """Take out the entities with these keys, as one write; gives how many there were."""
        wanted = dict.fromkeys(listed_keys(primary_keys, self.name))
        with self._turns.writing:
            changes: dict[PK, T | None] = {key: None for key in wanted if key in self._entities}
            self._write(changes)
            return len(changes)

    def clear(self) -> None:
        """Take out everything, as one write."""
        with self._turns.writing:
            self._write(dict.fromkeys(self._entities))

    # -- reading ---------------------------------------------------------------------------------------------------

    def select_by_primary_key(self, primary_key: PK) -> T | None:
        """The entity with this key, or None."""
        try:
            return self._entities.get(primary_key)
        except TypeError:
            checked_key(primary_key, self.name)
            raise

    def select_by_primary_keys(self, primary_keys: Iterable[PK]) -> list[T | None]:
        """One place for each key that was asked for: its entity, or None."""
        wanted = primary_keys if isinstance(primary_keys, list) else listed_keys(primary_keys, self.name)
        try:
            with self._lock:
                return list(map(self._entities.get, wanted))
        except TypeError:
            listed_keys(wanted, self.name)
            raise

    def select_present(self, primary_keys: Iterable[PK]) -> list[T]:
        """The entities with these keys, as many as there are."""
        return [entity for entity in self.select_by_primary_keys(primary_keys) if entity is not None]

    def select_all(self) -> list[T]:
        """All entities, in the order in which their keys first came."""
        with self._lock:
            return list(self._entities.values())

    def primary_keys(self) -> list[PK]:
        """All keys, in the order in which they first came."""
        with self._lock:
            return list(self._entities)

    def primary_key_of(self, entity: T) -> PK:
        """The key that an entity has, whether it is in here or not. Raises ``ReactiveError`` when it has none."""
        key = self._key_of(entity)
        if key is None or entity is None:
            raise ReactiveError(f"{self.name}: a {type(entity).__name__} has no primary key: it is None")
        return key

    def has(self, primary_key: PK) -> bool:
        """Whether there is an entity with this key."""
        return self.select_by_primary_key(primary_key) is not None

    def __iter__(self) -> Iterator[T]:
        """The entities as they are now; what is written during the iteration does not show in it."""
        return iter(self.select_all())

    def __len__(self) -> int:
        with self._lock:
            return len(self._entities)

    def __repr__(self) -> str:
        return f"<Collection {self.name!r}, {len(self)} entities>"

    # -- subscribing -----------------------------------------------------------------------------------------------

    def subscribe(self, callback: Subscriber[PK]) -> Callable[[], None]:
        """Have every change told; gives what ends that.

        The callback gets a tuple of the keys that changed in a turn (upserted or removed), and reads what it wants to know.
        """
        return self._audience.add(callback)

    def subscribe_key(self, primary_key: PK, callback: Subscriber[PK]) -> Callable[[], None]:
        """Have changes of one key told, whether there is an entity under it already or not."""
        return self._audience.add(callback, [primary_key])

    def subscribe_keys(self, primary_keys: Iterable[PK], callback: Subscriber[PK]) -> Callable[[], None]:
        """Have changes of several keys told: at most one call a turn, with those of them that changed."""
        return self._audience.add(callback, listed_keys(primary_keys, self.name))

    # -- for indexes -----------------------------------------------------------------------------------------------

    def follow(self, follower: Follower[PK, T]) -> None:
        """Have an index follow from now on, beginning with what is there. Indexes call this themselves."""
        with self._turns.writing:
            self._followers.append(follower)
            try:
                self._planning = True
                carry_out = follower.plan(self._entities)
            except BaseException:
                self._followers.remove(follower)
                raise
            finally:
                self._planning = False
            carry_out()

    def _write(self, changes: Mapping[PK, T | None]) -> None:
        """Carry a write out, under the lock."""
        carry_out = self._planned(changes) if self._followers else ()
        for key, entity in changes.items():
            if entity is None:
                self._entities.pop(key, None)
            else:
                self._entities[key] = entity
        for change in carry_out:
            change()
        if self._audience.listening:
            for key in changes:
                self._audience.changed(key)

    def _planned(self, changes: Mapping[PK, T | None]) -> list[Callable[[], None]]:
        if self._planning:
            raise ReactiveError(
                f"{self.name}: a function that gives an index its keys wrote to the collection; it must not"
            )
        self._planning = True
        try:
            return [follower.plan(changes) for follower in self._followers]
        finally:
            self._planning = False

    def _merged(self, key: PK, new: T, old: T | None) -> T:
        if self._merge is None or old is None:
            return new
        kept = self._merge(old, new)
        self._check_same(key, kept, "merge=")
        return kept

    def _check_same(self, key: PK, entity: T, culprit: str) -> None:
        if self.primary_key_of(entity) != key:
            raise ReactiveError(
                f"{self.name}: {culprit} gave a {type(entity).__name__} with another primary key; "
                "it must keep the key of the one that it was given"
            )

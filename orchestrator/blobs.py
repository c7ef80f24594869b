"""Contexts that are kept in a store of the user's own: the port of such a store, and its blobs' names, form and reading.

Each hop that wrote puts one blob, which is never changed again: a delta of slots. What the store of runs keeps for such a
slot, in the place of its value, is a reference: the blob's key. The key holds the digest of the content, so that what comes
back is known to be what was put: the right value, or ``ContextLost``, and never an older one. Owns no threads and no
patience: a store that is away is ``StoreUnavailable`` here, and what that means is its caller's business.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator import sealing
from cnstra.orchestrator.errors import (
    CnstraError,
    ConfigurationError,
    ContextLost,
    DataRefused,
    SealError,
    StoreUnavailable,
)
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.slots import Changes, Slot

USUAL_PLACE: Final = "context"
"""What a store of contexts is called where nobody names it."""

LONGEST_PLACE: Final = 100
CACHE_BYTES: Final = 64 * 1024 * 1024
_MOST_AT_ONCE = 500

Delta = Mapping[str, str]
"""What a blob holds: JSON texts by slot."""


class BlobStore(Protocol):
    """Where contexts of durable runs are kept: any object with these three methods, safe for threads.

    What ``put`` has returned from is kept until it is deleted, and is what ``get`` answers from then on, on every machine: a
    replica that is behind must not answer. Any of them raises, whatever it likes, when the store is away; ``put`` raises
    ``DataRefused`` for data that it will never take. A store that has ``get_many(keys)``, too, answers what ``get`` would
    for each key, in their order, in one call.
    """

    def put(self, key: str, data: bytes, /) -> None:
        """Keep ``data`` under ``key``. The same key comes again only with the same data."""
        ...

    def get(self, key: str, /) -> bytes | None:
        """What is kept under ``key``; None when there is nothing."""
        ...

    def delete(self, keys: Iterable[str], /) -> None:
        """Forget these keys; those that are not there are no error."""
        ...


def checked(store: Any) -> BlobStore:
    """The store, if it can be one. Raises ``ConfigurationError``, naming what it lacks."""
    kind = type(store).__name__
    for name in ("put", "get", "delete"):
        method = getattr(store, name, None)
        if not callable(method):
            raise ConfigurationError(
                f"context={kind}: it has no method {name}; a store has put(key, data), get(key) and delete(keys), "
                "as cnstra.stores.blobs.RedisBlobStore for Redis"
            )
        if inspect.iscoroutinefunction(method):
            raise ConfigurationError(
                f"context={kind}: its {name} is async; give a sync one, it is called on threads that may wait"
            )
    return cast("BlobStore", store)


def checked_place(name: Any) -> str:
    """A store's name, if it can be one. Raises ``ConfigurationError``."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_PLACE or not name.isprintable() or "=" in name:
        raise ConfigurationError(
            f"context_name={name!r} must be a printable string of 1 to {LONGEST_PLACE} characters, without '='"
        )
    return name


# -- a hop's blob --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blob:
    """The values that one hop wrote: as they are put, and by slot."""

    key: str
    data: bytes
    delta: Delta


def blob_of(run_id: UUID, fence: Claimed, turn: int, changes: Changes, vault: Vault | None = None) -> Blob | None:
    """The blob of a hop's writes; None where it wrote no values, only removed some. With a ``vault`` what is put is sealed, so
    that the digest in its key tells nothing either.

    ``turn`` counts the settlements that were made of one claim: each has a blob of its own. So a key stands for one
    settlement of one holder of one claim, and for one content; never for two.

    Raises ``DataRefused`` for text that cannot be written as bytes, or not be sealed.
    """
    texts = {write.slot: write.text for write in changes.writes if write.text is not None}
    if not texts:
        return None
    removed = [write.slot for write in changes.writes if write.text is None]
    kept = texts
    if vault is not None:
        kept = {slot: vault.seal(text, sealing.context(run_id, slot)) for slot, text in texts.items()}
    given = ",".join(f"{_text(slot)}:{text}" for slot, text in kept.items())
    try:
        data = f'{{"cnstra":1,"set":{{{given}}},"removed":{_text(removed)}}}'.encode()
    except UnicodeEncodeError as error:
        raise DataRefused(
            f"run {run_id}, activation {fence.activation_id}: its context is no valid text: {error.reason}"
        ) from None
    claim = f"{fence.activation_id}-{fence.epoch}-{fence.nonce:x}-{turn}"
    return Blob(key=f"{run_id}/{claim}-{_digest(data)}", data=data, delta=texts)


def referring(changes: Changes, blob: Blob) -> Changes:
    """The changes as the store of runs keeps them: a reference to the blob in the place of each value."""
    reference = _text(blob.key)
    writes = (write if write.text is None else replace(write, text=reference) for write in changes.writes)
    return replace(changes, writes=tuple(writes))


def key_of(reference: str) -> str:
    """The key of the blob that a slot's reference names."""
    return cast("str", json.loads(reference))


def keys_of(slots: Mapping[str, Slot]) -> set[str]:
    """The keys of the blobs that these slots refer to."""
    return {key_of(slot.text) for slot in slots.values() if slot.text is not None}


def _read(key: str, data: Any, vault: Vault | None) -> Delta:
    """What a blob holds. Raises ``ValueError`` when its content is not what was put, ``SealError`` for what cannot be opened."""
    content = bytes(data)
    if _digest(content) != key.rpartition("-")[2]:
        raise ValueError("holds other bytes than were put")
    run_id = UUID(key.partition("/")[0])
    return {slot: _opened(_text(value), run_id, slot, vault) for slot, value in json.loads(content)["set"].items()}


def _opened(text: str, run_id: UUID, slot: str, vault: Vault | None) -> str:
    bound = sealing.context(run_id, slot)
    if vault is not None:
        return vault.open(text, bound)
    if sealing.is_sealed(text):
        raise sealing.not_opened(sealing.label_of(text) or "", str(bound))
    return text


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _weight(data: bytes, delta: Delta) -> int:
    """About how many bytes of memory a blob's content takes."""
    return len(data) + 200 * (len(delta) + 1)


# -- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fetched:
    """What blobs were found to hold, by key; and those that were not, with what is wrong with them."""

    place: str
    deltas: Mapping[str, Delta] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    unopened: Mapping[str, SealError] = field(default_factory=dict)

    def values(self, slots: Mapping[str, Slot], where: str) -> dict[str, Slot]:
        """The slots with their values in the place of references. Raises ``ContextLost``, or ``SealError`` for what is sealed and
        cannot be opened; ``where`` names whose they are."""
        return {name: slot if slot.text is None else self._value(name, slot, where) for name, slot in slots.items()}

    def _value(self, name: str, slot: Slot, where: str) -> Slot:
        key = key_of(cast("str", slot.text))
        if key in self.unopened:
            raise self.unopened[key].at(where)
        text = self.deltas.get(key, {}).get(name)
        if text is None:
            problem = self.lost.get(key, f"has no slot {name!r}")
            raise ContextLost(
                f"{where}: a part of its context is lost: blob {key} {problem} in the store {self.place!r}; "
                "restore it there, then retry the run"
            )
        return Slot(slot.version, text)


class Blobs:
    """A store's blobs, through a cache. Blobs never change, so what is cached is right for as long as it is kept.

    ``vault`` is for values that are sealed. ``cache_bytes`` bounds the cache.
    """

    def __init__(
        self, store: Any, place: str = USUAL_PLACE, *, vault: Vault | None = None, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.place = checked_place(place)
        self.vault = vault
        self.store = checked(store)
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[str, tuple[Delta, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def put(self, blob: Blob) -> None:
        """Keep a blob. Raises ``StoreUnavailable``, or ``DataRefused`` for what the store will never take."""
        try:
            self.store.put(blob.key, blob.data)
        except Exception as error:
            raise self._translated(error, "put") from error
        self._remember(blob.key, blob.delta, _weight(blob.data, blob.delta))

    def cached(self, keys: Iterable[str]) -> Fetched | None:
        """What these hold, if the cache knows all of them."""
        found: dict[str, Delta] = {}
        with self._lock:
            for key in keys:
                if key not in self._cached:
                    return None
                self._cached.move_to_end(key)
                found[key] = self._cached[key][0]
        return Fetched(self.place, found)

    def fetch(self, keys: Iterable[str]) -> Fetched:
        """What these hold. Raises ``StoreUnavailable``; a blob that is gone or spoilt is in the answer."""
        wanted = sorted(set(keys))
        deltas: dict[str, Delta] = {}
        for key in wanted:
            if (known := self.cached([key])) is not None:
                deltas |= known.deltas
        lost: dict[str, str] = {}
        unopened: dict[str, SealError] = {}
        missing = [key for key in wanted if key not in deltas]
        for start in range(0, len(missing), _MOST_AT_ONCE):
            page = missing[start : start + _MOST_AT_ONCE]
            for key, data in zip(page, self._get(page), strict=True):
                if data is None:
                    lost[key] = "is gone"
                    continue
                try:
                    deltas[key] = _read(key, data, self.vault)
                except SealError as error:
                    unopened[key] = error
                except ValueError as error:
                    lost[key] = str(error)
                else:
                    self._remember(key, deltas[key], _weight(data, deltas[key]))
        return Fetched(self.place, deltas, lost, unopened)

    def _get(self, keys: Sequence[str]) -> list[bytes | None]:
        many = getattr(self.store, "get_many", None)
        try:
            found = [self.store.get(key) for key in keys] if many is None else list(many(keys))
            if len(found) != len(keys):
                raise ValueError(f"get_many answered {len(found)} values for {len(keys)} keys")
            strange = {
                type(data).__name__ for data in found if not isinstance(data, bytes | bytearray | memoryview | None)
            }
            if strange:
                raise TypeError(f"it answered {', '.join(sorted(strange))}; a blob is bytes, or None when it is gone")
        except Exception as error:
            raise self._translated(error, "get") from error
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Forget blobs. Raises ``StoreUnavailable``."""
        try:
            self.store.delete(keys)
        except Exception as error:
            raise self._translated(error, "delete") from error

    def _translated(self, error: Exception, what: str) -> CnstraError:
        if isinstance(error, DataRefused) and what == "put":
            return error
        return StoreUnavailable(f"the store of contexts {self.place!r}, {what}: {type(error).__name__}: {error}")

    def _remember(self, key: str, delta: Delta, size: int) -> None:
        with self._lock:
            if key in self._cached or size > self._cache_bytes:
                return
            self._cached[key] = (delta, size)
            self._size += size
            while self._size > self._cache_bytes:
                _, (_, freed) = self._cached.popitem(last=False)
                self._size -= freed

"""The context store in a collection: each run's context is a record that others can follow by its key.

Owns ``ContextRecord`` and the versions in it. Refuses what the port of context stores refuses, before anything is written.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from cnstra.orchestrator import values
from cnstra.orchestrator.codecs import Codec, JsonCodec, checked, decoded, encoded
from cnstra.orchestrator.contexts import Versioned, updated, version_asked
from cnstra.orchestrator.errors import ConfigurationError, ContextError, ReactiveError
from cnstra.stores.reactive.collection import Collection

R = TypeVar("R")

# Later formats keep two mentions of one list as one, so that changing the one would change the other.
_FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRecord:
    """A run's context as it is kept: replaced as a whole by each write, and never changed.

    ``data`` is the value, None when it was deleted; with a codec, the bytes that it made. It is shared by all who read the
    record, so do not change it: ``ReactiveContextStore.get()`` gives copies.
    """

    run_id: str
    data: Any
    version: int


class ReactiveContextStore:
    """One run's context in a collection of ``ContextRecord``, whose primary key is ``"run_id"``.

    Threads may share it, and so may several stores of one run: the collection has the versions. ``codec`` is for values
    that are not exactly JSON. A context that was deleted leaves its record, with the version, until
    ``collection.remove(run_id)``; from then on it was never written.
    """

    __slots__ = ("__weakref__", "_codec", "_collection", "_run_id", "_where")

    def __init__(
        self, collection: Collection[str, ContextRecord], run_id: str | UUID, *, codec: Codec | None = None
    ) -> None:
        if not isinstance(collection, Collection):
            raise ConfigurationError(
                f"ReactiveContextStore: the collection is of type {type(collection).__name__}; give it a Collection of "
                "ContextRecord"
            )
        if not isinstance(run_id, str | UUID) or not str(run_id):
            raise ConfigurationError(
                f"ReactiveContextStore: run_id is {run_id!r}; it is a text that is not empty, or a UUID"
            )
        self._collection = collection
        self._run_id = str(run_id)
        self._codec = None if codec is None or type(codec) is JsonCodec else checked(codec)
        self._where = f"the context of run {self._run_id} in {collection.name}"
        if collection.primary_key_of(self._record(None, 0)) != self._run_id:
            raise ReactiveError(f'{self._where}: the collection\'s primary key must be "run_id"')

    def get(self) -> Any:
        """The value, as a copy of the caller's own; None when there is none."""
        return self.get_versioned().value

    def set(self, value: Any, /) -> None:
        """Write the value; None removes it. Raises ``ContextError`` for one that is not exactly JSON, or the codec refuses."""
        data = self._sealed(value)
        self._collection.update_one(self._run_id, lambda old: self._record(data, _version(old) + 1))

    @property
    def version(self) -> int:
        """How many times it was written."""
        return _version(self._collection.select_by_primary_key(self._run_id))

    def get_versioned(self) -> Versioned:
        """The value with its version, read at one moment."""
        record = self._collection.select_by_primary_key(self._run_id)
        if record is None:
            return Versioned(value=None, version=0)
        return Versioned(value=self._opened(record.data), version=record.version)

    def compare_and_set(self, value: Any, expected_version: int) -> bool:
        """Write the value if the version is still ``expected_version``; whether it was."""
        expected = version_asked(expected_version, self._where)
        new = self._record(self._sealed(value), expected + 1)
        kept = self._collection.update_one(self._run_id, lambda old: new if _version(old) == expected else None)
        return kept is new

    def update(self, function: Callable[[Any], R], /) -> R:
        """Write what a pure function makes of the newest value, and return it; called again when another was first."""
        return updated(self, function, self._where)

    def delete(self) -> None:
        """Remove the value. That is a write: the version goes up."""
        self.set(None)

    def _record(self, data: Any, version: int) -> ContextRecord:
        return ContextRecord(run_id=self._run_id, data=data, version=version)

    def _sealed(self, value: Any) -> Any:
        if value is None:
            return None
        if self._codec is not None:
            return encoded(self._codec, value, self._where, self._run_id.encode())
        text = values.dump(value, where=self._where, error=ContextError)
        try:
            return _copied(values.load(text))
        except ValueError:  # so deep that a copy could not be made later, either
            raise ContextError(f"{self._where}: is nested too deeply; flatten it") from None

    def _opened(self, data: Any) -> Any:
        if data is None:
            return None
        return _copied(data) if self._codec is None else decoded(self._codec, data, self._where, self._run_id.encode())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of run {self._run_id}, at version {self.version}>"


def _version(record: ContextRecord | None) -> int:
    return 0 if record is None else record.version


def _copied(data: Any) -> Any:
    """A copy of a JSON value: marshal is several times faster at it than a loop in Python, and goes deeper."""
    return marshal.loads(marshal.dumps(data, _FORMAT))  # noqa: S302 - its own bytes

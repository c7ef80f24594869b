"""A collection as a mirror writes it: a record for each run, that only ever goes forward.

Owns how versions become records. Refuses collections whose primary key is not the run's id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from cnstra.orchestrator.errors import ReactiveError
from cnstra.stores.reactive.collection import Collection
from cnstra.stores.reactive.contexts import ContextRecord

_SOME_ID = "00000000-0000-7000-8000-000000000000"


class MirroredContexts:
    """The sink of one mirror. Records of others, whose run ids are no UUIDs, say, are left alone."""

    def __init__(self, collection: Collection[str, ContextRecord]) -> None:
        self._collection = collection
        if collection.primary_key_of(ContextRecord(run_id=_SOME_ID, data=None, version=0)) != _SOME_ID:
            raise ReactiveError(
                f'{collection.name}: the primary key of a collection that mirrors runs must be "run_id"'
            )

    def known(self) -> Mapping[UUID, int]:
        """The versions that are there already, by run."""
        found: dict[UUID, int] = {}
        for record in self._collection:
            try:
                run_id = UUID(record.run_id)
            except ValueError:
                continue
            if str(run_id) == record.run_id:
                found[run_id] = record.version
        return found

    def version(self, run_id: UUID, /) -> int:
        """The version of one run that is there; 0 where there is none."""
        record = self._collection.select_by_primary_key(str(run_id))
        return 0 if record is None else record.version

    def take(self, contexts: Mapping[UUID, tuple[int, Any]], /) -> None:
        """Put newer versions in, in one turn."""
        with self._collection.database.batch():
            for run_id, (version, value) in contexts.items():
                self._put(ContextRecord(run_id=str(run_id), data=value, version=version))

    def _put(self, new: ContextRecord) -> None:
        self._collection.update_one(new.run_id, lambda old: new if old is None or old.version < new.version else None)

    def remove(self, run_ids: Sequence[UUID], /) -> None:
        """Take the records of these runs out."""
        self._collection.remove_many(map(str, run_ids))

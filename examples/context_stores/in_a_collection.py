"""A context store in a reactive collection, as a user would write it: a screen can follow what a flow knows."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from cnstra.stores.reactive import Collection


@dataclass(frozen=True)
class Known:
    run_id: str
    data: Any


class LiveStore:
    """The context of one run, as an entity."""

    def __init__(self, collection: Collection[str, Known], run_id: str) -> None:
        self._collection = collection
        self._run_id = run_id

    def get(self) -> Any:
        known = self._collection.select_by_primary_key(self._run_id)
        return None if known is None else deepcopy(known.data)  # the screen shares what is stored

    def set(self, value: Any) -> None:
        self._collection.upsert_one(Known(self._run_id, value))

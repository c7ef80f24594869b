"""Blobs in stores of the user's own that no run refers to: what is to be deleted there, kept until that is done."""

from __future__ import annotations

from collections.abc import Sequence

from cnstra.orchestrator.blobs import key_of
from cnstra.orchestrator.machine.records import BlobRef
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import State


class Littering:
    """The operations of a worker that tidies a store of contexts."""

    @operation
    def litter(self, state: State, place: str, limit: int) -> list[str]:
        referred = {
            key_of(entry.text)
            for run_id, entries in state.entries.items()
            if state.runs[run_id].submission.place == place
            for entry in entries.values()
            if entry.text is not None
        }
        for blob in [blob for blob in state.litter if blob.place == place and blob.key in referred]:
            del state.litter[blob]
        return sorted(blob.key for blob in state.litter if blob.place == place)[:limit]

    @operation
    def litter_gone(self, state: State, place: str, keys: Sequence[str]) -> None:
        for key in keys:
            state.litter.pop(BlobRef(place=place, key=key), None)

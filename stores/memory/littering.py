"""Blobs in stores of the user's own that no run refers to: what is to be deleted there, kept until that is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from cnstra.orchestrator.blobs import key_of
from cnstra.orchestrator.machine.records import BlobRef
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import State


def note_litter_of_runs(state: State, run_ids: Sequence[UUID]) -> None:
    """The blobs of runs become litter; a part of the operation that forgets the runs, before it does."""
    state.litter = dict.fromkeys(_referred(state, run_ids), state.now()) | state.litter


class Littering:
    """The operations of a worker that tidies a store of contexts."""

    @operation
    def litter(self, state: State, place: str, after: timedelta, limit: int) -> list[str]:
        for blob in state.litter.keys() & set(_referred(state, list(state.runs))):
            del state.litter[blob]
        before = state.now() - after
        return sorted(blob.key for blob, at in state.litter.items() if blob.place == place and at < before)[:limit]

    @operation
    def litter_gone(self, state: State, place: str, keys: Sequence[str]) -> None:
        for key in keys:
            state.litter.pop(BlobRef(place=place, key=key), None)


def _referred(state: State, run_ids: Sequence[UUID]) -> Iterator[BlobRef]:
    """The blobs that these runs refer to."""
    for run_id in run_ids:
        place = state.runs[run_id].submission.place
        for entry in state.entries.get(run_id, {}).values():
            if place is not None and entry.text is not None:
                yield BlobRef(place=place, key=key_of(entry.text))

"""What mirrors ask: how many runs stand, and their newest contexts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from uuid import UUID

from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Look, Search, Sighting, Sightings
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.reading import chosen
from cnstra.stores.memory.state import RunRow, State


class Mirroring:
    """The operations of mirrors. They change nothing."""

    @operation
    def sight(self, state: State, look: Look) -> Sightings:
        there = state.runs if look.among is None else {row.run.run_id: row for row in chosen(state, look.among)}
        known = {run_id: _sighting(there[run_id]) for run_id in look.versions if run_id in there}
        return Sightings(
            at=state.now(),
            moved=tuple(one for one in known.values() if one.ended or one.version > look.versions[one.run_id]),
            gone=tuple(run_id for run_id in look.versions if run_id not in known),
            found=() if look.search is None else tuple(_found(state, look.search)),
        )

    @operation
    def contexts_of(self, state: State, run_ids: Sequence[UUID]) -> Mapping[UUID, Snapshot]:
        found = {}
        for run_id in run_ids:
            entries = sorted(state.entries.get(run_id, {}).items())
            if entries and run_id in state.runs:
                slots = {slot: Slot(version, entry.text) for (version, slot), entry in entries}
                found[run_id] = Snapshot(version=state.runs[run_id].run.context_version, slots=slots)
        return found


def _found(state: State, search: Search) -> Iterable[Sighting]:
    rows = sorted(chosen(state, search.which), key=lambda row: row.run.run_id)
    return islice((_sighting(row) for row in rows if _is_meant(row, search)), search.limit)


def _is_meant(row: RunRow, search: Search) -> bool:
    run = row.run
    if search.status not in (None, run.status.value) or (search.after is not None and run.run_id <= search.after):
        return False
    if run.finished_at is not None:
        return search.ended_since is not None and run.finished_at >= search.ended_since
    return run.ending is not None or search.from_id is None or run.run_id >= search.from_id


def _sighting(row: RunRow) -> Sighting:
    run = row.run
    return Sighting(
        run_id=run.run_id,
        version=run.context_version,
        place=row.submission.place,
        ended=run.finished_at is not None,
    )

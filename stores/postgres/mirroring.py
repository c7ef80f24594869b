"""What mirrors ask: how many runs stand, at one look, and their newest contexts. Each is a transaction of one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from cnstra.orchestrator.retention import ENDED_STATUSES
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Look, RunChoice, Search, Sighting, Sightings
from cnstra.stores.postgres.reading import chosen
from cnstra.stores.postgres.transactions import Ask, PostgresOperation, Steps

_NO_ID = UUID(int=0)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_NOBODY = Search(which=RunChoice())


class Mirroring:
    """The operations of mirrors. They change nothing."""

    def sight(self, look: Look) -> PostgresOperation[Sightings]:
        return PostgresOperation("sight", lambda _repeated: _sight(look), at_once=True)

    def contexts_of(self, run_ids: Sequence[UUID]) -> PostgresOperation[Mapping[UUID, Snapshot]]:
        return PostgresOperation("contexts_of", lambda _repeated: _contexts_of(run_ids), at_once=True)


def _sight(look: Look) -> Steps[Sightings]:
    search = look.search or _NOBODY
    ends = [status for status in ENDED_STATUSES if search.status in (None, status)]
    rows = yield Ask(
        "sight",
        {
            "run_ids": list(look.versions),
            "versions": list(look.versions.values()),
            "among": look.among is not None,
            "search": look.search is not None,
            **chosen(look.among or search.which),
            "status": search.status,
            "from_id": search.from_id or _NO_ID,
            "after": search.after or _NO_ID,
            "ends": ends,
            "ended_since": search.ended_since or _NEVER,
            "limit": search.limit,
        },
    )
    seen: dict[str, list[Sighting]] = {"": [], "moved": [], "gone": [], "found": []}
    for part, run_id, version, place, ended, _ in rows:
        seen[part].append(Sighting(run_id=run_id, version=version, place=place, ended=ended))
    [at] = [row[5] for row in rows if not row[0]]
    return Sightings(
        at=at,
        moved=tuple(seen["moved"]),
        gone=tuple(one.run_id for one in seen["gone"]),
        found=tuple(seen["found"]),
    )


def _contexts_of(run_ids: Sequence[UUID]) -> Steps[Mapping[UUID, Snapshot]]:
    rows = yield Ask("load_contexts", {"run_ids": list(run_ids)})
    versions = {run_id: version for run_id, version, *_ in rows}
    slots: dict[UUID, dict[str, Slot]] = {run_id: {} for run_id in versions}
    for run_id, _, slot, written, text in rows:
        slots[run_id][slot] = Slot(written, text)
    return {run_id: Snapshot(version=version, slots=slots[run_id]) for run_id, version in versions.items()}

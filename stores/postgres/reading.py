"""Reading runs, as users see them: through the views, and the context as it was at any version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import OUTCOME, Original, Reference, RunChoice, RunFilter, Tag
from cnstra.stores.postgres.migrating import fitting
from cnstra.stores.postgres.transactions import Ask, Replica, Steps, operation, reading


class Reading:
    """The operations that change nothing."""

    @reading(Replica.ALWAYS)
    def check_schema(self, _repeated: bool) -> Steps[None]:
        [(has_schema,)] = yield Ask("has_schema", {})
        version = 0
        if has_schema:
            [(version,)] = yield Ask("schema_version", {})
        fitting(version)

    @reading(Replica.IF_FOUND)
    def run_row(self, _repeated: bool, run_id: UUID) -> Steps[Mapping[str, Any] | None]:
        rows = yield Ask("run_row", {"run_id": run_id}, as_dicts=True)
        return rows[0] if rows else None

    @reading(Replica.IF_FOUND)
    def run_outcome(self, _repeated: bool, run_id: UUID) -> Steps[Mapping[str, Any] | None]:
        rows = yield Ask("run_outcome", {"run_id": run_id})
        return dict(zip(OUTCOME, rows[0], strict=True)) if rows else None

    @reading(Replica.IF_FOUND)
    def run_standing(self, _repeated: bool, run_id: UUID) -> Steps[Mapping[str, Any] | None]:
        rows = yield Ask("run_standing", {"run_id": run_id}, as_dicts=True)
        return rows[0] if rows else None

    @reading(Replica.IF_FOUND)
    def run_status(self, _repeated: bool, run_id: UUID) -> Steps[str | None]:
        rows = yield Ask("run_status", {"run_id": run_id})
        return rows[0][0] if rows else None

    @operation
    def current_status(self, _repeated: bool, run_id: UUID) -> Steps[str | None]:
        rows = yield Ask("run_status", {"run_id": run_id})
        return rows[0][0] if rows else None

    @reading(Replica.ALWAYS)
    def run_rows(self, _repeated: bool, which: RunFilter) -> Steps[list[Mapping[str, Any]]]:
        return (
            yield Ask(
                "run_rows",
                {
                    "status": which.status,
                    **_tagged(which.tag),
                    # Ids of a client whose clock is behind sort earlier than their time: a margin, then the time itself.
                    "from_id": None if which.since is None else _first_id(which.since.timestamp() - 3600),
                    "since": which.since,
                    "limit": which.limit,
                },
                as_dicts=True,
            )
        )

    @reading(Replica.ALWAYS)
    def activation_rows(self, _repeated: bool, run_id: UUID) -> Steps[list[Mapping[str, Any]]]:
        return (yield Ask("activation_rows", {"run_id": run_id}, as_dicts=True))

    @reading(Replica.ALWAYS)
    def history(
        self, _repeated: bool, run_id: UUID, after: int = 0, limit: int | None = None
    ) -> Steps[list[Mapping[str, Any]]]:
        return (yield Ask("history", {"run_id": run_id, "after": after, "limit": limit}, as_dicts=True))

    @reading(Replica.IF_FOUND)
    def context_at(self, _repeated: bool, run_id: UUID, version: int | None) -> Steps[Snapshot | None]:
        rows = yield Ask("run_version", {"run_id": run_id})
        if not rows or (version is not None and not 0 <= version <= rows[0][0]):
            return None
        newest, place = rows[0]
        at = newest if version is None else version
        rows = yield Ask("context_at", {"run_id": run_id, "version": at})
        slots = {slot: Slot(written, text) for slot, written, text in rows}
        return Snapshot(version=at, slots=slots, place=place)

    @reading(Replica.ALWAYS)
    def references(
        self, _repeated: bool, run_id: UUID, after: int = 0, until: int | None = None
    ) -> Steps[list[Reference]]:
        rows = yield Ask("references", {"run_id": run_id, "after": after, "until": until})
        return [Reference(version=version, slot=slot, text=text) for version, slot, text in rows]

    @operation
    def failed_runs(self, _repeated: bool, which: RunChoice, after: UUID | None, limit: int) -> Steps[list[UUID]]:
        rows = yield Ask("failed_runs", {**chosen(which), "after": after, "limit": limit})
        return [run_id for (run_id,) in rows]

    @operation
    def open_runs(
        self, _repeated: bool, which: RunChoice, statuses: Sequence[str] | None, after: UUID | None, limit: int
    ) -> Steps[list[UUID]]:
        wanted = None if statuses is None else list(statuses)
        rows = yield Ask("open_runs", {**chosen(which), "statuses": wanted, "after": after, "limit": limit})
        return [run_id for (run_id,) in rows]

    @operation
    def original(self, _repeated: bool, run_id: UUID) -> Steps[Original | None]:
        rows = yield Ask("original", {"run_id": run_id})
        if not rows:
            return None
        [(graph, collateral, payload, priority, tags, policy, place, deadline)] = rows
        return Original(
            graph=graph,
            collateral=collateral,
            payload=payload,
            priority=priority,
            tags=tags,
            policy=policy,
            place=place,
            deadline=deadline,
        )


def chosen(which: RunChoice) -> dict[str, Any]:
    """A choice of runs, as parameters."""
    return {"graph": which.graph, **_tagged(which.tag), "since": which.since, "before": which.before}


def _tagged(tag: Tag | None) -> dict[str, str | None]:
    key, value = tag or (None, None)
    return {"tags": None if key is None or value is None else json.dumps({key: value}), "tag_key": key}


def _first_id(seconds: float) -> UUID:
    """The smallest UUIDv7 of a Unix time."""
    return UUID(int=max(int(seconds * 1000), 0) << 80)

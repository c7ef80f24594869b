"""Reading runs, as users see them: rows with the columns of the SQL views, and the context at any version."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from cnstra.orchestrator.machine.folding import BLOCKED_LIMITED, BLOCKED_SUSPECT, CLAIMABLE
from cnstra.orchestrator.machine.records import Failure, Run
from cnstra.orchestrator.machine.states import ENDED, ActivationStatus
from cnstra.orchestrator.slots import Slot, Snapshot, shared_key, written_by
from cnstra.orchestrator.store import OUTCOME, Original, Reference, RunChoice, RunFilter, Tag, WorkerInfo
from cnstra.stores.memory.claiming import UNKNOWN, knows, reaches, serves
from cnstra.stores.memory.limits import in_use, is_limited, limit_of, neuron_of
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import ActivationRow, RunRow, State

Row = Mapping[str, Any]

_GIVING = frozenset({ActivationStatus.DONE, ActivationStatus.CANCELLED})
"""What counts as an output of the run is that of these: a cancelled one has some where it was expected in vain."""

_UNHELD = frozenset({ActivationStatus.READY, ActivationStatus.SCHEDULED, ActivationStatus.WAITING})


class Reading:
    """The operations that change nothing."""

    @operation
    def check_schema(self, _state: State) -> None:
        """There is none."""

    @operation
    def run_row(self, state: State, run_id: UUID) -> Row | None:
        return _run_row(state, state.runs[run_id]) if run_id in state.runs else None

    @operation
    def run_status(self, state: State, run_id: UUID) -> str | None:
        return state.runs[run_id].run.status.value if run_id in state.runs else None

    @operation
    def current_status(self, state: State, run_id: UUID) -> str | None:
        return state.runs[run_id].run.status.value if run_id in state.runs else None

    @operation
    def run_outcome(self, state: State, run_id: UUID) -> Row | None:
        return _part_of_row(state, run_id, OUTCOME)

    @operation
    def run_standing(self, state: State, run_id: UUID) -> Row | None:
        return _part_of_row(state, run_id, ("run_id", "status", "context_version", "context_place"))

    @operation
    def run_rows(self, state: State, which: RunFilter) -> list[Row]:
        newest = sorted(state.runs.values(), key=lambda row: row.run.run_id, reverse=True)
        return [_run_row(state, row) for row in [row for row in newest if _fits(row, which)][: which.limit]]

    @operation
    def activation_rows(self, state: State, run_id: UUID) -> list[Row]:
        return [_activation_row(state, row) for row in state.of_run(run_id)]

    @operation
    def history(self, state: State, run_id: UUID, after: int = 0, limit: int | None = None) -> list[Row]:
        versions: dict[int, dict[str, Any]] = {}
        for (version, slot), entry in state.entries.get(run_id, {}).items():
            if version > after:
                versions.setdefault(version, {})[slot] = entry
        return [_history_row(state, run_id, version, slots) for version, slots in sorted(versions.items())[:limit]]

    @operation
    def context_at(self, state: State, run_id: UUID, version: int | None) -> Snapshot | None:
        newest = state.runs[run_id].run.context_version if run_id in state.runs else None
        if newest is None or (version is not None and not 0 <= version <= newest):
            return None
        at = newest if version is None else version
        entries = state.entries.get(run_id, {}).items()
        slots = {slot: Slot(written, entry.text) for (written, slot), entry in sorted(entries) if written <= at}
        return Snapshot(version=at, slots=slots, place=state.runs[run_id].submission.place)

    @operation
    def references(self, state: State, run_id: UUID, after: int = 0, until: int | None = None) -> list[Reference]:
        return [
            Reference(version=version, slot=slot, text=entry.text)
            for (version, slot), entry in sorted(state.entries.get(run_id, {}).items())
            if version > after and (until is None or version <= until)
        ]

    @operation
    def failed_runs(self, state: State, which: RunChoice, after: UUID | None, limit: int) -> list[UUID]:
        now = state.now()
        return _page((row for row in chosen(state, which) if row.run.is_retriable(now)), after, limit)

    @operation
    def open_runs(
        self, state: State, which: RunChoice, statuses: Sequence[str] | None, after: UUID | None, limit: int
    ) -> list[UUID]:
        unended = (row for row in chosen(state, which) if row.run.finished_at is None and row.run.ending is None)
        return _page((row for row in unended if statuses is None or row.run.status in statuses), after, limit)

    @operation
    def original(self, state: State, run_id: UUID) -> Original | None:
        row = state.runs.get(run_id)
        return None if row is None else _original(row)


def chosen(state: State, which: RunChoice) -> Iterable[RunRow]:
    """The runs that are meant."""
    return (
        row
        for row in state.runs.values()
        if (which.graph is None or row.submission.graph == which.graph)
        and _is_tagged(row, which.tag)
        and (which.since is None or row.submitted_at >= which.since)
        and (which.before is None or row.submitted_at < which.before)
    )


def _page(rows: Iterable[RunRow], after: UUID | None, limit: int) -> list[UUID]:
    return sorted(row.run.run_id for row in rows if after is None or row.run.run_id > after)[:limit]


def _original(row: RunRow) -> Original:
    submission = row.submission
    return Original(
        graph=submission.graph,
        collateral=submission.collateral,
        payload=submission.payload,
        priority=submission.priority,
        tags=json.loads(row.tags),
        policy=json.loads(row.policy),
        place=submission.place,
        deadline=submission.deadline_after,
    )


def _fits(row: RunRow, which: RunFilter) -> bool:
    return (
        (which.status is None or row.run.status.value == which.status)
        and _is_tagged(row, which.tag)
        and (which.since is None or row.submitted_at >= which.since)
    )


def _is_tagged(row: RunRow, tag: Tag | None) -> bool:
    tags = json.loads(row.tags)
    key, value = tag or (None, None)
    return key is None or (key in tags and value in (None, tags[key]))


def _part_of_row(state: State, run_id: UUID, columns: Iterable[str]) -> Row | None:
    if run_id not in state.runs:
        return None
    row = _run_row(state, state.runs[run_id])
    return {name: row[name] for name in columns}


def _run_row(state: State, row: RunRow) -> Row:
    run, submission, activations = row.run, row.submission, state.of_run(row.run.run_id)
    done = [one.activation for one in activations if one.activation.status in _GIVING]
    starts = (run.started_at, *(one.activation.started_at for one in activations))
    return {
        "run_id": run.run_id,
        "graph": submission.graph,
        "graph_version": submission.graph_version,
        "status": run.status.value,
        "attempt": run.attempt,
        "entry_collateral": submission.collateral,
        "entry_payload": json.loads(submission.payload),
        "outputs": [
            _signal(output.collateral, output.payload)
            for activation in sorted(done, key=lambda one: one.finish or 0)
            for output in activation.outputs
            if not output.collected
        ],
        **_error(run.failure),
        "context_version": run.context_version,
        "outstanding": run.outstanding,
        "submitted_at": row.submitted_at,
        "started_at": min((at for at in starts if at is not None), default=None),
        "finished_at": run.finished_at,
        "next_retry_at": run.next_retry_at,
        "deadline_at": run.deadline_at,
        "priority": run.priority,
        "tags": json.loads(row.tags),
        "idempotency_key": submission.idempotency_key,
        "gate": None,
        "parent_run_id": None,
        "blocked": _blocked(state, run, activations),
        "context_place": submission.place,
        "ending": run.ending,
        **{f"compensation_{name}": text for name, text in _error(run.undo_failure).items()},
        "cloned_from": submission.cloned_from,
    }


def _blocked(state: State, run: Run, activations: Iterable[ActivationRow]) -> str | None:
    """What a part of the run waits for: a worker that serves its queue and knows it, or its neuron's limit."""
    now = state.now()
    workers = [worker.info for worker in state.live_workers() if worker.expires_at > now]
    ready = [one for one in activations if one.activation.status is ActivationStatus.READY]
    if run.status in ENDED:
        return None
    if any(_is_unknown(state, workers, one) for one in ready):
        return UNKNOWN
    return BLOCKED_LIMITED if any(_is_limited(state, workers, one) for one in ready) else None


def _is_unknown(state: State, workers: Sequence[WorkerInfo], row: ActivationRow) -> bool:
    blocked = row.activation.blocked
    if blocked in CLAIMABLE | {BLOCKED_SUSPECT}:
        return not any(_is_there_for(state, worker, row) for worker in workers)
    return blocked == UNKNOWN


def _is_limited(state: State, workers: Sequence[WorkerInfo], row: ActivationRow) -> bool:
    most = limit_of(row, workers, partial(_is_there_for, state))
    return is_limited(row) and most is not None and most <= in_use(state)[neuron_of(state, row)]


def _is_there_for(state: State, worker: WorkerInfo, row: ActivationRow) -> bool:
    """What is a suspect, or has a limit, is never set aside: of that one the dendrite counts, too."""
    has = reaches if row.activation.blocked is None else knows
    return serves(state, worker, row) and has(state, worker, row)


def _activation_row(state: State, row: ActivationRow) -> Row:
    activation, target = row.activation, row.target
    return {
        "run_id": row.run_id,
        "activation_id": activation.activation_id,
        "parent_activation_id": row.parent,
        "attempt": activation.attempt,
        "neuron": target.neuron,
        "dendrite": target.dendrite,
        "collateral": target.collateral,
        "payload": json.loads(target.payload),
        "outputs": [_signal(output.collateral, output.payload) for output in state.signals_of(row)],
        "status": activation.status.value,
        "tries": activation.tries,
        "epoch": activation.epoch,
        "queue": activation.queue,
        "worker": None if activation.status in _UNHELD else activation.worker,
        **_error(activation.failure),
        "created_at": row.created_at,
        "available_at": activation.available_at,
        "started_at": activation.started_at,
        "finished_at": activation.finished_at,
        "context_version_read": activation.version_read,
        "context_version_written": activation.version_written,
        "group_id": activation.path[-1][0] if activation.path else None,
        "progress": None if row.progress is None else json.loads(row.progress),
        "undo": activation.undo,
        "member": activation.path[-1][1] if activation.path else None,
        "gathers_group_id": activation.gathers,
        "handled": activation.handled,
    }


def _history_row(state: State, run_id: UUID, version: int, slots: Mapping[str, Any]) -> Row:
    [activation_id] = {entry.activation_id for entry in slots.values()}
    writer = state.activation((run_id, activation_id))
    here = state.runs[run_id].submission.place is None
    texts = {slot: entry.text for slot, entry in slots.items()}
    written, local = written_by(texts) if here else (None, None)
    removed = (key for slot, text in texts.items() if text is None and (key := shared_key(slot)) is not None)
    return {
        "run_id": run_id,
        "version": version,
        "activation_id": activation_id,
        "neuron": writer.target.neuron if writer else None,
        "written": written,
        "removed": sorted(removed),
        "at": _written_at(writer, version) if writer else None,
        "local_written": local,
    }


def _written_at(writer: ActivationRow, version: int) -> datetime | None:
    """When an activation wrote a version: at its end, or at that of its compensation."""
    activation = writer.activation
    return activation.finished_at if version == activation.version_undone else writer.done_at or activation.finished_at


def _signal(collateral: str, payload: str) -> Row:
    return {"collateral": collateral, "payload": json.loads(payload)}


def _error(failure: Failure | None) -> Row:
    return {"error": failure.error if failure else None, "error_type": failure.error_type if failure else None}

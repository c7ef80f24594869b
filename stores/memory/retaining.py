"""Deleting what has ended and is not kept any longer, and the rules of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from cnstra.orchestrator.retention import CONTEXT, ENDED_STATUSES, FINAL_STATUSES, SENT, Rules
from cnstra.orchestrator.store import Expired, Portion, Pruned
from cnstra.stores.memory.littering import note_litter_of_runs
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import State


class Retaining:
    """The operations by which things leave the store."""

    @operation
    def now(self, state: State) -> datetime:
        return state.now()

    @operation
    def retention(self, state: State) -> Rules:
        return dict(state.retention)

    @operation
    def set_retention(self, state: State, rules: Rules) -> None:
        state.retention |= rules

    @operation
    def count_ended(self, state: State, statuses: Sequence[str], before: datetime) -> Mapping[str, int]:
        return {status: len(_ended(state, status, before)) for status in statuses}

    @operation
    def prune(self, state: State, statuses: Sequence[str], before: datetime, portion: Portion) -> Pruned:
        runs, more = _within(state, portion, [(status, before) for status in statuses])
        note_litter_of_runs(state, [run_id for run_id, _ in runs])
        for run_id, _ in runs:
            state.forget(run_id)
        return Pruned(runs=tuple(runs), more=more)

    @operation
    def expire(self, state: State, portion: Portion) -> Expired:
        since = {what: state.now() - keep for what, keep in state.retention.items() if keep is not None}
        runs, more = _within(state, portion, [(what, since[what]) for what in ENDED_STATUSES if what in since])
        gone = {run_id for run_id, _ in runs}
        left = Portion(runs=portion.runs - len(runs), rows=portion.rows - sum(_size(state, run_id) for run_id in gone))
        contexts = [
            (status, since[CONTEXT])
            for status in FINAL_STATUSES
            if CONTEXT in since and left.runs > 0 and left.rows > 0
        ]
        expired, further = _within(state, left, contexts, passing=gone | state.expired_contexts.keys())
        note_litter_of_runs(state, [*gone, *(run_id for run_id, _ in expired)])
        for run_id in gone:
            state.forget(run_id)
        for run_id, _ in expired:
            state.forget_context(run_id)
        waits = CONTEXT in since and not contexts
        sent = [number for number, row in state.posted.items() if SENT in since and row.sent_at < since[SENT]]
        for number in sent[: portion.runs]:
            del state.posted[number]
        return Expired(
            runs=tuple(run_id for run_id, _ in runs),
            contexts=tuple(run_id for run_id, _ in expired),
            sent=len(sent[: portion.runs]),
            more=more or further or waits or len(sent) >= portion.runs,
        )


def _within(
    state: State, portion: Portion, since: list[tuple[str, datetime]], passing: set[UUID] | None = None
) -> tuple[list[tuple[UUID, str]], bool]:
    """Runs that ended in these statuses before these moments, as many as the portion has room for; whether more may be."""
    runs, rows = portion.runs, portion.rows
    found: list[tuple[UUID, str]] = []
    for status, before in since:
        for run_id in _ended(state, status, before):
            if passing and run_id in passing:
                continue
            if runs < 1 or rows < 1:
                return found, True
            runs, rows = runs - 1, rows - _size(state, run_id)
            found.append((run_id, status))
    return found, False


def _ended(state: State, status: str, before: datetime) -> list[UUID]:
    """Runs of a status that ended before a moment, the longest ended first."""
    ended = [
        (row.run.finished_at, run_id)
        for run_id, row in state.runs.items()
        if row.run.status.value == status and row.run.finished_at is not None and row.run.finished_at < before
    ]
    return [run_id for _, run_id in sorted(ended)]


def _size(state: State, run_id: UUID) -> int:
    run = state.runs[run_id].run
    return 1 + run.last_activation + run.context_version

"""Keeping new runs: all of a batch, or none; the same id or idempotency key again is the same run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cnstra.orchestrator.batches import Ready, refuse_others, rings_of, same_signal
from cnstra.orchestrator.machine.fold import begin
from cnstra.orchestrator.machine.records import NewActivation
from cnstra.orchestrator.machine.states import ActivationStatus
from cnstra.orchestrator.ports import Foresee, Ring, door
from cnstra.orchestrator.store import Accepted, Submission
from cnstra.stores.memory.applying import row_of_new
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import RunRow, State


@dataclass(frozen=True, slots=True)
class _Begun:
    row: RunRow
    activations: list[NewActivation]


class Submitting:
    """The operations of clients that start runs."""

    @operation
    def submit(
        self,
        state: State,
        submissions: Sequence[Submission],
        foresee: Foresee | None = None,  # noqa: ARG002  # nobody waits for this store
    ) -> tuple[list[Accepted], tuple[Ring, ...]]:
        now = state.now()
        begun: dict[UUID, _Begun] = {}
        keys: dict[tuple[str, str], UUID] = {}
        accepted = []
        for submission in submissions:
            run_id = submission.run_id
            if submission.idempotency_key is not None:
                key = (submission.graph, submission.idempotency_key)
                run_id = keys.setdefault(key, state.keys.get(key, run_id))
            before = begun[run_id].row if run_id in begun else state.runs.get(run_id)
            if before is None:
                begun[run_id] = _begin(submission, now)
                accepted.append(Accepted(run_id=run_id, new=True))
            else:
                same = same_signal(before.submission, submission)
                accepted.append(Accepted(run_id=run_id, new=False, same=same))
        if not all(one.same for one in accepted):
            refuse_others(submissions, accepted, [_entry(state, submission) for submission in submissions])
        state.keys |= keys
        ready = [ready for run_id, one in begun.items() for ready in _keep(state, run_id, one, now)]
        return accepted, rings_of(ready)

    @operation
    def entries(self, state: State, submissions: Sequence[Submission]) -> list[tuple[UUID, str, str] | None]:
        return [_entry(state, submission) for submission in submissions]


def _entry(state: State, submission: Submission) -> tuple[UUID, str, str] | None:
    key = (submission.graph, submission.idempotency_key or "")
    row = state.runs.get(state.keys.get(key, submission.run_id))
    return None if row is None else (row.run.run_id, row.submission.collateral, row.submission.payload)


def _begin(submission: Submission, now: datetime) -> _Begun:
    run, activations = begin(
        run_id=submission.run_id,
        graph=submission.graph,
        targets=submission.targets,
        priority=submission.priority,
        available_at=submission.begins_at(now),
        deadline_at=submission.ends_by(now),
    )
    row = RunRow(
        submission=submission,
        policy=json.dumps(submission.policy),
        tags=json.dumps(dict(submission.tags)),
        submitted_at=now,
        run=run,
    )
    return _Begun(row, activations)


def _keep(state: State, run_id: UUID, begun: _Begun, now: datetime) -> list[Ready]:
    state.runs[run_id] = begun.row
    for new in begun.activations:
        state.put(row_of_new(run_id, new, now))
    return [
        (door(begun.row.submission.graph, new.target.queue), run_id, new.activation_id)
        for new in begun.activations
        if new.status is ActivationStatus.READY
    ]

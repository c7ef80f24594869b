"""Looking after what nobody holds: the supervisor's short, idempotent looks and sweeps."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.batches import rings_of
from cnstra.orchestrator.machine.folding import BLOCKED_LIMITED, BLOCKED_SUSPECT
from cnstra.orchestrator.machine.records import Run
from cnstra.orchestrator.machine.states import ENDED, ActivationStatus, RunStatus
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.sealing import place_of
from cnstra.orchestrator.store import Findings, LostClaim, WorkerInfo
from cnstra.stores.memory.claiming import UNKNOWN, fence_of, forget_lost, knows, reaches, serves, turn
from cnstra.stores.memory.limits import Neuron, in_use, is_limited, limit_of, neuron_of
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import ActivationRow, State

_LEFT_ALONE = ENDED | {RunStatus.PAUSED}
"""Runs in these pass no deadline: what has ended, and, until it goes on, what is paused."""


class Supervising:
    """The operations of the one worker that supervises for the moment."""

    @operation
    def look(self, state: State, worker: UUID, lease: timedelta, unclaimed_after: timedelta, limit: int) -> Findings:
        now = state.now()
        waits = any(
            row.activation.blocked is not None or _available_at(row) < now - unclaimed_after
            for row in state.with_status(ActivationStatus.READY)
            if row.activation.blocked in (None, BLOCKED_SUSPECT, BLOCKED_LIMITED)
        )
        if state.supervisor != worker and state.supervised_until is not None and state.supervised_until >= now:
            return Findings(elected=False, waits=waits)
        state.supervisor, state.supervised_until = worker, now + lease
        due = [row for row in state.with_status(ActivationStatus.SCHEDULED) if _available_at(row) <= now]
        runs = [(run_id, row.run) for run_id, row in state.runs.items()]
        attempts = [
            (at, run_id)
            for run_id, run in runs
            if run.status is RunStatus.WAITING and (at := run.next_retry_at) and at <= now
        ]
        deadlines = [(at, run_id) for run_id, run in runs if (at := run.deadline_at) and at <= now and may_pass(run)]
        expectations = [
            (one.expires_at, run_id, number)
            for run_id, of_run in state.expectations.items()
            for number, one in of_run.items()
            if one.expires_at is not None and one.expires_at <= now
        ]
        return Findings(
            elected=True,
            waits=waits,
            due=tuple(row.key for row in sorted(due, key=_available_at)[:limit]),
            attempts_due=tuple(run_id for _, run_id in sorted(attempts)[:limit]),
            deadlines_due=tuple(run_id for _, run_id in sorted(deadlines)[:limit]),
            expectations_due=tuple((run_id, number) for _, run_id, number in sorted(expectations)[:limit]),
            suspects=any(
                row.activation.blocked == BLOCKED_SUSPECT and not state.is_paused(row.run_id)
                for row in state.with_status(ActivationStatus.READY)
            ),
            workers_lost=any(row.lost_at is not None or row.expires_at < now for row in state.workers.values()),
            unclaimed=rings_of(
                (state.door_of(row), *row.key)
                for row in [
                    *_waiting_since(state, now - unclaimed_after, limit),
                    *_limited_since(state, now - unclaimed_after, limit),
                ]
            ),
            limited=any(is_limited(row) for row in state.with_status(ActivationStatus.READY)),
        )

    @operation
    def lost_claims(self, state: State, limit: int) -> list[LostClaim]:
        now = state.now()
        for lease in state.live_workers():
            if lease.expires_at < now:
                state.workers[lease.info.worker] = replace(lease, lost_at=now)
        forget_lost(state)
        held = [
            (row.key, row, lease.info)
            for lease in state.workers.values()
            if lease.lost_at is not None
            for row in state.claims_of(lease.info.worker)
        ]
        return [
            LostClaim(run_id=row.run_id, fence=fence_of(row), worker=info.worker, host=info.host, pid=info.pid)
            for _, row, info in sorted(held, key=lambda claim: claim[0])[:limit]
        ]

    @operation
    def set_unknown_aside(self, state: State, unclaimed_after: timedelta, limit: int) -> int:
        workers = [lease.info for lease in state.live_workers()]
        unknown = [
            row
            for row in _waiting_since(state, state.now() - unclaimed_after, limit)
            if not any(serves(state, worker, row) and knows(state, worker, row) for worker in workers)
        ]
        for row in unknown:
            state.put(replace(row, activation=replace(row.activation, blocked=UNKNOWN)))
        return len(unknown)

    @operation
    def lift_limits(self, state: State, limit: int) -> tuple[Ring, ...]:
        workers = [lease.info for lease in state.live_workers()]
        lifted: Counter[Neuron] = Counter()
        rings = []
        for row in sorted(state.with_status(ActivationStatus.READY), key=lambda row: turn(state, row)):
            neuron, known = neuron_of(state, row), any(_may_run(state, worker, row) for worker in workers)
            limited = any(
                (worker.graph, row.target.neuron) == neuron and neuron[1] in worker.limits for worker in workers
            )
            if is_limited(row) and known and not limited and lifted[neuron] < limit:
                lifted[neuron] += 1
                state.put(replace(row, activation=replace(row.activation, limited=False, blocked=None)))
                rings.append((state.door_of(row), *row.key))
        return rings_of(rings)


def _may_run(state: State, worker: WorkerInfo, row: ActivationRow) -> bool:
    return serves(state, worker, row) and knows(state, worker, row)


def _limited_since(state: State, before: datetime, limit: int) -> list[ActivationRow]:
    """Limited activations that have waited for long, and that a live worker could claim by now: as many as the limits leave."""
    workers = [lease.info for lease in state.live_workers()]
    room = in_use(state)
    found: Counter[Neuron] = Counter()
    rows = []
    for row in sorted(state.with_status(ActivationStatus.READY), key=lambda row: turn(state, row)):
        neuron = neuron_of(state, row)
        most = limit_of(row, workers, partial(_may_run, state))
        if (
            is_limited(row)
            and _available_at(row) < before
            and most is not None
            and room[neuron] < most
            and found[neuron] < limit
        ):
            room[neuron] += 1
            found[neuron] += 1
            rows.append(row)
    return rows


def may_pass(run: Run) -> bool:
    """Whether a run's deadline, when it has come, is anybody's business."""
    return run.status not in _LEFT_ALONE and run.ending is None


def _waiting_since(state: State, before: datetime, limit: int) -> list[ActivationRow]:
    """Activations that have been claimable for long: the first so many of each queue, version and place that a live
    worker serves."""
    workers = [lease.info for lease in state.live_workers()]
    queues: dict[tuple[str, str, str, str], list[ActivationRow]] = {}
    for row in sorted(state.with_status(ActivationStatus.READY), key=lambda row: turn(state, row)):
        waits = row.activation.blocked is None and _available_at(row) < before
        if waits and any(serves(state, worker, row) and reaches(state, worker, row) for worker in workers):
            submission = state.runs[row.run_id].submission
            pin = submission.graph_version if submission.pinned else ""
            place = place_of(submission.place or "", row.target.payload)
            queues.setdefault((submission.graph, row.activation.queue, pin, place), []).append(row)
    return [row for of_queue in queues.values() for row in of_queue[:limit]]


def _available_at(row: ActivationRow) -> datetime:
    return row.activation.available_at or row.created_at

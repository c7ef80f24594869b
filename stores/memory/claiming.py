"""Handing out work: claims, and the leases under which workers hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.machine.folding import BLOCKED_LIMITED, BLOCKED_SUSPECT, CLAIMABLE, unblocked
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.machine.states import ACTIVATION_MOVES, ActivationMove, ActivationStatus, move
from cnstra.orchestrator.sealing import place_of
from cnstra.orchestrator.store import READMITTED_AT_ONCE, ClaimRequest, Claims, HeldClaim, Report, Work, WorkerInfo
from cnstra.stores.memory.limits import within
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import ActivationRow, State, WorkerRow

UNKNOWN = "unknown"
"""Marks a ready activation that no live worker of its graph and queue knows."""


class Claiming:
    """The operations by which workers come, take work, and go."""

    @operation
    def register(self, state: State, worker: WorkerInfo, limit: int = READMITTED_AT_ONCE) -> bool:
        now = state.now()
        lease = WorkerRow(info=worker, started_at=now, last_seen_at=now, expires_at=now + worker.lease)
        state.workers.setdefault(worker.worker, lease)
        return _readmit(state, worker, limit)

    @operation
    def readmit(self, state: State, worker: WorkerInfo, limit: int = READMITTED_AT_ONCE) -> bool:
        return _readmit(state, worker, limit)

    @operation
    def renew(self, state: State, worker: UUID) -> list[HeldClaim] | None:
        lease, now = state.workers.get(worker), state.now()
        if lease is None or lease.lost_at is not None:
            return None
        state.workers[worker] = replace(lease, last_seen_at=now, expires_at=now + lease.info.lease)
        return [
            HeldClaim(
                run_id=row.run_id,
                fence=fence_of(row),
                ending=state.runs[row.run_id].run.ending is not None and not row.activation.undo,
            )
            for row in state.claims_of(worker)
        ]

    @operation
    def leave(self, state: State, worker: UUID) -> None:
        lease = state.workers.get(worker)
        if lease is not None and lease.lost_at is None:
            state.workers[worker] = replace(lease, lost_at=state.now())
        forget_lost(state)

    @operation
    def claim(self, state: State, request: ClaimRequest) -> Claims:
        now = state.now()
        claimed = [row for row in state.claims_of(request.worker) if row.activation.nonce == request.nonce]
        if not claimed:
            lease = state.workers.get(request.worker)
            if lease is None or lease.lost_at is not None:
                return Claims()
            claimed = [_handed_out(row, request, now) for row in islice(_claimable(state, request), request.limit)]
            for row in claimed:
                state.put(row)
        return Claims(work_of(state, row, now) for row in claimed)

    @operation
    def report(self, state: State, reports: Sequence[Report]) -> list[Report]:
        refused = []
        for one in reports:
            row = state.activation((one.run_id, one.fence.activation_id))
            if row is None or row.activation.status is not ActivationStatus.RUNNING or fence_of(row) != one.fence:
                refused.append(one)
            else:
                state.put(replace(row, progress=one.progress))
        return refused

    @operation
    def suspects_wait(self, state: State, request: ClaimRequest) -> bool:
        return any(True for _ in _claimable(state, replace(request, suspects=True)))


def _readmit(state: State, worker: WorkerInfo, limit: int) -> bool:
    known = [
        row
        for row in state.with_status(ActivationStatus.READY)
        if row.activation.blocked == UNKNOWN and serves(state, worker, row) and knows(state, worker, row)
    ][:limit]
    for row in known:
        state.put(replace(row, activation=replace(row.activation, blocked=unblocked(limited=row.activation.limited))))
    return len(known) == limit


# -- who may have what -----------------------------------------------------------------------------------------


def serves(state: State, worker: WorkerInfo | ClaimRequest, row: ActivationRow) -> bool:
    """Whether a worker serves the activation's graph and queue."""
    return state.runs[row.run_id].submission.graph == worker.graph and row.activation.queue in worker.queues


def knows(state: State, worker: WorkerInfo | ClaimRequest, row: ActivationRow) -> bool:
    """Whether a worker has the activation's dendrite, or its compensation, the graph's version, where the run is pinned to one,
    and the store of its context, where that is kept elsewhere."""
    known = worker.compensations if row.activation.undo else worker.dendrites
    return reaches(state, worker, row) and (row.target.neuron, row.target.collateral) in known


def reaches(state: State, worker: WorkerInfo | ClaimRequest, row: ActivationRow) -> bool:
    """Whether a worker has the graph's version to which the run is pinned, if it is, the store of its context, and what opens
    the payload, where that is sealed."""
    submission = state.runs[row.run_id].submission
    place = place_of(submission.place or "", row.target.payload)
    return (not submission.pinned or submission.graph_version == worker.graph_version) and (
        not place or place in worker.places
    )


def forget_lost(state: State) -> None:
    """A lost worker is forgotten once it holds no claim."""
    for lease in list(state.workers.values()):
        if lease.lost_at is not None and not state.claims_of(lease.info.worker):
            del state.workers[lease.info.worker]


def _claimable(state: State, request: ClaimRequest) -> Iterator[ActivationRow]:
    """What a request may have, in its turn."""
    marks = {BLOCKED_SUSPECT} if request.suspects else CLAIMABLE
    able = (
        row
        for row in state.with_status(ActivationStatus.READY)
        if row.activation.blocked in marks
        and not state.is_paused(row.run_id)
        and serves(state, request, row)
        and knows(state, request, row)
    )
    return within(state, request.graph, sorted(able, key=lambda row: turn(state, row)), request.limits)


def turn(state: State, row: ActivationRow) -> tuple[int, datetime, UUID, int]:
    """By priority, then by age; the rest only makes the order the same each time."""
    return -state.runs[row.run_id].run.priority, row.activation.available_at or row.created_at, *row.key


# -- claims ----------------------------------------------------------------------------------------------------


def _handed_out(row: ActivationRow, request: ClaimRequest, now: datetime) -> ActivationRow:
    ready = row.activation
    running = replace(
        ready,
        status=move(ACTIVATION_MOVES, ready.status, ActivationMove.CLAIM),
        epoch=ready.epoch + 1,
        nonce=request.nonce,
        worker=request.worker,
        blocked=None if ready.blocked == BLOCKED_LIMITED else ready.blocked,
        tries=ready.tries + 1,
        started_at=now,
    )
    begun = ready.failures + ready.crashes + ready.conflicts > 0  # else earlier claims were given back uncalled
    return replace(row, activation=running, first_try_at=(row.first_try_at if begun else None) or now)


def fence_of(row: ActivationRow) -> Claimed:
    """The fence of a running activation."""
    activation = row.activation
    if activation.nonce is None:
        raise LookupError(f"run {row.run_id}, activation {activation.activation_id}: nobody holds it")
    return Claimed(activation_id=activation.activation_id, epoch=activation.epoch, nonce=activation.nonce)


def work_of(state: State, row: ActivationRow, now: datetime) -> Work:
    """A running activation, with the context and the facts that its call needs."""
    activation, kept = row.activation, state.runs[row.run_id]
    return Work(
        run_id=row.run_id,
        fence=fence_of(row),
        neuron=row.target.neuron,
        collateral=row.target.collateral,
        queue=activation.queue,
        payload=row.target.payload,
        attempt=activation.attempt,
        try_number=activation.tries,
        failures=activation.failures,
        elapsed=(now - (row.first_try_at or now)).total_seconds(),
        idled=activation.idled,
        crashes=activation.crashes,
        run_elapsed=(now - (kept.run.started_at or now)).total_seconds(),
        run_idled=kept.run.idled,
        policy=json.loads(kept.policy),
        snapshot=state.snapshot(row.run_id),
        place=kept.submission.place,
        deadline=kept.run.deadline_at,
        undo=activation.undo,
        emitted=tuple(state.signals_of(row)) if activation.undo else (),
        progress=row.progress,
    )

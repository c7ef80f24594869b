"""The successors that a settling worker keeps, made of the claim that it held: nothing of them is read again.

A worker may take its snapshot of the context on to the next version only if it read the one before and wrote this one
itself, or nobody wrote at all; else the store reads it. Decides nothing else, and reads no store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from cnstra.orchestrator.machine.plans import Answer, Plan
from cnstra.orchestrator.machine.records import Claimed, NewActivation
from cnstra.orchestrator.machine.states import ActivationStatus
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Foothold, RunEvent, Work

NONE: Mapping[UUID, Foothold] = MappingProxyType({})


def successors(
    events: Sequence[RunEvent], plans: Mapping[UUID, Plan], now: datetime, footholds: Mapping[UUID, Foothold] = NONE
) -> Iterator[Work]:
    """Those of a batch that can be made so. ``plans`` are what its events came to, ``now`` is when; ``footholds`` those of runs
    whose only successor may have one."""
    told: Counter[UUID] = Counter()
    for happening in events:
        run_id, work = happening.run_id, happening.work
        place, plan = told[run_id], plans.get(run_id)
        told[run_id] += 1
        if plan is None or work is None or not (answer := plan.answers[place]).kept:
            continue
        snapshot = snapshot_after(work, plan, answer)
        if snapshot is None:
            continue
        for new in plan.created:
            if new.activation_id in answer.kept and new.status is ActivationStatus.RUNNING:
                yield successor(work, plan, new, snapshot, now, footholds.get(run_id))


def snapshot_after(work: Work, plan: Plan, answer: Answer) -> Snapshot | None:
    """The context as the hop left it; None where others wrote, too, or where it is kept elsewhere."""
    read = work.snapshot
    if work.place is not None or answer.version is None:
        return None
    if answer.version == read.version:
        return read
    written = [
        entry for entry in plan.entries if entry.version == answer.version and entry.activation_id == work.activation_id
    ]
    if not written or answer.version != read.version + 1:
        return None
    slots = {**read.slots, **{entry.slot: Slot(entry.version, entry.text) for entry in written}}
    return Snapshot(version=answer.version, slots=slots)


def successor(
    work: Work, plan: Plan, new: NewActivation, snapshot: Snapshot, now: datetime, foothold: Foothold | None
) -> Work:
    """The claim of an activation that a hop began, made of the claim whose end that hop is."""
    target, run = new.target, plan.run
    if new.nonce is None:
        raise RuntimeError(f"{work}: its successor {new.activation_id} is kept without a claim")
    return Work(
        run_id=work.run_id,
        fence=Claimed(activation_id=new.activation_id, epoch=1, nonce=new.nonce),
        neuron=target.neuron,
        collateral=target.collateral,
        queue=target.queue,
        payload=target.payload,
        attempt=new.attempt,
        try_number=1,
        failures=0,
        elapsed=0.0,
        idled=0.0,
        crashes=0,
        run_elapsed=0.0 if run.started_at is None else (now - run.started_at).total_seconds(),
        run_idled=run.idled,
        policy=work.policy,
        snapshot=snapshot,
        deadline=run.deadline_at,
        foothold=foothold,
    )

"""A batch on its way through a store: of submits, or of events, sorted by run and answered in the order they came in.

What every store of runs does alike around ``begin`` and ``fold``, whatever it keeps its rows in. Decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from cnstra.orchestrator.errors import SubmitError
from cnstra.orchestrator.machine.events import (
    AttemptDue,
    DeadlineDue,
    Due,
    Event,
    ExpectationDue,
    FailedTry,
    GaveWay,
    Succeeded,
)
from cnstra.orchestrator.machine.folding import CLAIMABLE
from cnstra.orchestrator.machine.plans import Answer, Plan, Verdict
from cnstra.orchestrator.machine.records import BlobRef
from cnstra.orchestrator.machine.states import ActivationStatus
from cnstra.orchestrator.ports import Ring, door
from cnstra.orchestrator.sealing import is_sealed, label_of, not_opened
from cnstra.orchestrator.slots import Slot
from cnstra.orchestrator.store import Accepted, Applied, RunEvent, Submission, Work

Ready = tuple[str, UUID, int]
"""The door, the run and the number of an activation that became ready."""

_NO_RUN = Answer(verdict=Verdict.VOID)


# -- submits ---------------------------------------------------------------------------------------------------


def repeats(submissions: Sequence[Submission]) -> dict[int, int]:
    """The submits that come again within a batch, by run id or idempotency key: each one's place, and the first one's."""
    if _all_apart(submissions):
        return {}
    first: dict[Hashable, int] = {}
    again: dict[int, int] = {}
    for place, submission in enumerate(submissions):
        names: list[Hashable] = [submission.run_id]
        if submission.idempotency_key is not None:
            names.insert(0, (submission.graph, submission.idempotency_key))
        found = next((first[name] for name in names if name in first), None)
        if found is None:
            first |= dict.fromkeys(names, place)
        else:
            again[place] = found
    return again


def _all_apart(submissions: Sequence[Submission]) -> bool:
    """Whether there is nothing to look for, as in most batches: no keys, and no id twice."""
    if any(submission.idempotency_key is not None for submission in submissions):
        return False
    return len({submission.run_id for submission in submissions}) == len(submissions)


def same_signal(one: Submission, other: Submission) -> bool:
    """Whether two submits start a graph by the same signal."""
    return (one.graph, one.collateral, _plain(one.payload)) == (other.graph, other.collateral, _plain(other.payload))


Entry = tuple[UUID, str, str]
"""A run's id, and the collateral and the payload of the signal that started it."""


def refuse_others(
    submissions: Sequence[Submission], accepted: Sequence[Accepted], entries: Sequence[Entry | None]
) -> None:
    """Raise ``SubmitError`` where an id or a key stands for another signal; the store then keeps nothing of the batch.

    ``entries`` are what stands there. ``KeyMissing`` where that is sealed, and what is submitted is not: it may be the same.
    """
    for submission, answer, entry in zip(submissions, accepted, entries, strict=True):
        if not answer.same:
            taken = (
                f"run_id {submission.run_id}"
                if answer.run_id == submission.run_id
                else f"idempotency_key {submission.idempotency_key!r}"
            )
            if entry is not None and entry[1] == submission.collateral and not is_sealed(submission.payload):
                label = label_of(entry[2])
                if label is not None:
                    raise not_opened(label, f"{taken} is that of run {answer.run_id}, whose payload cannot be compared")
            raise SubmitError(
                f"{taken} is that of run {answer.run_id}, which was started by another signal; "
                "give another key for another payload"
            )


def same_payload(one: str, other: str) -> bool:
    """Whether two JSON texts are of the same value."""
    return bool(_plain(one) == _plain(other))


def _plain(text: str) -> Any:
    """The value of a JSON text, for comparing: 1 is 1.0, and neither is true."""
    return json.loads(text, parse_int=_number, parse_float=_number)


def _number(digits: str) -> tuple[Decimal]:
    return (Decimal(digits),)


# -- events ----------------------------------------------------------------------------------------------------


def by_run(events: Iterable[RunEvent]) -> dict[UUID, list[Event]]:
    """The events of each run, in their order."""
    sorted_events: dict[UUID, list[Event]] = {}
    for happening in events:
        sorted_events.setdefault(happening.run_id, []).append(happening.event)
    return sorted_events


def may_pass(events: Iterable[Event]) -> bool:
    """Whether all of these events are a supervisor's, which may pass over a run that somebody else is changing."""
    return all(isinstance(event, Due | AttemptDue | DeadlineDue | ExpectationDue) for event in events)


def littered(happenings: Sequence[RunEvent], applied: Sequence[Applied]) -> list[BlobRef]:
    """The blobs that these events leave behind, and that no run refers to now, or ever will.

    Only what nothing can bring back counts: a settlement that is stale may, sent again after a lost reply, be applied.
    """
    return [
        blob
        for happening, answer in zip(happenings, applied, strict=True)
        for blob in _left_behind(happening.event, answer.verdict)
    ]


def _left_behind(event: Event, verdict: Verdict) -> tuple[BlobRef, ...]:
    if not isinstance(event, Succeeded | FailedTry | GaveWay) or verdict in (Verdict.REPEATED, Verdict.STALE):
        return ()
    if isinstance(event, Succeeded) and event.blob is not None and verdict is not Verdict.APPLIED:
        return (*event.wasted, event.blob)
    return event.wasted


_MOVED = (Verdict.APPLIED, Verdict.CONFLICTED, Verdict.REFUSED)


def moves(plan: Plan) -> bool:
    """Whether the plan changes anything."""
    return any(answer.verdict in _MOVED for answer in plan.answers)


def made_ready(plan: Plan) -> Iterator[Ready]:
    """What the plan itself makes claimable; its sweeps may add to that."""
    for number, activation in plan.changed.items():
        if activation.status is ActivationStatus.READY and activation.blocked in CLAIMABLE:
            yield door(plan.run.graph, activation.queue), plan.run.run_id, number
    for new in plan.created:
        if new.status is ActivationStatus.READY and new.blocked in CLAIMABLE:
            yield door(plan.run.graph, new.target.queue), plan.run.run_id, new.activation_id


def rings_of(ready: Iterable[Ready]) -> tuple[Ring, ...]:
    """Ready activations, as one ring a door."""
    doors: dict[str, list[tuple[UUID, int]]] = {}
    for door_of, run_id, activation_id in ready:
        doors.setdefault(door_of, []).append((run_id, activation_id))
    return tuple(Ring(door=door_of, activations=tuple(ids)) for door_of, ids in doors.items())


def repeated_hops(plan: Plan, events: Iterable[Event]) -> Iterator[tuple[int, int]]:
    """The hops that had been applied before: the place of the answer, and the activation.

    Their worker never learned which successors it keeps; a store looks that up and tells it.
    """
    for place, (answer, event) in enumerate(zip(plan.answers, events, strict=True)):
        if answer.verdict is Verdict.REPEATED and isinstance(event, Succeeded | GaveWay):
            yield place, event.fence.activation_id


def kept(plans: Mapping[UUID, Plan]) -> list[tuple[UUID, int]]:
    """The successors that settling workers hold now, by run and number."""
    return [(run_id, number) for run_id, plan in plans.items() for answer in plan.answers for number in answer.kept]


def answers(
    events: Sequence[RunEvent],
    plans: Mapping[UUID, Plan],
    works: Iterable[Work],
    newest: Mapping[UUID, Mapping[str, Slot]],
) -> tuple[Applied, ...]:
    """What became of the events, in their order.

    A run without a plan is not stored, or was left for the next sweep.
    """
    held = {(work.run_id, work.activation_id): work for work in works}
    of_run = {run_id: iter(plan.answers) for run_id, plan in plans.items()}
    applied = []
    for happening in events:
        run_id = happening.run_id
        answer = next(of_run[run_id]) if run_id in of_run else _NO_RUN
        applied.append(
            Applied(
                verdict=answer.verdict,
                newest={slot: newest[run_id][slot] for slot in answer.stale},
                kept=tuple(held[run_id, number] for number in answer.kept if (run_id, number) in held),
                problem=answer.problem,
            )
        )
    return tuple(applied)

"""Footholds: what a worker that holds an activation knows of its run, so that the hop is decided before anything is read.

A store marks a run's row when it writes it. While the mark stands nobody has changed the run since, and what its last
settlement left of it is what a lock would bring. So the machine decides on that, and the store writes the decision where the
mark still stands, and the claim with it; where not, nothing is written, and the hop is settled as any other. This is what the
field calls optimistic concurrency control; the mark is its version.

Only for the plainest of hops: the run's one outstanding activation has succeeded, and starts one other at most. Decides nothing
else, and reads no store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.machine.events import Succeeded
from cnstra.orchestrator.machine.plain import plain_hop
from cnstra.orchestrator.machine.plans import Plan, Verdict
from cnstra.orchestrator.machine.records import NewActivation, Run
from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus
from cnstra.orchestrator.slots import Snapshot
from cnstra.orchestrator.store import Applied, Foothold, RunEvent, Work
from cnstra.orchestrator.succession import snapshot_after, successor


class Ahead(NamedTuple):
    """A hop that was decided on a foothold: the claim whose end it is, the plan, and the mark under which that is good."""

    work: Work
    plan: Plan
    mark: str


def plans_ahead(events: Sequence[RunEvent]) -> dict[UUID, Ahead]:
    """Those of the runs of a batch whose one event can be decided on a foothold."""
    decided: dict[UUID, Ahead | None] = {}
    for happening in events:
        run_id = happening.run_id
        decided[run_id] = None if run_id in decided else _plan_ahead(happening)
    return {run_id: ahead for run_id, ahead in decided.items() if ahead is not None}


def _plan_ahead(happening: RunEvent) -> Ahead | None:
    work, event = happening.work, happening.event
    foothold = None if work is None else work.foothold
    if work is None or foothold is None or not isinstance(event, Succeeded):
        return None
    if work.place is not None or work.snapshot.version != foothold.run.context_version:
        return None
    held = foothold.activation
    since = held.started_at
    assert since is not None, "it runs"
    plan = plain_hop(foothold.run, held, event, _heads(work.snapshot) if event.changes else {}, since)
    return None if plan is None else Ahead(work, plan, foothold.mark)


def _heads(snapshot: Snapshot) -> dict[str, int]:
    return {name: slot.version if slot.text is not None else -slot.version for name, slot in snapshot.slots.items()}


def settled_ahead(ahead: Ahead, now: datetime, mark: str) -> Applied:
    """What has become of such a hop, as it was written ``now``, under a new mark: the successor that stays, on a foothold of its
    own."""
    work, plan, _ = ahead
    [answer] = plan.answers
    if not answer.kept:
        return Applied(verdict=answer.verdict)
    snapshot = snapshot_after(work, plan, answer)
    assert snapshot is not None, "it was that of the version before, or nothing was written"
    [new] = plan.created
    foothold = Foothold(run=plan.run, activation=new.begun(now), mark=mark)
    return Applied(verdict=answer.verdict, kept=(successor(work, plan, new, snapshot, now, foothold),))


def without_footholds(events: Iterable[RunEvent]) -> list[RunEvent]:
    """The same events, to be settled as any others."""
    return [
        happening if happening.work is None else replace(happening, work=replace(happening.work, foothold=None))
        for happening in events
    ]


def is_plain(plan: Plan, before: Run) -> bool:
    """Whether a plan, of a run as it was before, is no more than the end of one activation, the beginning of one other at
    most, and what the hop wrote."""
    return (
        len(plan.changed) == len(plan.answers) == 1
        and len(plan.created) <= 1
        and plan.answers[0].verdict is Verdict.APPLIED
        and not any(_rest_of(plan))
        and plan.run.goes_on_from(before)
    )


_PLAIN = {"run", "changed", "created", "entries", "heads", "answers"}
_rest_of = attrgetter(*(name for name in Plan.__struct_fields__ if name not in _PLAIN))


def footholds_after(plans: Mapping[UUID, Plan], now: datetime, mark: str) -> Iterator[tuple[UUID, Foothold]]:
    """The footholds that plain plans leave, as they were carried out ``now``, under a mark: one for a run's only successor."""
    for run_id, plan in plans.items():
        run = plan.run
        if run.outstanding != 1 or run.status is not RunStatus.RUNNING or run.ending is not None or run.failed:
            continue
        for new in plan.created:
            if _is_kept(new):
                yield run_id, Foothold(run=run, activation=new.begun(now), mark=mark)


def _is_kept(new: NewActivation) -> bool:
    return new.status is ActivationStatus.RUNNING and not new.path

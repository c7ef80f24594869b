"""Footholds: what a worker that holds an activation knows of its run, so that the hop is decided before anything is read.

A store marks a run's row when it writes it. While the mark stands nobody has changed the run since, and what its last
settlement left of it is what a lock would bring. So the machine decides on that, and the store writes the decision where the
mark still stands, and the claim with it; where not, nothing is written, and the hop is settled as any other. This is what the
field calls optimistic concurrency control; the mark is its version.

Only for the plainest of hops: the run's one outstanding activation has succeeded, and starts one other at most. Decides nothing
else, and reads no store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.machine.events import Succeeded
from cnstra.orchestrator.machine.fold import fold
from cnstra.orchestrator.machine.plans import Loaded, Plan, Verdict
from cnstra.orchestrator.machine.records import NewActivation, Run
from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus
from cnstra.orchestrator.slots import Snapshot
from cnstra.orchestrator.store import Foothold, RunEvent

Ahead = Mapping[UUID, tuple[Plan, str]]
"""By run, a plan that was made on a foothold, and the mark under which it is good."""


def plans_ahead(events: Sequence[RunEvent]) -> Ahead:
    """Those of the runs of a batch whose one event can be decided on a foothold."""
    many = Counter(happening.run_id for happening in events)
    plans = {happening.run_id: _plan_ahead(happening) for happening in events if many[happening.run_id] == 1}
    return {run_id: plan for run_id, plan in plans.items() if plan is not None}


def _plan_ahead(happening: RunEvent) -> tuple[Plan, str] | None:
    work, event = happening.work, happening.event
    foothold = None if work is None else work.foothold
    if work is None or foothold is None or not isinstance(event, Succeeded) or not _is_plain(event):
        return None
    held = foothold.activation
    loaded = Loaded(activations={held.activation_id: held}, heads=_heads(work.snapshot) if event.changes else {})
    since = held.started_at
    assert since is not None, "it runs"
    plan = fold(foothold.run, loaded, [event], since)
    return (plan, foothold.mark) if is_plain(plan, foothold.run) else None


def _is_plain(event: Succeeded) -> bool:
    """Whether nothing of it depends on the time, on groups, on what was sent to the run, or on stores of the user's own."""
    return not (event.expected or event.scattered or event.wasted or any(target.is_timed for target in event.targets))


def _heads(snapshot: Snapshot) -> dict[str, int]:
    return {name: slot.version if slot.text is not None else -slot.version for name, slot in snapshot.slots.items()}


def without_footholds(events: Iterable[RunEvent]) -> list[RunEvent]:
    """The same events, to be settled as any others."""
    return [
        happening if happening.work is None else replace(happening, work=replace(happening.work, foothold=None))
        for happening in events
    ]


def is_plain(plan: Plan, before: Run) -> bool:
    """Whether a plan, of a run as it was before, is no more than the end of one activation, the beginning of one other at
    most, and what the hop wrote."""
    rest = replace(plan, run=before, changed={}, created=[], entries=[], heads={}, answers=[])
    return (
        plan.run.goes_on_from(before)
        and len(plan.changed) == 1
        and len(plan.created) <= 1
        and [answer.verdict for answer in plan.answers] == [Verdict.APPLIED]
        and rest == Plan(run=before)
    )


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

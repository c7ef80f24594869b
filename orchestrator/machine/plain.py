"""The plainest of hops, decided in one go: a run's one outstanding activation has succeeded, and starts one other at most.

Most hops are such, and ``fold`` is made for all others, too: its plan of this one takes three times as long. Decides nothing by
itself: what it comes to is what ``fold`` comes to, along the same tables, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from cnstra.orchestrator.machine.events import Succeeded
from cnstra.orchestrator.machine.folding import unblocked
from cnstra.orchestrator.machine.plans import Answer, Entry, Plan, Verdict
from cnstra.orchestrator.machine.records import Activation, Compensable, NewActivation, Run
from cnstra.orchestrator.machine.states import (
    ACTIVATION_MOVES,
    RUN_MOVES,
    ActivationMove,
    ActivationStatus,
    RunMove,
    RunStatus,
    move,
)
from cnstra.orchestrator.slots import resolve


def plain_hop(run: Run, held: Activation, event: Succeeded, heads: Mapping[str, int], now: datetime) -> Plan | None:
    """The plan of a run whose outstanding activation is ``held``, by the claim that the event comes from; None where the hop is
    not that plain.

    ``heads`` is the newest version of each slot of the context, as in ``Loaded``. Nothing of the plan depends on the time, but
    for what is written down of it.
    """
    if not (_is_plain(event) and _goes_on_alone(run) and _is_plainly_held(held, event)):
        return None
    version = None
    entries: list[Entry] = []
    if event.changes:
        resolution = resolve(event.changes, heads, read=event.version_read)
        if resolution.stale or resolution.conflict:
            return None
        if resolution.entries:
            version = run.context_version + 1
            entries = [
                Entry(version=version, slot=slot, text=text, activation_id=held.activation_id)
                for slot, text in resolution.entries
            ]
    finish = run.last_finish + 1
    undoable = event.compensable is not Compensable.NO
    ended = replace(
        held,
        status=move(ACTIVATION_MOVES, held.status, ActivationMove.SUCCEED),
        finish=finish,
        finished_at=now,
        undoable=undoable,
        version_read=event.version_read,
        version_written=version,
        outputs=event.outputs,
        failure=None,
    )
    after = replace(
        run,
        last_finish=finish,
        undoable=run.undoable + undoable,
        context_version=run.context_version if version is None else version,
        started_at=_earlier(run.started_at, held.started_at),
    )
    created: list[NewActivation] = []
    kept: tuple[int, ...] = ()
    if event.targets:
        new = _successor(run, held, event, now)
        created.append(new)
        after = replace(after, last_activation=new.activation_id)
        if new.status is _RUNNING:
            kept = (new.activation_id,)
    else:
        completed = move(RUN_MOVES, run.status, RunMove.COMPLETE)
        after = replace(after, outstanding=0, active=0, status=completed, finished_at=now)
    return Plan(
        run=after,
        changed={held.activation_id: ended},
        created=created,
        entries=entries,
        heads={entry.slot: entry.version if entry.text is not None else -entry.version for entry in entries},
        answers=[Answer(verdict=_APPLIED, kept=kept, version=after.context_version)],
    )


# What a hop looks at several times: a name of a module is found faster than a member of an enumeration.
_RUNNING, _READY, _APPLIED = ActivationStatus.RUNNING, ActivationStatus.READY, Verdict.APPLIED


def _is_plain(event: Succeeded) -> bool:
    """Whether nothing of it depends on the time, on groups, on what was sent to the run, or on stores of the user's own."""
    if event.expected or event.scattered or event.wasted or event.blob is not None:
        return False
    return not event.targets or (len(event.targets) == 1 and not event.targets[0].is_timed)


def _goes_on_alone(run: Run) -> bool:
    """Whether nothing but its one activation can move the run, and nothing keeps it back."""
    return (
        run.outstanding == run.active == 1
        and not run.failed
        and run.alone is None
        and run.ending is None
        and run.status is RunStatus.RUNNING
    )


def _is_plainly_held(held: Activation, event: Succeeded) -> bool:
    """Whether the claim holds, of an activation that is neither part of a group, nor a compensation."""
    fence = event.fence
    return (
        held.epoch == fence.epoch
        and held.nonce == fence.nonce
        and held.activation_id == fence.activation_id
        and held.status is _RUNNING
        and not (held.path or held.undo)
    )


def _successor(run: Run, parent: Activation, event: Succeeded, now: datetime) -> NewActivation:
    target = event.targets[0]
    here = target.here and not target.limited
    return NewActivation(
        activation_id=run.last_activation + 1,
        parent=parent.activation_id,
        target=target,
        attempt=run.attempt,
        status=_RUNNING if here else _READY,
        worker=parent.worker if here else None,
        nonce=parent.nonce if here else None,
        blocked=None if here else unblocked(limited=target.limited),
        available_at=now,
    )


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)

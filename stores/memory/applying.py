"""Carrying out the machine's plans: the whole batch is decided on, and then written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator import batches
from cnstra.orchestrator.batches import Ready
from cnstra.orchestrator.machine.events import Event
from cnstra.orchestrator.machine.fold import fold
from cnstra.orchestrator.machine.folding import BLOCKED_ALONE, BLOCKED_PAUSED, CLAIMABLE, unblocked
from cnstra.orchestrator.machine.plans import Answer, Fired, Plan, Sweep, TryEnded, Verdict
from cnstra.orchestrator.machine.records import NewActivation
from cnstra.orchestrator.machine.states import ACTIVATION_MOVES, ActivationMove, ActivationStatus, move
from cnstra.orchestrator.needs import needs_of
from cnstra.orchestrator.store import AppliedBatch, RunEvent
from cnstra.orchestrator.succession import successors
from cnstra.stores.memory.claiming import UNKNOWN, work_of
from cnstra.stores.memory.loading import load
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import ActivationRow, LetterRow, MemberRow, State, TryRow


class Applying:
    """The one operation by which runs move."""

    @operation
    def apply(self, state: State, events: Sequence[RunEvent]) -> AppliedBatch:
        now = state.now()
        by_run = batches.by_run(events)
        plans: dict[UUID, Plan] = {}
        posted: set[int] = set()  # what was sent by key, and is taken by a run of this batch
        for run_id, of_run in by_run.items():
            if run_id in state.runs:
                plan = plans[run_id] = decide(state, run_id, of_run, now, posted)
                posted |= {letter.number for letter, _ in plan.taken if letter.key is not None}
        ready = [ready for plan in plans.values() if batches.moves(plan) for ready in carry_out(state, plan, now)]
        _answer_repeated(state, plans, by_run)
        held = (row for key in batches.kept(plans) if (row := state.activation(key)) is not None)
        works = [work_of(state, row, now) for row in held if row.activation.status is ActivationStatus.RUNNING]
        answers = batches.answers(
            events,
            plans,
            [*works, *successors(events, plans, now)],
            {run_id: state.snapshot(run_id).slots for run_id in plans},
        )
        state.litter = dict.fromkeys(batches.littered(events, answers), now) | state.litter
        return AppliedBatch(answers=answers, rings=batches.rings_of(ready))


def decide(state: State, run_id: UUID, events: Sequence[Event], now: datetime, posted: Set[int] = frozenset()) -> Plan:
    """What the machine makes of a run's events."""
    return fold(state.runs[run_id].run, load(state, run_id, needs_of(events), posted), events, now)


def carry_out(state: State, plan: Plan, now: datetime) -> list[Ready]:
    """Write a plan; answers what became ready."""
    run_id = plan.run.run_id
    state.runs[run_id] = replace(state.runs[run_id], run=plan.run)
    for row in state.of_run(run_id):
        if (changed := plan.changed.get(row.activation.activation_id)) is not None:
            state.put(replace(row, activation=changed))
    for new in plan.created:
        state.put(row_of_new(run_id, new, now))
    state.entries.setdefault(run_id, {}).update({(entry.version, entry.slot): entry for entry in plan.entries})
    state.heads.setdefault(run_id, {}).update(plan.heads)
    state.tries.setdefault(run_id, []).extend(TryRow(ended=ended, finished_at=now) for ended in plan.tries)
    _write_waits(state, plan)
    _write_groups(state, plan, now)
    swept = [ready for sweep, carry in _SWEEPS.items() if sweep in plan.sweeps for ready in carry(state, run_id, now)]
    return [*batches.made_ready(plan), *swept]


def row_of_new(run_id: UUID, new: NewActivation, now: datetime) -> ActivationRow:
    """An activation as it begins: unclaimed, or kept by the worker that settled its parent."""
    kept = new.status is ActivationStatus.RUNNING
    return ActivationRow(
        run_id=run_id,
        parent=new.parent,
        target=new.target,
        created_at=now,
        first_try_at=now if kept else None,
        activation=new.begun(now),
        origin=new.origin,
    )


def _give(state: State, run_id: UUID, number: int, payload: str) -> None:
    """Give an activation that waited its payload."""
    row = state.activation((run_id, number))
    if row is not None:
        state.put(replace(row, target=replace(row.target, payload=payload)))


def _write_waits(state: State, plan: Plan) -> None:
    """What is expected, what was sent, and what has come of both."""
    run_id = plan.run.run_id
    for number, payload in plan.delivered.items():
        _give(state, run_id, number, payload)
    expectations = state.expectations.setdefault(run_id, {})
    for number in plan.closed:
        del expectations[number]
    expectations.update({one.expectation_id: one for one in plan.expectations})
    letters = state.letters.setdefault(run_id, [])
    letters.extend(LetterRow(letter=letter, taken_by=letter.taken_by) for letter in plan.letters)
    for letter, taker in plan.taken:
        if letter.key is not None:
            state.posted[letter.number] = replace(state.posted[letter.number], run_id=run_id)
        else:
            [place] = [place for place, row in enumerate(letters) if row.letter.number == letter.number]
            letters[place] = replace(letters[place], taken_by=taker)


def _write_groups(state: State, plan: Plan, now: datetime) -> None:
    """Scatters that begin, what becomes of their members, and their gathers."""
    run_id = plan.run.run_id
    groups, members = state.groups.setdefault(run_id, {}), state.members.setdefault(run_id, {})
    groups.update({group.group_id: group for group in plan.scattered} | plan.groups)
    for new in plan.new_members:
        members[new.group_id, new.member] = MemberRow(member=new, payload=new.payload, results={}, failure=None)
    for place, changed in plan.members.items():
        kept = members[place]
        members[place] = replace(
            kept, member=changed, results={**kept.results, **changed.results}, failure=kept.failure or changed.failure
        )
    for fired in plan.fired:
        _give(state, run_id, fired.gathering.activation_id, _gathered(state, run_id, fired))
    for path in plan.abandoned:
        for row in state.of_run(run_id):
            waits = row.activation.status is ActivationStatus.WAITING and row.activation.gathers is not None
            if waits and row.activation.path[: len(path)] == path:
                _give_up(state, row, now)
        for group in groups.values():
            if group.path[: len(path)] == path:
                groups[group.group_id] = replace(group, closed=True)


def _give_up(state: State, row: ActivationRow, now: datetime) -> None:
    """What waits will never be called."""
    waiting = row.activation
    status = move(ACTIVATION_MOVES, waiting.status, ActivationMove.CANCEL)
    state.put(replace(row, activation=replace(waiting, status=status, finished_at=now)))


def _gathered(state: State, run_id: UUID, fired: Fired) -> str:
    """The results of a group, in the order of the scatter."""
    collateral, takes = fired.gathering.collateral, fired.gathering.failures
    scattered = state.groups[run_id][fired.group_id].collateral
    texts = []
    for (group_id, number), row in sorted(state.members.get(run_id, {}).items()):
        if group_id != fired.group_id:
            continue
        if takes and row.failure is not None:
            facts = {"error": row.failure.error, "error_type": row.failure.error_type, "index": number}
            facts |= {"collateral": scattered, "payload": json.loads(row.payload or "null")}
            texts.append(json.dumps({"failure": facts}))
        elif collateral in row.results:
            result = row.results[collateral]
            texts.append(f'{{"result":{result}}}' if takes else result)
    return f"[{','.join(texts)}]"


# -- sweeps ----------------------------------------------------------------------------------------------------


def _revive(state: State, run_id: UUID, now: datetime) -> Iterator[Ready]:
    run = state.runs[run_id].run
    for row in state.of_run(run_id):
        failed = row.activation
        if failed.status is ActivationStatus.FAILED and (
            failed.undo if run.ending is not None else not failed.undo and not failed.handled
        ):
            place = failed.finish if failed.undo else None
            yield _begin_anew(state, row, ActivationMove.REVIVE, now, finish=place, nonce=None)
    if run.ending is None:
        _revive_members(state, run_id)


def _revive_members(state: State, run_id: UUID) -> None:
    """What has failed in members is outstanding again."""
    groups = state.groups.get(run_id, {})
    for place, row in state.members.get(run_id, {}).items():
        member, group = row.member, groups[place[0]]
        if member.failed and not member.ended and not group.closed:
            revived = replace(member, outstanding=member.outstanding + member.failed, failed=0)
            state.members[run_id][place] = replace(row, member=revived)
            groups[place[0]] = replace(group, running=group.running + 1)


def _end_waits(state: State, run_id: UUID, now: datetime) -> Iterator[Ready]:
    state.expectations.pop(run_id, None)
    for row in state.of_run(run_id):
        if row.activation.status is ActivationStatus.WAITING:
            _give_up(state, row, now)
    groups = state.groups.get(run_id, {})
    groups.update({number: replace(group, closed=True) for number, group in groups.items()})
    return iter(())


def _undo(state: State, run_id: UUID, now: datetime) -> Iterator[Ready]:
    undoable = [row for row in state.of_run(run_id) if row.activation.undoable]
    row = max(undoable, key=lambda row: row.activation.finish or 0)
    done = row.activation
    if done.status is ActivationStatus.DONE:
        call = TryEnded(
            activation_id=done.activation_id,
            try_number=done.tries,
            worker=done.worker,
            started_at=done.started_at,
            failure=None,
        )
        state.tries.setdefault(run_id, []).append(TryRow(ended=call, finished_at=done.finished_at or now))
    row = replace(row, done_at=done.finished_at)
    kept = {"finish": done.finish, "nonce": done.nonce}  # by which who settled it is known, until it is claimed anew
    yield _begin_anew(state, row, ActivationMove.UNDO, now, undo=True, conflicts=0, **kept)


def _begin_anew(state: State, row: ActivationRow, by: ActivationMove, now: datetime, **changes: Any) -> Ready:
    """An activation that had ended becomes ready; its policy counts anew."""
    ended = row.activation
    begun = replace(
        ended,
        status=move(ACTIVATION_MOVES, ended.status, by),
        attempt=state.runs[row.run_id].run.attempt,
        failures=0,
        idled=0.0,
        crashes=0,
        blocked=unblocked(limited=ended.limited),
        available_at=now,
        finished_at=None,
        failure=None,
        undoable=False,
        **changes,
    )
    state.put(replace(row, activation=begun, first_try_at=None))
    return state.door_of(row), *row.key


_HELD = CLAIMABLE | {UNKNOWN, BLOCKED_ALONE}
"""What a ready activation may be marked with that is set aside while its run is paused."""


def _hold(state: State, run_id: UUID, _now: datetime) -> Iterator[Ready]:
    for row in state.of_run(run_id):
        if row.activation.status is ActivationStatus.READY and row.activation.blocked in _HELD:
            _block(state, row, BLOCKED_PAUSED)
    return iter(())


def _let_go(state: State, run_id: UUID, _now: datetime) -> Iterator[Ready]:
    for row in state.of_run(run_id):
        if row.activation.status is ActivationStatus.READY and row.activation.blocked == BLOCKED_PAUSED:
            yield _let(state, row)


def _rejoin(state: State, run_id: UUID, _now: datetime) -> Iterator[Ready]:
    for row in state.of_run(run_id):
        if row.activation.blocked == BLOCKED_ALONE:
            yield _let(state, row)


def _single_out(state: State, run_id: UUID, _now: datetime) -> Iterator[Ready]:
    alone = state.runs[run_id].run.alone
    rows = state.of_run(run_id)
    others_run = any(
        row.activation.status is ActivationStatus.RUNNING and row.activation.activation_id != alone for row in rows
    )
    for row in rows:
        if row.activation.status is not ActivationStatus.READY:
            continue
        may_run = row.activation.activation_id == alone and not others_run
        if may_run and row.activation.blocked == BLOCKED_ALONE:
            yield _let(state, row)
        elif not may_run and row.activation.blocked in CLAIMABLE | {UNKNOWN}:
            _block(state, row, BLOCKED_ALONE)


def _let(state: State, row: ActivationRow) -> Ready:
    """Nothing of its run keeps it back any more."""
    return _block(state, row, unblocked(limited=row.activation.limited))


def _block(state: State, row: ActivationRow, blocked: str | None) -> Ready:
    state.put(replace(row, activation=replace(row.activation, blocked=blocked)))
    return state.door_of(row), *row.key


_SWEEPS = {
    Sweep.CLOSE: _end_waits,
    Sweep.REVIVE: _revive,
    Sweep.UNDO: _undo,
    Sweep.HOLD: _hold,
    Sweep.LET_GO: _let_go,
    Sweep.REJOIN: _rejoin,
    Sweep.SINGLE_OUT: _single_out,
}


# -- answer ----------------------------------------------------------------------------------------------------


def _answer_repeated(state: State, plans: Mapping[UUID, Plan], by_run: Mapping[UUID, Sequence[Event]]) -> None:
    """A settlement whose reply was lost learns which successors its worker had kept then."""
    for run_id, plan in plans.items():
        for place, activation_id in batches.repeated_hops(plan, by_run[run_id]):
            parent = state.activation((run_id, activation_id))
            kept = tuple(
                row.activation.activation_id
                for row in state.of_run(run_id)
                if parent is not None and row.parent == activation_id and _held_as(row, parent)
            )
            plan.answers[place] = Answer(verdict=Verdict.REPEATED, kept=kept)


def _held_as(row: ActivationRow, parent: ActivationRow) -> bool:
    """Whether the worker that held the parent still holds what it kept with it."""
    one, other = row.activation, parent.activation
    return one.status is ActivationStatus.RUNNING and (one.worker, one.nonce) == (other.worker, other.nonce)

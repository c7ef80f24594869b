"""One fold under way: the state so far, the plan that grows, and the moves that both are changed by.

Every move of a run or an activation that ``fold`` makes passes through here, along the tables of ``states``, with the run's
counts kept in step. What brings a move about is the business of ``fold``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from cnstra.orchestrator.machine.plans import Entry, Loaded, Plan, Sweep, TryEnded
from cnstra.orchestrator.machine.records import (
    Activation,
    Compensable,
    Ending,
    Failure,
    Group,
    Member,
    NewActivation,
    Path,
    Run,
    Target,
)
from cnstra.orchestrator.machine.states import (
    ACTIVATION_MOVES,
    ACTIVE,
    OUTSTANDING,
    RUN_MOVES,
    ActivationMove,
    ActivationStatus,
    RunMove,
    RunStatus,
    move,
)

BLOCKED_SUSPECT = "suspect"
"""Marks an activation that lost many workers: only one that runs nothing else may claim it."""

BLOCKED_ALONE = "alone"
"""Marks a ready activation that waits until another has run alone."""

BLOCKED_PAUSED = "paused"
"""Marks a ready activation of a run that is paused."""

BLOCKED_LIMITED = "limited"
"""Marks a ready activation whose neuron has a limit: only claims that hold it may have it. Nothing else keeps it back."""

CLAIMABLE = frozenset({None, BLOCKED_LIMITED})
"""What a ready activation may be marked with that an ordinary claim may have."""


def unblocked(*, limited: bool) -> str | None:
    """What marks a ready activation that nothing of its run keeps back."""
    return BLOCKED_LIMITED if limited else None


LONGEST_WAIT = timedelta(days=36_525)
"""Backoffs above a century are cut to it: a policy may ask for more seconds than a calendar has."""


class Folding:
    """The state of one run as the events so far leave it, and the plan that they come to."""

    def __init__(self, run: Run, loaded: Loaded, now: datetime) -> None:
        self.plan = Plan(run=run)
        self.activations = dict(loaded.activations)
        self.heads = dict(loaded.heads)
        self.expectations = list(loaded.expectations)
        self.letters = list(loaded.letters)
        self.sent = dict(loaded.sent)
        self.groups = dict(loaded.groups)
        self.members = dict(loaded.members)
        self.pending = loaded.pending
        self.touched: set[tuple[int, int]] = set()  # members of which something has changed
        self.now = now
        self.rejoin = False
        self.was_paused = run.status is RunStatus.PAUSED
        self.is_paused_anew = False
        self.revived = run  # as it was before its last revival

    # -- activations -------------------------------------------------------------------------------------------

    def run(self, **changes: object) -> None:
        self.plan.run = replace(self.plan.run, **changes)

    def change(self, activation: Activation, by: ActivationMove, **also: object) -> None:
        """Move an activation along its table, and keep the run's counts in step; ``also`` are other changes of it."""
        before, after = activation.status, move(ACTIVATION_MOVES, activation.status, by)
        number = activation.activation_id
        changed = self.activations[number] = self.plan.changed[number] = replace(activation, status=after, **also)
        was, stands = _STANDINGS[before], _STANDINGS[after]
        run = self.plan.run
        failed = stands.failed - was.failed
        if failed and (changed.undo or not changed.handled):
            self.run(failed=run.failed + failed)
        if changed.started_at is not None and (run.started_at is None or changed.started_at < run.started_at):
            self.run(started_at=changed.started_at)
        outstanding = stands.outstanding - was.outstanding
        if changed.gathers is not None:  # while it waits it counts for nothing: what it waits for counts itself
            outstanding += (before is ActivationStatus.WAITING) - (after is ActivationStatus.WAITING)
        self.count(changed.path, outstanding, stands.active - was.active, failed)
        if run.alone == number and by not in (ActivationMove.CONFLICT, ActivationMove.RETURN):
            self.run(alone=None)
            self.rejoin = True

    def count(self, path: Path, outstanding: int, active: int, failed: int = 0) -> None:
        """Keep the counts of the run, and of the members that something is part of, in step with what has become of it."""
        run = self.plan.run
        self.plan.run = replace(run, outstanding=run.outstanding + outstanding, active=run.active + active)
        if not path or run.ending is not None:
            return
        for place in reversed(path):
            member = self.members[place]
            self.put_member(
                replace(member, outstanding=member.outstanding + outstanding, failed=member.failed + failed)
            )
            self.touched.add(place)
            if self.groups[place[0]].takes_failures:
                failed = 0  # it goes no further out

    def put_member(self, member: Member) -> None:
        self.members[member.group_id, member.member] = member
        self.plan.members[member.group_id, member.member] = member

    def put_group(self, group: Group) -> None:
        self.groups[group.group_id] = self.plan.groups[group.group_id] = group

    def finish(self, activation: Activation, by: ActivationMove, *, undoable: bool = False, **also: object) -> None:
        """It has ended, as the next in the order of finishing; ``undoable``: it is to be compensated when the run is undone."""
        run = self.plan.run
        number = run.last_finish + 1
        self.plan.run = replace(run, last_finish=number, undoable=run.undoable + undoable)
        self.change(activation, by, finish=number, finished_at=self.now, undoable=undoable, **also)

    def fail(self, activation: Activation, failure: Failure, revive_after: float | None) -> None:
        run = self.plan.run
        if activation.undo:
            self.run(undo_failure=failure)
            self.change(activation, ActivationMove.FAIL, finished_at=self.now)
            return
        uncertain = is_uncertain(activation)
        handler = next((place for place in reversed(activation.path) if self.groups[place[0]].takes_failures), None)
        if handler is not None:
            member = self.members[handler]
            self.put_member(replace(member, failure=member.failure or failure))
            self.finish(activation, ActivationMove.FAIL, undoable=uncertain, handled=True)
            return
        self.run(
            failure=run.failure or failure,
            gave_up=run.gave_up or revive_after is None,
            revive_after=max(run.revive_after or 0.0, revive_after or 0.0),
            uncertain=run.uncertain + uncertain,
        )
        self.finish(activation, ActivationMove.FAIL, undoable=uncertain)

    def undone(self, activation: Activation) -> None:
        """Its compensation has committed. It keeps its place in the order of finishing."""
        self.run(undone=self.plan.run.undone + 1)
        self.change(activation, ActivationMove.UNDONE, finished_at=self.now)

    def is_last_try(self, activation: Activation) -> bool:
        """Whether no other try of it follows, however this one ends: its run ends. Compensations are tried again."""
        return self.plan.run.ending is not None and not activation.undo

    def cancel(self, activation: Activation) -> None:
        """It ends with its run, undone where it may have had an effect."""
        self.finish(activation, ActivationMove.CANCEL, undoable=is_uncertain(activation), blocked=None)

    def back_off(self, activation: Activation, seconds: float) -> None:
        self.change(activation, ActivationMove.BACK_OFF, available_at=self.now + _wait(seconds))

    def write(self, activation: Activation, entries: tuple[tuple[str, str | None], ...]) -> int:
        """The hop's writes, as the context's next version."""
        version = self.plan.run.context_version + 1
        self.run(context_version=version)
        for slot, text in entries:
            self.plan.entries.append(
                Entry(version=version, slot=slot, text=text, activation_id=activation.activation_id)
            )
            self.heads[slot] = self.plan.heads[slot] = version if text is not None else -version
        return version

    @property
    def may_stay(self) -> bool:
        """Whether what begins in the run may be claimed at once."""
        return self.plan.run.alone is None and self.plan.run.status is not RunStatus.PAUSED

    def start(self, parent: Activation, targets: tuple[Target, ...]) -> tuple[int, ...]:
        """The activations that the hop's signals start; answers which of them the settling worker keeps."""
        kept = []
        for target in targets:
            run = self.plan.run
            number = run.last_activation + 1
            if run.ending is not None:
                self.start_none(number, parent, target)
                continue
            due = target.due(self.now)
            later = due > self.now
            here = target.here and not later and not target.limited and self.may_stay
            if here:
                kept.append(number)
            self.plan.created.append(
                NewActivation(
                    activation_id=number,
                    parent=parent.activation_id,
                    target=target,
                    attempt=run.attempt,
                    status=_start_of(here=here, later=later),
                    worker=parent.worker if here else None,
                    nonce=parent.nonce if here else None,
                    blocked=None if here or later else self.blocked(target),
                    available_at=due,
                    path=parent.path,
                )
            )
            self.plan.run = replace(run, last_activation=number)
            self.count(parent.path, 1, int(not later))
        return tuple(kept)

    def begin_waiting_one(self, number: int, payload: str) -> None:
        """What an earlier event of the batch made wait becomes ready, with its payload."""
        place = next(place for place, new in enumerate(self.plan.created) if new.activation_id == number)
        new = self.plan.created[place]
        self.plan.created[place] = replace(
            new,
            status=ActivationStatus.READY,
            target=replace(new.target, payload=payload),
            blocked=self.blocked(new.target),
        )
        self.count(new.path, 0, 1)

    def start_none(self, number: int, parent: Activation, target: Target) -> None:
        """A successor in a run that ends: it is kept as cancelled, so that what its parent emitted is known."""
        self.plan.created.append(
            NewActivation(
                activation_id=number,
                parent=parent.activation_id,
                target=target,
                attempt=self.plan.run.attempt,
                status=ActivationStatus.CANCELLED,
                available_at=self.now,
                path=parent.path,
            )
        )
        self.run(last_activation=number)

    def note_try(self, activation: Activation, failure: Failure) -> None:
        self.plan.tries.append(
            TryEnded(
                activation_id=activation.activation_id,
                try_number=activation.tries,
                worker=activation.worker,
                started_at=activation.started_at,
                failure=failure,
                undo=activation.undo,
            )
        )

    def blocked(self, what: Activation | Target, *, returned: bool = False) -> str | None:
        """What marks an activation of the run as it becomes ready: what keeps it from being claimed, or its neuron's limit.

        One that is to run alone waits, too, until it is let go; not where it is given back: it had been let go then.
        """
        activation = what if isinstance(what, Activation) else None
        if activation is not None and activation.blocked == BLOCKED_SUSPECT:
            return BLOCKED_SUSPECT
        if self.plan.run.status is RunStatus.PAUSED:
            return BLOCKED_PAUSED
        alone = self.plan.run.alone
        exempt = returned and activation is not None and alone == activation.activation_id
        return BLOCKED_ALONE if alone is not None and not exempt else unblocked(limited=what.limited)

    def revive(self) -> None:
        """The next attempt: the failed frontier becomes ready again, on the saved context; or the compensation that failed."""
        run = self.plan.run
        self.run(
            status=move(RUN_MOVES, run.status, RunMove.RETRY if run.ending is None else RunMove.RETRY_UNDOING),
            attempt=run.attempt + 1,
            undoable=run.undoable - run.uncertain,
            uncertain=0,
            undo_failure=None,
            outstanding=run.outstanding + run.failed,
            active=run.active + run.failed,
            failed=0,
            idled=run.idled + (run.revive_after or 0.0 if run.next_retry_at is not None else 0.0),
            revive_after=None,
            gave_up=False,
            failure=None if run.ending is None else run.failure,
            finished_at=None,
            next_retry_at=None,
        )
        self.plan.sweeps.append(Sweep.REVIVE)
        self.revived = run

    def take_back_beginnings(self) -> None:
        """What earlier events of the batch were about to begin does not: the run ends."""
        self.take_back_revival()
        for place, new in enumerate(self.plan.created):
            if new.status in OUTSTANDING and new.status is not ActivationStatus.RUNNING:
                self.plan.created[place] = replace(new, status=ActivationStatus.CANCELLED, blocked=None)
                waits_for_others = new.status is ActivationStatus.WAITING and new.gathers is not None
                self.count((), -(not waits_for_others), -_STANDINGS[new.status].active)

    def take_back_revival(self) -> None:
        if Sweep.REVIVE in self.plan.sweeps:
            self.plan.sweeps.remove(Sweep.REVIVE)
            run, before = self.plan.run, self.revived
            self.run(
                outstanding=run.outstanding - before.failed,
                active=run.active - before.failed,
                undoable=run.undoable + before.uncertain,
            )

    # -- the run's own status ----------------------------------------------------------------------------------

    def settle_status(self) -> None:
        """Where the events leave the run: it ends, it waits, it is undone, or it goes on. While it is paused, nowhere."""
        run = self.plan.run
        if run.status is RunStatus.COMPENSATING and run.outstanding == 0:
            self.go_on_undoing()
        elif run.ending is not None and run.status in _GOING and run.outstanding == 0:
            self.end(RunMove.CANCEL)
        elif run.status in _GOING and run.outstanding == 0 and run.next_retry_at is None:
            if run.status is RunStatus.WAITING:  # the last that it waited for has not come, and nothing follows on that
                self.run(status=move(RUN_MOVES, run.status, RunMove.WAKE))
            self.end_attempt()
        elif run.status is RunStatus.RUNNING and run.active == 0:
            self.run(status=move(RUN_MOVES, run.status, RunMove.IDLE))
        elif run.status is RunStatus.WAITING and run.active > 0:
            self.run(status=move(RUN_MOVES, run.status, RunMove.WAKE))

    def settle_claims(self) -> None:
        """Who of the run may be claimed, where it is paused, or one is to run alone, or one of these is over."""
        run = self.plan.run
        alone = run.alone is not None
        if run.status is RunStatus.PAUSED:
            if self.is_paused_anew:
                self.plan.sweeps.append(Sweep.HOLD)
            return
        was_paused = self.was_paused or self.is_paused_anew
        if was_paused:
            self.plan.sweeps.append(Sweep.LET_GO)
        if alone and (self.plan.changed or was_paused):  # every change may have been the last that it waited for
            self.plan.sweeps.append(Sweep.SINGLE_OUT)
        elif self.rejoin and not alone:
            self.plan.sweeps.append(Sweep.REJOIN)

    def end(self, by: RunMove) -> None:
        self.run(status=move(RUN_MOVES, self.plan.run.status, by), finished_at=self.now)

    def end_attempt(self) -> None:
        run = self.plan.run
        if run.failed == 0:
            self.end(RunMove.COMPLETE)
        elif not run.gave_up:
            again = self.now + _wait(run.revive_after or 0.0)
            self.run(status=move(RUN_MOVES, run.status, RunMove.BACK_OFF), next_retry_at=again)
        elif run.undoable:
            self.begin_undoing(Ending.FAILED)
            if run.last_group:
                self.plan.sweeps.append(Sweep.CLOSE)
            self.go_on_undoing()
        else:
            self.end(RunMove.FAIL)

    # -- undoing -----------------------------------------------------------------------------------------------

    def begin_undoing(self, ending: Ending) -> None:
        """From here on only compensations fail: what failed before stays as it is."""
        run = self.plan.run
        self.run(
            status=move(RUN_MOVES, run.status, RunMove.COMPENSATE),
            ending=ending,
            failed=0,
            uncertain=0,
            gave_up=False,
            revive_after=None,
            next_retry_at=None,
        )

    def go_on_undoing(self) -> None:
        """The next compensation, one at a time; or the end, where there is none left, or one has failed for good."""
        run = self.plan.run
        if run.failed:
            self.end(RunMove.FAIL)
        elif run.undoable:
            self.run(undoable=run.undoable - 1, outstanding=1, active=1)
            self.plan.sweeps.append(Sweep.UNDO)
        elif run.undone:
            self.end(RunMove.UNDONE)
        else:
            self.end(RunMove.CANCEL if run.ending is Ending.CANCELLED else RunMove.FAIL)


_GOING = frozenset({RunStatus.RUNNING, RunStatus.WAITING})


class _Standing(NamedTuple):
    """What an activation in a status counts for."""

    outstanding: bool
    active: bool
    failed: bool


_STANDINGS = {
    status: _Standing(
        outstanding=status in OUTSTANDING, active=status in ACTIVE, failed=status is ActivationStatus.FAILED
    )
    for status in ActivationStatus
}


def is_uncertain(activation: Activation) -> bool:
    """Whether an activation that has not committed may have had an effect that is to be undone."""
    return activation.compensable is Compensable.UNCERTAIN and activation.tries > 0


def _start_of(*, here: bool, later: bool) -> ActivationStatus:
    if later:
        return ActivationStatus.SCHEDULED
    return ActivationStatus.RUNNING if here else ActivationStatus.READY


def _wait(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, 0.0), LONGEST_WAIT.total_seconds()))

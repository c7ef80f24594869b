"""What comes next: folds a batch of events of one run into one plan.

``fold`` is the only place where a run or an activation moves. It is given the locked state and the time, and decides; the
stores carry its plan out. The order of the events is the order in which they count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from cnstra.orchestrator.machine.records import (
    Activation,
    Answer,
    AttemptDue,
    Claimed,
    Due,
    Entry,
    Event,
    FailedTry,
    Failure,
    Lost,
    NewActivation,
    Plan,
    RetryAsked,
    Returned,
    Run,
    Succeeded,
    Sweep,
    Target,
    TryEnded,
    Verdict,
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
from cnstra.orchestrator.slots import resolve

CONFLICTS_BEFORE_ALONE = 3
"""After so many conflicts an activation runs alone among the run's writers."""

BLOCKED_ALONE = "alone"
"""Marks a ready activation that waits until another has run alone."""

LONGEST_WAIT = timedelta(days=36_525)
"""Backoffs above a century are cut to it: a policy may ask for more seconds than a calendar has."""

_CONFLICT = "cnstra.orchestrator.errors.ContextConflict"


def begin(
    *,
    run_id: UUID,
    targets: Sequence[Target],
    priority: int,
    now: datetime,
    available_at: datetime | None = None,
) -> tuple[Run, list[NewActivation]]:
    """A new run, and the activations that its entry signal starts: ready now, or at a later time.

    Raises ``ValueError`` without targets: nothing would ever move such a run.
    """
    if not targets:
        raise ValueError(f"run {run_id}: its entry signal starts nothing, so it would never end")
    later = available_at is not None and available_at > now
    status = ActivationStatus.SCHEDULED if later else ActivationStatus.READY
    created = [
        NewActivation(
            activation_id=number,
            parent=None,
            target=target,
            attempt=1,
            status=status,
            available_at=available_at if available_at is not None and later else now,
        )
        for number, target in enumerate(targets, start=1)
    ]
    run = Run(
        run_id=run_id,
        status=RunStatus.WAITING if later else RunStatus.RUNNING,
        outstanding=len(created),
        active=0 if later else len(created),
        last_activation=len(created),
        priority=priority,
    )
    return run, created


def fold(
    run: Run,
    activations: Mapping[int, Activation],
    heads: Mapping[str, int],
    events: Sequence[Event],
    now: datetime,
) -> Plan:
    """The plan that the events come to.

    ``activations`` holds those that the events name, ``heads`` the newest version of each of the context's slots
    (negative: removed); both as they are under the run's lock, at ``now``.
    """
    folding = _Folding(run, activations, heads, now)
    for event in events:
        folding.plan.answers.append(folding.apply(event))
        folding.settle_status()
    folding.settle_alone()
    return folding.plan


class _Folding:
    """One fold under way: the state so far, and the plan that grows."""

    def __init__(
        self, run: Run, activations: Mapping[int, Activation], heads: Mapping[str, int], now: datetime
    ) -> None:
        self.plan = Plan(run=run)
        self.activations = dict(activations)
        self.heads = dict(heads)
        self.now = now
        self.rejoin = False

    # -- events ------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> Answer:
        match event:
            case Succeeded():
                return self.held(event.fence) or self.succeeded(event)
            case FailedTry():
                return self.held(event.fence) or self.failed_try(event)
            case Returned():
                return self.held(event.fence) or self.returned(event)
            case Lost():
                return self.held(event.fence) or self.lost(event)
            case Due():
                return self.due(event)
            case AttemptDue():
                return self.attempt_due()
            case RetryAsked():
                return self.retry_asked()

    def held(self, fence: Claimed) -> Answer | None:
        """None when the claim holds; else why not."""
        activation = self.activations.get(fence.activation_id)
        if activation is None or activation.epoch != fence.epoch or activation.nonce != fence.nonce:
            return Answer(verdict=Verdict.FENCED)
        if activation.status is not ActivationStatus.RUNNING:
            return Answer(verdict=Verdict.REPEATED)
        return None

    def succeeded(self, event: Succeeded) -> Answer:
        activation = self.activations[event.fence.activation_id]
        resolution = resolve(event.changes, self.heads, read=event.version_read)
        if resolution.stale:
            return Answer(verdict=Verdict.STALE, stale=resolution.stale)
        if resolution.conflict:
            return self.conflicted(activation, resolution.conflict)
        version = self.write(activation, resolution.entries) if resolution.entries else None
        self.finish(
            replace(
                activation,
                version_read=event.version_read,
                version_written=version,
                outputs=event.outputs,
                failure=None,
            ),
            ActivationMove.SUCCEED,
        )
        kept = self.start(activation, event.targets)
        return Answer(verdict=Verdict.APPLIED, kept=kept, version=self.plan.run.context_version)

    def conflicted(self, activation: Activation, slots: tuple[str, ...]) -> Answer:
        conflicts = activation.conflicts + 1
        self.note_try(
            activation,
            Failure(
                error_type=_CONFLICT,
                error=f"another activation wrote {', '.join(sorted(slots))} meanwhile; this one runs again",
            ),
        )
        alone = conflicts >= CONFLICTS_BEFORE_ALONE and self.plan.run.alone in (
            None,
            activation.activation_id,
        )
        self.change(
            replace(activation, conflicts=conflicts, blocked=self.blocked(), available_at=self.now),
            ActivationMove.CONFLICT,
        )
        if alone:
            self.run(alone=activation.activation_id)
        return Answer(verdict=Verdict.CONFLICTED)

    def failed_try(self, event: FailedTry) -> Answer:
        activation = self.activations[event.fence.activation_id]
        self.note_try(activation, event.failure)
        activation = replace(activation, failures=activation.failures + 1, failure=event.failure)
        if event.retry_after is not None:
            self.back_off(replace(activation, idled=activation.idled + event.retry_after), event.retry_after)
        else:
            self.fail(activation, event.failure, event.revive_after)
        return Answer(verdict=Verdict.APPLIED)

    def returned(self, event: Returned) -> Answer:
        activation = self.activations[event.fence.activation_id]
        self.change(
            replace(
                activation,
                nonce=None,
                tries=activation.tries - 1,
                blocked=self.blocked(activation.activation_id),
            ),
            ActivationMove.RETURN,
        )
        return Answer(verdict=Verdict.APPLIED)

    def lost(self, event: Lost) -> Answer:
        activation = self.activations[event.fence.activation_id]
        self.note_try(activation, event.failure)
        activation = replace(activation, nonce=None, crashes=activation.crashes + 1, failure=event.failure)
        self.back_off(activation, event.backoff)
        return Answer(verdict=Verdict.APPLIED)

    def due(self, event: Due) -> Answer:
        activation = self.activations.get(event.activation_id)
        if (
            activation is None
            or activation.status is not ActivationStatus.SCHEDULED
            or activation.available_at is None
            or activation.available_at > self.now
        ):
            return Answer(verdict=Verdict.VOID)
        self.change(replace(activation, blocked=self.blocked()), ActivationMove.DUE)
        return Answer(verdict=Verdict.APPLIED)

    def attempt_due(self) -> Answer:
        due = self.plan.run.next_retry_at
        if due is None or due > self.now:
            return Answer(verdict=Verdict.VOID)
        return self.revive()

    def retry_asked(self) -> Answer:
        if self.plan.run.status is not RunStatus.FAILED:
            return Answer(verdict=Verdict.VOID)
        return self.revive()

    # -- what they come to -------------------------------------------------------------------------------------

    def run(self, **changes: object) -> None:
        self.plan.run = replace(self.plan.run, **changes)  # type: ignore[arg-type]

    def change(self, activation: Activation, by: ActivationMove) -> None:
        """Move an activation along its table, and keep the run's counts in step."""
        before, after = activation.status, move(ACTIVATION_MOVES, activation.status, by)
        activation = replace(activation, status=after)
        self.activations[activation.activation_id] = self.plan.changed[activation.activation_id] = activation
        run = self.plan.run
        self.run(
            outstanding=run.outstanding + (after in OUTSTANDING) - (before in OUTSTANDING),
            active=run.active + (after in ACTIVE) - (before in ACTIVE),
            failed=run.failed + (after is ActivationStatus.FAILED) - (before is ActivationStatus.FAILED),
            started_at=min((at for at in (run.started_at, activation.started_at) if at is not None), default=None),
        )
        if run.alone == activation.activation_id and by not in (
            ActivationMove.CONFLICT,
            ActivationMove.RETURN,
        ):
            self.run(alone=None)
            self.rejoin = True

    def finish(self, activation: Activation, by: ActivationMove) -> None:
        number = self.plan.run.last_finish + 1
        self.run(last_finish=number)
        self.change(replace(activation, finish=number, finished_at=self.now), by)

    def fail(self, activation: Activation, failure: Failure, revive_after: float | None) -> None:
        run = self.plan.run
        self.run(
            failure=run.failure or failure,
            gave_up=run.gave_up or revive_after is None,
            revive_after=max(run.revive_after or 0.0, revive_after or 0.0),
        )
        self.finish(activation, ActivationMove.FAIL)

    def back_off(self, activation: Activation, seconds: float) -> None:
        self.change(replace(activation, available_at=self.now + _wait(seconds)), ActivationMove.BACK_OFF)

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

    def start(self, parent: Activation, targets: tuple[Target, ...]) -> tuple[int, ...]:
        """The activations that the hop's signals start; answers which of them the settling worker keeps."""
        kept = []
        for target in targets:
            number = self.plan.run.last_activation + 1
            here = target.here and self.plan.run.alone is None
            if here:
                kept.append(number)
            self.plan.created.append(
                NewActivation(
                    activation_id=number,
                    parent=parent.activation_id,
                    target=target,
                    attempt=self.plan.run.attempt,
                    status=ActivationStatus.RUNNING if here else ActivationStatus.READY,
                    worker=parent.worker if here else None,
                    nonce=parent.nonce if here else None,
                    blocked=None if here else self.blocked(),
                    available_at=self.now,
                )
            )
            run = self.plan.run
            self.run(last_activation=number, outstanding=run.outstanding + 1, active=run.active + 1)
        return tuple(kept)

    def note_try(self, activation: Activation, failure: Failure) -> None:
        self.plan.tries.append(
            TryEnded(
                activation_id=activation.activation_id,
                try_number=activation.tries,
                worker=activation.worker,
                started_at=activation.started_at,
                failure=failure,
            )
        )

    def blocked(self, activation_id: int | None = None) -> str | None:
        """What keeps an activation of the run from being claimed as it becomes ready."""
        alone = self.plan.run.alone
        return BLOCKED_ALONE if alone is not None and alone != activation_id else None

    def revive(self) -> Answer:
        """The next attempt: the failed frontier becomes ready again, on the saved context."""
        run = self.plan.run
        self.run(
            status=move(RUN_MOVES, run.status, RunMove.RETRY),
            attempt=run.attempt + 1,
            outstanding=run.outstanding + run.failed,
            active=run.active + run.failed,
            failed=0,
            idled=run.idled + (run.revive_after or 0.0 if run.next_retry_at is not None else 0.0),
            revive_after=None,
            gave_up=False,
            failure=None,
            finished_at=None,
            next_retry_at=None,
        )
        self.plan.sweeps.append(Sweep.REVIVE)
        return Answer(verdict=Verdict.APPLIED)

    # -- the run's own status ----------------------------------------------------------------------------------

    def settle_status(self) -> None:
        """Where the events leave the run: it ends, it waits, or it goes on."""
        run = self.plan.run
        if run.status is RunStatus.RUNNING and run.outstanding == 0:
            self.end_attempt()
        elif run.status is RunStatus.RUNNING and run.active == 0:
            self.run(status=move(RUN_MOVES, run.status, RunMove.IDLE))
        elif run.status is RunStatus.WAITING and run.active > 0:
            self.run(status=move(RUN_MOVES, run.status, RunMove.WAKE))

    def settle_alone(self) -> None:
        """Who of the run may be claimed, where one is to run alone, or has done so."""
        alone = self.plan.run.alone is not None
        if alone and self.plan.changed:  # every change may have been the last that it waited for
            self.plan.sweeps.append(Sweep.SINGLE_OUT)
        elif self.rejoin and not alone:
            self.plan.sweeps.append(Sweep.REJOIN)

    def end_attempt(self) -> None:
        run = self.plan.run
        if run.failed == 0:
            by, changes = RunMove.COMPLETE, {"finished_at": self.now}
        elif run.gave_up:
            by, changes = RunMove.FAIL, {"finished_at": self.now}
        else:
            by, changes = RunMove.BACK_OFF, {"next_retry_at": self.now + _wait(run.revive_after or 0.0)}
        self.run(status=move(RUN_MOVES, run.status, by), **changes)


def _wait(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, 0.0), LONGEST_WAIT.total_seconds()))

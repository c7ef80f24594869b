"""What comes next: folds a batch of events of one run into one plan.

``fold`` is the only place where a run or an activation moves. It is given the locked state and the time, and decides; the
stores carry its plan out. The order of the events is the order in which they count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from cnstra.orchestrator.machine.folding import BLOCKED_SUSPECT, Folding
from cnstra.orchestrator.machine.records import (
    Activation,
    Answer,
    AttemptDue,
    Claimed,
    Due,
    Event,
    FailedTry,
    Failure,
    GaveWay,
    Lost,
    NewActivation,
    Plan,
    RetryAsked,
    Returned,
    Run,
    Succeeded,
    Target,
    Verdict,
)
from cnstra.orchestrator.machine.states import (
    ActivationMove,
    ActivationStatus,
    RunStatus,
)
from cnstra.orchestrator.slots import resolve

CONFLICTS_BEFORE_ALONE = 3
"""After so many conflicts an activation runs alone among the run's writers."""

_CONFLICT = "cnstra.ContextConflict"


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
    folding = _Events(run, activations, heads, now)
    for event in events:
        folding.plan.answers.append(folding.apply(event))
        folding.settle_status()
    folding.settle_alone()
    return folding.plan


class _Events(Folding):
    """What each kind of event comes to."""

    def apply(self, event: Event) -> Answer:
        match event:
            case Succeeded():
                return self.held(event.fence) or self.succeeded(event)
            case FailedTry():
                return self.held(event.fence) or self.failed_try(event)
            case GaveWay():
                return self.held(event.fence) or self.gave_way(event)
            case Returned():
                return self.held(event.fence) or self.returned(event)
            case Lost():
                return self.held(event.fence) or self.lost(event)
            case Due():
                return self.due(event)
            case AttemptDue():
                return self.attempt_due()
            case RetryAsked():
                return self.retry_asked(event)

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
            slots = ", ".join(sorted(resolution.conflict))
            said = f"another activation wrote {slots} meanwhile; this one runs again"
            return self.conflicted(activation, Failure(error_type=_CONFLICT, error=said))
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

    def conflicted(self, activation: Activation, failure: Failure) -> Answer:
        conflicts = activation.conflicts + 1
        self.note_try(activation, failure)
        alone = conflicts >= CONFLICTS_BEFORE_ALONE and self.plan.run.alone in (
            None,
            activation.activation_id,
        )
        self.change(
            replace(activation, conflicts=conflicts, blocked=self.blocked(activation), available_at=self.now),
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

    def gave_way(self, event: GaveWay) -> Answer:
        activation = self.activations[event.fence.activation_id]
        if event.backoff is None:
            return self.conflicted(activation, event.failure)
        self.note_try(activation, event.failure)
        self.back_off(activation, event.backoff)
        return Answer(verdict=Verdict.APPLIED)

    def returned(self, event: Returned) -> Answer:
        activation = self.activations[event.fence.activation_id]
        uncalled = replace(activation, nonce=None, tries=activation.tries - 1)
        if event.backoff is not None:
            self.back_off(uncalled, event.backoff)
        else:
            self.change(replace(uncalled, blocked=self.blocked(activation, returned=True)), ActivationMove.RETURN)
        return Answer(verdict=Verdict.APPLIED)

    def lost(self, event: Lost) -> Answer:
        activation = self.activations[event.fence.activation_id]
        self.note_try(activation, event.failure)
        crashes = activation.crashes + 1
        blocked = BLOCKED_SUSPECT if crashes >= event.suspect_at else activation.blocked
        activation = replace(activation, nonce=None, crashes=crashes, blocked=blocked, failure=event.failure)
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
        self.change(replace(activation, blocked=self.blocked(activation)), ActivationMove.DUE)
        return Answer(verdict=Verdict.APPLIED)

    def attempt_due(self) -> Answer:
        due = self.plan.run.next_retry_at
        if due is None or due > self.now:
            return Answer(verdict=Verdict.VOID)
        self.revive()
        return Answer(verdict=Verdict.APPLIED)

    def retry_asked(self, event: RetryAsked) -> Answer:
        run = self.plan.run
        if run.status is not RunStatus.FAILED or event.attempt not in (None, run.attempt):
            return Answer(verdict=Verdict.VOID)
        self.revive()
        return Answer(verdict=Verdict.APPLIED)

"""What comes next: folds a batch of events of one run into one plan.

``fold`` is the one place that says how a run or an activation moves; ``plain`` says the same of the plainest hop. It is given
the locked state and the time, and decides; the stores carry its plan out. The order of the events is that in which they count.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.machine import groups, waiting
from cnstra.orchestrator.machine.events import (
    AttemptDue,
    CancelAsked,
    DeadlineDue,
    Due,
    Event,
    ExpectationDue,
    FailedTry,
    GaveWay,
    Lost,
    PauseAsked,
    ResumeAsked,
    RetryAsked,
    Returned,
    Sent,
    Succeeded,
)
from cnstra.orchestrator.machine.folding import BLOCKED_SUSPECT, Folding, unblocked
from cnstra.orchestrator.machine.plans import Answer, Loaded, Plan, Sweep, Verdict
from cnstra.orchestrator.machine.records import (
    Activation,
    Claimed,
    Compensable,
    Ending,
    Failure,
    NewActivation,
    Run,
    Target,
)
from cnstra.orchestrator.machine.states import (
    ENDED,
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

# What every hop looks at: names of a module are found faster than members of an enumeration.
_RUNNING, _SUCCEED, _APPLIED = ActivationStatus.RUNNING, ActivationMove.SUCCEED, Verdict.APPLIED
_NOT_COMPENSABLE = Compensable.NO

_CONFLICT = "cnstra.ContextConflict"
_DEADLINE = "cnstra.DeadlineExceeded"


def begin(
    *,
    run_id: UUID,
    graph: str,
    targets: Sequence[Target],
    priority: int,
    available_at: datetime | None = None,
    deadline_at: datetime | None = None,
) -> tuple[Run, list[NewActivation]]:
    """A new run, and the activations that its entry signal starts: ready at once, or at ``available_at``, which is to come.

    Raises ``ValueError`` without targets: nothing would ever move such a run.
    """
    if not targets:
        raise ValueError(f"run {run_id}: its entry signal starts nothing, so it would never end")
    later = available_at is not None
    status = ActivationStatus.SCHEDULED if later else ActivationStatus.READY
    created = [
        NewActivation(
            activation_id=number,
            parent=None,
            target=target,
            attempt=1,
            status=status,
            blocked=None if later else unblocked(limited=target.limited),
            available_at=available_at,
        )
        for number, target in enumerate(targets, start=1)
    ]
    run = Run(
        run_id=run_id,
        graph=graph,
        status=RunStatus.WAITING if later else RunStatus.RUNNING,
        outstanding=len(created),
        active=0 if later else len(created),
        last_activation=len(created),
        priority=priority,
        deadline_at=deadline_at,
    )
    return run, created


def fold(run: Run, loaded: Loaded, events: Sequence[Event], now: datetime) -> Plan:
    """The plan that the events come to, of a run and what was loaded of it under its lock, at ``now``."""
    folding = _Events(run, loaded, now)
    for event in events:
        folding.plan.answers.append(folding.apply(event))
        groups.settle(folding)
        folding.settle_status()
    folding.settle_claims()
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
            case CancelAsked():
                return self.cancel_asked(event)
            case PauseAsked():
                return self.pause_asked()
            case ResumeAsked():
                return self.resume_asked()
            case DeadlineDue():
                return self.deadline_due()
            case Sent():
                return waiting.sent(self, event)
            case ExpectationDue():
                return waiting.expectation_due(self, event)

    # -- what workers and supervisors tell of activations ------------------------------------------------------

    def held(self, fence: Claimed) -> Answer | None:
        """None when the claim holds; else why not."""
        activation = self.activations.get(fence.activation_id)
        if activation is None or activation.epoch != fence.epoch or activation.nonce != fence.nonce:
            return Answer(verdict=Verdict.FENCED)
        if activation.status is not _RUNNING:
            return Answer(verdict=Verdict.REPEATED)
        return None

    def succeeded(self, event: Succeeded) -> Answer:
        activation = self.activations[event.fence.activation_id]
        if (event.results or event.scattered) and self.plan.run.ending is None:
            problem = groups.problem_of(self, activation, event)
            if problem is not None:
                return self.refused(activation, problem, event.compensable)
        resolution = resolve(event.changes, self.heads, read=event.version_read)
        if resolution.stale:
            return Answer(verdict=Verdict.STALE, stale=resolution.stale)
        if resolution.conflict:
            slots = ", ".join(sorted(resolution.conflict))
            said = f"another activation wrote {slots} meanwhile; this one runs again"
            return self.conflicted(
                replace(activation, compensable=event.compensable), Failure(error_type=_CONFLICT, error=said)
            )
        version = self.write(activation, resolution.entries) if resolution.entries else None
        if activation.undo:
            self.undone(replace(activation, version_undone=version, failure=None))
            return Answer(verdict=Verdict.APPLIED, version=self.plan.run.context_version)
        outputs = event.outputs
        if event.results and self.plan.run.ending is None:
            outputs = groups.collect(self, activation.path, event.results, outputs)
        self.finish(
            activation,
            _SUCCEED,
            undoable=event.compensable is not _NOT_COMPENSABLE,
            version_read=event.version_read,
            version_written=version,
            outputs=outputs,
            failure=None,
        )
        kept = self.start(activation, event.targets)
        for scattered in event.scattered:
            kept += groups.scatter(self, activation, scattered)
        for expected in event.expected:
            waiting.expect(self, activation, expected)
        return Answer(verdict=_APPLIED, kept=kept, version=self.plan.run.context_version)

    def refused(self, activation: Activation, problem: Failure, compensable: Compensable) -> Answer:
        """The hop breaks a rule that only the run's state could show: that is its own failure, for good."""
        self.note_try(activation, problem)
        failures = activation.failures + 1
        activation = replace(activation, failures=failures, failure=problem, compensable=compensable)
        self.fail(activation, problem, None)
        return Answer(verdict=Verdict.REFUSED, problem=problem)

    def conflicted(self, activation: Activation, failure: Failure) -> Answer:
        conflicts = activation.conflicts + 1
        self.note_try(activation, failure)
        if self.is_last_try(activation):
            self.cancel(replace(activation, conflicts=conflicts))
            return Answer(verdict=Verdict.CONFLICTED)
        alone = conflicts >= CONFLICTS_BEFORE_ALONE and self.plan.run.alone in (
            None,
            activation.activation_id,
        )
        self.change(
            activation,
            ActivationMove.CONFLICT,
            conflicts=conflicts,
            blocked=self.blocked(activation),
            available_at=self.now,
        )
        if alone:
            self.run(alone=activation.activation_id)
        return Answer(verdict=Verdict.CONFLICTED)

    def failed_try(self, event: FailedTry) -> Answer:
        activation = self.activations[event.fence.activation_id]
        self.note_try(activation, event.failure)
        activation = replace(
            activation, failures=activation.failures + 1, failure=event.failure, compensable=event.compensable
        )
        if self.is_last_try(activation):
            self.cancel(activation)
        elif event.retry_after is not None:
            self.back_off(replace(activation, idled=activation.idled + event.retry_after), event.retry_after)
        else:
            self.fail(activation, event.failure, event.revive_after)
        return Answer(verdict=Verdict.APPLIED)

    def gave_way(self, event: GaveWay) -> Answer:
        activation = self.activations[event.fence.activation_id]
        if event.backoff is None:
            return self.conflicted(activation, event.failure)
        self.note_try(activation, event.failure)
        if self.is_last_try(activation):
            self.cancel(replace(activation, failure=event.failure))
        else:
            self.back_off(activation, event.backoff)
        return Answer(verdict=Verdict.APPLIED)

    def returned(self, event: Returned) -> Answer:
        activation = self.activations[event.fence.activation_id]
        uncalled = replace(activation, nonce=None, tries=activation.tries - 1)
        if self.is_last_try(activation):
            self.cancel(uncalled)
        elif event.backoff is not None:
            self.back_off(uncalled, event.backoff)
        else:
            self.change(uncalled, ActivationMove.RETURN, blocked=self.blocked(activation, returned=True))
        return Answer(verdict=Verdict.APPLIED)

    def lost(self, event: Lost) -> Answer:
        activation = self.activations[event.fence.activation_id]
        self.note_try(activation, event.failure)
        crashes = activation.crashes + 1
        blocked = BLOCKED_SUSPECT if crashes >= event.suspect_at else activation.blocked
        activation = replace(activation, nonce=None, crashes=crashes, blocked=blocked, failure=event.failure)
        if self.is_last_try(activation):
            self.cancel(activation)
        else:
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
        self.change(activation, ActivationMove.DUE, blocked=self.blocked(activation))
        return Answer(verdict=Verdict.APPLIED)

    # -- what supervisors and people tell of the run -----------------------------------------------------------

    def attempt_due(self) -> Answer:
        run = self.plan.run
        if run.status is not RunStatus.WAITING or run.next_retry_at is None or run.next_retry_at > self.now:
            return Answer(verdict=Verdict.VOID)
        self.revive()
        return Answer(verdict=Verdict.APPLIED)

    def retry_asked(self, event: RetryAsked) -> Answer:
        run = self.plan.run
        if not run.is_retriable(self.now) or event.attempt not in (None, run.attempt):
            return Answer(verdict=Verdict.VOID)
        self.revive()
        return Answer(verdict=Verdict.APPLIED)

    def pause_asked(self) -> Answer:
        run = self.plan.run
        ends = run.ending is not None and run.status is not RunStatus.COMPENSATING
        if run.status in ENDED or run.status is RunStatus.PAUSED or ends:
            return Answer(verdict=Verdict.VOID)
        self.run(status=move(RUN_MOVES, run.status, RunMove.PAUSE))
        self.is_paused_anew = True
        return Answer(verdict=Verdict.APPLIED)

    def resume_asked(self) -> Answer:
        run = self.plan.run
        if run.status is not RunStatus.PAUSED:
            return Answer(verdict=Verdict.VOID)
        by = RunMove.RESUME if run.ending is None else RunMove.RESUME_UNDOING
        self.run(status=move(RUN_MOVES, run.status, by))
        return Answer(verdict=Verdict.APPLIED)

    def cancel_asked(self, event: CancelAsked) -> Answer:
        run = self.plan.run
        if run.status in ENDED or run.ending is not None:
            return Answer(verdict=Verdict.VOID)
        if event.compensate:
            self.begin_undoing(Ending.CANCELLED)
        else:
            resumed = move(RUN_MOVES, run.status, RunMove.RESUME) if run.status is RunStatus.PAUSED else run.status
            self.run(status=resumed, ending=Ending.CANCELLED, failed=0, next_retry_at=None)
        self.cancel_open()
        return Answer(verdict=Verdict.APPLIED)

    def deadline_due(self) -> Answer:
        run = self.plan.run
        if not run.is_late(self.now) or run.status in ENDED or run.status is RunStatus.PAUSED or run.ending is not None:
            return Answer(verdict=Verdict.VOID)
        problem = f"the run had not ended at its deadline, {run.deadline_at:%Y-%m-%d %H:%M:%S %Z}"
        self.run(failure=run.failure or Failure(error_type=_DEADLINE, error=problem))
        self.begin_undoing(Ending.FAILED)
        self.cancel_open()
        return Answer(verdict=Verdict.APPLIED)

    def cancel_open(self) -> None:
        """What is open and not running ends now; what is running may come to its end."""
        self.take_back_beginnings()
        self.expectations.clear()  # a timeout in the same batch comes too late for them
        self.plan.expectations.clear()
        if self.plan.run.last_group or any(one.status is ActivationStatus.WAITING for one in self.activations.values()):
            self.plan.sweeps.append(Sweep.CLOSE)
        for activation in sorted(self.activations.values(), key=lambda one: one.activation_id):
            if activation.status in OUTSTANDING and activation.status is not ActivationStatus.RUNNING:
                self.cancel(activation)

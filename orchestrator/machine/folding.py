"""One fold under way: the state so far, the plan that grows, and the moves that both are changed by.

Every move of a run or an activation passes through here, along the tables of ``states``, with the run's counts kept in
step. What brings a move about is the business of ``fold``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from cnstra.orchestrator.machine.records import (
    Activation,
    Entry,
    Failure,
    NewActivation,
    Plan,
    Run,
    Sweep,
    Target,
    TryEnded,
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

LONGEST_WAIT = timedelta(days=36_525)
"""Backoffs above a century are cut to it: a policy may ask for more seconds than a calendar has."""


class Folding:
    """The state of one run as the events so far leave it, and the plan that they come to."""

    def __init__(
        self, run: Run, activations: Mapping[int, Activation], heads: Mapping[str, int], now: datetime
    ) -> None:
        self.plan = Plan(run=run)
        self.activations = dict(activations)
        self.heads = dict(heads)
        self.now = now
        self.rejoin = False

    # -- activations -------------------------------------------------------------------------------------------

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
            due = target.due(self.now)
            later = due > self.now
            here = target.here and not later and self.plan.run.alone is None
            if here:
                kept.append(number)
            self.plan.created.append(
                NewActivation(
                    activation_id=number,
                    parent=parent.activation_id,
                    target=target,
                    attempt=self.plan.run.attempt,
                    status=_start_of(here=here, later=later),
                    worker=parent.worker if here else None,
                    nonce=parent.nonce if here else None,
                    blocked=None if here or later else self.blocked(),
                    available_at=due,
                )
            )
            run = self.plan.run
            self.run(last_activation=number, outstanding=run.outstanding + 1, active=run.active + (not later))
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

    def blocked(self, activation: Activation | None = None, *, returned: bool = False) -> str | None:
        """What keeps an activation of the run from being claimed by anybody, as it becomes ready.

        One that is to run alone waits, too, until it is let go; not where it is given back: it had been let go then.
        """
        if activation is not None and activation.blocked == BLOCKED_SUSPECT:
            return BLOCKED_SUSPECT
        alone = self.plan.run.alone
        exempt = returned and activation is not None and alone == activation.activation_id
        return BLOCKED_ALONE if alone is not None and not exempt else None

    def revive(self) -> None:
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


def _start_of(*, here: bool, later: bool) -> ActivationStatus:
    if later:
        return ActivationStatus.SCHEDULED
    return ActivationStatus.RUNNING if here else ActivationStatus.READY


def _wait(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, 0.0), LONGEST_WAIT.total_seconds()))

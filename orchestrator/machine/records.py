"""The state of runs and activations, what happens to them, and what is to be done about it: all of it plain data.

Payloads, outputs and context values are JSON texts here: the core moves them, and never looks inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus
from cnstra.orchestrator.slots import NO_CHANGES, Changes

# -- state ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a try failed: the exception's type by qualified name, its message, and its traceback."""

    error_type: str
    error: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The part of a run's row that transitions read and write.

    ``outstanding`` counts all that can still move the run, ``active`` what of it is ready or running, ``failed`` the
    activations that failed for good in this attempt. ``revive_after`` is the longest wait that the run's policy asked for
    at any of these, in seconds; ``gave_up`` says that it refused at one. ``alone`` is the activation that runs alone
    among the run's writers, after too many conflicts.
    """

    run_id: UUID
    status: RunStatus
    attempt: int = 1
    outstanding: int = 0
    active: int = 0
    failed: int = 0
    last_activation: int = 0
    last_finish: int = 0
    context_version: int = 0
    priority: int = 0
    alone: int | None = None
    revive_after: float | None = None
    gave_up: bool = False
    idled: float = 0.0
    failure: Failure | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_retry_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """The part of an activation's row that transitions read and write.

    ``tries`` counts calls and never starts anew; ``failures`` counts the failed ones of this attempt, ``idled`` the seconds
    of backoff between them: what a policy is asked with. ``nonce`` is None once the claim was taken away.
    """

    activation_id: int
    status: ActivationStatus
    queue: str
    attempt: int = 1
    epoch: int = 0
    nonce: int | None = None
    worker: UUID | None = None
    tries: int = 0
    failures: int = 0
    idled: float = 0.0
    conflicts: int = 0
    crashes: int = 0
    blocked: str | None = None
    available_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    finish: int | None = None
    version_read: int | None = None
    version_written: int | None = None
    outputs: tuple[Output, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A signal that nobody hears: an output of the run. ``ordinal`` is its place among what the handler emitted."""

    ordinal: int
    collateral: str
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A dendrite that hears an emitted signal. ``here`` asks that it be claimed at once by the worker that settles.

    With ``delay`` it is to be ready so long after the settlement, with ``at`` at that time.
    """

    ordinal: int
    neuron: str
    dendrite: str
    collateral: str
    queue: str
    payload: str
    here: bool = False
    delay: timedelta | None = None
    at: datetime | None = None

    def due(self, now: datetime) -> datetime:
        """When it is to be ready; a time that has passed is now."""
        if self.at is not None:
            return max(self.at, now)
        return now if self.delay is None else now + self.delay


@dataclass(frozen=True, slots=True, kw_only=True)
class NewActivation:
    """An activation that begins: for ``target``, in ``status`` ready, scheduled, or (kept by the settling worker) running."""

    activation_id: int
    parent: int | None
    target: Target
    attempt: int
    status: ActivationStatus
    worker: UUID | None = None
    nonce: int | None = None
    blocked: str | None = None
    available_at: datetime


# -- what happens --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The fence of a claim: only its holder can settle the activation."""

    activation_id: int
    epoch: int
    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRef:
    """A blob in a store of contexts of the user's own."""

    place: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The handler returned. ``blob`` is what its changes refer to, where the run's context is kept elsewhere; ``wasted`` is
    what earlier settlements of the same claim had been to refer to.
    """

    fence: Claimed
    targets: tuple[Target, ...] = ()
    outputs: tuple[Output, ...] = ()
    changes: Changes = NO_CHANGES
    version_read: int = 0
    blob: BlobRef | None = None
    wasted: tuple[BlobRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTry:
    """The handler raised, or what it returned was refused.

    ``retry_after`` is the backoff in seconds that its policy decided, None when it failed for good; then ``revive_after``
    is what the run's policy decided, None when the run has none or gives up. ``wasted`` are blobs that were put for nothing.
    """

    fence: Claimed
    failure: Failure
    retry_after: float | None
    revive_after: float | None = None
    wasted: tuple[BlobRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveWay:
    """The handler's own transaction was undone, for no fault of its own, and so it runs again; never as something done.

    Without a ``backoff`` it was in conflict with another activation's writes; with one, in seconds, it met what passes.
    ``wasted`` are blobs that were put for nothing. Where its holder had committed after all, and did not know, the verdict
    is ``REPEATED``.
    """

    fence: Claimed
    failure: Failure
    backoff: float | None = None
    wasted: tuple[BlobRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The worker gives the activation back without having called its handler: to whoever takes it next, or, where
    ``backoff`` is given, not before so many seconds have passed. It is no failed try.
    """

    fence: Claimed
    backoff: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The worker that held the claim is gone; another try follows after ``backoff`` seconds, whatever the policy.

    From ``suspect_at`` losses on it is a poison suspect, to be claimed by a worker that runs nothing beside it. How many
    losses are too many is judged by that worker: it has the code of the run's policy.
    """

    fence: Claimed
    failure: Failure
    backoff: float
    suspect_at: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A scheduled activation's time may have come."""

    activation_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptDue:
    """The time of the run's next attempt may have come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAsked:
    """Somebody asks for the next attempt of a failed run: of one that failed in ``attempt``, where that is given.

    Asked again because a reply was lost, it then begins no second one, also where the first has failed meanwhile.
    """

    attempt: int | None = None


Event = Succeeded | FailedTry | GaveWay | Returned | Lost | Due | AttemptDue | RetryAsked

# -- what is to be done --------------------------------------------------------------------------------------------


class Verdict(Enum):
    """What became of one event."""

    APPLIED = "applied"
    REPEATED = "repeated"
    """It had been applied before, by the same holder: the reply was lost."""
    FENCED = "fenced"
    """The claim is not the holder's any more; nothing was changed."""
    CONFLICTED = "conflicted"
    """Somebody wrote what the hop read; the activation runs again."""
    STALE = "stale"
    """Newer values are to be taken in first; nothing was changed."""
    VOID = "void"
    """The state is not, or no longer, such that this could happen; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The verdict on one event; ``kept`` are the successors that the settling worker holds now."""

    verdict: Verdict
    stale: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One slot as one version of the context wrote it; a text of None removed it."""

    version: int
    slot: str
    text: str | None
    activation_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TryEnded:
    """A call that did not commit: it failed, was in conflict, or its worker was lost."""

    activation_id: int
    try_number: int
    worker: UUID | None
    started_at: datetime | None
    failure: Failure


class Sweep(Enum):
    """A change to many of the run's activations at once, carried out by the store as a set."""

    REVIVE = "every failed activation becomes ready, in the run's new attempt"
    SINGLE_OUT = "ready ones are set aside, so that the one that is alone can run"
    REJOIN = "those that were set aside become ready again"


@dataclass(slots=True, kw_only=True)
class Plan:
    """All that changes in one run, to be carried out in one transaction."""

    run: Run
    changed: dict[int, Activation] = field(default_factory=dict)
    created: list[NewActivation] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    tries: list[TryEnded] = field(default_factory=list)
    sweeps: list[Sweep] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

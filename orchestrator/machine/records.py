"""The state of runs, activations, groups and expectations: plain data.

Payloads, outputs and context values are JSON texts here: the core moves them, and never looks inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """Why a try failed: the exception's type by qualified name, its message, and its traceback."""

    error_type: str
    error: str
    traceback: str | None = None


class Ending(StrEnum):
    """How a run is to end that somebody, or its deadline, ends: what is open is cancelled, what runs may come to its end."""

    CANCELLED = "cancelled"
    FAILED = "failed"


class Compensable(StrEnum):
    """Whether a dendrite has a compensation, and for what: for what it has done, or also for tries that never committed."""

    NO = ""
    DONE = "done"
    UNCERTAIN = "uncertain"


class Run(Struct, frozen=True, kw_only=True, gc=False):
    """The part of a run's row that transitions read and write.

    ``outstanding`` counts all that can still move the run, ``active`` what of it is ready or running, ``failed`` the
    activations that failed for good in this attempt. ``revive_after`` is the longest wait that the run's policy asked for
    at any of these, in seconds; ``gave_up`` says that it refused at one. ``alone`` is the activation that runs alone
    among the run's writers, after too many conflicts.

    ``ending`` is set once no claim of its work begins any more. ``undoable`` counts the activations that are to be
    compensated when the run is undone, and ``uncertain`` those of them that are among the failed; ``undone`` counts what
    has been compensated. ``undo_failure`` is why a compensation failed for good; ``failed`` counts that one, then.
    """

    run_id: UUID
    graph: str
    status: RunStatus
    attempt: int = 1
    outstanding: int = 0
    active: int = 0
    failed: int = 0
    last_activation: int = 0
    last_finish: int = 0
    context_version: int = 0
    last_letter: int = 0
    last_group: int = 0
    priority: int = 0
    alone: int | None = None
    revive_after: float | None = None
    gave_up: bool = False
    idled: float = 0.0
    failure: Failure | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_retry_at: datetime | None = None
    deadline_at: datetime | None = None
    ending: Ending | None = None
    undoable: int = 0
    uncertain: int = 0
    undone: int = 0
    undo_failure: Failure | None = None

    def goes_on_from(self, before: Run) -> bool:
        """Whether no more has changed of it than what the hops of most runs change."""
        return self == replace(
            before,
            status=self.status,
            outstanding=self.outstanding,
            active=self.active,
            last_activation=self.last_activation,
            last_finish=self.last_finish,
            last_group=self.last_group,
            context_version=self.context_version,
            started_at=self.started_at,
            finished_at=self.finished_at,
            undoable=self.undoable,
        )

    def is_late(self, now: datetime) -> bool:
        """Whether its deadline has passed."""
        return self.deadline_at is not None and self.deadline_at <= now

    def is_retriable(self, now: datetime) -> bool:
        """Whether an attempt can follow: of its work before the deadline only, which would end it at once, and for good."""
        return (
            self.status is RunStatus.FAILED and self.failed > 0 and (self.ending is not None or not self.is_late(now))
        )


class Origin(StrEnum):
    """How an activation comes about."""

    EMITTED = ""
    """Its parent emitted its signal."""
    AWAITED = "awaited"
    """Its parent expects its signal from outside."""
    GATHER = "gather"
    """Its parent has scattered a group, whose results it is called with."""


Path = tuple[tuple[int, int], ...]
"""The groups that something is part of, each with the member: the innermost last."""


class Activation(Struct, frozen=True, kw_only=True, gc=False):
    """The part of an activation's row that transitions read and write.

    ``tries`` counts calls and never starts anew; ``failures`` counts the failed ones of this attempt, ``idled`` the seconds
    of backoff between them: what a policy is asked with. ``nonce`` is None once the claim was taken away.

    ``compensable`` is what its dendrite's compensation covers; ``undoable`` says that it is to be compensated when the run is
    undone, and ``undo`` that what is called is the compensation. ``gathers`` is the group whose results it is called with;
    ``handled`` says that it has failed, and that a gather takes that. ``limited`` says that its neuron's limit counts it while
    it runs, so that only claims which hold the limit may have it.
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
    version_undone: int | None = None
    outputs: tuple[Output, ...] = ()
    failure: Failure | None = None
    compensable: Compensable = Compensable.NO
    undoable: bool = False
    undo: bool = False
    path: Path = ()
    gathers: int | None = None
    handled: bool = False
    limited: bool = False


class Output(Struct, frozen=True, kw_only=True, gc=False):
    """A signal that nobody hears: an output of the run, unless a gather has ``collected`` it. ``ordinal`` is its place among
    what the handler emitted.
    """

    ordinal: int
    collateral: str
    payload: str
    collected: bool = False


class Target(Struct, frozen=True, kw_only=True, gc=False):
    """A dendrite that hears an emitted signal. ``here`` asks that it be claimed at once by the worker that settles.

    With ``delay`` it is to be ready so long after the settlement, with ``at`` at that time. ``limited``: its neuron has a limit;
    then the worker that settles never keeps it, as it has to pass that limit first.
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
    compensable: Compensable = Compensable.NO
    limited: bool = False

    @property
    def is_timed(self) -> bool:
        """Whether it may have to wait for its time."""
        return self.delay is not None or self.at is not None

    def due(self, now: datetime) -> datetime:
        """When it is to be ready; a time that has passed is now."""
        if self.at is not None:
            return max(self.at, now)
        return now if self.delay is None else now + self.delay


class NewActivation(Struct, frozen=True, kw_only=True, gc=False):
    """An activation that begins: for ``target``, in ``status`` ready, scheduled, or (kept by the settling worker) running; or
    cancelled, where its run ends. Without a time it is available from when it is kept.
    """

    activation_id: int
    parent: int | None
    target: Target
    attempt: int
    status: ActivationStatus
    worker: UUID | None = None
    nonce: int | None = None
    blocked: str | None = None
    available_at: datetime | None
    origin: Origin = Origin.EMITTED
    path: Path = ()
    gathers: int | None = None

    def begun(self, now: datetime) -> Activation:
        """The activation that it becomes, as it is kept ``now``: unclaimed, or held by the worker that settled its parent."""
        kept = self.status is ActivationStatus.RUNNING
        return Activation(
            activation_id=self.activation_id,
            status=self.status,
            queue=self.target.queue,
            attempt=self.attempt,
            epoch=int(kept),
            nonce=self.nonce,
            worker=self.worker,
            tries=int(kept),
            blocked=self.blocked,
            available_at=now if self.available_at is None else self.available_at,
            started_at=now if kept else None,
            finished_at=now if self.status is ActivationStatus.CANCELLED else None,
            compensable=self.target.compensable,
            path=self.path,
            gathers=self.gathers,
            limited=self.target.limited,
        )


class Claimed(Struct, frozen=True, kw_only=True, gc=False):
    """The fence of a claim: only its holder can settle the activation."""

    activation_id: int
    epoch: int
    nonce: int


class BlobRef(Struct, frozen=True, kw_only=True, gc=False):
    """A blob in a store of contexts of the user's own."""

    place: str
    key: str


class Late(Struct, frozen=True, kw_only=True, gc=False):
    """What is emitted when an expected signal has not come in time. ``results`` are the signals that a gather may collect; each
    stands among the targets or the outputs, too.
    """

    targets: tuple[Target, ...] = ()
    outputs: tuple[Output, ...] = ()
    results: tuple[Output, ...] = ()


NOTHING: Final = Late()


class Expectation(Struct, frozen=True, kw_only=True, gc=False):
    """An open wait for a signal from outside: ``activations`` are what it starts. Its id is the first one's."""

    expectation_id: int
    collateral: str
    key: str | None
    activations: tuple[int, ...]
    expires_at: datetime | None
    late: Late


class Letter(Struct, frozen=True, kw_only=True, gc=False):
    """A signal that was sent and that nobody has expected yet: to the run, as ``number``, or by ``key``."""

    number: int
    collateral: str
    payload: str
    key: str | None = None


class Gathering(Struct, frozen=True, kw_only=True, gc=False):
    """A gather that waits for its group: the activation, the collateral that it collects, and whether it takes failures."""

    activation_id: int
    neuron: str
    collateral: str
    failures: bool


class Group(Struct, frozen=True, kw_only=True, gc=False):
    """A scatter under way. ``started`` members have begun, the first ones; of ``running`` something is outstanding; ``ended``
    ones have given what they give. ``closed``: its gathers have been called, or never will be.
    """

    group_id: int
    parent: int
    ordinal: int
    collateral: str
    size: int
    limit: int | None
    path: Path
    targets: tuple[Target, ...]
    gatherings: tuple[Gathering, ...]
    started: int = 0
    running: int = 0
    ended: int = 0
    closed: bool = False

    @property
    def takes_failures(self) -> bool:
        """Whether a member that has failed has ended: all who gather take that."""
        for gathering in self.gatherings:
            if not gathering.failures:
                return False
        return bool(self.gatherings)


class Member(Struct, frozen=True, kw_only=True, gc=False):
    """A member of a group that has begun: how much of it is outstanding, how much has failed, and whether it has ended.

    ``gave`` are the collaterals on which it has given a result; ``results`` and ``failure`` are what this plan adds.
    ``payload`` is what was scattered, where it is needed later.
    """

    group_id: int
    member: int
    outstanding: int = 0
    failed: int = 0
    ended: bool = False
    gave: frozenset[str] = frozenset()
    results: Mapping[str, str] = field(default_factory=dict)
    failure: Failure | None = None
    payload: str | None = None

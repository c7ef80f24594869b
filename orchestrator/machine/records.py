"""The state of runs and activations, what happens to them, and what is to be done about it: all of it plain data.

Payloads, outputs and context values are JSON texts here: the core moves them, and never looks inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum
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


class Ending(StrEnum):
    """How a run is to end that somebody, or its deadline, ends: what is open is cancelled, what runs may come to its end."""

    CANCELLED = "cancelled"
    FAILED = "failed"


class Compensable(StrEnum):
    """Whether a dendrite has a compensation, and for what: for what it has done, or also for tries that never committed."""

    NO = ""
    DONE = "done"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A signal that nobody hears: an output of the run, unless a gather has ``collected`` it. ``ordinal`` is its place among
    what the handler emitted.
    """

    ordinal: int
    collateral: str
    payload: str
    collected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
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

    def due(self, now: datetime) -> datetime:
        """When it is to be ready; a time that has passed is now."""
        if self.at is not None:
            return max(self.at, now)
        return now if self.delay is None else now + self.delay


@dataclass(frozen=True, slots=True, kw_only=True)
class NewActivation:
    """An activation that begins: for ``target``, in ``status`` ready, scheduled, or (kept by the settling worker) running; or
    cancelled, where its run ends.
    """

    activation_id: int
    parent: int | None
    target: Target
    attempt: int
    status: ActivationStatus
    worker: UUID | None = None
    nonce: int | None = None
    blocked: str | None = None
    available_at: datetime
    origin: Origin = Origin.EMITTED
    path: Path = ()
    gathers: int | None = None


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
class Late:
    """What is emitted when an expected signal has not come in time."""

    targets: tuple[Target, ...] = ()
    outputs: tuple[Output, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A hop's wish that its run waits for a signal from outside, which is to start ``targets``.

    Without a ``timeout`` it waits without end. ``key`` is by which the signal may be sent, without knowing the run.
    """

    collateral: str
    targets: tuple[Target, ...]
    key: str | None = None
    timeout: timedelta | None = None
    late: Late = Late()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gatherer:
    """Who is called with the results of a group: the signals of its members on ``target``'s collateral.

    ``named`` says that it names the scattered collateral, so that it can belong to no other. With ``failures`` what has
    failed in a member stands in that one's place.
    """

    target: Target
    named: bool = False
    failures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scattered:
    """A fan-out as one group: each payload starts ``targets``, at most ``limit`` members at once."""

    ordinal: int
    collateral: str
    payloads: tuple[str, ...]
    targets: tuple[Target, ...]
    gatherers: tuple[Gatherer, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The handler returned, or the compensation did. ``blob`` is what its changes refer to, where the run's context is kept
    elsewhere; ``wasted`` is what earlier settlements of the same claim had been to refer to. ``compensable`` is what the
    compensation covers of the dendrite that was called, which may know more than the one that started it. ``results`` are
    the emitted signals that a gather may collect; each stands among the targets or the outputs, too.
    """

    fence: Claimed
    targets: tuple[Target, ...] = ()
    outputs: tuple[Output, ...] = ()
    expected: tuple[Expected, ...] = ()
    scattered: tuple[Scattered, ...] = ()
    results: tuple[Output, ...] = ()
    changes: Changes = NO_CHANGES
    version_read: int = 0
    blob: BlobRef | None = None
    wasted: tuple[BlobRef, ...] = ()
    compensable: Compensable = Compensable.NO


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
    compensable: Compensable = Compensable.NO


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """Somebody asks for the run's end: what is open of it is cancelled, and, with ``compensate``, what it has done is undone."""

    compensate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseAsked:
    """Somebody asks that nothing of the run be claimed until further notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeAsked:
    """Somebody asks that a paused run go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineDue:
    """The run's deadline may have passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A signal is sent to the run. With ``key`` it is for an expectation that has that one, and for no other.

    The same ``idempotency_key`` again is the same signal, and sent once.
    """

    collateral: str
    payload: str
    idempotency_key: str
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationDue:
    """The time of an expectation may be over."""

    expectation_id: int


Event = (
    Succeeded
    | FailedTry
    | GaveWay
    | Returned
    | Lost
    | Due
    | AttemptDue
    | RetryAsked
    | CancelAsked
    | PauseAsked
    | ResumeAsked
    | DeadlineDue
    | Sent
    | ExpectationDue
)

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
    REFUSED = "refused"
    """It breaks a rule that only the run's state could show: the hop has failed for good, the signal was not taken."""


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
    """A call that has ended: it failed, was in conflict, its worker was lost; or, without a ``failure``, it is being undone.
    ``undo``: it was a compensation's.
    """

    activation_id: int
    try_number: int
    worker: UUID | None
    started_at: datetime | None
    failure: Failure | None
    undo: bool = False


class Sweep(Enum):
    """A change to many of the run's activations at once, carried out by the store as a set."""

    REVIVE = "every failed activation becomes ready, in the run's new attempt"
    UNDO = "of what is to be undone, the one that finished last becomes ready for its compensation"
    HOLD = "ready ones are set aside, as the run is paused"
    LET_GO = "those that were set aside while the run was paused become ready again"
    CLOSE = "expectations are over, and gathers whose groups can never end are cancelled"
    SINGLE_OUT = "ready ones are set aside, so that the one that is alone can run"
    REJOIN = "those that were set aside become ready again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """An open wait for a signal from outside: ``activations`` are what it starts. Its id is the first one's."""

    expectation_id: int
    collateral: str
    key: str | None
    activations: tuple[int, ...]
    expires_at: datetime | None
    late: Late


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A signal that was sent and that nobody has expected yet: to the run, as ``number``, or by ``key``."""

    number: int
    collateral: str
    payload: str
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLetter:
    """A signal that was sent to the run, to be kept; ``taken_by`` is the expectation that it feeds at once."""

    number: int
    sent: Sent
    taken_by: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """A gather that waits for its group: the activation, the collateral that it collects, and whether it takes failures."""

    activation_id: int
    neuron: str
    collateral: str
    failures: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
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
        return bool(self.gatherings) and all(gathering.failures for gathering in self.gatherings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A gather whose group has ended: the store puts the results together, and gives them to it as its payload."""

    gathering: Gathering
    group_id: int


@dataclass(slots=True, kw_only=True)
class Loaded:
    """What there is of a run, beside its row, that events may need; as it is under the run's lock.

    ``activations`` holds those that the events name, those that wait for what the events bring, and all that are open where
    an event ends the run. ``heads`` is the newest version of each of the context's slots (negative: removed).
    ``expectations`` and ``letters`` are those of the collaterals that the events are about, the oldest first; ``sent`` the
    idempotency keys among the events' that are known already, and whether they stand for the same signal. ``groups`` and
    ``members`` are those that the activations are part of, ``pending`` the payloads of members that may begin.
    """

    activations: dict[int, Activation] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    expectations: list[Expectation] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    sent: dict[str, bool] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    members: dict[tuple[int, int], Member] = field(default_factory=dict)
    pending: dict[tuple[int, int], str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Plan:
    """All that changes in one run, to be carried out in one transaction.

    ``delivered`` are payloads of activations that waited for them. ``groups`` and ``members`` are new or changed; a new group
    is one whose id is above those that were loaded: it stands in ``scattered``, with the members that begin later.
    """

    run: Run
    changed: dict[int, Activation] = field(default_factory=dict)
    created: list[NewActivation] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    tries: list[TryEnded] = field(default_factory=list)
    sweeps: list[Sweep] = field(default_factory=list)
    delivered: dict[int, str] = field(default_factory=dict)
    expectations: list[Expectation] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    letters: list[NewLetter] = field(default_factory=list)
    taken: list[tuple[Letter, int]] = field(default_factory=list)
    scattered: list[Group] = field(default_factory=list)
    groups: dict[int, Group] = field(default_factory=dict)
    new_members: list[Member] = field(default_factory=list)
    members: dict[tuple[int, int], Member] = field(default_factory=dict)
    fired: list[Fired] = field(default_factory=list)
    abandoned: list[Path] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

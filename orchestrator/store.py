"""What a store of runs can do: the port between the rules and the place where state is kept.

Every operation is one transaction: it happens whole or not at all, and may be repeated safely when its reply was lost. An
adapter gives each as an ``Operation``; a runner of the caller's colour (blocking or async) carries it out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable
from uuid import UUID

from msgspec import Struct, field

from cnstra.orchestrator.errors import SealError
from cnstra.orchestrator.machine.events import Event
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Activation, Claimed, Failure, Output, Run, Target
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.retention import Rules
from cnstra.orchestrator.slots import Slot, Snapshot

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Operation(Protocol[T_co]):
    """One transaction that has not begun yet; opaque to all but the store that made it."""

    @property
    def name(self) -> str:
        """What it does, for errors and logs."""
        ...

    def result_type(self) -> T_co:
        """Never called: ties the operation to the type of its result."""
        ...


class Runner(Protocol):
    """Carries out operations, blocking."""

    def run(self, operation: Operation[T], /) -> T: ...


class AsyncRunner(Protocol):
    """Carries out operations, awaited."""

    def run(self, operation: Operation[T], /) -> Awaitable[T]: ...


# -- submit --------------------------------------------------------------------------------------------------------


class Submission(Struct, frozen=True, kw_only=True, gc=False):
    """A run to be kept.

    ``place`` is where the run's context is kept, for as long as there is the run: None is beside it; else it names a store
    of the user's own, and what is kept here of a value is a reference. ``cloned_from`` is the run that it repeats.
    """

    run_id: UUID
    graph: str
    graph_version: str
    pinned: bool
    collateral: str
    payload: str
    targets: tuple[Target, ...]
    priority: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    policy: Mapping[str, Any] | None = None
    delay: timedelta | None = None
    at: datetime | None = None
    place: str | None = None
    deadline: timedelta | datetime | None = None
    cloned_from: UUID | None = None

    @property
    def deadline_after(self) -> timedelta | None:
        """Its deadline, where it is given as a time to take."""
        return self.deadline if isinstance(self.deadline, timedelta) else None

    @property
    def timed(self) -> bool:
        """Whether it has to do with the time of the submit."""
        return any(given is not None for given in (self.delay, self.at, self.deadline))

    def begins_at(self, now: datetime) -> datetime | None:
        """When its first activations are to be ready, where that is yet to come; None is at once."""
        at = self.at if self.delay is None else now + self.delay
        return None if at is None or at <= now else at

    def ends_by(self, now: datetime) -> datetime | None:
        """Its deadline, which counts from the submit where it is given as a time to take."""
        return self.deadline if self.deadline is None or isinstance(self.deadline, datetime) else now + self.deadline


class Original(Struct, frozen=True, kw_only=True, gc=False):
    """What a run was submitted with, for a clone of it. ``deadline`` is a time to take; a moment is the original's alone."""

    graph: str
    collateral: str
    payload: str
    priority: int
    tags: Mapping[str, str]
    policy: Mapping[str, Any] | None
    place: str | None
    deadline: timedelta | None


class Accepted(Struct, frozen=True, kw_only=True, gc=False):
    """``run_id`` is kept. ``new`` is False when an earlier submit under the same id or key had made it; ``same`` then says
    whether it carried the same signal: where it did not, the whole batch is refused."""

    run_id: UUID
    new: bool
    same: bool = True


# -- claim and settle ----------------------------------------------------------------------------------------------


class ClaimRequest(Struct, frozen=True, kw_only=True, gc=False):
    """Who claims, what it can run, and how much. ``suspects`` asks for poison suspects, and for nothing else.

    ``places`` are the stores of contexts, beside that of runs, that the worker can reach. ``compensations`` are the dendrites,
    by neuron and collateral, whose compensation it has. ``limits`` says how many activations of a neuron may run at once, over
    all workers; a neuron that it does not name has no limit.
    """

    worker: UUID
    nonce: int
    graph: str
    graph_version: str
    queues: tuple[str, ...]
    dendrites: tuple[tuple[str, str], ...]
    limit: int
    suspects: bool = False
    places: tuple[str, ...] = ()
    compensations: tuple[tuple[str, str], ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)


class Foothold(Struct, frozen=True, kw_only=True, gc=False):
    """What a worker knows of the run whose only outstanding activation it holds, and of that one: they are so since that began,
    for as long as the store finds its ``mark`` on the run's row."""

    run: Run
    activation: Activation
    mark: str


class Work(Struct, frozen=True, kw_only=True, gc=False):
    """A claimed activation, with all that its call needs. Times since other moments are in seconds, by the store's clock.

    ``run_elapsed`` and ``run_idled`` count from the run's start, ``elapsed`` and ``idled`` from the first try of this
    attempt: what policies are asked with. ``policy`` is the run's own, as data. ``place`` is where its context is kept.
    ``undo`` says that the compensation is to be called, ``emitted`` what the call that it undoes had emitted. ``deadline`` is
    the run's. ``progress`` is the text of what the activation's handler reported last, in whichever try. With a ``foothold``
    its end may be settled without another look at the run. ``unopened`` is why something of it, which is sealed, could not be
    opened here; it cannot be called then.
    """

    run_id: UUID
    fence: Claimed
    neuron: str
    collateral: str
    queue: str
    payload: str
    attempt: int
    try_number: int
    failures: int
    elapsed: float
    idled: float
    crashes: int
    run_elapsed: float
    run_idled: float
    policy: Mapping[str, Any] | None
    snapshot: Snapshot
    place: str | None = None
    deadline: datetime | None = None
    undo: bool = False
    emitted: tuple[Output, ...] = ()
    progress: str | None = None
    foothold: Foothold | None = None
    unopened: SealError | None = None

    @property
    def activation_id(self) -> int:
        return self.fence.activation_id

    def __str__(self) -> str:
        what = f"the compensation of {self.neuron}" if self.undo else self.neuron
        return f"run {self.run_id}, activation {self.fence.activation_id} ({what} on {self.collateral})"


class Claims(list[Work]):
    """What a claim was given. ``missed`` says that somebody else held the limit of a neuron at that moment, so that work of it
    was passed over: it is worth asking again soon.
    """

    missed: bool = False


class RunEvent(Struct, frozen=True, kw_only=True, gc=False):
    """Something that happens to one run. ``work`` is the claim whose end it is, where its worker would keep a successor: that
    one is made of it, as far as can be, instead of being read.
    """

    run_id: UUID
    event: Event
    work: Work | None = None


class Applied(Struct, frozen=True, kw_only=True, gc=False):
    """What became of one event. ``newest`` are the stale slots' newest values, ``kept`` the successors that the
    settling worker holds now, ``problem`` is why a hop was refused, ``unopened`` why the newest values could not be opened."""

    verdict: Verdict
    newest: Mapping[str, Slot] = field(default_factory=dict)
    kept: tuple[Work, ...] = ()
    problem: Failure | None = None
    unopened: SealError | None = None


class AppliedBatch(Struct, frozen=True, kw_only=True, gc=False):
    """The answers, in the order of the events, and the queues to ring for what became ready.

    ``left`` are the places of events that were not settled, as their footholds gave way: they have no answer, nothing of them
    was written, and they are to be applied again, without footholds.
    """

    answers: tuple[Applied, ...]
    rings: tuple[Ring, ...] = ()
    left: tuple[int, ...] = ()


class Posting(Struct, frozen=True, kw_only=True, gc=False):
    """A signal that is sent by key to whichever run of a graph expects it, or to the next one that does.

    The same ``idempotency_key`` again, for the same key, is the same signal, and sent once.
    """

    graph: str
    key: str
    collateral: str
    payload: str
    idempotency_key: str


class Posted(Struct, frozen=True, kw_only=True, gc=False):
    """What became of a signal that was sent by key: the run that took it, or None while nobody has.

    ``same`` is False when the idempotency key stands for another signal; then nothing was sent.
    """

    run_id: UUID | None
    same: bool = True
    rings: tuple[Ring, ...] = ()


# -- workers and supervision ---------------------------------------------------------------------------------------


class WorkerInfo(Struct, frozen=True, kw_only=True, gc=False):
    """One incarnation of a worker process. ``limits`` are those of its code, by neuron."""

    worker: UUID
    host: str
    pid: int
    graph: str
    graph_version: str
    queues: tuple[str, ...]
    dendrites: tuple[tuple[str, str], ...]
    lease: timedelta
    places: tuple[str, ...] = ()
    compensations: tuple[tuple[str, str], ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)


READMITTED_AT_ONCE = 500
"""How many activations that nobody knew become claimable in one transaction."""


class HeldClaim(Struct, frozen=True, kw_only=True, gc=False):
    """A claim that the store believes a worker to hold. ``ending`` says that its run is being ended: nobody waits for what
    its handler does any more."""

    run_id: UUID
    fence: Claimed
    ending: bool = False


class Report(Struct, frozen=True, kw_only=True, gc=False):
    """What the holder of a claim reports of its handler's progress, as a JSON text."""

    run_id: UUID
    fence: Claimed
    progress: str


class LostClaim(Struct, frozen=True, kw_only=True, gc=False):
    """A claim whose worker's lease has run out."""

    run_id: UUID
    fence: Claimed
    worker: UUID
    host: str
    pid: int


class Findings(Struct, frozen=True, kw_only=True, gc=False):
    """What a supervisor's look around found to be done. ``elected`` is False when another supervises. ``limited`` says that work
    of neurons with a limit is ready."""

    elected: bool
    due: tuple[tuple[UUID, int], ...] = ()
    attempts_due: tuple[UUID, ...] = ()
    deadlines_due: tuple[UUID, ...] = ()
    expectations_due: tuple[tuple[UUID, int], ...] = ()
    workers_lost: bool = False
    suspects: bool = False
    unclaimed: tuple[Ring, ...] = ()
    limited: bool = False


# -- retention ------------------------------------------------------------------------------------------------------


class Portion(Struct, frozen=True, kw_only=True, gc=False):
    """How much one transaction may delete: so many runs, and among them so many rows, though always one run whole."""

    runs: int = 200
    rows: int = 5_000


class Pruned(Struct, frozen=True, kw_only=True, gc=False):
    """The runs that a transaction has deleted, with the statuses that they had. ``more`` says that others may follow."""

    runs: tuple[tuple[UUID, str], ...]
    more: bool


class Expired(Struct, frozen=True, kw_only=True, gc=False):
    """What a transaction has deleted: by the rules runs, and contexts of runs that stay; how many contexts of no run, whose own
    time had come; and how many signals that were sent by key."""

    runs: tuple[UUID, ...]
    contexts: tuple[UUID, ...]
    free_contexts: int = 0
    sent: int = 0
    more: bool


# -- reading -------------------------------------------------------------------------------------------------------


Tag = tuple[str, str | None]
"""A tag to look for: its key, and its value, or None for any."""


class Reference(Struct, frozen=True, kw_only=True, gc=False):
    """A slot as one version of a context wrote it, where contexts are kept elsewhere; a text of None removed it."""

    version: int
    slot: str
    text: str | None


class RunFilter(Struct, frozen=True, kw_only=True, gc=False):
    """Which runs to list, newest first."""

    status: str | None = None
    tag: Tag | None = None
    since: datetime | None = None
    limit: int = 100


class RunChoice(Struct, frozen=True, kw_only=True, gc=False):
    """Which runs something is to be done to: of one graph, with one tag, submitted from ``since`` on, or ``before`` a time."""

    graph: str | None = None
    tag: Tag | None = None
    since: datetime | None = None
    before: datetime | None = None


class Search(Struct, frozen=True, kw_only=True, gc=False):
    """Which runs a mirror takes up: those that have not ended, and those that ended from ``ended_since`` on (None: none of
    these). A ``status`` is the one that they have. ``from_id`` passes over older ids; a page begins behind ``after``.
    """

    which: RunChoice
    status: str | None = None
    ended_since: datetime | None = None
    from_id: UUID | None = None
    after: UUID | None = None
    limit: int = 1_000


class Look(Struct, frozen=True, kw_only=True, gc=False):
    """What one look of a mirror asks: which of these runs have moved on from a version, and which others there are.

    With ``among`` only those of the runs count that fit.
    """

    versions: Mapping[UUID, int] = field(default_factory=dict)
    among: RunChoice | None = None
    search: Search | None = None


class Sighting(Struct, frozen=True, kw_only=True, gc=False):
    """How a run stands: the version of its context, where that is kept, and whether the run has ended."""

    run_id: UUID
    version: int
    place: str | None
    ended: bool


class Sightings(Struct, frozen=True, kw_only=True, gc=False):
    """What a look saw: runs that moved on, runs that are gone (or do not fit), runs that the search found, in the order of their
    ids. All that was committed before ``at``, a moment of the store's clock, is in it."""

    at: datetime
    moved: tuple[Sighting, ...] = ()
    gone: tuple[UUID, ...] = ()
    found: tuple[Sighting, ...] = ()


class Operations(Protocol):
    """All that the rest of the system asks of a store of runs."""

    def check_schema(self) -> Operation[None]:
        """Raises ``SchemaError`` when the store was made by an older release, or not at all."""
        ...

    # clients

    def submit(self, submissions: Sequence[Submission]) -> Operation[tuple[list[Accepted], tuple[Ring, ...]]]:
        """Keep all of these runs, or none. The same run id, or idempotency key, again is the same run.

        Raises ``SubmitError``, and keeps none, where an id or a key stands for another signal.
        """
        ...

    def run_row(self, run_id: UUID) -> Operation[Mapping[str, Any] | None]:
        """The run's row of the view ``cnstra.runs``."""
        ...

    def run_status(self, run_id: UUID) -> Operation[str | None]: ...

    def current_status(self, run_id: UUID) -> Operation[str | None]:
        """The same for who waits for it to change: never from a replica, which learns of that later."""
        ...

    def run_rows(self, which: RunFilter) -> Operation[list[Mapping[str, Any]]]: ...

    def activation_rows(self, run_id: UUID) -> Operation[list[Mapping[str, Any]]]:
        """The run's rows of the view ``cnstra.activations``."""
        ...

    def context_at(self, run_id: UUID, version: int | None) -> Operation[Snapshot | None]:
        """The run's context at a version (None: the newest). None when the run does not exist, or had not that version."""
        ...

    def history(self, run_id: UUID, after: int = 0) -> Operation[list[Mapping[str, Any]]]:
        """The run's rows of the view ``cnstra.context_history`` after a version, in order."""
        ...

    def references(self, run_id: UUID) -> Operation[list[Reference]]:
        """What every version of the run's context wrote, where that is kept elsewhere: references to blobs."""
        ...

    def failed_runs(self, which: RunChoice, after: UUID | None, limit: int) -> Operation[list[UUID]]:
        """Failed runs that can be retried, in the order of their ids, from the one behind ``after`` on."""
        ...

    def open_runs(
        self, which: RunChoice, statuses: Sequence[str] | None, after: UUID | None, limit: int
    ) -> Operation[list[UUID]]:
        """Runs that nothing has begun to end, in these statuses or in any, likewise."""
        ...

    def original(self, run_id: UUID) -> Operation[Original | None]:
        """What a run was submitted with."""
        ...

    def entries(self, submissions: Sequence[Submission]) -> Operation[list[tuple[UUID, str, str] | None]]:
        """The runs that these ids and idempotency keys stand for already: each one's id, entry collateral and payload."""
        ...

    def letter(self, run_id: UUID, idempotency_key: str) -> Operation[tuple[str, str] | None]:
        """The collateral and the payload of what was sent to a run under an idempotency key."""
        ...

    def posted(self, graph: str, key: str, idempotency_key: str) -> Operation[tuple[str, str] | None]:
        """The same of what was sent by key."""
        ...

    # mirrors

    def sight(self, look: Look) -> Operation[Sightings]:
        """How runs stand, seen at one moment. Runs that have ended count as moved, whatever their version."""
        ...

    def contexts_of(self, run_ids: Sequence[UUID]) -> Operation[Mapping[UUID, Snapshot]]:
        """The newest contexts of these runs, without their places; none of a run whose context was never written, or has gone."""
        ...

    # workers

    def register(self, worker: WorkerInfo, limit: int = READMITTED_AT_ONCE) -> Operation[bool]:
        """Begin a worker's lease, and readmit the first of what nobody knew; whether there may be more: see ``readmit``."""
        ...

    def readmit(self, worker: WorkerInfo, limit: int = READMITTED_AT_ONCE) -> Operation[bool]:
        """Activations that nobody knew and this registered worker knows become claimable, ``limit`` of them; whether there
        may be more."""
        ...

    def renew(self, worker: UUID) -> Operation[list[HeldClaim] | None]:
        """Extend the worker's lease; None when it had been taken for lost. Answers the claims it is believed to hold."""
        ...

    def leave(self, worker: UUID) -> Operation[None]:
        """End the worker's lease; what it still holds becomes ready at the next sweep."""
        ...

    def claim(self, request: ClaimRequest) -> Operation[Claims]:
        """Claim ready activations by priority, then age. Repeated with the same nonce it answers the same claims.

        Of a neuron with a limit never so many that more would run than the limit allows, counted over all workers.
        """
        ...

    def suspects_wait(self, request: ClaimRequest) -> Operation[bool]:
        """Whether a claim for suspects would find one."""
        ...

    def report(self, reports: Sequence[Report]) -> Operation[list[Report]]:
        """Keep progress, one report a claim, where the claim still stands; answers those that were refused."""
        ...

    def apply(self, events: Sequence[RunEvent]) -> Operation[AppliedBatch]:
        """Let the machine decide on the events, and carry its plans out in one transaction. What it leaves is not in it."""
        ...

    def post(self, posting: Posting) -> Operation[Posted]:
        """Send a signal by key: to the oldest run that expects it, or keep it for the next one that does."""
        ...

    # supervisors

    def look(self, worker: UUID, lease: timedelta, unclaimed_after: timedelta, limit: int) -> Operation[Findings]:
        """Supervise for ``lease`` longer, if nobody else does, and find what is to be done."""
        ...

    def lost_claims(self, limit: int) -> Operation[list[LostClaim]]:
        """Take workers whose lease has run out for lost, and answer claims of theirs."""
        ...

    def set_unknown_aside(self, unclaimed_after: timedelta, limit: int) -> Operation[int]:
        """Take ready activations that no live worker of their graph, queue and version knows out of the way; how many.

        The first ``limit`` of each queue are looked at: with so many taken away there may be more.
        """
        ...

    def lift_limits(self, limit: int) -> Operation[tuple[Ring, ...]]:
        """Ready activations that were begun under a limit that no live worker has any more have none, either: those of neurons
        that a live worker knows, and all who do, without one. At most ``limit`` of a neuron; the queues to ring.
        """
        ...

    # retention

    def now(self) -> Operation[datetime]:
        """The store's time."""
        ...

    def retention(self) -> Operation[Rules]:
        """How long what has ended is kept, by rule; None is for ever."""
        ...

    def set_retention(self, rules: Rules) -> Operation[None]:
        """Change rules. When it has returned, nothing goes by the old ones any more."""
        ...

    def count_ended(self, statuses: Sequence[str], before: datetime) -> Operation[Mapping[str, int]]:
        """How many runs ended in these statuses before a moment, by status."""
        ...

    def prune(self, statuses: Sequence[str], before: datetime, portion: Portion) -> Operation[Pruned]:
        """Delete runs that ended in these statuses before a moment, status by status, the longest ended first.

        Each with all that belongs to it: activations, tries, context, idempotency key. Runs that somebody else is changing
        are passed over.
        """
        ...

    def expire(self, portion: Portion) -> Operation[Expired]:
        """Delete what the rules no longer keep: runs, and contexts of runs that are final. Others' are passed over."""
        ...

    # contexts that are kept elsewhere

    def litter(self, place: str, after: timedelta, limit: int) -> Operation[list[str]]:
        """Keys of blobs in the store ``place`` that no run refers to, and none ever will: to be deleted there.

        Only those that were found to be so ``after`` so long a time, or before.
        """
        ...

    def litter_gone(self, place: str, keys: Sequence[str]) -> Operation[None]:
        """These are deleted there; what is kept of them here goes, too."""
        ...


class Store(Operations, Runner, Protocol):
    """A store of runs for blocking callers.

    ``run`` raises ``StoreUnavailable`` when the store stays away, and ``DataRefused`` for data that it cannot hold.
    """

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        ...


class AsyncStore(Operations, AsyncRunner, Protocol):
    """The same store for async callers."""

    async def close(self) -> None:
        """Let go of all connections. Idempotent."""
        ...


# -- hops that share their transaction with the handler --------------------------------------------------------------


class Step(Protocol):
    """The open transaction of one claim: the handler's statements on ``connection``, and then the hop's settlement.

    One face for both colours: of a sync handler's, nothing here ever suspends.
    """

    @property
    def connection(self) -> Any:
        """What the handler is given, until it has ended."""
        ...

    @property
    def ended_by_hand(self) -> Exception | None:
        """What to say of a handler that has ended the transaction itself."""
        ...

    def passes(self, error: BaseException) -> bool:
        """Whether what the handler raised only says that its transaction was undone, and is to be done again."""
        ...

    async def settle(self, happening: RunEvent) -> AppliedBatch:
        """Settle in this transaction; what is not ``APPLIED`` leaves no trace in it. The handler has ended.

        Raises ``TransactionError`` where the transaction cannot be committed any more, ``DataRefused``,
        ``StoreUnavailable`` for what passes, and what else the store says of the handler's own data.
        """
        ...

    async def commit(self) -> None:
        """Commit what was applied. Raises as ``settle``; after ``StoreUnavailable`` nobody knows whether it is committed."""
        ...

    async def undo(self) -> None:
        """Roll all of it back. Raises nothing."""
        ...

    async def discard(self) -> None:
        """The same for one that is in an unknown state: without a word to the store, whose connection ends."""
        ...


class Transactions(Protocol):
    """Begins such transactions, for one worker process."""

    async def begin(self, work: Work, worker: UUID, *, asynchronous: bool) -> Step:
        """The transaction of a claim of ``worker``. Raises ``StoreUnavailable`` when no connection is to be had soon."""
        ...

    def close(self) -> None:
        """Let go of the connections of sync handlers. Idempotent."""
        ...

    async def close_async(self) -> None:
        """Let go of those of async handlers, on their event loop. Idempotent."""
        ...


@runtime_checkable
class Transactional(Protocol):
    """A store of runs in whose transactions handlers can take part: ``transaction=True``. It need not be one."""

    def transactions(self, limit: int) -> Transactions:
        """``limit`` of each colour at most are open at a time."""
        ...

"""The port between the rules and the place where state is kept: every operation is one transaction.

It happens whole or not at all, and may be repeated safely when its reply was lost. An adapter gives each as an ``Operation``; a
runner of the caller's colour (blocking or async) carries it out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from cnstra.orchestrator.ports import Foresee, Ring
from cnstra.orchestrator.retention import Rules
from cnstra.orchestrator.slots import Snapshot
from cnstra.orchestrator.store.claims import ClaimRequest, Claims
from cnstra.orchestrator.store.reading import Look, Reference, RunChoice, RunFilter, Sightings
from cnstra.orchestrator.store.retention import Expired, Portion, Pruned
from cnstra.orchestrator.store.settling import AppliedBatch, Posted, Posting, RunEvent
from cnstra.orchestrator.store.submissions import Accepted, Original, Submission
from cnstra.orchestrator.store.supervision import READMITTED_AT_ONCE, Findings, HeldClaim, LostClaim, Report, WorkerInfo

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


class Operations(Protocol):
    """All that the rest of the system asks of a store of runs."""

    def check_schema(self) -> Operation[None]:
        """Raises ``SchemaError`` when the store was made by an older release, or not at all."""
        ...

    # clients

    def submit(
        self, submissions: Sequence[Submission], foresee: Foresee | None = None
    ) -> Operation[tuple[list[Accepted], tuple[Ring, ...]]]:
        """Keep all of these runs, or none. The same run id, or idempotency key, again is the same run.

        ``foresee`` may be told, while the store is at work, of the doorbells that its answer will most likely have.

        Raises ``SubmitError``, and keeps none, where an id or a key stands for another signal.
        """
        ...

    def run_row(self, run_id: UUID) -> Operation[Mapping[str, Any] | None]:
        """The run's row of the view ``cnstra.runs``."""
        ...

    def run_outcome(self, run_id: UUID) -> Operation[Mapping[str, Any] | None]:
        """The columns ``OUTCOME`` of the run's row, for who waits for it."""
        ...

    def run_status(self, run_id: UUID) -> Operation[str | None]: ...

    def current_status(self, run_id: UUID) -> Operation[str | None]:
        """The same for who waits for it to change: never from a replica, which learns of that later."""
        ...

    def run_standing(self, run_id: UUID) -> Operation[Mapping[str, Any] | None]:
        """Of the run's row its ``run_id``, ``status``, ``context_version``, ``context_place``, for who follows it: no data."""
        ...

    def run_rows(self, which: RunFilter) -> Operation[list[Mapping[str, Any]]]: ...

    def activation_rows(self, run_id: UUID) -> Operation[list[Mapping[str, Any]]]:
        """The run's rows of the view ``cnstra.activations``."""
        ...

    def context_at(self, run_id: UUID, version: int | None) -> Operation[Snapshot | None]:
        """The run's context at a version (None: the newest). None when the run does not exist, or had not that version."""
        ...

    def history(self, run_id: UUID, after: int = 0, limit: int | None = None) -> Operation[list[Mapping[str, Any]]]:
        """The run's rows of the view ``cnstra.context_history`` after a version, in order; the first ``limit`` of them."""
        ...

    def references(self, run_id: UUID, after: int = 0, until: int | None = None) -> Operation[list[Reference]]:
        """What each version of the run's context, after one and until another, wrote where that is kept elsewhere: references to
        blobs."""
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

"""What happens to a run: what workers settle, what supervisors find, what people ask for, and what is sent. Plain data."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from cnstra.orchestrator.machine.records import NOTHING, BlobRef, Claimed, Compensable, Failure, Late, Output, Target
from cnstra.orchestrator.slots import NO_CHANGES, Changes


class Expected(Struct, frozen=True, kw_only=True, gc=False):
    """A hop's wish that its run waits for a signal from outside, which is to start ``targets``.

    Without a ``timeout`` it waits without end. ``key`` is by which the signal may be sent, without knowing the run.
    """

    collateral: str
    targets: tuple[Target, ...]
    key: str | None = None
    timeout: timedelta | None = None
    late: Late = NOTHING


class Gatherer(Struct, frozen=True, kw_only=True, gc=False):
    """Who is called with the results of a group: the signals of its members on ``target``'s collateral.

    ``named`` says that it names the scattered collateral, so that it can belong to no other. With ``failures`` what has
    failed in a member stands in that one's place.
    """

    target: Target
    named: bool = False
    failures: bool = False


class Scattered(Struct, frozen=True, kw_only=True, gc=False):
    """A fan-out as one group: each payload starts ``targets``, at most ``limit`` members at once. Of the first ``here`` members
    the settling worker keeps what is for targets that ask for that.
    """

    ordinal: int
    collateral: str
    payloads: tuple[str, ...]
    targets: tuple[Target, ...]
    gatherers: tuple[Gatherer, ...] = ()
    limit: int | None = None
    here: int = 0


class Succeeded(Struct, frozen=True, kw_only=True, gc=False):
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


class FailedTry(Struct, frozen=True, kw_only=True, gc=False):
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


class GaveWay(Struct, frozen=True, kw_only=True, gc=False):
    """The handler's own transaction was undone, for no fault of its own, and so it runs again; never as something done.

    Without a ``backoff`` it was in conflict with another activation's writes; with one, in seconds, it met what passes.
    ``wasted`` are blobs that were put for nothing. Where its holder had committed after all, and did not know, the verdict
    is ``REPEATED``.
    """

    fence: Claimed
    failure: Failure
    backoff: float | None = None
    wasted: tuple[BlobRef, ...] = ()


class Returned(Struct, frozen=True, kw_only=True, gc=False):
    """The worker gives the activation back without having called its handler: to whoever takes it next, or, where
    ``backoff`` is given, not before so many seconds have passed. It is no failed try.
    """

    fence: Claimed
    backoff: float | None = None


class Lost(Struct, frozen=True, kw_only=True, gc=False):
    """The worker that held the claim is gone; another try follows after ``backoff`` seconds, whatever the policy.

    From ``suspect_at`` losses on it is a poison suspect, to be claimed by a worker that runs nothing beside it. How many
    losses are too many is judged by that worker: it has the code of the run's policy.
    """

    fence: Claimed
    failure: Failure
    backoff: float
    suspect_at: int = 4


class Due(Struct, frozen=True, kw_only=True, gc=False):
    """A scheduled activation's time may have come."""

    activation_id: int


class AttemptDue(Struct, frozen=True, kw_only=True, gc=False):
    """The time of the run's next attempt may have come."""


class RetryAsked(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody asks for the next attempt of a failed run: of one that failed in ``attempt``, where that is given.

    Asked again because a reply was lost, it then begins no second one, also where the first has failed meanwhile.
    """

    attempt: int | None = None


class CancelAsked(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody asks for the run's end: what is open of it is cancelled, and, with ``compensate``, what it has done is undone."""

    compensate: bool = False


class PauseAsked(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody asks that nothing of the run be claimed until further notice."""


class ResumeAsked(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody asks that a paused run go on."""


class DeadlineDue(Struct, frozen=True, kw_only=True, gc=False):
    """The run's deadline may have passed."""


class Sent(Struct, frozen=True, kw_only=True, gc=False):
    """A signal is sent to the run. With ``key`` it is for an expectation that has that one, and for no other.

    The same ``idempotency_key`` again is the same signal, and sent once.
    """

    collateral: str
    payload: str
    idempotency_key: str
    key: str | None = None


class ExpectationDue(Struct, frozen=True, kw_only=True, gc=False):
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

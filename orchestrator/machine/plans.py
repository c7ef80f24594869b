"""What the machine is given to decide on, and what it decides: what was loaded of a run, and the plan to be carried out."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from uuid import UUID

from msgspec import Struct, field

from cnstra.orchestrator.machine.events import Sent
from cnstra.orchestrator.machine.records import (
    Activation,
    Expectation,
    Failure,
    Gathering,
    Group,
    Letter,
    Member,
    NewActivation,
    Path,
    Run,
)


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


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """The verdict on one event; ``kept`` are the successors that the settling worker holds now, ``problem`` is why a hop was
    refused.
    """

    verdict: Verdict
    stale: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    problem: Failure | None = None
    version: int | None = None


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """One slot as one version of the context wrote it; a text of None removed it."""

    version: int
    slot: str
    text: str | None
    activation_id: int


class TryEnded(Struct, frozen=True, kw_only=True, gc=False):
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


class NewLetter(Struct, frozen=True, kw_only=True, gc=False):
    """A signal that was sent to the run, to be kept; ``taken_by`` is the expectation that it feeds at once."""

    number: int
    sent: Sent
    taken_by: int | None


class Fired(Struct, frozen=True, kw_only=True, gc=False):
    """A gather whose group has ended: the store puts the results together, and gives them to it as its payload."""

    gathering: Gathering
    group_id: int


class Loaded(Struct, kw_only=True):
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


class Plan(Struct, kw_only=True):
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

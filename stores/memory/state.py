"""What the store keeps: rows without a database, and the few ways to find and to put them.

Rows are frozen; to change one is to put another in its place. Decides nothing, and takes no lock: whoever reads or puts
holds the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from cnstra.orchestrator.machine.plans import Entry, NewLetter, TryEnded
from cnstra.orchestrator.machine.records import (
    Activation,
    BlobRef,
    Expectation,
    Failure,
    Group,
    Member,
    Origin,
    Output,
    Path,
    Run,
    Target,
)
from cnstra.orchestrator.machine.states import OUTSTANDING, ActivationStatus, RunStatus
from cnstra.orchestrator.ports import door
from cnstra.orchestrator.retention import DEFAULTS
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Submission, WorkerInfo

Clock = Callable[[], datetime]
Key = tuple[UUID, int]
"""A run, and the number of one of its activations."""


class RunRow(Struct, frozen=True, kw_only=True):
    """A run: what was submitted, and where transitions have brought it. ``policy`` and ``tags`` are JSON texts."""

    submission: Submission
    policy: str
    tags: str
    submitted_at: datetime
    run: Run


class ActivationRow(Struct, frozen=True, kw_only=True):
    """An activation: what it is for, where transitions have brought it, and what it reported of its progress, as text.
    ``done_at`` is when it had finished, once it is being undone.
    """

    run_id: UUID
    parent: int | None
    target: Target
    created_at: datetime
    first_try_at: datetime | None
    activation: Activation
    done_at: datetime | None = None
    origin: Origin = Origin.EMITTED
    progress: str | None = None

    @property
    def key(self) -> Key:
        return self.run_id, self.activation.activation_id


class TryRow(Struct, frozen=True, kw_only=True):
    """A call that has ended; one that has committed stands here once it is being undone."""

    ended: TryEnded
    finished_at: datetime


class WorkerRow(Struct, frozen=True, kw_only=True):
    """A worker's lease; ``lost_at`` is when it was taken for lost, or left."""

    info: WorkerInfo
    started_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    lost_at: datetime | None = None


class LetterRow(Struct, frozen=True, kw_only=True):
    """A signal that was sent to a run; ``taken_by`` is the expectation that it fed."""

    letter: NewLetter
    taken_by: int | None


class PostedRow(Struct, frozen=True, kw_only=True):
    """A signal that was sent by key, and the run that it was given to."""

    graph: str
    key: str
    collateral: str
    payload: str
    idempotency_key: str
    sent_at: datetime
    run_id: UUID | None


class MemberRow(Struct, frozen=True, kw_only=True):
    """A member of a scatter, with all that it has given."""

    member: Member
    payload: str | None
    results: Mapping[str, str]
    failure: Failure | None

    def as_loaded(self) -> Member:
        """As plans are made from it: without what it has given, but for the names."""
        return replace(self.member, gave=frozenset(self.results), results={}, failure=None, payload=None)


@dataclass(slots=True)
class State:
    """All rows of a store, and its clock."""

    now: Clock
    runs: dict[UUID, RunRow] = field(default_factory=dict)
    keys: dict[tuple[str, str], UUID] = field(default_factory=dict)
    entries: dict[UUID, dict[tuple[int, str], Entry]] = field(default_factory=dict)
    heads: dict[UUID, dict[str, int]] = field(default_factory=dict)
    tries: dict[UUID, list[TryRow]] = field(default_factory=dict)
    workers: dict[UUID, WorkerRow] = field(default_factory=dict)
    expired_contexts: dict[UUID, datetime] = field(default_factory=dict)
    retention: dict[str, timedelta | None] = field(default_factory=lambda: dict(DEFAULTS))
    litter: dict[BlobRef, datetime] = field(default_factory=dict)
    expectations: dict[UUID, dict[int, Expectation]] = field(default_factory=dict)
    letters: dict[UUID, list[LetterRow]] = field(default_factory=dict)
    posted: dict[int, PostedRow] = field(default_factory=dict)
    last_posted: int = 0
    groups: dict[UUID, dict[int, Group]] = field(default_factory=dict)
    members: dict[UUID, dict[tuple[int, int], MemberRow]] = field(default_factory=dict)
    supervisor: UUID | None = None
    supervised_until: datetime | None = None
    _activations: dict[UUID, dict[int, ActivationRow]] = field(default_factory=dict)
    _outstanding: dict[Key, ActivationRow] = field(default_factory=dict)

    def activation(self, key: Key) -> ActivationRow | None:
        """One activation, if there is such a one."""
        return self._activations.get(key[0], {}).get(key[1])

    def put(self, row: ActivationRow) -> None:
        """Keep an activation, new or changed."""
        self._activations.setdefault(row.run_id, {})[row.activation.activation_id] = row
        if row.activation.status in OUTSTANDING:
            self._outstanding[row.key] = row
        else:
            self._outstanding.pop(row.key, None)

    def of_run(self, run_id: UUID) -> list[ActivationRow]:
        """A run's activations, in the order of their numbers."""
        return list(self._activations.get(run_id, {}).values())

    def with_status(self, status: ActivationStatus) -> Iterator[ActivationRow]:
        """The activations, of all runs, that are in an outstanding status. What was ever done costs nothing here."""
        return (row for row in list(self._outstanding.values()) if row.activation.status is status)

    def is_paused(self, run_id: UUID) -> bool:
        """Whether nothing of a run may be claimed."""
        return self.runs[run_id].run.status is RunStatus.PAUSED

    def door_of(self, row: ActivationRow) -> str:
        """Where the doorbell of an activation is."""
        return door(self.runs[row.run_id].submission.graph, row.activation.queue)

    def signals_of(self, row: ActivationRow) -> list[Output]:
        """What an activation emitted, heard or not, in its order; a scattered signal for each member. Of a signal as it was
        emitted: whether a gather has collected it is another matter."""
        number = row.activation.activation_id
        heard: dict[tuple[int, Path], Output] = {}
        for child in self.of_run(row.run_id):
            if child.parent == number and child.origin is Origin.EMITTED:
                signal = Output(
                    ordinal=child.target.ordinal, collateral=child.target.collateral, payload=child.target.payload
                )
                heard.setdefault((child.target.ordinal, child.activation.path), signal)
        signals = [*heard.values(), *(replace(output, collected=False) for output in row.activation.outputs)]
        return sorted(signals, key=lambda signal: signal.ordinal)

    def claims_of(self, worker: UUID) -> list[ActivationRow]:
        """The activations that a worker holds."""
        return [row for row in self.with_status(ActivationStatus.RUNNING) if row.activation.worker == worker]

    def live_workers(self) -> list[WorkerRow]:
        """The workers that were not taken for lost."""
        return [row for row in self.workers.values() if row.lost_at is None]

    def forget(self, run_id: UUID) -> None:
        """Delete a run, with all that belongs to it."""
        del self.runs[run_id]
        for key in [key for key, of_run in self.keys.items() if of_run == run_id]:
            del self.keys[key]
        for number in self._activations.pop(run_id, {}):
            self._outstanding.pop((run_id, number), None)
        self.expectations.pop(run_id, None)
        self.letters.pop(run_id, None)
        self.groups.pop(run_id, None)
        self.members.pop(run_id, None)
        for of_runs in (self.entries, self.heads, self.tries, self.expired_contexts):
            of_runs.pop(run_id, None)

    def forget_context(self, run_id: UUID) -> None:
        """Delete a run's context, with its history; the run stays."""
        self.entries.pop(run_id, None)
        self.heads.pop(run_id, None)
        self.expired_contexts[run_id] = self.now()

    def snapshot(self, run_id: UUID) -> Snapshot:
        """A run's context as it is now."""
        entries = self.entries.get(run_id, {})
        return Snapshot(
            version=self.runs[run_id].run.context_version,
            slots={
                slot: Slot(abs(head), entries[abs(head), slot].text)
                for slot, head in self.heads.get(run_id, {}).items()
            },
            place=self.runs[run_id].submission.place,
        )

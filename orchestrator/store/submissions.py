"""Runs as clients submit them, and what a store answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct, field

from cnstra.orchestrator.machine.records import Target


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

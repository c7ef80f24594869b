"""Which runs somebody asks for, and what a look at them shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from msgspec import Struct, field

Tag = tuple[str, str | None]
"""A tag to look for: its key, and its value, or None for any."""


OUTCOME = ("run_id", "status", "outputs", "error", "error_type")
"""The columns of ``cnstra.runs`` that say what a run came to."""


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

"""What is deleted in one transaction, and what was."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct


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

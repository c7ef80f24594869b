"""Workers as a store knows them, and what a supervisor finds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from msgspec import Struct, field

from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.ports import Ring


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
    """What a supervisor's look around found to be done. ``elected`` is False when another supervises: who looked is told only
    whether work ``waits`` that nobody has claimed for a while, or that only some claims may have. ``limited`` says that work of
    neurons with a limit is ready."""

    elected: bool
    waits: bool = False
    due: tuple[tuple[UUID, int], ...] = ()
    attempts_due: tuple[UUID, ...] = ()
    deadlines_due: tuple[UUID, ...] = ()
    expectations_due: tuple[tuple[UUID, int], ...] = ()
    workers_lost: bool = False
    suspects: bool = False
    unclaimed: tuple[Ring, ...] = ()
    limited: bool = False

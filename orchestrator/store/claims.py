"""What a worker asks for, and what it is given: claims, each with all that its call needs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct, field

from cnstra.orchestrator.errors import SealError
from cnstra.orchestrator.machine.records import Activation, Claimed, Output, Run
from cnstra.orchestrator.slots import Snapshot


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

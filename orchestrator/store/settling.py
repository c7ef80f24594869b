"""What happens to runs, and what becomes of it: the ends of hops above all, and signals that come by key."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct, field

from cnstra.orchestrator.errors import SealError
from cnstra.orchestrator.machine.events import Event
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Failure
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.slots import Slot
from cnstra.orchestrator.store.claims import Work


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

"""The journal: which handlers were called, with what, and what became of it, in the order of the calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from cnstra.orchestrator.graph import CNS, Neuron
from cnstra.orchestrator.graph.dendrites import Dendrite
from cnstra.orchestrator.machine.events import FailedTry, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.testing.errors import LabError
from cnstra.workers.calling import Call

CallOutcome = Literal["called", "committed", "failed", "conflicted", "refused", "lost"]
"""What became of a call. ``called``: not settled yet. ``committed``: its hop was. ``failed``: the handler raised, or what it
returned was refused. ``conflicted``: others had written what it read, and it runs again. ``refused``: its worker had stalled
and lost the claim. ``lost``: its worker died before the commit."""

Which = Neuron[Any, Any] | Dendrite[Any, Any, Any, Any, Any] | str | None
"""A neuron, or its name; one dendrite of it; or None, for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerCall:
    """One call of a handler, or, with ``undo``, of its compensation. ``payload`` is decoded, as it was given; ``at`` is the lab's
    time; ``error`` is what was raised.
    """

    run_id: UUID
    activation_id: int
    neuron: str
    collateral: str
    payload: Any
    idempotency_key: str
    attempt: int
    try_number: int
    at: datetime
    undo: bool = False
    outcome: CallOutcome = "called"
    error: BaseException | None = None


def call_of(call: Call, payload: Any, at: datetime) -> HandlerCall:
    """A call that is about to be made. ``payload`` is a copy of its own: the handler may change the one that it is given."""
    work = call.work
    return HandlerCall(
        run_id=work.run_id,
        activation_id=work.activation_id,
        neuron=work.neuron,
        collateral=work.collateral,
        payload=payload,
        idempotency_key=call.context.idempotency_key,
        attempt=work.attempt,
        try_number=work.try_number,
        at=at,
        undo=work.undo,
    )


def outcome_of(event: Succeeded | FailedTry, verdict: Verdict) -> CallOutcome:
    """What a settlement's verdict means for the call."""
    match verdict:
        case Verdict.CONFLICTED:
            return "conflicted"
        case Verdict.FENCED | Verdict.VOID:
            return "refused"
        case _:
            return "committed" if isinstance(event, Succeeded) else "failed"


def check(cns: CNS, which: Which) -> None:
    """Raises ``LabError`` for what is not in the graph: to look for its calls would find none, and prove nothing."""
    match which:
        case None:
            return
        case Neuron():
            known = cns.neurons.get(which.name) is which
        case Dendrite():
            known = cns.dendrite(which.neuron.name, which.collateral.name) is which
        case _:
            known = isinstance(which, str) and which in cns.neurons
    if not known:
        raise LabError(
            f"{which!r} is not in the graph; give a neuron, its name, or a dendrite: {', '.join(sorted(cns.neurons))}"
        )


def is_of(call: HandlerCall, which: Which) -> bool:
    """Whether a call is one of a neuron's, or of a dendrite's."""
    match which:
        case Neuron():
            return call.neuron == which.name
        case Dendrite():
            return (call.neuron, call.collateral) == (which.neuron.name, which.collateral.name)
        case _:
            return which in (None, call.neuron)


class Journal:
    """All calls of a lab."""

    def __init__(self, cns: CNS) -> None:
        self._cns = cns
        self._calls: list[HandlerCall] = []

    def write(self, call: HandlerCall) -> int:
        """Note a call; its place, for ``end``."""
        self._calls.append(call)
        return len(self._calls) - 1

    def end(self, place: int, outcome: CallOutcome) -> None:
        self._calls[place] = replace(self._calls[place], outcome=outcome)

    def raised(self, place: int, error: BaseException) -> None:
        self._calls[place] = replace(self._calls[place], error=error)

    def calls(self, which: Which = None, run_id: UUID | None = None) -> list[HandlerCall]:
        """Those of a neuron or a dendrite, of a run; or all. Raises ``LabError`` for what is not in the graph."""
        check(self._cns, which)
        return [call for call in self._calls if is_of(call, which) and run_id in (None, call.run_id)]

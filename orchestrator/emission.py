"""What a signal comes to in a durable run: its payload's text, and the dendrites that it starts."""

from __future__ import annotations

from typing import Any

from cnstra.orchestrator import values
from cnstra.orchestrator.errors import PayloadError
from cnstra.orchestrator.graph import CNS, Signal
from cnstra.orchestrator.machine.records import Target


def encoded(signal: Signal[Any], where: str) -> str:
    """The JSON text of a signal's payload. Raises ``PayloadError`` for one that does not fit, or is too large."""
    what = f"{where}, payload of {signal.collateral.name!r}"
    return values.dump(signal.collateral.payload.encode(signal.payload), where=what, error=PayloadError)


def targets_of(cns: CNS, collateral: str, payload: str, ordinal: int = 0) -> list[Target]:
    """The dendrites that hear a collateral, as the machine knows them. ``ordinal`` is the signal's place in its batch."""
    return [
        Target(
            ordinal=ordinal,
            neuron=dendrite.neuron.name,
            dendrite=dendrite.name,
            collateral=collateral,
            queue=dendrite.neuron.queue,
            payload=payload,
        )
        for dendrite in cns.subscribers(collateral)
    ]

"""What a signal comes to in a durable run: its payload's text, and the dendrites that it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cnstra.orchestrator import values
from cnstra.orchestrator.errors import OutputError, PayloadError
from cnstra.orchestrator.graph import CNS, Expectation, Scatter, Signal, TimedSignal
from cnstra.orchestrator.machine.records import Target


def signals_of(emissions: Iterable[Signal[Any] | Scatter[Any] | Expectation], where: str) -> list[Signal[Any]]:
    """The signals among what a handler emits. Raises ``OutputError`` for what is none."""
    signals: list[Signal[Any]] = []
    for emission in emissions:
        if not isinstance(emission, Signal):
            raise OutputError(
                f"{where}: durable runs carry out no {type(emission).__name__.lower()} yet ({emission.collateral.name!r}); "
                "emit signals"
            )
        signals.append(emission)
    return signals


def encoded(signal: Signal[Any], where: str) -> str:
    """The JSON text of a signal's payload. Raises ``PayloadError`` for one that does not fit, or is too large."""
    what = f"{where}, payload of {signal.collateral.name!r}"
    return values.dump(signal.collateral.payload.encode(signal.payload), where=what, error=PayloadError)


def targets_of(cns: CNS, signal: Signal[Any], payload: str, ordinal: int = 0) -> list[Target]:
    """The dendrites that hear a signal, as the machine knows them. ``ordinal`` is the signal's place in its batch.

    Raises ``OutputError`` for a signal that is to wait, and that nobody hears.
    """
    collateral = signal.collateral.name
    delay, at = (signal.delay, signal.at) if isinstance(signal, TimedSignal) else (None, None)
    heard = cns.subscribers(collateral)
    if not heard and (delay is not None or at is not None):
        raise OutputError(
            f"a signal on {collateral!r} is to wait, and nobody hears that collateral, so it would wait for nothing; "
            "emit it without delay= and at=, or add a dendrite"
        )
    return [
        Target(
            ordinal=ordinal,
            neuron=dendrite.neuron.name,
            dendrite=dendrite.name,
            collateral=collateral,
            queue=dendrite.neuron.queue,
            payload=payload,
            delay=delay,
            at=at,
        )
        for dendrite in heard
    ]

"""What a handler's emissions come to in a durable run: the texts of payloads, the dendrites that they start, what is waited for
and what is scattered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from cnstra.orchestrator import values
from cnstra.orchestrator.errors import OutputError, PayloadError
from cnstra.orchestrator.graph import CNS, Expectation, Scatter, Signal, TimedSignal
from cnstra.orchestrator.graph.dendrites import Emission
from cnstra.orchestrator.graph.network import AnyDendrite
from cnstra.orchestrator.machine.events import Expected, Gatherer, Scattered
from cnstra.orchestrator.machine.records import Compensable, Late, Output, Target


class Emitted(Struct):
    """What a hop emits, as the machine knows it. ``results`` are signals that a gather may collect; each stands among the
    targets or the outputs, too.
    """

    targets: list[Target] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    scattered: list[Scattered] = field(default_factory=list)
    results: list[Output] = field(default_factory=list)


def emitted_by(cns: CNS, emissions: Iterable[Emission], where: object) -> Emitted:
    """What a handler's emissions come to. Raises ``OutputError`` or ``PayloadError``, naming ``where``."""
    found = Emitted()
    for ordinal, emission in enumerate(emissions):
        match emission:
            case Scatter():
                found.scattered.append(_scattered(cns, emission, ordinal, where))
            case Expectation():
                found.expected.append(_expected(cns, emission, ordinal, where))
            case _:
                _emit(cns, emission, ordinal, where, found)
    return found


def _emit(cns: CNS, signal: Signal[Any], ordinal: int, where: object, found: Emitted) -> None:
    payload = encoded(signal, where)
    heard = targets_of(cns, signal, payload, ordinal)
    found.targets.extend(heard)
    output = Output(ordinal=ordinal, collateral=signal.collateral.name, payload=payload)
    if not heard:
        found.outputs.append(output)
    if output.collateral in cns.network.gathered:
        found.results.append(output)


def _scattered(cns: CNS, scatter: Scatter[Any], ordinal: int, where: object) -> Scattered:
    collateral = scatter.collateral
    if not cns.subscribers(collateral.name):
        raise OutputError(
            f"{where} scatters on {collateral.name!r}, and nobody in the graph hears that collateral; add a dendrite"
        )
    payloads = tuple(encoded(Signal(collateral, payload), where) for payload in scatter.payloads)
    gathers = cns.network.gathers(collateral)
    return Scattered(
        ordinal=ordinal,
        collateral=collateral.name,
        payloads=payloads,
        targets=tuple(targets_of(cns, Signal(collateral, None), "null", ordinal)),
        gatherers=tuple(
            Gatherer(
                target=_target(dendrite, ordinal, "[]"),
                named=dendrite.gathering.of is not None,
                failures=dendrite.gathering.return_failures,
            )
            for dendrite in gathers
            if dendrite.gathering is not None
        ),
        limit=scatter.limit,
    )


def _expected(cns: CNS, expectation: Expectation, ordinal: int, where: object) -> Expected:
    name = expectation.collateral.name
    known = cns.collateral(name)
    if known is not expectation.collateral or not cns.subscribers(name):
        raise OutputError(
            f"{where} expects {name!r}, and nobody in the graph hears that collateral, so it would wait for nothing; "
            "add a dendrite, on this very collateral"
        )
    late = Emitted()
    if expectation.on_timeout is not None:
        _emit(cns, expectation.on_timeout, 0, where, late)
    return Expected(
        collateral=name,
        targets=tuple(targets_of(cns, Signal(expectation.collateral, None), "null", ordinal)),
        key=expectation.key,
        timeout=expectation.timeout,
        late=Late(targets=tuple(late.targets), outputs=tuple(late.outputs), results=tuple(late.results)),
    )


def encoded(signal: Signal[Any], where: object) -> str:
    """The JSON text of a signal's payload. Raises ``PayloadError`` for one that does not fit, or is too large."""
    return values.dump(
        signal.collateral.payload.encode(signal.payload),
        where=lambda: f"{where}, payload of {signal.collateral.name!r}",
        error=PayloadError,
    )


def targets_of(cns: CNS, signal: Signal[Any], payload: str, ordinal: int = 0) -> list[Target]:
    """The dendrites that hear a signal, as the machine knows them. ``ordinal`` is the signal's place in its batch.

    Raises ``OutputError`` for a signal that is to wait, and that nobody hears.
    """
    collateral = signal.collateral.name
    delay, at = (signal.delay, signal.at) if isinstance(signal, TimedSignal) else (None, None)
    heard = cns.subscribers(collateral)
    if not heard and (delay is not None or at is not None):
        if collateral in cns.network.gathered:
            raise OutputError(
                f"a signal on {collateral!r} is to wait, and a gather collects that collateral, which hears of results at "
                "once; emit it without delay= and at=, or have a dendrite wait before, which then emits the result"
            )
        raise OutputError(
            f"a signal on {collateral!r} is to wait, and nobody hears that collateral, so it would wait for nothing; "
            "emit it without delay= and at=, or add a dendrite"
        )
    targets = [_target(dendrite, ordinal, payload) for dendrite in heard]
    if delay is None and at is None:
        return targets
    return [replace(target, delay=delay, at=at) for target in targets]


def _target(dendrite: AnyDendrite, ordinal: int, payload: str) -> Target:
    return Target(
        ordinal=ordinal,
        neuron=dendrite.neuron.name,
        dendrite=dendrite.name,
        collateral=dendrite.collateral.name,
        queue=dendrite.neuron.queue,
        payload=payload,
        compensable=compensable(dendrite),
        limited=dendrite.neuron.concurrency is not None,
    )


def compensable(dendrite: AnyDendrite) -> Compensable:
    """What a dendrite's compensation covers."""
    compensation = dendrite.compensation
    if compensation is None:
        return Compensable.NO
    return Compensable.UNCERTAIN if compensation.uncertain else Compensable.DONE

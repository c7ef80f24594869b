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


class Emitter:
    """Knows what emissions come to in one graph. Who hears a collateral is looked up once: a graph never changes."""

    def __init__(self, cns: CNS) -> None:
        self._cns = cns
        self._heard: dict[str, tuple[Target, ...]] = {}

    def emitted(self, emissions: Iterable[Emission], where: object) -> Emitted:
        """What a handler's emissions come to. Raises ``OutputError`` or ``PayloadError``, naming ``where``."""
        found = Emitted()
        for ordinal, emission in enumerate(emissions):
            if isinstance(emission, Signal):
                self._emit(emission, ordinal, where, found)
            elif isinstance(emission, Scatter):
                found.scattered.append(self._scattered(emission, ordinal, where))
            else:
                found.expected.append(self._expected(emission, ordinal, where))
        return found

    def targets(self, signal: Signal[Any], payload: str, ordinal: int = 0) -> list[Target]:
        """The dendrites that hear a signal, as the machine knows them. ``ordinal`` is the signal's place in its batch.

        Raises ``OutputError`` for a signal that is to wait, and that nobody hears.
        """
        heard = self.heard(signal.collateral.name, payload, ordinal)
        if not isinstance(signal, TimedSignal):
            return heard
        if not heard:
            raise OutputError(self._waits_for_nothing(signal.collateral.name))
        return [replace(target, delay=signal.delay, at=signal.at) for target in heard]

    def heard(self, collateral: str, payload: str, ordinal: int = 0) -> list[Target]:
        """The same for what waits for nothing, or is submitted: then the run waits, and not its activations."""
        return [replace(target, payload=payload, ordinal=ordinal) for target in self._hearing(collateral)]

    def _hearing(self, collateral: str) -> tuple[Target, ...]:
        heard = self._heard.get(collateral)
        if heard is None:
            heard = self._heard[collateral] = tuple(
                _target(one, 0, "null") for one in self._cns.subscribers(collateral)
            )
        return heard

    def _waits_for_nothing(self, collateral: str) -> str:
        if collateral in self._cns.network.gathered:
            return (
                f"a signal on {collateral!r} is to wait, and a gather collects that collateral, which hears of results at "
                "once; emit it without delay= and at=, or have a dendrite wait before, which then emits the result"
            )
        return (
            f"a signal on {collateral!r} is to wait, and nobody hears that collateral, so it would wait for nothing; "
            "emit it without delay= and at=, or add a dendrite"
        )

    def _emit(self, signal: Signal[Any], ordinal: int, where: object, found: Emitted) -> None:
        payload, collateral = encoded(signal, where), signal.collateral.name
        heard = self.targets(signal, payload, ordinal)
        found.targets.extend(heard)
        is_gathered = collateral in self._cns.network.gathered
        if heard and not is_gathered:
            return
        output = Output(ordinal=ordinal, collateral=collateral, payload=payload)
        if not heard:
            found.outputs.append(output)
        if is_gathered:
            found.results.append(output)

    def _scattered(self, scatter: Scatter[Any], ordinal: int, where: object) -> Scattered:
        collateral = scatter.collateral
        if not self._hearing(collateral.name):
            raise OutputError(
                f"{where} scatters on {collateral.name!r}, and nobody in the graph hears that collateral; add a dendrite"
            )
        payloads = tuple(encoded(Signal(collateral, payload), where) for payload in scatter.payloads)
        gathers = self._cns.network.gathers(collateral)
        return Scattered(
            ordinal=ordinal,
            collateral=collateral.name,
            payloads=payloads,
            targets=tuple(self.targets(Signal(collateral, None), "null", ordinal)),
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

    def _expected(self, expectation: Expectation, ordinal: int, where: object) -> Expected:
        name = expectation.collateral.name
        known = self._cns.collateral(name)
        if known is not expectation.collateral or not self._hearing(name):
            raise OutputError(
                f"{where} expects {name!r}, and nobody in the graph hears that collateral, so it would wait for nothing; "
                "add a dendrite, on this very collateral"
            )
        late = Emitted()
        if expectation.on_timeout is not None:
            self._emit(expectation.on_timeout, 0, where, late)
        return Expected(
            collateral=name,
            targets=tuple(self.targets(Signal(expectation.collateral, None), "null", ordinal)),
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

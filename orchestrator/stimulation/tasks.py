"""Tasks that come back: from what failed, or from what was outstanding, to what the engine queues."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cnstra.orchestrator.errors import StimulationError, UnknownDendrite
from cnstra.orchestrator.graph import Collateral, Neuron, Signal
from cnstra.orchestrator.stimulation.options import momentary
from cnstra.orchestrator.stimulation.plan import Plan, Route


def items_of(tasks: Iterable[Any], plan: Plan) -> list[tuple[Route, Signal[Any]]]:
    """The queue's items for tasks, or for failures of tasks. Raises StimulationError for what is neither."""
    if not isinstance(tasks, Iterable):
        raise StimulationError(f"activate() takes a list of tasks or failures, got {type(tasks).__name__}")
    return [_item(getattr(given, "task", given), plan) for given in tasks]


def _item(task: Any, plan: Plan) -> tuple[Route, Signal[Any]]:
    neuron, collateral = getattr(task, "neuron", None), getattr(task, "collateral", None)
    signal = getattr(task, "signal", None)
    if not isinstance(neuron, Neuron) or not isinstance(collateral, Collateral):
        raise StimulationError(
            f"activate() takes tasks, with neuron, collateral and signal, or failures; got {type(task).__name__}"
        )
    if signal is not None and not isinstance(signal, Signal):
        raise StimulationError(f"activate(): the signal of a task is a {type(signal).__name__}, not a signal")
    if signal is not None:
        momentary(signal)
    return _route(neuron, collateral, plan), Signal(collateral, None) if signal is None else signal


def _route(neuron: Neuron[Any, Any], collateral: Collateral[Any], plan: Plan) -> Route:
    route = plan.route(neuron.name, collateral.name)
    if route is not None and route.neuron is neuron and route.collateral is collateral:
        return route
    error = UnknownDendrite(
        f"neuron {neuron.name!r} has no dendrite on {collateral.name!r} in this CNS; was the task made for another graph?"
    )
    return Route(neuron, collateral, error)

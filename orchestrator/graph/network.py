"""How the neurons of one graph hang together: who hears and who gathers what, which collaterals there are, which
neurons form cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.axons import axon_collaterals
from cnstra.orchestrator.graph.collaterals import Collateral
from cnstra.orchestrator.graph.dendrites import Dendrite
from cnstra.orchestrator.graph.fixed import Fixed
from cnstra.orchestrator.graph.neurons import Neuron
from cnstra.orchestrator.graph.reaching import gathers_by_scatter

AnyDendrite = Dendrite[Any, Any, Any, ..., Any]
AnyNeuron = Neuron[Any, Any]


class Network(Fixed):
    """The wiring of one CNS."""

    __slots__ = ("_gathers", "_listeners", "collaterals", "gathered", "strongly_connected_components")

    collaterals: Mapping[str, Collateral[Any]]
    """Every collateral that a neuron of the graph emits, hears or gathers, by name."""
    gathered: frozenset[str]
    """Names of the collaterals that some gather gathers."""
    strongly_connected_components: tuple[frozenset[str], ...]
    """Names of neurons that can reach each other, each neuron in one set; a set comes after those that it can
    reach.
    """
    _gathers: Mapping[str, tuple[AnyDendrite, ...]]
    _listeners: Mapping[str, tuple[AnyDendrite, ...]]

    def __init__(self, neurons: Mapping[str, AnyNeuron]) -> None:
        listeners: dict[str, list[AnyDendrite]] = {}
        gatherers: dict[str, list[AnyDendrite]] = {}
        for neuron in neurons.values():
            for name, dendrite in neuron.dendrites.items():
                (listeners if dendrite.gathering is None else gatherers).setdefault(name, []).append(dendrite)
        collaterals = _collaterals(neurons)
        self._build(
            collaterals=MappingProxyType(collaterals),
            gathered=frozenset(gatherers),
            _gathers=gathers_by_scatter(neurons, collaterals),
            _listeners={name: tuple(dendrites) for name, dendrites in listeners.items()},
            strongly_connected_components=_components(
                {
                    name: [
                        dendrite.neuron.name
                        for emitted in axon_collaterals(neuron.axon).values()
                        for dendrite in (*listeners.get(emitted.name, ()), *gatherers.get(emitted.name, ()))
                    ]
                    for name, neuron in neurons.items()
                }
            ),
        )

    def subscribers(self, collateral: Collateral[Any] | str) -> tuple[AnyDendrite, ...]:
        """The dendrites that hear a collateral, given as itself or by name, in the order of registration; no gathers,
        which hear no single signal.
        """
        name = collateral.name if isinstance(collateral, Collateral) else collateral
        return self._listeners.get(name, ())

    def gathers(self, scattered: Collateral[Any] | str) -> tuple[AnyDendrite, ...]:
        """The gathers that belong to a scatter on a collateral, given as itself or by name, in the order of registration:
        those ``of=`` it, and of those without ``of=`` the ones whose own it leads to through ordinary dendrites.
        """
        name = scattered.name if isinstance(scattered, Collateral) else scattered
        return self._gathers.get(name, ())

    def __repr__(self) -> str:
        return f"<network of {len(self.collaterals)} collaterals>"


def _collaterals(neurons: Mapping[str, AnyNeuron]) -> dict[str, Collateral[Any]]:
    found: dict[str, Collateral[Any]] = {}
    places: dict[str, str] = {}
    for neuron in neurons.values():
        emitted = [
            (f"the axon of neuron {neuron.name!r} ({attribute})", collateral)
            for attribute, collateral in axon_collaterals(neuron.axon).items()
        ]
        heard = [
            (f"a {'dendrite' if d.gathering is None else 'gather'} of neuron {neuron.name!r}", d.collateral)
            for d in neuron.dendrites.values()
        ]
        for place, collateral in emitted + heard:
            first = found.setdefault(collateral.name, collateral)
            if first is not collateral:
                raise GraphError(
                    f"two collaterals are named {collateral.name!r}: one in {places[collateral.name]}, made "
                    f"at {first.defined_at}; the other in {place}, made at {collateral.defined_at}; use one "
                    "object in both places, or rename one"
                )
            places.setdefault(collateral.name, place)
    return found


def _components(successors: Mapping[str, Sequence[str]]) -> tuple[frozenset[str], ...]:
    """Tarjan's algorithm (1972), with a stack of its own, so that a long chain is no deep recursion."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    open_nodes: dict[str, None] = {}
    components: list[frozenset[str]] = []
    for root in successors:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        open_nodes[root] = None
        walk = [(root, iter(successors[root]))]
        while walk:
            node, following = walk[-1]
            for successor in following:
                if successor not in order:
                    order[successor] = low[successor] = len(order)
                    open_nodes[successor] = None
                    walk.append((successor, iter(successors[successor])))
                    break
                if successor in open_nodes:
                    low[node] = min(low[node], order[successor])
            else:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[node])
                if low[node] == order[node]:
                    components.append(_pop_down_to(node, open_nodes))
    return tuple(components)


def _pop_down_to(node: str, open_nodes: dict[str, None]) -> frozenset[str]:
    members = set[str]()
    while node not in members:
        members.add(open_nodes.popitem()[0])
    return frozenset(members)

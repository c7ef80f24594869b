"""A graph, made ready for running: for each dendrite what a hop needs, found once.

A hop then takes one lookup to check what a handler emitted, and to know who hears it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from cnstra.orchestrator.graph import CNS, Collateral, Neuron, axon_collaterals
from cnstra.orchestrator.graph.network import AnyDendrite
from cnstra.orchestrator.stimulation.gates import NeuronGate


class Route:
    """One dendrite, as the engine calls it."""

    __slots__ = (
        "arity",
        "axon",
        "call",
        "collateral",
        "component",
        "dendrite",
        "emits",
        "gate",
        "has_place",
        "inside",
        "neuron",
        "ordinary",
        "refusal",
        "seconds",
        "title",
    )

    neuron: Neuron[Any, Any]
    collateral: Collateral[Any]
    dendrite: AnyDendrite | None
    """None when there is none to call: then ``refusal`` says so."""
    call: Callable[..., Any]
    """The handler itself; it takes ``arity`` arguments."""
    arity: int
    axon: Any
    emits: Mapping[Collateral[Any], tuple[Route, ...]]
    """Who hears each collateral of the axon."""
    gate: NeuronGate | None
    has_place: bool
    """Whether a task that goes this way has a place in the gate already."""
    inside: Route | None
    seconds: float | None
    """How long a handler that suspends may take."""
    component: int
    """The number of the neuron's strongly connected component."""
    refusal: Exception | None
    """Why a task that goes this way fails without a call."""
    title: str
    """The name of its async handlers' tasks."""
    ordinary: bool
    """Whether it is called straight away: no gate, no refusal."""

    def __init__(self, neuron: Neuron[Any, Any], collateral: Collateral[Any], refusal: Exception | None = None) -> None:
        self.neuron, self.collateral, self.refusal = neuron, collateral, refusal
        self.dendrite = None
        self.title = f"neuron {neuron.name!r}"
        self.gate = None
        self.has_place = False
        self.inside = None
        self.seconds = None
        self.component = -1
        self.emits = {}
        self.ordinary = False

    def refused(self, error: Exception) -> Route:
        """The same way, for a task that is to fail with ``error``."""
        route = Route(self.neuron, self.collateral, error)
        route.component = self.component
        return route

    def called(self, payload: Any, context: Callable[[], Any]) -> Any:
        """What the handler returns; ``context`` makes its third argument."""
        if self.arity == 2:
            return self.call(payload, self.axon)
        return self.call(payload) if self.arity == 1 else self.call(payload, self.axon, context())

    def with_place(self) -> Route:
        """The same way, for a task that has a place in the gate."""
        if self.inside is None:
            inside = Route(self.neuron, self.collateral)
            for name in self.__slots__:
                if hasattr(self, name):
                    setattr(inside, name, getattr(self, name))
            inside.has_place = True
            self.inside = inside
        return self.inside


class Plan:
    """The routes of one CNS, and what its stimulations share."""

    __slots__ = ("_by_dendrite", "_transacts", "ancestors", "heard", "members")

    heard: Mapping[Collateral[Any], tuple[Route, ...]]
    """Who hears each collateral of the graph."""
    members: tuple[tuple[str, ...], ...]
    """The neurons of each strongly connected component."""
    ancestors: tuple[frozenset[int], ...]
    """For each component, those that can reach it."""

    def __init__(self, cns: CNS) -> None:
        components = cns.network.strongly_connected_components
        number = {name: index for index, names in enumerate(components) for name in names}
        gates = {
            neuron.name: NeuronGate(neuron.concurrency)
            for neuron in cns.neurons.values()
            if neuron.concurrency is not None
        }
        self._by_dendrite = {
            (neuron.name, collateral): _route(dendrite, gates.get(neuron.name), number[neuron.name])
            for neuron in cns.neurons.values()
            for collateral, dendrite in neuron.dendrites.items()
            if dendrite.gathering is None  # within one process there are no groups
        }
        self.heard = {
            collateral: tuple(
                self._by_dendrite[dendrite.neuron.name, name] for dendrite in cns.network.subscribers(collateral)
            )
            for name, collateral in cns.network.collaterals.items()
        }
        for (name, _), route in self._by_dendrite.items():
            emitted = axon_collaterals(cns.neurons[name].axon).values()
            route.emits = {collateral: self.heard[collateral] for collateral in emitted}
        self._transacts = any(_transacts(route) for route in self._by_dendrite.values())
        self.members = tuple(tuple(sorted(names)) for names in components)
        self.ancestors = _ancestors(cns, number)

    def route(self, neuron: str, collateral: str) -> Route | None:
        """The dendrite of a neuron on a collateral, by their names."""
        return self._by_dendrite.get((neuron, collateral))

    def transactional(self, first: Iterable[Route]) -> list[AnyDendrite]:
        """The dendrites with a transaction that signals can reach from these routes on: none of them can run here."""
        if not self._transacts:
            return []
        found = dict.fromkeys(first)
        ahead = list(found)
        while ahead:
            new = [route for heard in ahead.pop().emits.values() for route in heard if route not in found]
            found |= dict.fromkeys(new)
            ahead += new
        return [route.dendrite for route in found if route.dendrite is not None and _transacts(route)]


def _transacts(route: Route) -> bool:
    return route.dendrite is not None and route.dendrite.transaction


def _route(dendrite: AnyDendrite, gate: NeuronGate | None, component: int) -> Route:
    route = Route(dendrite.neuron, dendrite.collateral)
    route.dendrite = dendrite
    route.call = dendrite.handler
    route.arity = dendrite.arity
    route.axon = dendrite.neuron.axon
    route.gate = gate
    route.seconds = _seconds(dendrite.max_duration)
    route.component = component
    route.ordinary = gate is None
    return route


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _ancestors(cns: CNS, number: Mapping[str, int]) -> tuple[frozenset[int], ...]:
    """Components come after those that they can reach, so that walking backwards meets every ancestor first."""
    found: list[set[int]] = [set() for _ in cns.network.strongly_connected_components]
    for index in range(len(found) - 1, -1, -1):
        for name in cns.network.strongly_connected_components[index]:
            for collateral in axon_collaterals(cns.neurons[name].axon).values():
                for dendrite in cns.network.subscribers(collateral):
                    below = number[dendrite.neuron.name]
                    if below != index:
                        found[below] |= {index, *found[index]}
    return tuple(map(frozenset, found))

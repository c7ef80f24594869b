"""Which gathers belong to which scattered collateral, found once when a CNS is built.

A gather with ``of=`` belongs to that collateral. One without belongs to each collateral from which its own can be reached
through ordinary dendrites, in one step at least: what is scattered is no result, unless the graph leads back to it. Which
of these are scattered is known only when a run scatters them. A step goes from a collateral that a neuron hears to each
one of the neuron's axon, because what a single handler emits is not known before it runs.

Refused is a gather that nothing could ever call: ``of=`` a collateral that is not in the graph, that nobody can scatter,
or that does not lead to the gathered one; and without ``of=`` a collateral to which no dendrite leads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.axons import axon_collaterals
from cnstra.orchestrator.graph.collaterals import Collateral

if TYPE_CHECKING:
    from cnstra.orchestrator.graph.network import AnyDendrite, AnyNeuron


def gathers_by_scatter(
    neurons: Mapping[str, AnyNeuron], collaterals: Mapping[str, Collateral[Any]]
) -> dict[str, tuple[AnyDendrite, ...]]:
    """Name of a collateral to the gathers of a scatter on it, in the order of registration. Raises GraphError."""
    gathers = [dendrite for neuron in neurons.values() for dendrite in neuron.dendrites.values() if dendrite.gathering]
    if not gathers:
        return {}
    through_dendrites = _steps_back(neurons, through_gathers=False)
    through_all = _steps_back(neurons, through_gathers=True)
    emitted = {name for neuron in neurons.values() for name in _emitted(neuron)}
    found: dict[str, list[AnyDendrite]] = {}
    for gather in gathers:
        assert gather.gathering is not None
        if gather.gathering.of is not None:
            before = _before(gather.collateral.name, through_all)
            owners = {_checked_of(gather, gather.gathering.of, collaterals, emitted, before)}
        else:
            owners = _before(gather.collateral.name, through_dendrites) & emitted
            if not owners:
                raise GraphError(
                    f"{_title(gather)} would never be called: no collateral that can be scattered leads to "
                    f"{gather.collateral.name!r} through ordinary dendrites; add that collateral to the axon of the neuron "
                    "that emits it, or, where other gathers stand between, name the scattered one: gather(..., of=...)"
                )
        for name in owners:
            found.setdefault(name, []).append(gather)
    return {name: tuple(owned) for name, owned in found.items()}


def _checked_of(
    gather: AnyDendrite,
    of: Collateral[Any],
    collaterals: Mapping[str, Collateral[Any]],
    emitted: set[str],
    before: set[str],
) -> str:
    known = collaterals.get(of.name)
    if known is None or of.name not in emitted:
        raise GraphError(
            f"{_title(gather)} is of={of.name!r}, which "
            f"{'is not in the graph' if known is None else 'no neuron of the graph emits, so that nobody can scatter it'}; "
            "add it to the axon of the neuron that scatters it"
        )
    if known is not of:
        raise GraphError(
            f"{_title(gather)} is of= another collateral that is named {of.name!r} too, made at {of.defined_at}; use the "
            f"one of the graph, made at {known.defined_at}"
        )
    if of.name not in before:
        raise GraphError(
            f"{_title(gather)} is of={of.name!r}, from which {gather.collateral.name!r} cannot be reached, so that it would "
            "never have a result; name another collateral, or add what leads there to the axons, the collaterals that are "
            "awaited by ctx.expect() among them"
        )
    return of.name


def _title(gather: AnyDendrite) -> str:
    return f"neuron {gather.neuron.name!r}: the gather {gather.name} on {gather.collateral.name!r}"


def _steps_back(neurons: Mapping[str, AnyNeuron], *, through_gathers: bool) -> dict[str, set[str]]:
    """Name of an emitted collateral to those that its emitters hear."""
    back: dict[str, set[str]] = {}
    for neuron in neurons.values():
        heard = set(_heard(neuron, through_gathers))
        for name in _emitted(neuron):
            back.setdefault(name, set()).update(heard)
    return back


def _heard(neuron: AnyNeuron, through_gathers: bool) -> Iterator[str]:
    for name, dendrite in neuron.dendrites.items():
        if dendrite.gathering is None or through_gathers:
            yield name


def _emitted(neuron: AnyNeuron) -> Iterable[str]:
    return (collateral.name for collateral in axon_collaterals(neuron.axon).values())


def _before(name: str, back: Mapping[str, set[str]]) -> set[str]:
    """The collaterals from which ``name`` can be reached in one step or more."""
    found = set[str]()
    ahead = [name]
    while ahead:
        new = back.get(ahead.pop(), set()) - found
        found |= new
        ahead.extend(new)
    return found

"""A short, stable name for the structure of a graph: the default version of a CNS.

It covers what runs in flight depend on: neurons, what they emit, hear, gather and compensate, the handlers' names, the
structure of payloads. Gathers and compensations are told only where there are any, so that graphs without them keep the
name that they had. It leaves out what may change under a running graph: queues, limits, retry policies, services,
the order of definition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from cnstra.orchestrator.graph.axons import axon_collaterals
from cnstra.orchestrator.graph.collaterals import Collateral
from cnstra.orchestrator.graph.neurons import Neuron
from cnstra.orchestrator.graph.payload import PayloadType

_DIGITS = 16


def fingerprint(
    neurons: Mapping[str, Neuron[Any, Any]],
    collaterals: Mapping[str, Collateral[Any]],
    context: PayloadType | None,
) -> str:
    """16 hexadecimal digits that are the same on every machine as long as the structure is."""
    structure = {
        "collaterals": {name: collateral.payload.describe() for name, collateral in collaterals.items()},
        "context": None if context is None else context.describe(),
        "neurons": {name: _neuron(neuron) for name, neuron in neurons.items()},
    }
    text = json.dumps(structure, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:_DIGITS]


def _neuron(neuron: Neuron[Any, Any]) -> dict[str, Any]:
    structure: dict[str, Any] = {
        "emits": {attribute: emitted.name for attribute, emitted in axon_collaterals(neuron.axon).items()},
        "hears": {name: dendrite.name for name, dendrite in neuron.dendrites.items()},
        "local": None if neuron.local_payload is None else neuron.local_payload.describe(),
    }
    gathers = {
        name: {"of": gathering.of and gathering.of.name, "return_failures": gathering.return_failures}
        for name, dendrite in neuron.dendrites.items()
        if (gathering := dendrite.gathering) is not None
    }
    if gathers:
        structure["gathers"] = gathers
    if neuron.compensations:
        structure["compensates"] = {
            name: {"name": compensation.name, "uncertain": compensation.uncertain}
            for name, compensation in neuron.compensations.items()
        }
    return structure

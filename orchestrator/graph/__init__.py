"""The graph: collaterals, axons, neurons, dendrites, and the CNS that they form.

It describes and checks; it runs nothing, and knows no clock, no thread, no database.
"""

from __future__ import annotations

from cnstra.orchestrator.graph.axons import Axon, DictAxon, axon_collaterals
from cnstra.orchestrator.graph.cns import CNS
from cnstra.orchestrator.graph.collaterals import Collateral, Signal, TimedSignal, collateral
from cnstra.orchestrator.graph.dendrites import Dendrite, Register, Returned
from cnstra.orchestrator.graph.modalities import AfferentPath, Modality, afferent_path, modality
from cnstra.orchestrator.graph.network import Network
from cnstra.orchestrator.graph.neurons import Neuron, neuron
from cnstra.orchestrator.graph.options import OnConflict
from cnstra.orchestrator.graph.outputs import normalise_outputs
from cnstra.orchestrator.graph.payload import PayloadType

__all__ = [
    "CNS",
    "AfferentPath",
    "Axon",
    "Collateral",
    "Dendrite",
    "DictAxon",
    "Modality",
    "Network",
    "Neuron",
    "OnConflict",
    "PayloadType",
    "Register",
    "Returned",
    "Signal",
    "TimedSignal",
    "afferent_path",
    "axon_collaterals",
    "collateral",
    "modality",
    "neuron",
    "normalise_outputs",
]

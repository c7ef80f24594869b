"""The graph: collaterals, axons, neurons, dendrites, and the CNS that they form.

It describes and checks; it runs nothing, and knows no clock, no thread, no database.
"""

from __future__ import annotations

from cnstra.orchestrator.graph.axons import Axon, DictAxon, axon_collaterals
from cnstra.orchestrator.graph.cns import CNS
from cnstra.orchestrator.graph.collaterals import Collateral, Signal, TimedSignal, collateral
from cnstra.orchestrator.graph.compensations import Compensate, Compensation
from cnstra.orchestrator.graph.dendrites import Dendrite, Emission, Register, RegisterGather, Returned
from cnstra.orchestrator.graph.expectations import Expectation
from cnstra.orchestrator.graph.groups import Gathering, MemberFailure
from cnstra.orchestrator.graph.modalities import AfferentPath, Modality, afferent_path, modality
from cnstra.orchestrator.graph.network import Network
from cnstra.orchestrator.graph.neurons import Neuron, neuron
from cnstra.orchestrator.graph.options import OnConflict
from cnstra.orchestrator.graph.outputs import normalise_outputs
from cnstra.orchestrator.graph.payload import PayloadType
from cnstra.orchestrator.graph.scatters import Scatter

__all__ = [
    "CNS",
    "AfferentPath",
    "Axon",
    "Collateral",
    "Compensate",
    "Compensation",
    "Dendrite",
    "DictAxon",
    "Emission",
    "Expectation",
    "Gathering",
    "MemberFailure",
    "Modality",
    "Network",
    "Neuron",
    "OnConflict",
    "PayloadType",
    "Register",
    "RegisterGather",
    "Returned",
    "Scatter",
    "Signal",
    "TimedSignal",
    "afferent_path",
    "axon_collaterals",
    "collateral",
    "modality",
    "neuron",
    "normalise_outputs",
]

"""CNStra: durable sagas on a message broker.

Describe work as a graph of neurons joined by collaterals, submit runs of it, and run workers that carry them out. State is
kept in Postgres; the broker only rings. The names exported here are the public ones.
"""

from __future__ import annotations

from cnstra.client import AsyncOrchestrator, AsyncRun, Orchestrator, Run
from cnstra.orchestrator.context import Context
from cnstra.orchestrator.errors import (
    BrokerAway,
    CnstraError,
    ConfigurationError,
    ContextConflict,
    ContextError,
    ContextLost,
    DataRefused,
    GraphError,
    OutputError,
    PayloadError,
    Poisoned,
    PolicyError,
    QueryError,
    ResultRefused,
    RunNotFound,
    RunStateError,
    SchemaError,
    ServersError,
    StoreUnavailable,
    SubmitError,
    WorkerLost,
)
from cnstra.orchestrator.flows import RunResult, Written
from cnstra.orchestrator.graph import CNS, Axon, Collateral, Dendrite, Neuron, Signal, collateral, neuron

__all__ = [
    "CNS",
    "AsyncOrchestrator",
    "AsyncRun",
    "Axon",
    "BrokerAway",
    "CnstraError",
    "Collateral",
    "ConfigurationError",
    "Context",
    "ContextConflict",
    "ContextError",
    "ContextLost",
    "DataRefused",
    "Dendrite",
    "GraphError",
    "Neuron",
    "Orchestrator",
    "OutputError",
    "PayloadError",
    "Poisoned",
    "PolicyError",
    "QueryError",
    "ResultRefused",
    "Run",
    "RunNotFound",
    "RunResult",
    "RunStateError",
    "SchemaError",
    "ServersError",
    "Signal",
    "StoreUnavailable",
    "SubmitError",
    "WorkerLost",
    "Written",
    "collateral",
    "neuron",
]

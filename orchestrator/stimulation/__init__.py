"""The graph inside one process: its engine, which needs no server."""

from __future__ import annotations

from cnstra.orchestrator.stimulation.cns import CNS
from cnstra.orchestrator.stimulation.gate import Draining, StimulationGate
from cnstra.orchestrator.stimulation.records import Drain, Failure, Response, Task
from cnstra.orchestrator.stimulation.stimulation import Stimulation

__all__ = ["CNS", "Drain", "Draining", "Failure", "Response", "Stimulation", "StimulationGate", "Task"]

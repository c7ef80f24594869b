"""The test kit: durable runs in the memory of a test.

``Lab`` runs a graph as workers do, with a clock that the test moves, and lets go wrong what the test asks for. Fixtures for
tests on real servers are in ``cnstra.testing.fixtures``.
"""

from __future__ import annotations

from cnstra.testing.calls import CallOutcome, HandlerCall
from cnstra.testing.errors import LabError, UnassignedChange
from cnstra.testing.faults import CrashPoint
from cnstra.testing.lab import AsyncLab, Lab
from cnstra.testing.runs import AsyncLabRun, LabRun

__all__ = [
    "AsyncLab",
    "AsyncLabRun",
    "CallOutcome",
    "CrashPoint",
    "HandlerCall",
    "Lab",
    "LabError",
    "LabRun",
    "UnassignedChange",
]

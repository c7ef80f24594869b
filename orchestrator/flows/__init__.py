"""What clients do with runs, written once for blocking and async callers.

A flow is a generator that hands out calls on its ``World`` and is given their results. In a blocking world a call has its
result already; in an async one it is an awaitable. Two short drivers run them, so there is no second implementation.
"""

from cnstra.orchestrator.flows.asking import Asking
from cnstra.orchestrator.flows.contexts import Written, shared_value, whole
from cnstra.orchestrator.flows.keeping import Keeping
from cnstra.orchestrator.flows.looking import RunResult
from cnstra.orchestrator.flows.starting import Kept, Starting, rings_within
from cnstra.orchestrator.flows.worlds import Flow, World, drive, drive_async, not_found

__all__ = [
    "Flow",
    "Flows",
    "Kept",
    "RunResult",
    "World",
    "Written",
    "drive",
    "drive_async",
    "not_found",
    "rings_within",
    "shared_value",
    "whole",
]


class Flows(Starting, Asking, Keeping):
    """All that clients ask for: the flows of each of these, on one world."""

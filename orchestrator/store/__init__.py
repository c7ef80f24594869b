"""What a store of runs can do: the port between the rules and the place where state is kept, and the data that pass it."""

from __future__ import annotations

from cnstra.orchestrator.store.claims import ClaimRequest, Claims, Foothold, Work
from cnstra.orchestrator.store.operations import AsyncRunner, AsyncStore, Operation, Operations, Runner, Store
from cnstra.orchestrator.store.reading import (
    OUTCOME,
    Look,
    Reference,
    RunChoice,
    RunFilter,
    Search,
    Sighting,
    Sightings,
    Tag,
)
from cnstra.orchestrator.store.retention import Expired, Portion, Pruned
from cnstra.orchestrator.store.settling import Applied, AppliedBatch, Posted, Posting, RunEvent
from cnstra.orchestrator.store.submissions import Accepted, Original, Submission
from cnstra.orchestrator.store.supervision import READMITTED_AT_ONCE, Findings, HeldClaim, LostClaim, Report, WorkerInfo
from cnstra.orchestrator.store.transactions import Step, Transactional, Transactions

__all__ = [
    "OUTCOME",
    "READMITTED_AT_ONCE",
    "Accepted",
    "Applied",
    "AppliedBatch",
    "AsyncRunner",
    "AsyncStore",
    "ClaimRequest",
    "Claims",
    "Expired",
    "Findings",
    "Foothold",
    "HeldClaim",
    "Look",
    "LostClaim",
    "Operation",
    "Operations",
    "Original",
    "Portion",
    "Posted",
    "Posting",
    "Pruned",
    "Reference",
    "Report",
    "RunChoice",
    "RunEvent",
    "RunFilter",
    "Runner",
    "Search",
    "Sighting",
    "Sightings",
    "Step",
    "Store",
    "Submission",
    "Tag",
    "Transactional",
    "Transactions",
    "Work",
    "WorkerInfo",
]

"""Retry policies: tenacity's strategies, asked about tries whose count and times are kept in a database.

Owns: which policies are admitted (`door`), what they decide (`verdict`), and how one travels as data
(`data`).
Refuses: to call, to repeat, to sleep, to look at a clock. Nothing runs through tenacity: its own loop would
catch the interrupts of a broker and hold a thread for the length of a backoff. Everything comes in as
arguments.
"""

from cnstra.orchestrator.retry.asking import Failure, Outcome, Returned, Tried
from cnstra.orchestrator.retry.data import from_data, to_data
from cnstra.orchestrator.retry.default import DEFAULT_POLICY
from cnstra.orchestrator.retry.door import check_policy
from cnstra.orchestrator.retry.verdict import (
    Accept,
    GiveUp,
    RetryAfter,
    Verdict,
    announce,
    announces,
    judge,
    takes_any_result,
)

__all__ = [
    "DEFAULT_POLICY",
    "Accept",
    "Failure",
    "GiveUp",
    "Outcome",
    "RetryAfter",
    "Returned",
    "Tried",
    "Verdict",
    "announce",
    "announces",
    "check_policy",
    "from_data",
    "judge",
    "takes_any_result",
    "to_data",
]

"""The two state machines, of a run and of an activation, as tables.

All transitions of the system stand here and nowhere else; the diagrams in the docs are drawn from these tables, and
``fold`` and ``plain`` move along them only. A pair that is not in a table is a bug of the caller, and raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class RunStatus(StrEnum):
    """Where a run is. The last four are ends; only ``failed`` can be left, by a retry."""

    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    COMPENSATED = "compensated"
    CANCELLED = "cancelled"


class ActivationStatus(StrEnum):
    """Where an activation is."""

    READY = "ready"
    RUNNING = "running"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"


class RunMove(StrEnum):
    """What moves a run."""

    IDLE = "nothing is ready or running"
    WAKE = "something became ready"
    COMPLETE = "the frontier is empty, nothing failed"
    BACK_OFF = "the attempt failed, the policy wants another"
    FAIL = "the attempt failed for good"
    RETRY = "the next attempt begins"
    PAUSE = "somebody pauses it"
    RESUME = "somebody resumes it"
    COMPENSATE = "what it has done is to be undone"
    RESUME_UNDOING = "somebody resumes it, while it undoes what it has done"
    UNDONE = "the last compensation has committed"
    CANCEL = "it was cancelled, and nothing of it runs any more"
    RETRY_UNDOING = "the next attempt takes up the compensation that failed"


class ActivationMove(StrEnum):
    """What moves an activation."""

    CLAIM = "a worker claims it"
    SUCCEED = "its handler returned, its hop committed"
    BACK_OFF = "its try failed, or its worker was lost, and another follows later"
    FAIL = "it failed for good"
    CONFLICT = "somebody else wrote what it read"
    RETURN = "its worker gave it back uncalled"
    DUE = "its time has come"
    REVIVE = "the run's next attempt takes it up"
    CANCEL = "its run ends without it"
    ARRIVE = "what it waits for has come: a signal from outside, or the end of a group"
    TIME_OUT = "what it waits for has not come in time"
    UNDO = "its compensation's turn has come"
    UNDONE = "its compensation returned, and committed"


RUN_STARTS: Mapping[RunStatus, str] = {
    RunStatus.RUNNING: "it is submitted",
    RunStatus.WAITING: "it is submitted with a delay",
}
"""Where a run begins, and how that comes."""

ACTIVATION_STARTS: Mapping[ActivationStatus, str] = {
    ActivationStatus.READY: "its signal is committed",
    ActivationStatus.RUNNING: "its signal is committed by a worker that keeps it",
    ActivationStatus.SCHEDULED: "its signal is committed with a delay",
    ActivationStatus.WAITING: "a signal from outside is expected, or a group has begun",
    ActivationStatus.CANCELLED: "its signal is committed by a run that ends",
}
"""Where an activation begins, and how that comes."""

RUN_MOVES: Mapping[tuple[RunStatus, RunMove], RunStatus] = {
    (RunStatus.RUNNING, RunMove.IDLE): RunStatus.WAITING,
    (RunStatus.WAITING, RunMove.WAKE): RunStatus.RUNNING,
    (RunStatus.RUNNING, RunMove.COMPLETE): RunStatus.COMPLETED,
    (RunStatus.RUNNING, RunMove.BACK_OFF): RunStatus.WAITING,
    (RunStatus.RUNNING, RunMove.FAIL): RunStatus.FAILED,
    (RunStatus.WAITING, RunMove.RETRY): RunStatus.RUNNING,
    (RunStatus.FAILED, RunMove.RETRY): RunStatus.RUNNING,
    (RunStatus.RUNNING, RunMove.PAUSE): RunStatus.PAUSED,
    (RunStatus.WAITING, RunMove.PAUSE): RunStatus.PAUSED,
    (RunStatus.COMPENSATING, RunMove.PAUSE): RunStatus.PAUSED,
    (RunStatus.PAUSED, RunMove.RESUME): RunStatus.RUNNING,
    (RunStatus.PAUSED, RunMove.RESUME_UNDOING): RunStatus.COMPENSATING,
    (RunStatus.RUNNING, RunMove.COMPENSATE): RunStatus.COMPENSATING,
    (RunStatus.WAITING, RunMove.COMPENSATE): RunStatus.COMPENSATING,
    (RunStatus.PAUSED, RunMove.COMPENSATE): RunStatus.COMPENSATING,
    (RunStatus.COMPENSATING, RunMove.UNDONE): RunStatus.COMPENSATED,
    (RunStatus.COMPENSATING, RunMove.FAIL): RunStatus.FAILED,
    (RunStatus.COMPENSATING, RunMove.CANCEL): RunStatus.CANCELLED,
    (RunStatus.RUNNING, RunMove.CANCEL): RunStatus.CANCELLED,
    (RunStatus.WAITING, RunMove.CANCEL): RunStatus.CANCELLED,
    (RunStatus.FAILED, RunMove.RETRY_UNDOING): RunStatus.COMPENSATING,
}

ACTIVATION_MOVES: Mapping[tuple[ActivationStatus, ActivationMove], ActivationStatus] = {
    (ActivationStatus.READY, ActivationMove.CLAIM): ActivationStatus.RUNNING,
    (ActivationStatus.RUNNING, ActivationMove.SUCCEED): ActivationStatus.DONE,
    (ActivationStatus.RUNNING, ActivationMove.BACK_OFF): ActivationStatus.SCHEDULED,
    (ActivationStatus.RUNNING, ActivationMove.FAIL): ActivationStatus.FAILED,
    (ActivationStatus.RUNNING, ActivationMove.CONFLICT): ActivationStatus.READY,
    (ActivationStatus.RUNNING, ActivationMove.RETURN): ActivationStatus.READY,
    (ActivationStatus.SCHEDULED, ActivationMove.DUE): ActivationStatus.READY,
    (ActivationStatus.FAILED, ActivationMove.REVIVE): ActivationStatus.READY,
    (ActivationStatus.READY, ActivationMove.CANCEL): ActivationStatus.CANCELLED,
    (ActivationStatus.RUNNING, ActivationMove.CANCEL): ActivationStatus.CANCELLED,
    (ActivationStatus.SCHEDULED, ActivationMove.CANCEL): ActivationStatus.CANCELLED,
    (ActivationStatus.WAITING, ActivationMove.CANCEL): ActivationStatus.CANCELLED,
    (ActivationStatus.WAITING, ActivationMove.ARRIVE): ActivationStatus.READY,
    (ActivationStatus.WAITING, ActivationMove.TIME_OUT): ActivationStatus.CANCELLED,
    (ActivationStatus.DONE, ActivationMove.UNDO): ActivationStatus.READY,
    (ActivationStatus.FAILED, ActivationMove.UNDO): ActivationStatus.READY,
    (ActivationStatus.CANCELLED, ActivationMove.UNDO): ActivationStatus.READY,
    (ActivationStatus.RUNNING, ActivationMove.UNDONE): ActivationStatus.COMPENSATED,
}

OUTSTANDING = frozenset(
    {ActivationStatus.READY, ActivationStatus.RUNNING, ActivationStatus.SCHEDULED, ActivationStatus.WAITING}
)
"""An activation in one of these can still move its run; but a gather waits for its group's members, which count themselves."""

ACTIVE = frozenset({ActivationStatus.READY, ActivationStatus.RUNNING})
"""An activation in one of these makes its run ``running`` rather than ``waiting``."""

ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.COMPENSATED, RunStatus.CANCELLED})
"""A run in one of these is over, unless it is ``failed`` and retried."""

FINAL = ENDED - {RunStatus.FAILED}
"""A run in one of these never moves again."""

_S = TypeVar("_S", RunStatus, ActivationStatus)
_M = TypeVar("_M", RunMove, ActivationMove)


def move(table: Mapping[tuple[_S, _M], _S], status: _S, by: _M) -> _S:
    """The status that follows. Raises ``LookupError`` for a pair that is not in the table."""
    try:
        return table[status, by]
    except KeyError:
        raise LookupError(f"{type(status).__name__} {status.value!r} is not moved by {by.name}") from None


def diagram(starts: Mapping[_S, str], table: Mapping[tuple[_S, _M], _S]) -> str:
    """The tables as a Mermaid state diagram; what nothing leaves is an end."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {start.value}: {how}" for start, how in starts.items()]
    lines += [f"    {before.value} --> {after.value}: {by.value}" for (before, by), after in table.items()]
    left = {before for before, _ in table}
    lines += [f"    {end.value} --> [*]" for end in dict.fromkeys(table.values()) if end not in left]
    return "\n".join(lines) + "\n"

"""What clients do with runs, written once for blocking and async callers.

A flow is a generator that hands out calls on its ``World`` and is given their results. In a blocking world a call has its
result already; in an async one it is an awaitable. Two short drivers run them, so there is no second implementation.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

from cnstra.orchestrator import slots, values
from cnstra.orchestrator.errors import (
    ContextError,
    RunNotFound,
    RunStateError,
    SubmitError,
)
from cnstra.orchestrator.graph import CNS, Collateral, Signal
from cnstra.orchestrator.machine.records import RetryAsked, Verdict
from cnstra.orchestrator.machine.states import ENDED, RunStatus
from cnstra.orchestrator.ports import Entropy, Ring
from cnstra.orchestrator.slots import Snapshot
from cnstra.orchestrator.store import Operations, RunEvent, Submission
from cnstra.orchestrator.submitting import (
    ListOptions,
    ManyOptions,
    SubmitOptions,
    filter_of,
    submission_of,
    submissions_of,
)

T = TypeVar("T")
Flow = Generator[Any, Any, T]

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25
_PAGE = 500
_INT4 = 2**31 - 1


class World(Protocol):
    """Where flows run: each method gives its result, or an awaitable of it."""

    def run(self, operation: Any, /) -> Any: ...
    def ring(self, rings: Sequence[Ring], /) -> Any: ...
    def sleep(self, seconds: float, /) -> Any: ...
    def monotonic(self) -> float: ...


def drive(flow: Flow[T]) -> T:
    """Run a flow in a blocking world."""
    given: Any = None
    while True:
        try:
            given = flow.send(given)
        except StopIteration as stop:
            return cast("T", stop.value)


async def drive_async(flow: Flow[T]) -> T:
    """Run a flow in an async world."""
    resume: tuple[Callable[[Any], Any], Any] = (flow.send, None)
    while True:
        call, given = resume
        try:
            awaitable = call(given)
        except StopIteration as stop:
            return cast("T", stop.value)
        try:
            resume = (flow.send, await awaitable)
        except BaseException as error:
            resume = (flow.throw, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run stands at its end.

    ``outputs`` are the signals that no neuron listens to, in the order of finishing; ``context`` is the shared value;
    ``error`` and ``error_type`` say why a failed run failed.
    """

    status: str
    outputs: tuple[Signal[Any], ...]
    context: Any
    error: str | None
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One version of a run's context: who wrote what. Without an activation, it was written from outside of the run."""

    version: int
    activation_id: int | None
    neuron: str | None
    written: Any
    removed: tuple[str, ...]
    local_written: Any
    at: datetime


class Flows:
    """All that clients ask for. ``cns`` is needed to submit, and decodes payloads and context where it is given."""

    def __init__(self, cns: CNS | None, operations: Operations, world: World, entropy: Entropy) -> None:
        self._cns = cns
        self._operations = operations
        self._world = world
        self._entropy = entropy
        self._checked = False

    def _run(self, operation: Any) -> Flow[Any]:
        if not self._checked:
            yield self._world.run(self._operations.check_schema())
            self._checked = True
        return (yield self._world.run(operation))

    # -- submit ------------------------------------------------------------------------------------------------

    def submit(self, signal: Signal[Any], options: SubmitOptions) -> Flow[uuid.UUID]:
        """Keep a run."""
        [run_id] = yield from self._keep([submission_of(self._graph(), signal, options, self._entropy)])
        return run_id

    def submit_many(self, signals: Iterable[Signal[Any]], options: ManyOptions) -> Flow[list[uuid.UUID]]:
        """Keep a run for each signal: all of them, or none."""
        return (yield from self._keep(submissions_of(self._graph(), signals, options, self._entropy)))

    def _graph(self) -> CNS:
        if self._cns is None:
            raise SubmitError("submitting needs the graph: Orchestrator(cns, ...)")
        return self._cns

    def _keep(self, submissions: list[Submission]) -> Flow[list[uuid.UUID]]:
        if not submissions:
            return []
        accepted, rings = yield from self._run(self._operations.submit(submissions))
        if rings:
            yield self._world.ring(rings)
        return [answer.run_id for answer in accepted]

    # -- one run -----------------------------------------------------------------------------------------------

    def row(self, run_id: uuid.UUID) -> Flow[Mapping[str, Any]]:
        """The run's row of ``cnstra.runs``. Raises ``RunNotFound``."""
        found = yield from self._run(self._operations.run_row(run_id))
        if found is None:
            raise _not_found(run_id)
        return cast("Mapping[str, Any]", found)

    def describe(self, run_id: uuid.UUID) -> Flow[dict[str, Any]]:
        """The run's row of ``cnstra.runs``, and its activations as a list."""
        row = yield from self.row(run_id)
        activations = yield from self._run(self._operations.activation_rows(run_id))
        return {**row, "activations": [dict(activation) for activation in activations]}

    def status(self, run_id: uuid.UUID) -> Flow[str]:
        found = yield from self._run(self._operations.run_status(run_id))
        if found is None:
            raise _not_found(run_id)
        return cast("str", found)

    def wait(self, run_id: uuid.UUID, timeout: float | None) -> Flow[RunResult]:
        """The run's result, once it has ended. Raises ``TimeoutError`` when it has not within ``timeout`` seconds."""
        until = None if timeout is None else self._world.monotonic() + timeout
        pause = _FIRST_PAUSE
        while True:
            status = yield from self.status(run_id)
            if RunStatus(status) in ENDED:
                return (yield from self.result(run_id))
            left = None if until is None else until - self._world.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"run {run_id} is {status} after {timeout} seconds; it goes on")
            yield self._world.sleep(pause if left is None else min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def result(self, run_id: uuid.UUID) -> Flow[RunResult]:
        row = yield from self.row(run_id)
        context = yield from self.context(run_id, None)
        return RunResult(
            status=row["status"],
            outputs=tuple(self._signal(output["collateral"], output["payload"]) for output in row["outputs"]),
            context=context,
            error=row["error"],
            error_type=row["error_type"],
        )

    def _signal(self, name: str, payload: Any) -> Signal[Any]:
        known = self._cns.collateral(name) if self._cns is not None else None
        return Signal(known, known.payload.decode(payload)) if known else Signal(Collateral(name, Any), payload)

    def context(self, run_id: uuid.UUID, version: int | None) -> Flow[Any]:
        """The shared value at a version; None when there was none."""
        snapshot = yield from self._run(self._operations.context_at(run_id, version))
        if snapshot is None:
            row = yield from self.row(run_id)
            raise ContextError(f"run {run_id}: its context has versions 0 to {row['context_version']}, not {version}")
        value = shared_value(snapshot)
        declared = self._cns.context_payload if self._cns is not None else None
        return value if value is None or declared is None else declared.decode(value)

    def history(self, run_id: uuid.UUID) -> Flow[list[Written]]:
        """Every version of the run's context, in order."""
        yield from self.status(run_id)
        rows = yield from self._run(self._operations.history(run_id))
        return [
            Written(
                version=row["version"],
                activation_id=row["activation_id"],
                neuron=row["neuron"],
                written=row["written"],
                removed=tuple(row["removed"]),
                local_written=row["local_written"],
                at=row["at"],
            )
            for row in rows
        ]

    def retry(self, run_id: uuid.UUID) -> Flow[None]:
        """Begin the next attempt of a failed run. Raises ``RunStateError`` for a run that has not failed.

        It has begun when this returns: by this call, or, where several ask at the same moment, by one of them.
        """
        row = yield from self.row(run_id)
        if row["status"] == RunStatus.FAILED:
            failed = row["attempt"]
            yield from self._retry([RunEvent(run_id=run_id, event=RetryAsked(attempt=failed))])
            row = yield from self.row(run_id)
            if row["attempt"] > failed:
                return
        after = f", and its next attempt is due at {row['next_retry_at']}" if row["next_retry_at"] else ""
        raise RunStateError(f"run {run_id} is {row['status']}{after}; only a failed run can be retried")

    def _retry(self, events: Sequence[RunEvent]) -> Flow[list[bool]]:
        applied = yield from self._run(self._operations.apply(events))
        if applied.rings:
            yield self._world.ring(applied.rings)
        return [answer.verdict is Verdict.APPLIED for answer in applied.answers]

    # -- many runs ---------------------------------------------------------------------------------------------

    def list_rows(self, options: ListOptions) -> Flow[list[Mapping[str, Any]]]:
        """The rows of ``cnstra.runs`` that fit, newest first."""
        return cast("list[Mapping[str, Any]]", (yield from self._run(self._operations.run_rows(filter_of(options)))))

    def retry_failed(self, graph: str | None) -> Flow[list[uuid.UUID]]:
        """Begin the next attempt of every run that is failed now, of one graph or of all; the ids of these runs."""
        retried: list[uuid.UUID] = []
        after: uuid.UUID | None = None
        while True:
            page = yield from self._run(self._operations.failed_runs(graph, after, _PAGE))
            if not page:
                return retried
            done = yield from self._retry([RunEvent(run_id=run_id, event=RetryAsked()) for run_id in page])
            retried += [run_id for run_id, was in zip(page, done, strict=True) if was]
            after = page[-1]


def shared_value(snapshot: Snapshot) -> Any:
    """The shared value that a snapshot's slots come to."""
    keys, otherwise = slots.shape(snapshot.slots)
    if keys:
        return {key: values.load(text) for key, text in keys.items()}
    return None if otherwise is None else values.load(otherwise)


def _not_found(run_id: uuid.UUID) -> RunNotFound:
    return RunNotFound(f"no run {run_id} is stored here; look at `cnstra runs`, and at CNSTRA_DATABASE_URL")

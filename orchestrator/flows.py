"""What clients do with runs, written once for blocking and async callers.

A flow is a generator that hands out calls on its ``World`` and is given their results. In a blocking world a call has its
result already; in an async one it is an awaitable. Two short drivers run them, so there is no second implementation.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, cast

from tenacity import BaseRetrying

from cnstra.orchestrator import slots, values
from cnstra.orchestrator.emission import encoded, targets_of
from cnstra.orchestrator.errors import ContextError, PayloadError, RunNotFound, RunStateError, SubmitError
from cnstra.orchestrator.graph import CNS, Collateral, Signal
from cnstra.orchestrator.machine.records import RetryAsked, Verdict
from cnstra.orchestrator.machine.states import ENDED, RunStatus
from cnstra.orchestrator.ports import Entropy, Ring
from cnstra.orchestrator.retry import to_data
from cnstra.orchestrator.slots import Snapshot
from cnstra.orchestrator.store import Accepted, Operations, RunEvent, RunFilter, Submission

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
    """One version of a run's context: who wrote what."""

    version: int
    activation_id: int
    neuron: str
    written: Any
    removed: tuple[str, ...]
    local_written: Any
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """What may be said of a run when it is submitted; the same for each of a batch."""

    run_id: uuid.UUID | str | None = None
    idempotency_key: str | None = None
    priority: int = 0
    delay: timedelta | None = None
    tags: Mapping[str, str] | None = None
    retry: BaseRetrying | None = None


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

    def submit(self, signals: Iterable[Signal[Any]], options: SubmitOptions) -> Flow[list[uuid.UUID]]:
        """Keep a run for each signal: all of them, or none."""
        submissions = [self._submission(signal, options) for signal in signals]
        if not submissions:
            return []
        accepted, rings = yield from self._run(self._operations.submit(submissions))
        _refuse_others(submissions, accepted)
        if rings:
            yield self._world.ring(rings)
        return [answer.run_id for answer in accepted]

    def _submission(self, signal: Signal[Any], options: SubmitOptions) -> Submission:
        if self._cns is None:
            raise SubmitError("submitting needs the graph: Orchestrator(cns, ...)")
        graph = self._cns.durable_name
        if not isinstance(signal, Signal):
            raise SubmitError(
                f"submit takes signals, got {type(signal).__name__}; make one: collateral.create_signal(...)"
            )
        name = signal.collateral.name
        known = self._cns.collateral(name)
        if known is not None and known is not signal.collateral:
            raise SubmitError(
                f"collateral {name!r} of the signal is not the one of that name in CNS {graph!r}; "
                "make the signal from the graph's own collateral"
            )
        payload = encoded(signal, f"submit to {graph!r}")
        targets = targets_of(self._cns, name, payload)
        if not targets:
            raise SubmitError(
                f"nobody in CNS {graph!r} hears {name!r}, so a run of it would do nothing; add a dendrite"
            )
        return Submission(
            run_id=self._entropy.run_id() if options.run_id is None else run_uuid(options.run_id, exact=True),
            graph=graph,
            graph_version=self._cns.version,
            pinned=self._cns.pinned,
            collateral=name,
            payload=payload,
            targets=tuple(targets),
            priority=_priority(options.priority),
            tags=_tags(options.tags),
            idempotency_key=_idempotency_key(options.idempotency_key),
            policy=None if options.retry is None else to_data(options.retry, where="submit(retry=)"),
            delay=_delay(options.delay),
        )

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
        """Begin the next attempt of a failed run. Raises ``RunStateError`` for a run that has not failed."""
        [retried] = yield from self._retry([run_id])
        if not retried:
            row = yield from self.row(run_id)
            after = f", and its next attempt is due at {row['next_retry_at']}" if row["next_retry_at"] else ""
            raise RunStateError(f"run {run_id} is {row['status']}{after}; only a failed run can be retried")

    def _retry(self, run_ids: Sequence[uuid.UUID]) -> Flow[list[bool]]:
        events = [RunEvent(run_id=run_id, event=RetryAsked()) for run_id in run_ids]
        applied = yield from self._run(self._operations.apply(events))
        if applied.rings:
            yield self._world.ring(applied.rings)
        return [answer.verdict is Verdict.APPLIED for answer in applied.answers]

    # -- many runs ---------------------------------------------------------------------------------------------

    def list_ids(self, which: RunFilter) -> Flow[list[uuid.UUID]]:
        rows = yield from self.list_rows(which)
        return [row["run_id"] for row in rows]

    def list_rows(self, which: RunFilter) -> Flow[list[Mapping[str, Any]]]:
        return cast("list[Mapping[str, Any]]", (yield from self._run(self._operations.run_rows(which))))

    def retry_failed(self, graph: str | None) -> Flow[list[uuid.UUID]]:
        """Begin the next attempt of every run that is failed now, of one graph or of all; the ids of these runs."""
        retried: list[uuid.UUID] = []
        after: uuid.UUID | None = None
        while True:
            page = yield from self._run(self._operations.failed_runs(graph, after, _PAGE))
            if not page:
                return retried
            done = yield from self._retry(page)
            retried += [run_id for run_id, was in zip(page, done, strict=True) if was]
            after = page[-1]


# -- what is refused at the door -----------------------------------------------------------------------------------


def run_uuid(given: uuid.UUID | str, *, exact: bool = False) -> uuid.UUID:
    """A run id as a UUID. Raises ``RunNotFound`` for what is none; ``exact`` demands a UUIDv7, for a new run."""
    try:
        value = given if isinstance(given, uuid.UUID) else uuid.UUID(given)
    except (ValueError, TypeError, AttributeError):
        problem = f"{given!r} is no run id; a run id is a UUID such as 0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10"
        raise (SubmitError if exact else RunNotFound)(problem) from None
    if exact and value.version != 7:
        raise SubmitError(
            f"run_id {value} is a UUID of version {value.version}, and run ids are UUIDv7, which sort by time; "
            "leave it out, and give your own id as idempotency_key"
        )
    return value


def tag_filter(tag: str | tuple[str, str] | None) -> tuple[str, str | None] | None:
    """A tag to look for: ``"key"``, ``"key=value"`` or ``(key, value)``."""
    if tag is None or isinstance(tag, tuple):
        return tag
    key, separator, value = tag.partition("=")
    return key, value if separator else None


def shared_value(snapshot: Snapshot) -> Any:
    """The shared value that a snapshot's slots come to."""
    keys, otherwise = slots.shape(snapshot.slots)
    if keys:
        return {key: values.load(text) for key, text in keys.items()}
    return None if otherwise is None else values.load(otherwise)


def _not_found(run_id: uuid.UUID) -> RunNotFound:
    return RunNotFound(f"no run {run_id} is stored here; look at `cnstra runs`, and at CNSTRA_DATABASE_URL")


def _refuse_others(submissions: Sequence[Submission], accepted: Sequence[Accepted]) -> None:
    for submission, answer in zip(submissions, accepted, strict=True):
        if not answer.same:
            taken = (
                f"run_id {submission.run_id}"
                if answer.run_id == submission.run_id
                else f"idempotency_key {submission.idempotency_key!r}"
            )
            raise SubmitError(
                f"{taken} is that of run {answer.run_id}, which was started by another signal; "
                "give another key for another payload"
            )


def _priority(priority: int) -> int:
    if type(priority) is not int or not -_INT4 <= priority <= _INT4:
        raise SubmitError(f"priority {priority!r} is no integer of 32 bits; higher ones are claimed first, 0 is usual")
    return priority


def _idempotency_key(key: str | None) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str) or not key or len(key) > 400 or not key.isprintable():
        raise SubmitError(f"idempotency_key {key!r} must be a printable string of 1 to 400 characters")
    return key


def _tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    found = dict(tags or {})
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, str) or not key:
            raise SubmitError(f"tag {key!r}: {value!r} must be a string for a string")
    values.dump(found, where="tags", error=PayloadError)
    return found


def _delay(delay: timedelta | None) -> timedelta | None:
    if delay is None:
        return None
    if not isinstance(delay, timedelta) or not timedelta(0) <= delay <= timedelta(days=36_525):
        raise SubmitError(f"delay {delay!r} must be a timedelta from nothing to a century")
    return delay

"""What clients do with runs, written once for blocking and async callers.

A flow is a generator that hands out calls on its ``World`` and is given their results. In a blocking world a call has its
result already; in an async one it is an awaitable. Two short drivers run them, so there is no second implementation.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from msgspec.structs import replace

from cnstra.orchestrator import sealing, slots, values
from cnstra.orchestrator.blobs import USUAL_PLACE, Blobs, Fetched, keys_of
from cnstra.orchestrator.choosing import ChoiceOptions, OpenChoiceOptions, cancellable, choice_of
from cnstra.orchestrator.cloning import CloneOptions, clone_of
from cnstra.orchestrator.driving import driven, driven_async
from cnstra.orchestrator.errors import (
    CnstraError,
    ConfigurationError,
    ContextError,
    ContextExpired,
    ContextLost,
    PayloadError,
    RunNotFound,
    RunStateError,
    SealError,
    SendError,
    StoreUnavailable,
    SubmitError,
)
from cnstra.orchestrator.graph import CNS, Collateral, PayloadType, Signal
from cnstra.orchestrator.machine.events import CancelAsked, Event, PauseAsked, ResumeAsked, RetryAsked, Sent
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Ending
from cnstra.orchestrator.machine.states import ENDED, RunStatus
from cnstra.orchestrator.ports import Entropy, Ring
from cnstra.orchestrator.retention import RULES, KeepOptions, age, prunable, rules_of
from cnstra.orchestrator.sending import checked_key, sendable, sending_key
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Look, Operation, Operations, Portion, Posting, RunEvent, Sightings, Submission
from cnstra.orchestrator.submitting import (
    ListOptions,
    ManyOptions,
    SubmitOptions,
    filter_of,
    refuse_unknown,
    submission_of,
    submissions_of,
)

T = TypeVar("T")
Flow = Generator[Any, Any, T]

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25
_PORTION = 100
"""Versions that a watch asks for at once: each may be as large as a value can be."""
_PAGE = 500
_PAGE_OF_ENDS = 100  # all that is open of each of these runs is read, and ended, in one transaction
_BREATH = 0.01
_INT4 = 2**31 - 1


class World(Protocol):
    """Where flows run: each method gives its result, or an awaitable of it."""

    def run(self, operation: Any, /) -> Any: ...
    def run_in(self, connection: Any, operation: Any, /) -> Any: ...
    def ring(self, rings: Sequence[Ring], /) -> Any: ...
    def call(self, blocking: Callable[[], Any], /) -> Any: ...
    def sleep(self, seconds: float, /) -> Any: ...
    def monotonic(self) -> float: ...


class Kept(NamedTuple):
    """A run that is kept, and the doorbells that are still to be rung for it."""

    run_id: uuid.UUID
    rings: tuple[Ring, ...] = ()


def rings_within(rings: Iterable[Ring], run_id: uuid.UUID) -> tuple[Ring, ...]:
    """The part of doorbells that is for one run."""
    found = []
    for ring in rings:
        activations = tuple(one for one in ring.activations if one[0] == run_id)
        if activations:
            found.append(Ring(door=ring.door, activations=activations))
    return tuple(found)


def drive(flow: Flow[T]) -> T:
    """Run a flow in a blocking world, which has done what the flow asks when it is asked."""
    return driven(flow, lambda done: done)


async def drive_async(flow: Flow[T]) -> T:
    """Run a flow in an async world."""
    return await driven_async(flow, lambda awaitable: awaitable)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run stands at its end.

    ``outputs`` are the signals that no neuron listens to, in the order of finishing; ``context`` is the shared value, None
    also where the retention has taken it, and where a run has failed and a part of its context is lost. What does not fit its
    declared type is the JSON that is stored. ``error`` and ``error_type`` say why a failed run failed.
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
    """All that clients ask for. ``cns`` is needed to submit, and decodes payloads and context where it is given.

    ``blobs``, where given, is the store of the user's own in which new runs keep their contexts.
    """

    def __init__(
        self, cns: CNS | None, operations: Operations, world: World, entropy: Entropy, blobs: Blobs | None = None
    ) -> None:
        if cns is not None and not isinstance(cns, CNS):
            raise ConfigurationError(
                f"{cns!r} is no CNS; give the graph itself, CNS([...], name='shop'), or leave it out"
            )
        self._cns = cns
        self._operations = operations
        self._world = world
        self._entropy = entropy
        self._blobs = blobs
        self._checked = False

    @property
    def world(self) -> World:
        """Where these flows run."""
        return self._world

    def _run(self, operation: Any) -> Flow[Any]:
        if not self._checked:
            yield self._world.run(self._operations.check_schema())
            self._checked = True
        return (yield self._world.run(operation))

    # -- submit ------------------------------------------------------------------------------------------------

    def submit(self, signal: Signal[Any], options: SubmitOptions) -> Flow[Kept]:
        """Keep a run."""
        refuse_unknown("submit", options, SubmitOptions)
        submission = submission_of(self._graph(), signal, options, self._entropy)
        [kept] = yield from self._keep(self._placed([submission]), options.get("connection"))
        return kept

    def submit_many(self, signals: Iterable[Signal[Any]], options: ManyOptions) -> Flow[list[Kept]]:
        """Keep a run for each signal: all of them, or none."""
        refuse_unknown("submit_many", options, ManyOptions)
        submissions = submissions_of(self._graph(), signals, options, self._entropy)
        return (yield from self._keep(self._placed(submissions), options.get("connection")))

    def clone(self, run_id: uuid.UUID, options: CloneOptions) -> Flow[Kept]:
        """Keep a clone of a run, whose context is kept where the original's is. Raises ``RunNotFound`` and ``SubmitError``."""
        refuse_unknown("clone", options, CloneOptions)
        cns = self._graph("cloning")
        original = yield from self._run(self._operations.original(run_id))
        if original is None:
            raise not_found(run_id)
        [kept] = yield from self._keep([clone_of(cns, run_id, original, options, self._entropy)], None)
        return kept

    def _graph(self, doing: str = "submitting", error: type[CnstraError] = SubmitError) -> CNS:
        if self._cns is None:
            raise error(f"{doing} needs the graph: Orchestrator(cns, ...)")
        return self._cns

    def _placed(self, submissions: list[Submission]) -> list[Submission]:
        """Runs that are submitted here keep their contexts in the store of contexts that was given here."""
        if self._blobs is None:
            return submissions
        return [replace(submission, place=self._blobs.place) for submission in submissions]

    def _keep(self, submissions: list[Submission], connection: Any) -> Flow[list[Kept]]:
        """Keep runs. In a transaction of the user's nobody would find them yet, so that the doorbells are for later."""
        if not submissions:
            return []
        operation = self._operations.submit(submissions)
        if connection is not None:
            accepted, rings = yield self._world.run_in(connection, operation)
            return [Kept(answer.run_id, rings_within(rings, answer.run_id)) for answer in accepted]
        accepted, rings = yield from self._run(operation)
        if rings:
            yield self._world.ring(rings)
        return [Kept(answer.run_id) for answer in accepted]

    def ring(self, rings: Sequence[Ring]) -> Flow[None]:
        """Ring doorbells."""
        if rings:
            yield self._world.ring(rings)

    # -- one run -----------------------------------------------------------------------------------------------

    def row(self, run_id: uuid.UUID) -> Flow[Mapping[str, Any]]:
        """The run's row of ``cnstra.runs``. Raises ``RunNotFound``."""
        found = yield from self._run(self._operations.run_row(run_id))
        if found is None:
            raise not_found(run_id)
        return cast("Mapping[str, Any]", found)

    def describe(self, run_id: uuid.UUID) -> Flow[dict[str, Any]]:
        """The run's row of ``cnstra.runs``, and its activations as a list."""
        row = yield from self.row(run_id)
        activations = yield from self._run(self._operations.activation_rows(run_id))
        if not activations:  # every run has some: it was pruned in between
            raise not_found(run_id)
        return {**row, "activations": [dict(activation) for activation in activations]}

    def status(self, run_id: uuid.UUID) -> Flow[str]:
        found = yield from self._run(self._operations.run_status(run_id))
        if found is None:
            raise not_found(run_id)
        return cast("str", found)

    def wait(self, run_id: uuid.UUID, timeout: float | None) -> Flow[RunResult]:
        """The run's result, once it has ended. Raises ``TimeoutError`` when it has not within ``timeout`` seconds."""
        yield from self.ended(run_id, timeout)
        return (yield from self.result(run_id))

    def ended(self, run_id: uuid.UUID, timeout: float | None) -> Flow[None]:
        """Return when the run has ended, without a look at its context. Raises ``TimeoutError`` likewise."""
        if timeout is not None and not (isinstance(timeout, int | float) and timeout == timeout):
            raise ConfigurationError(f"timeout={timeout!r} must be a number of seconds, or None to wait without end")
        until = None if timeout is None else self._world.monotonic() + timeout
        pause = _FIRST_PAUSE
        while True:
            status = yield from self._run(self._operations.current_status(run_id))
            if status is None:
                raise not_found(run_id)
            if RunStatus(status) in ENDED:
                return
            left = None if until is None else until - self._world.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"run {run_id} is {status} after {timeout} seconds; it goes on")
            yield self._world.sleep(pause if left is None else min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def result(self, run_id: uuid.UUID) -> Flow[RunResult]:
        row = yield from self.row(run_id)
        try:
            context = yield from self._stored_context(run_id, None)
            if context is not None and self._declared is not None:
                context = _decoded(self._declared, context)
        except ContextExpired:
            context = None
        except ContextLost:  # it may have failed for that: then this is its error, and not the waiting's
            if row["status"] == RunStatus.COMPLETED:
                raise
            context = None
        return RunResult(
            status=row["status"],
            outputs=tuple(
                self._signal(f"run {run_id}", output["collateral"], output["payload"]) for output in row["outputs"]
            ),
            context=context,
            error=row["error"],
            error_type=row["error_type"],
        )

    def _signal(self, run: str, name: str, payload: Any) -> Signal[Any]:
        known = self._cns.collateral(name) if self._cns is not None else None
        sealing.refuse_sealed(payload, f"{run}, an output on {name!r}")
        if known is None:
            return Signal(Collateral(name, Any), payload)
        return Signal(known, _decoded(known.payload, payload))

    @property
    def _declared(self) -> PayloadType | None:
        """The type that the graph declares for contexts."""
        return self._cns.context_payload if self._cns is not None else None

    def context(self, run_id: uuid.UUID, version: int | None) -> Flow[Any]:
        """The shared value at a version; None when there was none."""
        value = yield from self._stored_context(run_id, version)
        return value if value is None or self._declared is None else self._declared.decode(value)

    def _stored_context(self, run_id: uuid.UUID, version: int | None) -> Flow[Any]:
        """It, as it is stored: exactly JSON."""
        if version is not None:
            _require_version(run_id, version)
        snapshot = yield from self._run(self._operations.context_at(run_id, version))
        if snapshot is None:
            row = yield from self.row(run_id)
            raise ContextError(f"run {run_id}: its context has versions 0 to {row['context_version']}, not {version}")
        if snapshot.version and not snapshot.slots:
            yield from self.row(run_id)  # it, too, may have gone
            raise _expired(run_id)
        return (yield from self._shared(run_id, snapshot))

    def _shared(self, run_id: uuid.UUID, snapshot: Snapshot) -> Flow[Any]:
        """The shared value of a snapshot, wherever its parts are kept."""
        if snapshot.place is not None:
            [slots_at] = yield from self._values(run_id, snapshot.place, [snapshot.slots])
            snapshot = Snapshot(version=snapshot.version, slots=slots_at)
        return shared_value(snapshot, f"context of run {run_id}")

    def history(self, run_id: uuid.UUID, after: int = 0) -> Flow[list[Written]]:
        """Every version of the run's context after one, in order."""
        run = yield from self.row(run_id)
        return (yield from self._written(run, after))

    def watched(self, run_id: uuid.UUID, after: int, status: str | None) -> Flow[tuple[str, int, list[Written]]]:
        """The run's status, the version of its context, and what was written after a version, as soon as there is something, or
        the status is another. Where much was written, it is the first portion: no more than that waits in memory.

        A store that goes away meanwhile is asked again; not one that is away at the first look, where no status is known.
        Raises ``RunNotFound``, ``ContextExpired``, ``StoreUnavailable``.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                run = yield from self._run(self._operations.run_standing(run_id))
                if run is None:
                    raise not_found(run_id)
                written = yield from self._written(run, after, _PORTION)
            except StoreUnavailable:
                if status is None:
                    raise
                pause = _LONGEST_PAUSE
            else:
                if written and written[0].version != after + 1:
                    raise ContextExpired(
                        f"run {run_id}: what came after version {after} of its context has been deleted; the oldest that is "
                        f"kept is version {written[0].version}: begin after {written[0].version - 1}"
                    )
                if written or run["status"] != status:
                    return run["status"], run["context_version"], written
            yield self._world.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _written(self, run: Mapping[str, Any], after: int, limit: int | None = None) -> Flow[list[Written]]:
        run_id = run["run_id"]
        if run["context_version"] <= after:
            return []
        rows = yield from self._run(self._operations.history(run_id, after, limit))
        if not rows:
            yield from self.row(run_id)  # or the run has gone with them
            raise _expired(run_id)
        if run["context_place"] is not None:
            rows = yield from self._with_values(run_id, run["context_place"], rows)
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

    # -- mirrors -----------------------------------------------------------------------------------------------

    def sighted(self, look: Look) -> Flow[Sightings]:
        """How runs stand."""
        return cast("Sightings", (yield from self._run(self._operations.sight(look))))

    def newest(self, runs: Mapping[uuid.UUID, str | None]) -> Flow[dict[uuid.UUID, tuple[int, Any] | CnstraError]]:
        """The newest versions of runs' contexts with their shared values, by run; ``runs`` says where each is kept.

        In the place of a value stands what went wrong with one run. Left out is who has none, or none any more.
        """
        found: dict[uuid.UUID, tuple[int, Any] | CnstraError] = {}
        for run_id, snapshot in (yield from self._run(self._operations.contexts_of(list(runs)))).items():
            try:
                value = yield from self._shared(run_id, replace(snapshot, place=runs[run_id]))
            except (ConfigurationError, ContextLost, SealError, StoreUnavailable) as error:
                found[run_id] = error
            else:
                found[run_id] = (snapshot.version, value)
        return found

    # -- contexts that are kept elsewhere ----------------------------------------------------------------------

    def _values(
        self, run_id: uuid.UUID, place: str, contexts: Sequence[Mapping[str, Slot]]
    ) -> Flow[list[dict[str, Slot]]]:
        """Slots with their values, from the store that keeps them. Raises ``ContextLost``."""
        blobs = self._blobs
        if blobs is None or blobs.place != place:
            named = "" if place == USUAL_PLACE else f", context_name={place!r}"
            raise ConfigurationError(
                f"run {run_id} keeps its context in the store {place!r}, which was not given here; "
                f"pass it: Orchestrator(..., context=store{named})"
            )
        keys = set[str]().union(*map(keys_of, contexts))
        fetched: Fetched = yield self._world.call(lambda: blobs.fetch(keys))
        return [fetched.values(context, f"run {run_id}") for context in contexts]

    def _with_values(
        self, run_id: uuid.UUID, place: str, rows: Sequence[Mapping[str, Any]]
    ) -> Flow[list[dict[str, Any]]]:
        """Rows of the history with what they wrote."""
        versions: dict[int, dict[str, Slot]] = {row["version"]: {} for row in rows}
        first, last = rows[0]["version"], rows[-1]["version"]
        for one in (yield from self._run(self._operations.references(run_id, first - 1, last))):
            if one.version in versions:
                versions[one.version][one.slot] = Slot(one.version, one.text)
        if not all(versions.values()):  # every version wrote something: it went after the rows were read
            yield from self.row(run_id)
            raise _expired(run_id)
        contexts = yield from self._values(run_id, place, list(versions.values()))
        found = []
        for row, context in zip(rows, contexts, strict=True):
            written, local = slots.written_by({name: slot.text for name, slot in context.items()})
            found.append({**row, "written": written, "local_written": local})
        return found

    def retry(self, run_id: uuid.UUID) -> Flow[None]:
        """Begin the next attempt of a failed run. Raises ``RunStateError`` for one that has not failed, or that is too late.

        It has begun when this returns: by this call, or, where several ask at the same moment, by one of them.
        """
        row = yield from self.row(run_id)
        if row["status"] == RunStatus.FAILED:
            failed = row["attempt"]
            yield from self._tell([RunEvent(run_id=run_id, event=RetryAsked(attempt=failed))])
            row = yield from self.row(run_id)
            if row["attempt"] > failed:
                return
            if row["status"] == RunStatus.FAILED:
                raise RunStateError(
                    f"run {run_id} has passed its deadline, so no attempt of it can follow; clone it instead"
                )
        after = f", and its next attempt is due at {row['next_retry_at']}" if row["next_retry_at"] else ""
        raise RunStateError(f"run {run_id} is {row['status']}{after}; only a failed run can be retried")

    def cancel(self, run_id: uuid.UUID, compensate: bool) -> Flow[None]:
        """End a run. Raises ``RunStateError`` for one that has ended otherwise, or that is ending in another way."""
        if (yield from self._ask(run_id, CancelAsked(compensate=compensate))):
            return
        row = yield from self.row(run_id)
        status, ending = row["status"], row["ending"]
        undone = status in (RunStatus.COMPENSATING, RunStatus.COMPENSATED)
        if ending != Ending.CANCELLED:
            because = ": it has passed its deadline" if ending and status not in ENDED else ""
            raise RunStateError(f"run {run_id} is {status}{because}; it cannot be cancelled any more")
        if undone != compensate and status not in (RunStatus.CANCELLED, RunStatus.FAILED, RunStatus.PAUSED):
            how = f"{'was' if status in ENDED else 'is being'} cancelled already, {'with' if undone else 'without'}"
            raise RunStateError(f"run {run_id} {how} compensation")

    def pause(self, run_id: uuid.UUID) -> Flow[None]:
        """Let nothing of a run be claimed until it is resumed. Raises ``RunStateError`` for one that has ended, or is ending."""
        if (yield from self._ask(run_id, PauseAsked())):
            return
        row = yield from self.row(run_id)
        if row["status"] != RunStatus.PAUSED:
            ends = ", and is being cancelled" if row["status"] not in ENDED else ""
            raise RunStateError(f"run {run_id} is {row['status']}{ends}; it cannot be paused")

    def resume(self, run_id: uuid.UUID) -> Flow[None]:
        """Let a paused run go on; one that is not paused does so already. Raises ``RunStateError`` for one that has ended."""
        if not (yield from self._ask(run_id, ResumeAsked())):
            status = yield from self.status(run_id)
            if RunStatus(status) in ENDED:
                raise RunStateError(f"run {run_id} is {status}; only a paused run can be resumed")

    def send(self, run_id: uuid.UUID, signal: Signal[Any], idempotency_key: str | None) -> Flow[None]:
        """Send a signal to a run. Raises ``RunStateError`` for one that has ended, or is ending."""
        payload = sendable(self._cns, signal, f"run {run_id}")
        sent = Sent(
            collateral=signal.collateral.name,
            payload=payload,
            idempotency_key=sending_key(idempotency_key, self._entropy),
        )
        yield from self.row(run_id)
        applied = yield from self._run(self._operations.apply([RunEvent(run_id=run_id, event=sent)]))
        if applied.rings:
            yield self._world.ring(applied.rings)
        verdict = applied.answers[0].verdict
        if verdict is Verdict.REFUSED:
            raise _sent_before(sent.idempotency_key, f"run {run_id}")
        if verdict is Verdict.VOID:
            status = yield from self.status(run_id)
            ends = "" if RunStatus(status) in ENDED else ", and ends"
            raise RunStateError(f"run {run_id} is {status}{ends}; it takes no signals any more")

    def send_by_key(self, signal: Signal[Any], key: str, idempotency_key: str | None) -> Flow[uuid.UUID | None]:
        """Send a signal to whichever run of the graph expects it by a key; that run, or None while nobody does."""
        cns = self._graph("sending by key", SendError)
        payload = sendable(cns, signal, f"key {key!r}")
        posting = Posting(
            graph=cns.durable_name,
            key=checked_key(key),
            collateral=signal.collateral.name,
            payload=payload,
            idempotency_key=sending_key(idempotency_key, self._entropy),
        )
        posted = yield from self._run(self._operations.post(posting))
        if posted.rings:
            yield self._world.ring(posted.rings)
        if not posted.same:
            raise _sent_before(posting.idempotency_key, f"key {key!r}")
        return cast("uuid.UUID | None", posted.run_id)

    def _ask(self, run_id: uuid.UUID, event: Event) -> Flow[bool]:
        """Something that somebody asks of a run; whether its state allowed that."""
        [applied] = yield from self._tell([RunEvent(run_id=run_id, event=event)])
        return applied

    def _tell(self, events: Sequence[RunEvent]) -> Flow[list[bool]]:
        applied = yield from self._run(self._operations.apply(events))
        if applied.rings:
            yield self._world.ring(applied.rings)
        return [answer.verdict is Verdict.APPLIED for answer in applied.answers]

    # -- many runs ---------------------------------------------------------------------------------------------

    def list_rows(self, options: ListOptions) -> Flow[list[Mapping[str, Any]]]:
        """The rows of ``cnstra.runs`` that fit, newest first."""
        refuse_unknown("list_runs", options, ListOptions)
        return cast("list[Mapping[str, Any]]", (yield from self._run(self._operations.run_rows(filter_of(options)))))

    def retry_failed(self, options: ChoiceOptions, dry_run: bool) -> Flow[list[uuid.UUID]]:
        """Begin the next attempt of every run that is failed now and is meant; the ids of these runs."""
        refuse_unknown("retry_failed", options, ChoiceOptions)
        which = choice_of(options, (yield from self._run(self._operations.now())))
        return (
            yield from self._tell_each(
                lambda after: self._operations.failed_runs(which, after, _PAGE), None if dry_run else RetryAsked()
            )
        )

    def cancel_runs(self, options: OpenChoiceOptions, compensate: bool, dry_run: bool) -> Flow[list[uuid.UUID]]:
        """End every run that is meant and is not ending already; the ids of these runs."""
        refuse_unknown("cancel_runs", options, OpenChoiceOptions)
        statuses = cancellable(options)
        which = choice_of(options, (yield from self._run(self._operations.now())))
        return (
            yield from self._tell_each(
                lambda after: self._operations.open_runs(which, statuses, after, _PAGE_OF_ENDS),
                None if dry_run else CancelAsked(compensate=compensate),
            )
        )

    def _tell_each(
        self, page_after: Callable[[uuid.UUID | None], Operation[list[uuid.UUID]]], event: Event | None
    ) -> Flow[list[uuid.UUID]]:
        """Ask something of runs, page by page, each in a transaction of its own; those of which it could be asked.

        Without an event nothing is asked of them. When a page fails, those before it have been told.
        """
        told: list[uuid.UUID] = []
        after: uuid.UUID | None = None
        while True:
            page = yield from self._run(page_after(after))
            if not page:
                return told
            done = [True] * len(page)
            if event is not None:
                done = yield from self._tell([RunEvent(run_id=run_id, event=event) for run_id in page])
            told += [run_id for run_id, was in zip(page, done, strict=True) if was]
            after = page[-1]

    # -- retention ---------------------------------------------------------------------------------------------

    def retention(self) -> Flow[dict[str, timedelta | None]]:
        """How long what has ended is kept, by rule; None is for ever."""
        kept = yield from self._run(self._operations.retention())
        return {what: kept[what] for what in RULES}

    def set_retention(self, options: KeepOptions) -> Flow[None]:
        """Change rules. Raises ``ConfigurationError`` for rules that there are not."""
        rules = rules_of(options)
        if rules:
            yield from self._run(self._operations.set_retention(rules))

    def prune(
        self, older_than: timedelta, statuses: Sequence[str] | None, dry_run: bool, limit: int | None
    ) -> Flow[dict[str, int]]:
        """Delete runs that ended longer ago than that, in short transactions; how many, by status."""
        wanted, long = prunable(statuses), age(older_than)
        if limit is not None and limit < 0:
            raise ConfigurationError(f"limit={limit} is less than nothing")
        before = (yield from self._run(self._operations.now())) - long
        left = limit
        if dry_run:
            counts = yield from self._run(self._operations.count_ended(wanted, before))
            return dict(_first_of(counts, left))
        pruned = dict.fromkeys(wanted, 0)
        portion = Portion()
        while left is None or left > 0:
            runs = portion.runs if left is None else min(left, portion.runs)
            batch = yield from self._run(self._operations.prune(wanted, before, Portion(runs=runs, rows=portion.rows)))
            for _, status in batch.runs:
                pruned[status] += 1
            if not batch.more:
                break
            left = None if left is None else left - len(batch.runs)
            yield self._world.sleep(_BREATH)
        return pruned


def _first_of(counts: Mapping[str, int], limit: int | None) -> Generator[tuple[str, int]]:
    """So many of what was counted, status by status, as they would go."""
    for status, count in counts.items():
        taken = count if limit is None else min(count, limit)
        limit = None if limit is None else limit - taken
        yield status, taken


def shared_value(snapshot: Snapshot, where: str | None = None) -> Any:
    """The shared value that a snapshot's slots come to.

    With ``where``, which names it, raises ``KeyMissing`` where something of it is sealed, and nobody has opened that.
    """
    keys, otherwise = slots.shape(snapshot.slots)
    if where is not None:
        for text in (*keys.values(), otherwise or ""):
            if sealing.is_sealed(text):
                raise sealing.not_opened(sealing.label_of(text) or "", where)
    if keys:
        return {key: values.load(text) for key, text in keys.items()}
    return None if otherwise is None else values.load(otherwise)


def whole(snapshot: Snapshot) -> tuple[Any, dict[str, Any]]:
    """The shared value that a snapshot's slots come to, and the local contexts by neuron."""
    return shared_value(snapshot), {
        neuron: values.load(slot.text)
        for name, slot in snapshot.slots.items()
        if slot.text is not None and (neuron := slots.local_neuron(name)) is not None
    }


def _sent_before(idempotency_key: str, where: str) -> SendError:
    return SendError(
        f"{where}: idempotency_key {idempotency_key!r} is that of another signal, which was sent before, or of one that is "
        "sealed, and cannot be compared without its codec; give another key for another signal, and for no other reason"
    )


def not_found(run_id: uuid.UUID) -> RunNotFound:
    """What is said of a run that is not stored, or not any more."""
    return RunNotFound(
        f"no run {run_id} is stored here: it never was, or it was pruned after its end, by hand or by `cnstra retention`; "
        "look at `cnstra runs`, and at CNSTRA_DATABASE_URL"
    )


def _decoded(declared: PayloadType, value: Any) -> Any:
    """A value as its declared type; as it is stored, where it does not fit that any more: how a run ended raises nothing."""
    try:
        return declared.decode(value)
    except PayloadError:
        return value


def _require_version(run_id: uuid.UUID, version: Any) -> None:
    if type(version) is not int or version < 0:
        raise ContextError(f"run {run_id}: {version!r} is no version of a context; versions are whole numbers from 0")


def _expired(run_id: uuid.UUID) -> ContextExpired:
    return ContextExpired(
        f"run {run_id}: its context is not kept any longer; cnstra.context.expires_at says since when, "
        "and `cnstra retention` for how long contexts are"
    )

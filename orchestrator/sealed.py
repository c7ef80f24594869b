"""What is sealed of all that goes into a store of runs, and opened of all that comes out of it.

Payloads, outputs, results, values of the context, progress, and the messages and tracebacks of errors. Names, keys of the
context, tags, idempotency keys and types of errors are not: they are looked for, and shown. Decides nothing, and reads no store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator import sealing, values
from cnstra.orchestrator.errors import SealError
from cnstra.orchestrator.machine.events import Event, Expected, FailedTry, GaveWay, Scattered, Sent, Succeeded
from cnstra.orchestrator.machine.records import Failure, Late, Output, Target
from cnstra.orchestrator.sealing import Bound, Vault
from cnstra.orchestrator.slots import Changes, Slot, Snapshot
from cnstra.orchestrator.store import Applied, Report, RunEvent, Submission, Work

T = TypeVar("T")


class Sealing:
    """Seals what one run is told. A text that comes several times for the same thing is sealed once, and stays one text."""

    def __init__(self, vault: Vault, run_id: UUID) -> None:
        self._vault = vault
        self._run_id = run_id
        self._payloads: dict[tuple[str, str], str] = {}

    def event(self, event: Event) -> Event:
        """An event as it is kept."""
        match event:
            case Succeeded():
                return self._succeeded(event)
            case FailedTry() | GaveWay():
                return replace(event, failure=self._failure(event.failure))
            case Sent():
                return replace(event, payload=self.payload(event.collateral, event.payload))
            case _:
                return event

    def payload(self, collateral: str, text: str) -> str:
        """A payload of a signal."""
        sealed = self._payloads.get((collateral, text))
        if sealed is None:
            sealed = self._vault.seal(text, sealing.payload(self._run_id, collateral))
            self._payloads[collateral, text] = sealed
        return sealed

    def targets(self, targets: Iterable[Target]) -> tuple[Target, ...]:
        """The dendrites that a signal starts."""
        return tuple(replace(one, payload=self.payload(one.collateral, one.payload)) for one in targets)

    def _outputs(self, outputs: Iterable[Output]) -> tuple[Output, ...]:
        return tuple(replace(one, payload=self.payload(one.collateral, one.payload)) for one in outputs)

    def _succeeded(self, event: Succeeded) -> Succeeded:
        return replace(
            event,
            targets=self.targets(event.targets),
            outputs=self._outputs(event.outputs),
            results=self._outputs(event.results),
            expected=tuple(map(self._expected, event.expected)),
            scattered=tuple(map(self._scattered, event.scattered)),
            # Where there is a blob they are its key already, and it is sealed itself.
            changes=event.changes
            if event.blob is not None
            else sealed_changes(self._vault, self._run_id, event.changes),
        )

    def _expected(self, expected: Expected) -> Expected:
        """Its own targets have no payload yet."""
        late = expected.late
        return replace(
            expected,
            late=Late(
                targets=self.targets(late.targets),
                outputs=self._outputs(late.outputs),
                results=self._outputs(late.results),
            ),
        )

    def _scattered(self, scattered: Scattered) -> Scattered:
        collateral = scattered.collateral
        return replace(scattered, payloads=tuple(self.payload(collateral, text) for text in scattered.payloads))

    def _failure(self, failure: Failure) -> Failure:
        trace = failure.traceback
        return Failure(
            error_type=failure.error_type,
            error=self._vault.seal_note(failure.error, sealing.message(self._run_id)),
            traceback=None if trace is None else self._vault.seal_note(trace, sealing.traceback(self._run_id)),
        )


def sealed_submission(vault: Vault, submission: Submission) -> Submission:
    """A new run as it is kept."""
    sealed = Sealing(vault, submission.run_id)
    return replace(
        submission,
        payload=sealed.payload(submission.collateral, submission.payload),
        targets=sealed.targets(submission.targets),
    )


def sealed_event(vault: Vault, happening: RunEvent) -> RunEvent:
    """What happens to a run, as it is kept."""
    event = Sealing(vault, happening.run_id).event(happening.event)
    return happening if event is happening.event else replace(happening, event=event)


def sealed_changes(vault: Vault, run_id: UUID, changes: Changes) -> Changes:
    """A hop's writes as they are kept."""
    writes = (
        write
        if write.text is None
        else replace(write, text=vault.seal(write.text, sealing.context(run_id, write.slot)))
        for write in changes.writes
    )
    return replace(changes, writes=tuple(writes)) if changes.writes else changes


def sealed_report(vault: Vault, report: Report) -> Report:
    """What a handler reports, as it is kept."""
    bound = sealing.progress(report.run_id, report.fence.activation_id)
    return replace(report, progress=vault.seal(report.progress, bound))


# -- what comes out ------------------------------------------------------------------------------------------------


def opened_payload(vault: Vault, text: str, run_id: UUID, collateral: str) -> str:
    """The payload of a signal, or the results of a group. Raises ``SealError``."""
    if not sealing.may_hold_one(text):
        return text
    if sealing.is_sealed(text):
        return _of_run_or_posted(vault.open, text, run_id, collateral)
    return values.dump_again(_opened_results(vault, values.load(text), run_id, collateral))


def _of_run_or_posted(open_: Callable[[T, Bound], T], sealed: T, run_id: UUID, collateral: str) -> T:
    """What was sent by key belonged to no run when it was sealed."""
    try:
        return open_(sealed, sealing.payload(run_id, collateral))
    except SealError as error:
        try:
            return open_(sealed, sealing.payload(None, collateral))
        except SealError:
            raise error from None


def opened_value(vault: Vault, value: Any, run_id: UUID, collateral: str) -> Any:
    """A payload that is parsed already, or the results of a group."""
    if sealing.envelope_of(value) is not None:
        return _of_run_or_posted(vault.open_value, value, run_id, collateral)
    return _opened_results(vault, value, run_id, collateral)


def _opened_results(vault: Vault, given: Any, run_id: UUID, collateral: str) -> Any:
    """What a gather is called with: results; or each as a result, or as the failure that stands in its place."""
    if not isinstance(given, list):
        return given
    return [_opened_result(vault, one, run_id, collateral) for one in given]


def _opened_result(vault: Vault, one: Any, run_id: UUID, collateral: str) -> Any:
    if sealing.envelope_of(one) is not None:
        return _of_run_or_posted(vault.open_value, one, run_id, collateral)
    if not isinstance(one, dict):
        return one
    if one.keys() == {"result"} and sealing.envelope_of(one["result"]) is not None:
        return {"result": _of_run_or_posted(vault.open_value, one["result"], run_id, collateral)}
    failure = one.get("failure")
    if one.keys() == {"failure"} and isinstance(failure, dict) and isinstance(failure.get("error"), str):
        payload, scattered = failure.get("payload"), failure.get("collateral", "")
        if sealing.envelope_of(payload) is not None:
            payload = _of_run_or_posted(vault.open_value, payload, run_id, scattered)
        error = vault.open_note(failure["error"], sealing.message(run_id))
        return {"failure": {**failure, "payload": payload, "error": error}}
    return one


def opened_slots(vault: Vault, run_id: UUID, held: Mapping[str, Slot]) -> Mapping[str, Slot]:
    """Slots of a context. Raises ``SealError``. Of those that are no envelopes, references to blobs too, nothing changes."""
    opened = {
        name: Slot(slot.version, vault.open(slot.text, sealing.context(run_id, name)))
        for name, slot in held.items()
        if slot.text is not None and slot.text.startswith(sealing.ENVELOPE)
    }
    return {**held, **opened} if opened else held


def opened_snapshot(vault: Vault, run_id: UUID, snapshot: Snapshot) -> Snapshot:
    """A context. Raises ``SealError``."""
    held = opened_slots(vault, run_id, snapshot.slots)
    return snapshot if held is snapshot.slots else replace(snapshot, slots=held)


def opened_work(vault: Vault, work: Work) -> Work:
    """Claimed work, ready for its call; where it cannot be opened, with the reason, and as it was."""
    run_id, progress = work.run_id, work.progress
    try:
        return replace(
            work,
            payload=opened_payload(vault, work.payload, run_id, work.collateral),
            snapshot=opened_snapshot(vault, run_id, work.snapshot),
            emitted=tuple(
                replace(one, payload=opened_payload(vault, one.payload, run_id, one.collateral)) for one in work.emitted
            ),
            progress=None if progress is None else vault.open(progress, sealing.progress(run_id, work.activation_id)),
        )
    except SealError as error:
        return replace(work, unopened=error)


def opened_applied(vault: Vault, run_id: UUID, applied: Applied) -> Applied:
    """What became of an event; where a value that others wrote cannot be opened, with the reason."""
    if applied.kept:
        return replace(applied, kept=tuple(opened_work(vault, work) for work in applied.kept))
    if not applied.newest:
        return applied
    try:
        return replace(applied, newest=opened_slots(vault, run_id, applied.newest))
    except SealError as error:
        return replace(applied, unopened=error)

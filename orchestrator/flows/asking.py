"""What is asked of runs that have begun: retries, ends, pauses and signals; of one, or of all that are meant."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, cast

from cnstra.orchestrator.choosing import ChoiceOptions, OpenChoiceOptions, cancellable, choice_of
from cnstra.orchestrator.errors import RunStateError, SendError
from cnstra.orchestrator.flows.looking import Looking
from cnstra.orchestrator.flows.worlds import Flow
from cnstra.orchestrator.graph import Signal
from cnstra.orchestrator.machine.events import CancelAsked, Event, PauseAsked, ResumeAsked, RetryAsked, Sent
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Ending
from cnstra.orchestrator.machine.states import ENDED, RunStatus
from cnstra.orchestrator.sending import checked_key, sendable, sending_key
from cnstra.orchestrator.store import Operation, Posting, RunEvent
from cnstra.orchestrator.submitting import refuse_unknown

_PAGE = 500
_PAGE_OF_ENDS = 100  # all that is open of each of these runs is read, and ended, in one transaction


class Asking(Looking):
    """The flows of who wants something of runs."""

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


def _sent_before(idempotency_key: str, where: str) -> SendError:
    return SendError(
        f"{where}: idempotency_key {idempotency_key!r} is that of another signal, which was sent before, or of one that is "
        "sealed, and cannot be compared without its codec; give another key for another signal, and for no other reason"
    )

"""A store of runs whose data is sealed: around another store, of either colour.

What goes into that one is sealed on the way, what comes out of it is opened; neither it nor those who use this one know of it.
So there is one place where texts are sealed, and nothing can pass it by. An operation here comes to one of the other store's,
now and then to more. Owns no keys, and knows no database.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator import sealing
from cnstra.orchestrator.batches import repeats, same_payload, same_signal
from cnstra.orchestrator.driving import driven, driven_async
from cnstra.orchestrator.errors import SealError, SubmitError
from cnstra.orchestrator.machine.events import Sent
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.ports import Foresee, Ring
from cnstra.orchestrator.sealed import (
    opened_applied,
    opened_payload,
    opened_snapshot,
    opened_work,
    sealed_event,
    sealed_report,
    sealed_submission,
)
from cnstra.orchestrator.sealed_rows import Rows
from cnstra.orchestrator.sealed_steps import SealedTransactions
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.slots import Snapshot
from cnstra.orchestrator.store import (
    READMITTED_AT_ONCE,
    Accepted,
    Applied,
    AppliedBatch,
    ClaimRequest,
    Claims,
    Operation,
    Operations,
    Original,
    Posted,
    Posting,
    Report,
    RunEvent,
    RunFilter,
    Submission,
    Transactional,
    Transactions,
    WorkerInfo,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")

Asks = Generator[Operation[Any], Any, T]
"""Hands out operations of the other store, and is given their results."""
Submitted = tuple[list[Accepted], tuple[Ring, ...]]


@dataclass(frozen=True, slots=True)
class SealedOperation(Generic[T_co]):
    """What comes to operations of the other store."""

    name: str
    asks: Callable[[], Asks[T_co]]

    def result_type(self) -> T_co:
        raise NotImplementedError("an operation is given to a runner")


AS_THEY_ARE = frozenset(
    {
        *(
            "check_schema",
            "now",
            "run_status",
            "current_status",
            "run_standing",
            "sight",
            "look",
            "lost_claims",
            "renew",
            "leave",
            "lift_limits",
        ),
        *("failed_runs", "open_runs", "set_unknown_aside", "references", "litter", "litter_gone"),
        *("prune", "expire", "count_ended", "retention", "set_retention"),
        *("entries", "letter", "posted"),  # what stands there, to be opened and compared here
        "next_moment",
    }
)
"""Operations that carry no data, or texts that are to stay sealed: the other store's own. Any other has to be written here."""


class _Sealed:
    """The operations, of both colours. Raises ``AttributeError`` for one of which nobody has said what is sealed of it."""

    def __init__(self, store: Operations, vault: Vault) -> None:
        self._inner: Any = store
        self._vault = vault
        self._rows = Rows(vault)

    def __getattr__(self, name: str) -> Any:
        if name not in AS_THEY_ARE:
            raise AttributeError(f"{type(self).__name__} has no operation {name!r}: what of it is sealed was not said")
        return getattr(self._inner, name)

    def _then(self, operation: Operation[T], opened: Callable[[T], R]) -> SealedOperation[R]:
        """An operation whose result is opened."""

        def asks() -> Asks[R]:
            return opened((yield operation))

        return SealedOperation(operation.name, asks)

    # -- clients -----------------------------------------------------------------------------------------------

    def submit(self, submissions: Sequence[Submission], foresee: Foresee | None = None) -> SealedOperation[Submitted]:
        sealed = [sealed_submission(self._vault, submission) for submission in submissions]
        for place, first in repeats(submissions).items():
            if same_signal(submissions[first], submissions[place]):
                sealed[place] = replace(sealed[place], payload=sealed[first].payload)
        return SealedOperation("submit", lambda: self._submit(submissions, sealed, foresee))

    def _submit(
        self, submissions: Sequence[Submission], sealed: list[Submission], foresee: Foresee | None
    ) -> Asks[Submitted]:
        """Sealed twice, one payload is two texts: where an id or a key is taken, what stands there is opened and compared."""
        try:
            return cast("Submitted", (yield self._inner.submit(sealed, foresee)))
        except SubmitError:
            entries = yield self._inner.entries(sealed)
            again = list(map(self._as_kept, submissions, sealed, entries))
            if again == sealed:
                raise
        return cast("Submitted", (yield self._inner.submit(again)))

    def _as_kept(self, submission: Submission, sealed: Submission, entry: tuple[UUID, str, str] | None) -> Submission:
        """A submit with the text of the run that it repeats, where that is the same signal."""
        if entry is None or entry[1] != submission.collateral:
            return sealed
        run_id, collateral, text = entry
        same = same_payload(opened_payload(self._vault, text, run_id, collateral), submission.payload)
        return replace(sealed, payload=text) if same else sealed

    def post(self, posting: Posting) -> SealedOperation[Posted]:
        bound = sealing.payload(None, posting.collateral)
        sealed = replace(posting, payload=self._vault.seal(posting.payload, bound))

        def asks() -> Asks[Posted]:
            posted: Posted = yield self._inner.post(sealed)
            if posted.same:
                return posted
            kept = yield self._inner.posted(posting.graph, posting.key, posting.idempotency_key)
            if kept is None or kept[0] != posting.collateral:
                return posted
            return replace(posted, same=same_payload(self._vault.open(kept[1], bound), posting.payload))

        return SealedOperation("post", asks)

    def run_row(self, run_id: UUID) -> SealedOperation[Mapping[str, Any] | None]:
        return self._then(self._inner.run_row(run_id), lambda row: None if row is None else self._rows.run(row))

    def run_outcome(self, run_id: UUID) -> SealedOperation[Mapping[str, Any] | None]:
        return self._then(self._inner.run_outcome(run_id), lambda row: None if row is None else self._rows.outcome(row))

    def run_rows(self, which: RunFilter) -> SealedOperation[list[Mapping[str, Any]]]:
        return self._then(self._inner.run_rows(which), lambda rows: list(map(self._rows.run, rows)))

    def activation_rows(self, run_id: UUID) -> SealedOperation[list[Mapping[str, Any]]]:
        return self._then(self._inner.activation_rows(run_id), lambda rows: list(map(self._rows.activation, rows)))

    def history(
        self, run_id: UUID, after: int = 0, limit: int | None = None
    ) -> SealedOperation[list[Mapping[str, Any]]]:
        return self._then(self._inner.history(run_id, after, limit), lambda rows: list(map(self._rows.written, rows)))

    def context_at(self, run_id: UUID, version: int | None) -> SealedOperation[Snapshot | None]:
        def opened(snapshot: Snapshot | None) -> Snapshot | None:
            return None if snapshot is None else opened_snapshot(self._vault, run_id, snapshot)

        return self._then(self._inner.context_at(run_id, version), opened)

    def contexts_of(self, run_ids: Sequence[UUID]) -> SealedOperation[Mapping[UUID, Snapshot]]:
        """Where one of them cannot be opened, the others can: that one stays as it is, and who reads its values says why."""

        def opened(run_id: UUID, snapshot: Snapshot) -> Snapshot:
            try:
                return opened_snapshot(self._vault, run_id, snapshot)
            except SealError:
                return snapshot

        return self._then(
            self._inner.contexts_of(run_ids),
            lambda found: {run_id: opened(run_id, snapshot) for run_id, snapshot in found.items()},
        )

    def original(self, run_id: UUID) -> SealedOperation[Original | None]:
        def opened(original: Original | None) -> Original | None:
            if original is None:
                return None
            payload = opened_payload(self._vault, original.payload, run_id, original.collateral)
            return replace(original, payload=payload)

        return self._then(self._inner.original(run_id), opened)

    # -- workers -----------------------------------------------------------------------------------------------

    def register(self, worker: WorkerInfo, limit: int = READMITTED_AT_ONCE) -> Operation[bool]:
        return cast("Operation[bool]", self._inner.register(self._able(worker), limit))

    def readmit(self, worker: WorkerInfo, limit: int = READMITTED_AT_ONCE) -> Operation[bool]:
        return cast("Operation[bool]", self._inner.readmit(self._able(worker), limit))

    def suspects_wait(self, request: ClaimRequest) -> Operation[bool]:
        return cast("Operation[bool]", self._inner.suspects_wait(self._able(request)))

    def claim(self, request: ClaimRequest) -> SealedOperation[Claims]:
        def opened(claims: Claims) -> Claims:
            found = Claims(opened_work(self._vault, work) for work in claims)
            found.missed = claims.missed
            return found

        return self._then(self._inner.claim(self._able(request)), opened)

    def _able(self, who: Any) -> Any:
        """A worker, or its request, that says what it can open."""
        return replace(who, places=sealing.places_with(who.places, self._vault.labels))

    def report(self, reports: Sequence[Report]) -> SealedOperation[list[Report]]:
        claims = {(one.run_id, one.fence): one for one in reports}

        def opened(refused: list[Report]) -> list[Report]:
            return [claims[one.run_id, one.fence] for one in refused]

        return self._then(self._inner.report([sealed_report(self._vault, one) for one in reports]), opened)

    def apply(self, events: Sequence[RunEvent]) -> SealedOperation[AppliedBatch]:
        sealed = [sealed_event(self._vault, happening) for happening in events]
        return SealedOperation("apply", lambda: self._apply(events, sealed))

    def _apply(self, events: Sequence[RunEvent], sealed: Sequence[RunEvent]) -> Asks[AppliedBatch]:
        batch: AppliedBatch = yield self._inner.apply(sealed)
        left = set(batch.left)
        settled = [happening for place, happening in enumerate(events) if place not in left]
        answers = []
        for happening, answer in zip(settled, batch.answers, strict=True):
            found = opened_applied(self._vault, happening.run_id, answer)
            if found.verdict is Verdict.REFUSED and isinstance(happening.event, Sent):
                found = yield from self._sent_again(happening.run_id, happening.event, found)
            answers.append(found)
        return replace(batch, answers=tuple(answers))

    def _sent_again(self, run_id: UUID, sent: Sent, refused: Applied) -> Asks[Applied]:
        """A signal whose idempotency key is taken: by itself, where what was sent before comes to the same."""
        kept = yield self._inner.letter(run_id, sent.idempotency_key)
        if kept is None or kept[0] != sent.collateral:
            return refused
        opened = opened_payload(self._vault, kept[1], run_id, sent.collateral)
        return replace(refused, verdict=Verdict.REPEATED) if same_payload(opened, sent.payload) else refused


class SealedStore(_Sealed):
    """For blocking callers."""

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation. Raises as the other store does, and ``SealError``."""
        return self._carried_out(operation, self._inner.run)

    def run_in(self, connection: Any, operation: Operation[T], /) -> T:
        """The same in a transaction of the caller's."""
        return self._carried_out(operation, lambda inner: self._inner.run_in(connection, inner))

    def _carried_out(self, operation: Operation[T], run: Callable[[Operation[Any]], Any]) -> T:
        if not isinstance(operation, SealedOperation):
            return cast("T", run(operation))
        return cast("T", driven(operation.asks(), run))

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        self._inner.close()


class SealedAsyncStore(_Sealed):
    """For async callers."""

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation. Raises as the other store does, and ``SealError``."""
        return await self._carried_out(operation, self._inner.run)

    async def run_in(self, connection: Any, operation: Operation[T], /) -> T:
        """The same in a transaction of the caller's."""
        return await self._carried_out(operation, lambda inner: self._inner.run_in(connection, inner))

    async def _carried_out(self, operation: Operation[T], run: Callable[[Operation[Any]], Any]) -> T:
        if not isinstance(operation, SealedOperation):
            return cast("T", await run(operation))
        return cast("T", await driven_async(operation.asks(), run))

    async def close(self) -> None:
        """Let go of all connections. Idempotent."""
        await self._inner.close()


# -- hops that share their transaction with the handler --------------------------------------------------------------


class SealedTransactionalStore(SealedStore):
    """For blocking callers, around a store in whose transactions handlers can take part."""

    def transactions(self, limit: int) -> Transactions:
        """Transactions that handlers take part in."""
        return SealedTransactions(self._inner.transactions(limit), self._vault)


def sealed_store(store: T, vault: Vault | None) -> T:
    """A store of runs for blocking callers, sealed where there is a vault."""
    if vault is None:
        return store
    kind = SealedTransactionalStore if isinstance(store, Transactional) else SealedStore
    return cast("T", kind(cast("Operations", store), vault))


def sealed_async_store(store: T, vault: Vault | None) -> T:
    """The same for async callers."""
    return store if vault is None else cast("T", SealedAsyncStore(cast("Operations", store), vault))

"""Hops that share their transaction with the handler."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from cnstra.orchestrator.store.claims import Work
from cnstra.orchestrator.store.settling import AppliedBatch, RunEvent


class Step(Protocol):
    """The open transaction of one claim: the handler's statements on ``connection``, and then the hop's settlement.

    One face for both colours: of a sync handler's, nothing here ever suspends.
    """

    @property
    def connection(self) -> Any:
        """What the handler is given, until it has ended."""
        ...

    @property
    def ended_by_hand(self) -> Exception | None:
        """What to say of a handler that has ended the transaction itself."""
        ...

    def passes(self, error: BaseException) -> bool:
        """Whether what the handler raised only says that its transaction was undone, and is to be done again."""
        ...

    async def settle(self, happening: RunEvent) -> AppliedBatch:
        """Settle in this transaction; what is not ``APPLIED`` leaves no trace in it. The handler has ended.

        Raises ``TransactionError`` where the transaction cannot be committed any more, ``DataRefused``,
        ``StoreUnavailable`` for what passes, and what else the store says of the handler's own data.
        """
        ...

    async def commit(self) -> None:
        """Commit what was applied. Raises as ``settle``; after ``StoreUnavailable`` nobody knows whether it is committed."""
        ...

    async def undo(self) -> None:
        """Roll all of it back. Raises nothing."""
        ...

    async def discard(self) -> None:
        """The same for one that is in an unknown state: without a word to the store, whose connection ends."""
        ...


class Transactions(Protocol):
    """Begins such transactions, for one worker process."""

    async def begin(self, work: Work, worker: UUID, *, asynchronous: bool) -> Step:
        """The transaction of a claim of ``worker``. Raises ``StoreUnavailable`` when no connection is to be had soon."""
        ...

    def close(self) -> None:
        """Let go of the connections of sync handlers. Idempotent."""
        ...

    async def close_async(self) -> None:
        """Let go of those of async handlers, on their event loop. Idempotent."""
        ...


@runtime_checkable
class Transactional(Protocol):
    """A store of runs in whose transactions handlers can take part: ``transaction=True``. It need not be one."""

    def transactions(self, limit: int) -> Transactions:
        """``limit`` of each colour at most are open at a time."""
        ...

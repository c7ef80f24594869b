"""Hops that share their transaction with the handler, where data is sealed: the hop's is, and what the handler itself writes on
its connection is its own, and is not.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.sealed import opened_applied, sealed_event
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.store import AppliedBatch, RunEvent, Step, Transactions, Work


class SealedTransactions:
    """Begins such transactions."""

    def __init__(self, inner: Transactions, vault: Vault) -> None:
        self._inner, self._vault = inner, vault

    async def begin(self, work: Work, worker: UUID, *, asynchronous: bool) -> Step:
        return _SealedStep(await self._inner.begin(work, worker, asynchronous=asynchronous), self._vault)

    def close(self) -> None:
        self._inner.close()

    async def close_async(self) -> None:
        await self._inner.close_async()


class _SealedStep:
    """One of them."""

    def __init__(self, inner: Step, vault: Vault) -> None:
        self._inner, self._vault = inner, vault

    @property
    def connection(self) -> Any:
        return self._inner.connection

    @property
    def ended_by_hand(self) -> Exception | None:
        return self._inner.ended_by_hand

    def passes(self, error: BaseException) -> bool:
        return self._inner.passes(error)

    async def settle(self, happening: RunEvent) -> AppliedBatch:
        batch = await self._inner.settle(sealed_event(self._vault, happening))
        answers = tuple(opened_applied(self._vault, happening.run_id, answer) for answer in batch.answers)
        return replace(batch, answers=answers)

    async def commit(self) -> None:
        await self._inner.commit()

    async def undo(self) -> None:
        await self._inner.undo()

    async def discard(self) -> None:
        await self._inner.discard()

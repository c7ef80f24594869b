"""The handles of runs that labs give: those of the clients, and what a test wants to know beside."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from typing_extensions import Unpack

from cnstra.client import AsyncRun, Run
from cnstra.orchestrator.cloning import CloneOptions
from cnstra.orchestrator.flows import Flows
from cnstra.stores.memory import MemoryStore
from cnstra.testing.calls import HandlerCall, Journal, Which
from cnstra.testing.story import told


class _Observed:
    """What a lab knows of a run, in both colours: it is in memory, so that nothing needs to be awaited."""

    id: UUID
    _store: MemoryStore
    _journal: Journal

    def calls(self, which: Which = None, /) -> list[HandlerCall]:
        """The calls of this run's handlers so far, in order; only a neuron's, or a dendrite's, where one is given.

        A try that failed before its call, as by ``lab.fail``, is none.
        """
        return self._journal.calls(which, self.id)

    def activations(self) -> list[dict[str, Any]]:
        """The run's rows of ``cnstra.activations``, by number."""
        return [dict(row) for row in self._store.run(self._store.activation_rows(self.id))]

    def __repr__(self) -> str:
        row = self._store.run(self._store.run_row(self.id))
        if row is None:
            return f"<run {self.id}, which is not stored any more>"
        return f"<{told(row, self.activations())}>"


class LabRun(_Observed, Run):
    """One run in a ``Lab``. ``wait`` drives the lab; its timeout is in seconds of the lab's time."""

    def __init__(self, run_id: UUID, flows: Flows, store: MemoryStore, journal: Journal) -> None:
        super().__init__(run_id, flows)
        self._store, self._journal = store, journal

    def clone(self, **options: Unpack[CloneOptions]) -> LabRun:
        """Start a new run from the same entry signal, as ``Run.clone`` does."""
        return LabRun(super().clone(**options).id, self._flows, self._store, self._journal)


class AsyncLabRun(_Observed, AsyncRun):
    """One run in an ``AsyncLab``. ``wait`` drives the lab; its timeout is in seconds of the lab's time."""

    def __init__(self, run_id: UUID, flows: Flows, store: MemoryStore, journal: Journal) -> None:
        super().__init__(run_id, flows)
        self._store, self._journal = store, journal

    async def clone(self, **options: Unpack[CloneOptions]) -> AsyncLabRun:
        """Start a new run from the same entry signal, as ``AsyncRun.clone`` does."""
        return AsyncLabRun((await super().clone(**options)).id, self._flows, self._store, self._journal)

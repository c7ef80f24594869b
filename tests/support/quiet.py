"""Workers at whose door nobody rings, and whose supervisor does not look: they hear of nothing but what they do themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from cnstra import CNS, Signal
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.submitting import submission_of
from cnstra.stores.memory import MemoryStore
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.worker import Worker
from support.waiting import eventually

PATIENCE = 60.0
NEVER = timedelta(days=1)


class Quiet:
    """A bell, and a door at which nobody rings."""

    def ring(self, rings: Any) -> None: ...
    def close(self) -> None: ...
    def start(self) -> None: ...
    def stop(self, timeout: float = 0.0) -> None: ...


def _listen(queues: tuple[str, ...], rung: Callable[[str, Iterable[tuple[UUID, int]]], None]) -> Quiet:
    return Quiet()


def kept(store: MemoryStore, cns: CNS, signals: Iterable[Signal[Any]]) -> list[UUID]:
    """Runs that are there before the worker comes."""
    submissions = [submission_of(cns, signal, {}, SystemEntropy()) for signal in signals]
    store.run(store.submit(submissions))
    return [submission.run_id for submission in submissions]


@contextmanager
def serving(store: MemoryStore, cns: CNS) -> Iterator[None]:
    """Such a worker."""
    settings = WorkerSettings(look_every=NEVER, lease=NEVER, drain=timedelta(seconds=1))
    worker = Worker(cns, store, Quiet(), _listen, settings, SystemEntropy())
    worker.start()
    yield
    worker.stop()


def completed(store: MemoryStore, runs: list[UUID]) -> None:
    def done() -> bool:
        return {store.run(store.run_status(run_id)) for run_id in runs} == {"completed"}

    eventually(done, PATIENCE, what="all runs are completed")

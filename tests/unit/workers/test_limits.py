"""A worker and the limits of its neurons, over a store in memory: nobody rings, and the supervisor does not look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

from cnstra import CNS, Axon, Signal, collateral, neuron
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.store import ClaimRequest, Claims
from cnstra.orchestrator.submitting import submission_of
from cnstra.stores.memory import MemoryStore
from cnstra.stores.memory.operations import MemoryOperation
from cnstra.stores.memory.state import State
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.worker import Worker
from support.waiting import eventually

PATIENCE = 60.0
NEVER = timedelta(days=1)

begin = collateral("begin", int)


class DeskAxon(Axon):
    again = collateral("again", int)
    done = collateral("done", int)


desk = neuron("desk", DeskAxon, concurrency=1)


@desk.dendrite(begin)
def take(number: int, axon: DeskAxon) -> Signal[int]:
    return axon.again.create_signal(number)


@desk.dendrite(DeskAxon.again)
async def serve(number: int, axon: DeskAxon) -> Signal[int]:
    return axon.done.create_signal(number)


cns = CNS([desk], name="desk")


class Quiet:
    """A bell, and a door at which nobody rings."""

    def ring(self, rings: Any) -> None: ...
    def close(self) -> None: ...
    def start(self) -> None: ...
    def stop(self, timeout: float = 0.0) -> None: ...


def _listen(queues: tuple[str, ...], rung: Callable[[str, Iterable[tuple[UUID, int]]], None]) -> Quiet:
    return Quiet()


def kept(store: MemoryStore, runs: int) -> list[UUID]:
    """Runs that are there before the worker comes."""
    submissions = [submission_of(cns, begin.create_signal(number), {}, SystemEntropy()) for number in range(runs)]
    store.run(store.submit(submissions))
    return [submission.run_id for submission in submissions]


@contextmanager
def serving(store: MemoryStore) -> Iterator[None]:
    """A worker that hears of nothing but what it does itself."""
    settings = WorkerSettings(look_every=NEVER, lease=NEVER, drain=timedelta(seconds=1))
    worker = Worker(cns, store, Quiet(), _listen, settings, SystemEntropy())
    worker.start()
    yield
    worker.stop()


def completed(store: MemoryStore, runs: list[UUID]) -> None:
    def done() -> bool:
        return {store.run(store.run_status(run_id)) for run_id in runs} == {"completed"}

    eventually(done, PATIENCE, what="all runs are completed")


def test_who_frees_a_place_takes_what_waits_for_it() -> None:
    """Sync and async hops of one neuron, one after the other, with a successor that passes the limit, too."""
    store = MemoryStore()
    runs = kept(store, 5)
    with serving(store):
        completed(store, runs)


class Busy(MemoryStore):
    """Somebody else holds the limits at the first claims."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._asked = count()
        self._times = times

    def claim(self, request: ClaimRequest) -> MemoryOperation[Claims]:  # type: ignore[override]
        if next(self._asked) >= self._times:
            return super().claim(request)
        missed = Claims()
        missed.missed = True

        def carry_out(_state: State) -> Claims:
            return missed

        return MemoryOperation("claim", carry_out)


def test_who_passed_over_a_limit_asks_again() -> None:
    """Nobody else tells it that the limit is free."""
    store = Busy(times=3)
    runs = kept(store, 1)
    with serving(store):
        completed(store, runs)

"""A worker and the limits of its neurons, over a store in memory: nobody rings, and the supervisor does not look."""

from __future__ import annotations

from itertools import count
from uuid import UUID

from cnstra import CNS, Axon, Signal, collateral, neuron
from cnstra.orchestrator.store import ClaimRequest, Claims
from cnstra.stores.memory import MemoryStore
from cnstra.stores.memory.operations import MemoryOperation
from cnstra.stores.memory.state import State
from support.quiet import completed, kept, serving

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


def begun(store: MemoryStore, runs: int) -> list[UUID]:
    """Runs that are there before the worker comes."""
    return kept(store, cns, [begin.create_signal(number) for number in range(runs)])


def test_who_frees_a_place_takes_what_waits_for_it() -> None:
    """Sync and async hops of one neuron, one after the other, with a successor that passes the limit, too."""
    store = MemoryStore()
    runs = begun(store, 5)
    with serving(store, cns):
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
    runs = begun(store, 1)
    with serving(store, cns):
        completed(store, runs)

"""How many handlers run at once: of a neuron, over all stimulations of a CNS, and of one stimulation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cnstra import CNS, collateral, neuron
from support.stimulating import Told, end_of, in_a_loop

start, work, done = collateral("start", int), collateral("work", int), collateral("done", int)


class Busy:
    """A handler that waits until it is let go, and knows how many calls of it there were at once."""

    def __init__(self) -> None:
        self.now = self.most = self.calls = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def handler(self, n: int, axon: Any) -> Any:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting
        self.now -= 1
        return axon.done.create_signal(n)

    async def let_all_go(self, stimulations: list[Any]) -> None:
        """Let whoever waits go, until all has ended."""
        while not all(stimulation.is_complete for stimulation in stimulations):
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.set_result(None)
            await asyncio.sleep(0)
        for stimulation in stimulations:
            await stimulation.wait_until_complete()


def workers(busy: Busy, producers: int, concurrency: int | None) -> CNS:
    """Producers that all emit work for one worker."""
    neurons: list[Any] = []
    for index in range(producers):
        made = neuron(f"producer {index}", {"work": work})
        made.dendrite(start)(lambda n, axon: axon.work.create_signal(n))
        neurons.append(made)
    worker = neuron("worker", {"done": done}, concurrency=concurrency)
    worker.dendrite(work)(busy.handler)
    return CNS([*neurons, worker])


@pytest.mark.parametrize(("producers", "limit", "most"), [(2, 1, 1), (3, 2, 2), (2, None, 2), (3, 5, 3)])
def test_a_neuron_runs_as_many_handlers_at_once_as_it_may(producers: int, limit: int | None, most: int) -> None:
    """One after the other with a limit of one, up to the limit with more, all of them without."""
    busy, told = Busy(), Told()

    @in_a_loop
    async def stimulate() -> None:
        cns = workers(busy, producers, limit)
        await busy.let_all_go([cns.stimulate(start.create_signal(1), on_response=told)])

    stimulate()

    assert busy.most == most
    assert told.payloads("done") == [1] * producers
    told.check()


@in_a_loop
async def test_the_limit_of_a_neuron_holds_over_stimulations() -> None:
    """Ten stimulations of one CNS, one place: never two at once, and all of them end."""
    busy, told = Busy(), Told()
    cns = workers(busy, 1, 1)

    await busy.let_all_go([cns.stimulate(start.create_signal(n), on_response=told) for n in range(10)])

    assert busy.most == 1
    assert told.payloads("done") == list(range(10)), "who has waited longest comes first"


@in_a_loop
async def test_two_graphs_of_one_neuron_have_places_of_their_own() -> None:
    """The limit is one CNS's: the same neuron in another one does not wait."""
    busy = Busy()
    worker = neuron("worker", {"done": done}, concurrency=1)
    worker.dendrite(work)(busy.handler)

    await busy.let_all_go([CNS([worker]).stimulate(work.create_signal(1)) for _ in range(2)])

    assert busy.most == 2


@in_a_loop
async def test_the_limit_of_a_stimulation_bounds_its_handlers_that_suspended() -> None:
    """Over all of its neurons; another stimulation has its own."""
    busy = Busy()
    cns = workers(busy, 5, None)

    await busy.let_all_go([cns.stimulate(start.create_signal(1), concurrency=2) for _ in range(2)])

    assert busy.calls == 10
    assert busy.most == 4


@in_a_loop
async def test_a_place_is_given_up_by_a_handler_that_fails_or_is_stopped() -> None:
    """Whoever waits gets it, however the one before ended."""
    calls = list[int]()
    worker = neuron("worker", concurrency=1)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @worker.dendrite(work)
    async def handle(n: int) -> None:
        calls.append(n)
        if n == 0:
            raise ValueError("before it suspends")
        if n == 1:
            await asyncio.sleep(0)
            raise ValueError("after it suspended")
        if n == 2:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
            await never

    stimulation = CNS([worker]).stimulate([work.create_signal(n) for n in range(4)])
    await end_of(stimulation)

    assert calls == [0, 1, 2, 3]
    kinds = [type(failure.error) for failure in stimulation.failed_tasks]
    assert kinds == [ValueError, ValueError, asyncio.CancelledError]


@in_a_loop
async def test_places_got_while_the_stimulation_is_full_are_used_in_their_order() -> None:
    """Two tasks get places while a handler elsewhere takes up the stimulation's own limit: the first one runs first."""
    calls = list[int]()
    let_go, full = asyncio.Event(), asyncio.Event()
    worker, other = neuron("worker", concurrency=2), neuron("other")

    @worker.dendrite(work)
    async def handle(n: int) -> None:
        calls.append(n)
        await let_go.wait()

    @other.dendrite(done)
    async def take_up_the_limit(n: int) -> None:
        await full.wait()

    cns = CNS([worker, other])
    before = cns.stimulate([work.create_signal(1), work.create_signal(2)])
    after = cns.stimulate([work.create_signal(3), work.create_signal(4), done.create_signal(0)], concurrency=1)
    let_go.set()
    await before.wait_until_complete()
    await asyncio.sleep(0)  # both places are handed over in this iteration of the loop
    assert calls == [1, 2], "the second stimulation is full"
    full.set()
    await after.wait_until_complete()

    assert calls == [1, 2, 3, 4]


def test_sync_handlers_pass_through_a_gate_without_a_loop() -> None:
    """A hundred stimulations one after another through one place, and a fan-out through it within one."""
    total, cns_of = [0], neuron("adds", {"work": work}, concurrency=1)

    @cns_of.dendrite(work)
    def add(n: int) -> None:
        total[0] += n

    cns = CNS([cns_of])
    for n in range(100):
        cns.stimulate(work.create_signal(n))
    cns.stimulate([work.create_signal(n) for n in range(100)])

    assert total == [2 * sum(range(100))]

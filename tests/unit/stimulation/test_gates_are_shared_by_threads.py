"""One neuron's places, shared by stimulations on several threads and event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from cnstra import CNS, NoEventLoop, StimulationAborted, collateral, neuron
from support.stimulating import end_of, in_a_loop

work = collateral("work", int)
PATIENCE = 60
"""Seconds after which a thread that should have ended has hung; no test waits that long when all is well."""


class Counted:
    """How many are inside at once, over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.calls = 0

    def enter(self) -> None:
        with self._lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self._lock:
            self.now -= 1


def on_threads(count: int, body: Callable[[int], None]) -> None:
    """Run a body on several threads at once; errors of theirs are raised here."""
    errors: list[BaseException] = []
    begin = threading.Barrier(count)

    def run(index: int) -> None:
        try:
            begin.wait(PATIENCE)
            body(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[index], daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for a place that nobody gives it"
    if errors:
        raise errors[0]


def test_the_limit_holds_over_threads_and_nobody_starves() -> None:
    """Four threads, each with its own event loop and fifty handlers that suspend, through two places."""
    counted = Counted()
    gated = neuron("gated", concurrency=2)

    @gated.dendrite(work)
    async def handle(n: int) -> None:
        counted.enter()
        for _ in range(n % 3):
            await asyncio.sleep(0)
        counted.leave()

    cns = CNS([gated])

    async def stimulate() -> None:
        stimulations = [cns.stimulate([work.create_signal(n) for n in range(10)]) for _ in range(5)]
        for stimulation in stimulations:
            await stimulation.wait_until_complete()

    on_threads(4, lambda _: asyncio.run(stimulate()))

    assert counted.calls == 200
    assert counted.most <= 2
    assert counted.now == 0


def test_blocking_stimulations_on_threads_share_it_too() -> None:
    """``run`` on each of four threads, with sync handlers: whoever finds no place waits in a loop of its own."""
    counted = Counted()
    gated = neuron("gated", concurrency=1)

    @gated.dendrite(work)
    def handle(_: int) -> None:
        counted.enter()
        counted.leave()

    cns = CNS([gated])
    on_threads(4, lambda _: [cns.run(work.create_signal(n)) for n in range(50)] and None)

    assert counted.calls == 200
    assert counted.most == 1


@in_a_loop
async def test_places_go_to_whoever_has_waited_longest() -> None:
    """Over stimulations, in the order in which they came."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    order: list[int] = []
    gated = neuron("gated", concurrency=1)

    @gated.dendrite(work)
    async def handle(n: int) -> None:
        order.append(n)
        await go

    cns = CNS([gated])
    stimulations = [cns.stimulate(work.create_signal(n)) for n in range(5)]
    go.set_result(None)
    for stimulation in stimulations:
        await stimulation.wait_until_complete()

    assert order == [0, 1, 2, 3, 4]


@in_a_loop
async def test_an_aborted_waiter_gives_its_place_up() -> None:
    """It stands in line between two others: when it is aborted the third one comes next, and nothing is lost."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    order, abort = list[int](), threading.Event()
    gated = neuron("gated", concurrency=1)

    @gated.dendrite(work)
    async def handle(n: int) -> None:
        order.append(n)
        await go

    cns = CNS([gated])
    first = cns.stimulate(work.create_signal(1))
    second = cns.stimulate(work.create_signal(2), abort_signal=abort)
    third = cns.stimulate(work.create_signal(3))
    abort.set()
    go.set_result(None)
    errors = [await end_of(each) for each in (first, second, third)]
    fourth = cns.stimulate(work.create_signal(4))

    assert [type(error) for error in errors] == [type(None), StimulationAborted, type(None)]
    assert order == [1, 3, 4]
    assert [failure.aborted for failure in second.failed_tasks] == [True]
    await fourth.wait_until_complete()


def test_a_waiter_whose_loop_was_closed_passes_the_place_on() -> None:
    """Its thread is gone, and its stimulation with it: the place goes to the next in line, and then is free."""
    calls: list[int] = []
    gated = neuron("gated", concurrency=1)

    @gated.dendrite(work)
    async def handle(n: int) -> None:
        calls.append(n)
        if n == 0:
            await go

    cns = CNS([gated])

    async def hold_and_let_go() -> None:
        nonlocal go
        go = asyncio.get_running_loop().create_future()
        holder = cns.stimulate(work.create_signal(0))
        await asyncio.to_thread(wait_in_a_loop_that_is_closed)
        last = cns.stimulate(work.create_signal(2))
        go.set_result(None)
        await holder.wait_until_complete()
        await last.wait_until_complete()
        await cns.stimulate(work.create_signal(3)).wait_until_complete()

    def wait_in_a_loop_that_is_closed() -> None:
        async def stimulate() -> None:
            cns.stimulate(work.create_signal(1))

        asyncio.run(stimulate())

    go: asyncio.Future[None]
    asyncio.run(hold_and_let_go())

    assert calls == [0, 2, 3]


@in_a_loop
async def test_a_full_gate_without_a_loop_is_a_failed_task_and_takes_no_place() -> None:
    """Sync code on another thread cannot wait; when the holder is done the gate has its place again."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    calls: list[int] = []
    gated = neuron("gated", concurrency=1)

    @gated.dendrite(work)
    async def handle(n: int) -> None:
        calls.append(n)
        if n == 0:
            await go

    cns = CNS([gated])
    holder = cns.stimulate(work.create_signal(0))
    refused = await asyncio.to_thread(cns.stimulate, work.create_signal(1))
    go.set_result(None)
    await holder.wait_until_complete()
    for n in (2, 3):
        await cns.stimulate(work.create_signal(n)).wait_until_complete()

    [failure] = refused.failed_tasks
    assert isinstance(failure.error, NoEventLoop)
    assert calls == [0, 2, 3]


def test_a_cns_is_made_ready_once_however_many_threads_begin_with_it() -> None:
    """The first stimulations of a fresh graph, all at once: one gate each neuron, or the limit would not hold."""
    counted = Counted()
    gated = neuron("gated", concurrency=1)

    @gated.dendrite(work)
    async def look(_: int) -> None:
        counted.enter()
        await asyncio.sleep(0)
        counted.leave()

    cns = CNS([gated])
    on_threads(8, lambda n: cns.run(work.create_signal(n)) and None)

    assert counted.calls == 8
    assert counted.most == 1

"""An async handler is a task of its own from its first line on, also in the part before its first await."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from cnstra import CNS, Axon, Response, StimulationFailed, collateral, neuron
from support.stimulating import end_of, in_a_loop


class Out(Axon):
    out = collateral("out", int)


start = collateral("start", int)
of_the_caller = contextvars.ContextVar("of_the_caller", default="nothing")


def graph(handler: Any, *more: Any) -> CNS:
    first = neuron("first", Out)
    first.dendrite(start)(handler)
    neurons = [first]
    for index, each in enumerate(more):
        made = neuron(f"more {index}", Out)
        made.dendrite(Out.out)(each)
        neurons.append(made)
    return CNS(neurons)


@in_a_loop
async def test_the_current_task_is_the_handlers_own() -> None:
    """Before and after it suspends, and never the caller's, which is itself again when stimulate returns."""
    caller, found = asyncio.current_task(), list[Any]()

    async def handle(_: int) -> None:
        found.append(asyncio.current_task())
        await asyncio.sleep(0)
        found.append(asyncio.current_task())

    stimulation = graph(handle).stimulate(start.create_signal(1))
    back = asyncio.current_task()
    await stimulation.wait_until_complete()

    assert back is caller
    assert found[0] is found[1]
    assert asyncio.isfuture(found[0])
    assert found[0] is not caller
    assert found[0].get_name() == "neuron 'first'"


@in_a_loop
async def test_one_that_never_suspends_is_a_task_of_its_own_too() -> None:
    """And so is the next one, which it starts within the same turn."""
    found = list[Any]()

    async def first(n: int, axon: Out) -> Any:
        found.append(asyncio.current_task())
        return axon.out.create_signal(n)

    async def second(_: int) -> None:
        found.append(asyncio.current_task())

    assert graph(first, second).stimulate(start.create_signal(1)).is_complete
    assert len({id(task) for task in [*found, asyncio.current_task()]}) == 3


@in_a_loop
async def test_a_timeout_of_the_first_part_cancels_the_handler_alone() -> None:
    """``asyncio.timeout`` entered before the first await: the caller, who goes on, is not what it cancels."""
    outcomes = list[str]()

    async def handle(_: int) -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            outcomes.append("timed out")

    stimulation = graph(handle).stimulate(start.create_signal(1))
    await stimulation.wait_until_complete()

    assert outcomes == ["timed out"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@in_a_loop
async def test_a_task_group_can_be_opened_before_the_first_await() -> None:
    """It needs a current task, and awaits its members in it."""
    done = list[int]()

    async def member(n: int) -> None:
        await asyncio.sleep(0)
        done.append(n)

    async def handle(n: int) -> None:
        async with asyncio.TaskGroup() as group:
            for index in range(n):
                group.create_task(member(index))

    await graph(handle).stimulate(start.create_signal(3)).wait_until_complete()

    assert done == [0, 1, 2]


@in_a_loop
async def test_context_variables_are_inherited_and_kept_apart() -> None:
    """A handler sees what the caller set; what it sets itself nobody else sees, not even in the part before an await."""
    of_the_caller.set("caller")
    found = list[str]()

    async def first(n: int, axon: Out) -> Any:
        found.append(of_the_caller.get())
        of_the_caller.set("first")
        if n:
            await asyncio.sleep(0)
        found.append(of_the_caller.get())
        return axon.out.create_signal(n)

    async def second(_: int) -> None:
        found.append(of_the_caller.get())
        of_the_caller.set("second")

    def third(_: int) -> None:
        found.append(of_the_caller.get())

    cns = graph(first, second, third)
    for suspends in (0, 1):
        found.clear()
        await cns.stimulate(start.create_signal(suspends)).wait_until_complete()
        assert found == ["caller", "first", "caller", "caller"]
        assert of_the_caller.get() == "caller"


@in_a_loop
async def test_a_handler_whose_task_is_cancelled_has_failed_and_nothing_else_has() -> None:
    """Whoever cancels it, itself or another: its siblings and the caller go on."""
    tasks, seen = dict[int, Any](), list[int]()

    async def handle(n: int) -> None:
        tasks[n] = asyncio.current_task()
        await asyncio.sleep(0)
        if n == 0:
            tasks[1].cancel()
        await asyncio.sleep(0)
        seen.append(n)

    stimulation = graph(handle).stimulate([start.create_signal(n) for n in range(3)])
    error = await end_of(stimulation)

    assert isinstance(error, StimulationFailed)
    assert seen == [0, 2]
    [failure] = stimulation.failed_tasks
    assert failure.task.signal is not None
    assert failure.task.signal.payload == 1
    assert isinstance(failure.error, asyncio.CancelledError)


@in_a_loop
async def test_any_awaitable_may_be_returned() -> None:
    """A future, a task, an object with ``__await__``: each is waited for, and what it gives is what was returned."""
    loop, seen = asyncio.get_running_loop(), list[int]()

    class Later:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return self.value

    async def give(value: Any) -> Any:
        return value

    def handle(n: int, axon: Out) -> Any:
        signal = axon.out.create_signal(n)
        if n == 0:
            future = loop.create_future()
            loop.call_soon(future.set_result, signal)
            return future
        return asyncio.ensure_future(give(signal)) if n == 1 else Later([signal])

    stimulation = graph(handle, seen.append).stimulate([start.create_signal(n) for n in range(3)])
    await stimulation.wait_until_complete()

    assert sorted(seen) == [0, 1, 2]


@in_a_loop
async def test_a_listener_is_a_task_of_its_own_too() -> None:
    """With its own current task and variables; what it sets does not reach the handlers that it held back."""
    of_the_caller.set("caller")
    found, tasks = list[str](), set[int]()

    async def listen(_: Response) -> None:
        tasks.add(id(asyncio.current_task()))
        of_the_caller.set("listener")
        await asyncio.sleep(0)

    def handle(_: int) -> None:
        found.append(of_the_caller.get())

    await graph(handle).stimulate(start.create_signal(1), on_response=listen).wait_until_complete()

    assert found == ["caller"]
    assert id(asyncio.current_task()) not in tasks


@in_a_loop
async def test_a_stimulation_inside_of_a_handler_is_its_own() -> None:
    """A handler may stimulate and wait, in its own task, while its caller's stimulation waits for it."""
    inner_cns = graph(lambda n, axon: axon.out.create_signal(n + 1), lambda _: None)
    order = list[str]()

    async def outer(n: int) -> None:
        order.append("outer begins")
        inner = inner_cns.stimulate(
            start.create_signal(n), on_response=lambda r: order.append(f"inner {r.queue_length}")
        )
        await inner.wait_until_complete()
        order.append("outer ends")

    await graph(outer).stimulate(start.create_signal(1)).wait_until_complete()

    assert order == ["outer begins", "inner 1", "inner 1", "inner 0", "outer ends"]

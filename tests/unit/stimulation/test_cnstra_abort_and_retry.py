"""Aborting, and going on: what failed or was never started is activated again, on the same context."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from cnstra import (
    CNS,
    Axon,
    Context,
    Signal,
    StimulationAborted,
    StimulationError,
    StimulationFailed,
    Task,
    collateral,
    neuron,
)
from cnstra.orchestrator.contexts import InMemoryContextStore
from cnstra.orchestrator.stimulation.context import locals_beside
from support.stimulating import Told, end_of, ended_well, in_a_loop


class First(Axon):
    out = collateral("of first", int)


class Second(Axon):
    out = collateral("of second", int)


class Third(Axon):
    out = collateral("of third", str)


start = collateral("start", int)


class Flow:
    """Three steps, each async, each noted in the context; one of them may fail, or wait to be let go."""

    def __init__(self, *, fails_in: str = "", waits_in: str = "", abort: threading.Event | None = None) -> None:
        self.calls: list[str] = []
        self.fails_in, self.waits_in = fails_in, waits_in
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self.abort = abort
        first, second, third = neuron("first", First), neuron("second", Second), neuron("third", Third)

        @first.dendrite(start)
        async def one(n: int, axon: First, ctx: Context) -> Signal[int]:
            await self.step("first", ctx)
            return axon.out.create_signal(n)

        @second.dendrite(First.out)
        async def two(n: int, axon: Second, ctx: Context) -> Signal[int]:
            await self.step("second", ctx)
            return axon.out.create_signal(n)

        @third.dendrite(Second.out)
        async def three(n: int, axon: Third, ctx: Context) -> Signal[str]:
            await self.step("third", ctx)
            return axon.out.create_signal(f"final {n}")

        self.cns = CNS([first, second, third])

    async def step(self, name: str, ctx: Context) -> None:
        self.calls.append(name)
        ctx.update("steps", lambda steps: [*(steps or []), name])
        ctx.local.set((ctx.local.get() or 0) + 1)
        if name == self.waits_in:
            self.reached.set()
            await self.go.wait()
        else:
            await asyncio.sleep(0)
        if name == self.fails_in:
            raise ConnectionError(name)


@in_a_loop
async def test_what_an_abort_kept_from_starting_is_activated_on_the_saved_context() -> None:
    """The handler under way ends, its signal starts nothing; the retry starts with the second step."""
    abort = threading.Event()
    flow = Flow(waits_in="first")
    stimulation = flow.cns.stimulate(start.create_signal(42), abort_signal=abort)
    await flow.reached.wait()
    abort.set()
    flow.go.set()
    error = await end_of(stimulation)
    saved, left = stimulation.context_store, stimulation.failed_tasks
    calls, flow.calls = flow.calls, []
    told = Told()
    again = flow.cns.activate(left, ctx=saved, on_response=told)
    await again.wait_until_complete()

    assert isinstance(error, StimulationAborted)
    assert error.failures == left
    assert calls == ["first"]
    assert [(failure.task.neuron.name, failure.aborted) for failure in left] == [("second", True)]
    assert flow.calls == ["second", "third"]
    assert told.payloads("of third") == ["final 42"]
    assert again.context_store is saved
    assert saved.get() == {"steps": ["first", "second", "third"]}


@in_a_loop
async def test_what_failed_is_activated_on_the_saved_context() -> None:
    """What the failed try wrote is there, in the shared value and in the neuron's own slot."""
    flow = Flow(fails_in="second")
    told = Told()
    stimulation = flow.cns.stimulate(start.create_signal(42), on_response=told)
    error = await end_of(stimulation)
    flow.fails_in = ""
    again = flow.cns.activate(
        [failure.task for failure in stimulation.failed_tasks], ctx=stimulation.context_store, on_response=told
    )
    await again.wait_until_complete()

    assert isinstance(error, StimulationFailed)
    assert [str(response.error) for response in told.responses if response.error] == ["second"]
    assert told.payloads("of third") == ["final 42"]
    assert flow.calls == ["first", "second", "second", "third"]
    assert again.context_store.get() == {"steps": ["first", "second", "second", "third"]}
    assert {name: slot.get() for name, slot in locals_beside(again.context_store).items()} == {
        "first": 1,
        "second": 2,
        "third": 1,
    }


@in_a_loop
async def test_branches_that_go_on_are_waited_for_before_it_fails() -> None:
    """One branch fails at once, the other one is still under way: the error comes when both have ended."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    fails, waits, ended = neuron("fails"), neuron("waits"), list[str]()
    fails.dendrite(start)(lambda n: 1 // n)

    @waits.dendrite(start)
    async def wait(_: int) -> None:
        await go
        ended.append("waits")

    stimulation = CNS([fails, waits]).stimulate(start.create_signal(0))
    open_before = stimulation.is_complete
    go.set_result(None)
    error = await end_of(stimulation)

    assert open_before is False
    assert isinstance(error, StimulationFailed)
    assert ended == ["waits"]


@in_a_loop
async def test_an_abort_before_the_start_starts_nothing() -> None:
    """The initial signal is told of, its task is kept, no handler is called."""
    abort, told = threading.Event(), Told()
    abort.set()
    flow = Flow()

    stimulation = flow.cns.stimulate(start.create_signal(1), abort_signal=abort, on_response=told)

    assert isinstance(await end_of(stimulation), StimulationAborted)
    assert flow.calls == []
    assert told.line == "1(1/0)"
    assert [failure.task.neuron.name for failure in stimulation.failed_tasks] == ["first"]


@in_a_loop
async def test_a_handler_sees_the_abort_and_may_end_early() -> None:
    """No body is cancelled: it looks at ``ctx.abort_signal`` itself, and what it returns then is dropped or kept whole."""
    abort = asyncio.Event()
    looks, seen = neuron("looks"), list[bool]()

    @looks.dendrite(start)
    async def look(_: int, axon: Any, ctx: Context) -> None:
        signal = ctx.abort_signal
        assert signal is abort
        seen.append(signal.is_set())
        abort.set()
        await asyncio.sleep(0)
        seen.append(signal.is_set())

    stimulation = CNS([looks]).stimulate(start.create_signal(1), abort_signal=abort)

    assert isinstance(await end_of(stimulation), StimulationAborted)
    assert seen == [False, True]
    assert stimulation.failed_tasks == []


@in_a_loop
async def test_a_frontier_can_be_kept_as_names_and_taken_up_elsewhere() -> None:
    """Neuron, collateral and payload as JSON, the context's value beside them: another process goes on from there."""
    flow = Flow(fails_in="second")
    stimulation = flow.cns.stimulate(start.create_signal(1))
    await end_of(stimulation)
    frontier = [
        {
            "neuron": task.neuron.name,
            "collateral": task.collateral.name,
            "payload": task.collateral.payload.encode(task.signal.payload if task.signal else None),
        }
        for task in stimulation.outstanding_tasks
    ]
    text = json.dumps({"frontier": frontier, "context": stimulation.context_store.get()})

    kept, other, told = json.loads(text), Flow(), Told()
    tasks = []
    for row in kept["frontier"]:
        channel = other.cns.collaterals[row["collateral"]]
        signal = channel.create_signal(channel.payload.decode(row["payload"]))
        tasks.append(Task(neuron=other.cns.neurons[row["neuron"]], collateral=channel, signal=signal))
    again = other.cns.activate(tasks, ctx=InMemoryContextStore(kept["context"]), on_response=told)
    await again.wait_until_complete()

    assert [row["neuron"] for row in kept["frontier"]] == ["second"]
    assert other.calls == ["second", "third"], "only the branch that failed runs again"
    assert told.payloads("of third") == ["final 1"]
    assert again.context_store.get() == {"steps": ["first", "second", "second", "third"]}


@in_a_loop
async def test_a_task_of_another_graph_fails_and_says_so() -> None:
    """A neuron that this CNS does not have, known by object and not by name, has no dendrite here."""
    flow, other = Flow(), Flow()
    [task] = [Task(neuron=other.cns.neurons["second"], collateral=First.out, signal=First.out.create_signal(1))]
    stimulation = flow.cns.activate([task])
    await end_of(stimulation)

    [failure] = stimulation.failed_tasks
    assert failure.task == task
    assert "'second' has no dendrite on 'of first'" in str(failure.error)


@pytest.mark.parametrize("given", [None, 5, ["text"], [object()], [Task(neuron="n", collateral="c", signal=None)]])
def test_what_is_no_task_is_refused(given: Any) -> None:
    """At the call, before anything runs."""
    with pytest.raises(StimulationError, match="task"):
        CNS([neuron("any")]).activate(given)


def test_activating_nothing_is_over_at_once() -> None:
    """As when everything had been done before."""
    told = Told()

    stimulation = CNS([neuron("any")]).activate([], on_response=told)

    assert stimulation.is_complete
    ended_well(stimulation)

"""Clean-up of local contexts: one is deleted as soon as no task that is left can reach its neuron again."""

from __future__ import annotations

import asyncio
from typing import Any

from cnstra import CNS, Axon, Context, Stimulation, collateral, neuron
from cnstra.orchestrator.stimulation.context import locals_beside
from support.stimulating import end_of, in_a_loop


class Chain(Axon):
    one = collateral("one", int)
    two = collateral("two", int)


start = collateral("start", int)


def kept(stimulation: Stimulation) -> set[str]:
    """The neurons that have a local context."""
    return set(locals_beside(stimulation.context_store))


def noting(name: str, hears: list[Any], emits: str | None, seen: list[Any]) -> Any:
    made = neuron(name, {} if emits is None else {emits: getattr(Chain, emits)})

    @made.dendrite(*hears)
    def note(n: int, axon: Any, ctx: Any) -> Any:
        ctx.local.set(n)
        seen.append((name, n, kept(ctx.stimulation)))
        if emits is None or n == 0:
            return None
        return getattr(axon, emits).create_signal(n - 1)

    return made


def test_a_chains_contexts_go_as_it_moves_on() -> None:
    """Three neurons are three components: when the second one is called, the first one's slot is gone."""
    seen: list[Any] = []
    neurons = [
        noting("first", [start], "one", seen),
        noting("second", [Chain.one], "two", seen),
        noting("third", [Chain.two], None, seen),
    ]
    cns = CNS(neurons, auto_cleanup_contexts=True)

    stimulation = cns.stimulate(start.create_signal(5))

    assert [len(names) for names in cns.network.strongly_connected_components] == [1, 1, 1]
    assert seen == [("first", 5, {"first"}), ("second", 4, {"second"}), ("third", 3, {"third"})]
    assert kept(stimulation) == set()


def test_without_it_contexts_stay_to_the_end() -> None:
    """And beyond: they belong to the store that the next stimulation may go on with."""
    seen: list[Any] = []
    neurons = [noting("first", [start], "one", seen), noting("second", [Chain.one], None, seen)]

    stimulation = CNS(neurons).stimulate(start.create_signal(5))

    assert kept(stimulation) == {"first", "second"}


def test_a_cycles_contexts_stay_while_it_turns() -> None:
    """Two neurons that reach each other are one component: both slots stay until neither has a task."""
    seen: list[Any] = []
    neurons = [
        noting("ping", [start, Chain.two], "one", seen),
        noting("pong", [Chain.one], "two", seen),
    ]
    cns = CNS(neurons, auto_cleanup_contexts=True)

    stimulation = cns.stimulate(start.create_signal(3))

    assert [names for _, _, names in seen] == [{"ping"}, {"ping", "pong"}, {"ping", "pong"}, {"ping", "pong"}]
    assert kept(stimulation) == set()


@in_a_loop
async def test_a_context_stays_while_a_queued_task_can_reach_its_neuron() -> None:
    """A second way to the neuron is still under way, upstream: its slot is kept, though it has no task itself."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    slow, end = neuron("slow", Chain), neuron("end")
    seen: list[Any] = []

    @slow.dendrite(start)
    async def wait(n: int, axon: Chain) -> Any:
        if n == 1:
            await go
        return axon.one.create_signal(n)

    @end.dendrite(Chain.one)
    def count(n: int, axon: Any, ctx: Context) -> None:
        ctx.local.set((ctx.local.get() or 0) + 1)
        seen.append(ctx.local.get())

    stimulation = CNS([slow, end], auto_cleanup_contexts=True).stimulate(
        [start.create_signal(1), start.create_signal(2)]
    )
    between = kept(stimulation)
    go.set_result(None)
    await stimulation.wait_until_complete()

    assert between == {"end"}
    assert seen == [1, 2]
    assert kept(stimulation) == set()


@in_a_loop
async def test_a_failed_tasks_context_stays_for_its_retry() -> None:
    """Its neuron can be activated again, and so can all that it reaches."""
    fails, seen = neuron("fails"), list[Any]()

    @fails.dendrite(start)
    def fail(n: int, axon: Any, ctx: Context) -> None:
        ctx.local.set((ctx.local.get() or 0) + 1)
        seen.append(ctx.local.get())
        if seen == [1]:
            raise ValueError("the first time")

    cns = CNS([fails], auto_cleanup_contexts=True)
    stimulation = cns.stimulate(start.create_signal(1))
    await end_of(stimulation)
    after_failure = kept(stimulation)
    again = cns.activate(stimulation.failed_tasks, ctx=stimulation.context_store)
    await again.wait_until_complete()

    assert after_failure == {"fails"}
    assert seen == [1, 2]
    assert kept(again) == set()

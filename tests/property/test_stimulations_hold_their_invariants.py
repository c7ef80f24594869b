"""Stimulations of any graph: what runs, what is told, and when it ends, against a naive model.

Listeners are sync or async, and may fail.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cnstra import Drain, Response, Stimulation, StimulationAborted, StimulationFailed
from cnstra.orchestrator.stimulation.context import locals_beside
from support.shapes import Call, Graph, Model, Shape, shapes
from support.stimulating import Told, end_of

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)

LISTENERS = st.sampled_from(["none", "sync", "async", "both"])


@settings(CALM)
@given(shapes(), LISTENERS, st.none() | st.integers(0, 12))
def test_everything_that_is_to_run_runs_once_and_is_told_of(shape: Shape, kind: str, fails_at: int | None) -> None:
    """The calls are the model's, whatever suspends and fails; counters add up; zero comes once and last; the end raises
    what it should and nothing else.
    """
    graph, model, told, drained = Graph(shape), Model(shape, may_fail=True), Told(), Told()
    broken = LookupError("a listener's")
    raised = list[int]()

    def look(response: Response) -> None:
        told(response)
        if kind != "async":  # who is told late finds the stimulation further on than the response says
            stimulation = response.stimulation
            under_way = len(stimulation.outstanding_tasks) - len(stimulation.failed_tasks)
            assert under_way <= response.queue_length
        if len(told.counts) - 1 == fails_at:
            raised.append(fails_at)
            raise broken

    async def look_slowly(response: Response) -> None:
        await asyncio.sleep(0)
        if kind == "async":
            look(response)

    def look_drain(drain: Drain) -> None:
        drained(drain)

    async def stimulate() -> tuple[Stimulation, BaseException | None]:
        if kind in ("async", "both"):
            graph.cns.add_response_listener(look_slowly)
        stimulation = graph.cns.stimulate(
            graph.first,
            on_response=look if kind in ("sync", "both") else None,
            on_drain=look_drain,
            concurrency=shape.concurrency,
        )
        return stimulation, await end_of(stimulation)

    stimulation, error = asyncio.run(stimulate())

    assert Counter(graph.calls) == model.calls
    assert stimulation.is_complete
    assert len(stimulation.failed_tasks) == model.failures
    assert all(type(failure.error) is ArithmeticError for failure in stimulation.failed_tasks)
    assert not any(failure.aborted for failure in stimulation.failed_tasks)
    assert [task.neuron.name for task in stimulation.outstanding_tasks] == [
        failure.task.neuron.name for failure in stimulation.failed_tasks
    ]
    if kind != "none":
        assert len(told.counts) == model.responses
        assert sum(1 for response in told.responses if response.error) == model.failures
    if kind in ("sync", "both"):
        told.check()  # an async listener is told in its own time: it sees counters as they were made, in any order
    elif kind == "async":
        assert sum(1 for length, _, _ in told.counts if length == 0) == 1
    for length, pending, active in [*told.counts, *drained.counts]:
        assert length == pending + active
        assert active <= (shape.concurrency or active)
    assert drained.counts[-1] == (0, 0, 0)
    for index, (_, limit) in enumerate(shape.neurons):
        assert limit is None or graph.most[f"n{index}"] <= limit
    if raised:
        assert error is broken
    elif model.failures:
        assert isinstance(error, StimulationFailed)
        assert list(error.failures) == stimulation.failed_tasks
    else:
        assert error is None


@settings(CALM)
@given(shapes())
def test_without_a_loop_it_runs_the_same(shape: Shape) -> None:
    """What never suspends has all run when stimulate returns, in the order in which it runs inside a loop."""
    outside, inside = Graph(shape, suspends=False), Graph(shape, suspends=False)
    model, told, told_inside = Model(shape, may_fail=True), Told(), Told()

    stimulation = outside.cns.stimulate(outside.first, on_response=told, concurrency=shape.concurrency)

    async def stimulate() -> None:
        inside.cns.stimulate(inside.first, on_response=told_inside, concurrency=shape.concurrency)

    asyncio.run(stimulate())

    assert stimulation.is_complete
    assert Counter(outside.calls) == model.calls
    assert outside.calls == inside.calls
    assert told.counts == told_inside.counts
    told.check()


@settings(CALM)
@given(shapes(), st.booleans())
def test_run_is_stimulate_and_wait(shape: Shape, slowly: bool) -> None:
    """Blocking, with a loop from the start, on the way, or never: the same calls, responses and failures, in one order."""
    graph, inside = Graph(shape), Graph(shape)
    model, told, told_inside = Model(shape, may_fail=True), Told(), Told()

    with pytest.raises(StimulationFailed) if model.failures else nullcontext() as caught:
        graph.cns.run(graph.first, concurrency=shape.concurrency, on_response=told.slowly if slowly else told)

    async def stimulate() -> None:
        on_response = told_inside.slowly if slowly else told_inside
        await end_of(inside.cns.stimulate(inside.first, concurrency=shape.concurrency, on_response=on_response))

    asyncio.run(stimulate())

    if caught is not None:
        assert len(caught.value.failures) == model.failures
    assert Counter(graph.calls) == model.calls
    assert graph.calls == inside.calls
    assert told.counts == told_inside.counts
    assert told.outputs == told_inside.outputs
    told.check()


@settings(CALM)
@given(shapes(), st.integers(1, 12), st.booleans())
def test_what_an_abort_left_over_is_exactly_what_is_still_to_do(shape: Shape, abort_at: int, listens: bool) -> None:
    """After the abort no handler starts; activating what was left makes up for the rest, and nothing is done twice."""
    graph, model, told = Graph(shape, may_fail=False, abort_at=abort_at), Model(shape, may_fail=False), Told()

    async def stimulate() -> tuple[Stimulation, BaseException | None]:
        stimulation = graph.cns.stimulate(
            graph.first,
            abort_signal=graph.abort,
            concurrency=shape.concurrency,
            on_response=told.slowly if listens else None,
        )
        error = await end_of(stimulation)
        late, graph.abort_at = graph.late_calls, None
        assert late == 0
        assert not any(graph.running.values())
        graph.abort.clear()
        await graph.cns.activate(stimulation.failed_tasks, concurrency=shape.concurrency).wait_until_complete()
        return stimulation, error

    stimulation, error = asyncio.run(stimulate())

    assert Counter(graph.calls) == model.calls
    aborted = sum(model.calls.values()) >= abort_at
    event(f"aborted: {aborted}, left over: {bool(stimulation.failed_tasks)}")
    assert isinstance(error, StimulationAborted) == aborted
    assert all(failure.aborted for failure in stimulation.failed_tasks)


@settings(CALM)
@given(shapes())
def test_activating_what_failed_makes_up_for_it(shape: Shape) -> None:
    """Each failed task runs once more, with all that comes of it, and nothing else runs again."""
    graph, whole = Graph(shape), Model(shape, may_fail=False)

    async def stimulate() -> list[Call]:
        stimulation = graph.cns.stimulate(graph.first, concurrency=shape.concurrency)
        await end_of(stimulation)
        graph.may_fail = False
        failed = [
            (failure.task.neuron.name, failure.task.collateral.name, failure.task.signal.payload)
            for failure in stimulation.failed_tasks
            if failure.task.signal is not None
        ]
        await graph.cns.activate(stimulation.outstanding_tasks, concurrency=shape.concurrency).wait_until_complete()
        return failed

    failed = asyncio.run(stimulate())

    assert Counter(graph.calls) == whole.calls + Counter(failed)


@settings(CALM)
@given(shapes(), st.integers(1, 4))
def test_many_stimulations_at_once_share_the_gates_and_nothing_else(shape: Shape, count: int) -> None:
    """Each makes its own calls; a neuron's limit holds over all of them, and all of them end."""
    graph, model = Graph(shape, may_fail=False), Model(shape, may_fail=False)

    async def stimulate() -> None:
        stimulations = [graph.cns.stimulate(graph.first, concurrency=shape.concurrency) for _ in range(count)]
        for stimulation in stimulations:
            await stimulation.wait_until_complete()

    asyncio.run(stimulate())

    assert Counter(graph.calls) == Counter({call: number * count for call, number in model.calls.items()})
    for index, (_, limit) in enumerate(shape.neurons):
        assert limit is None or graph.most[f"n{index}"] <= limit


@settings(CALM)
@given(shapes(), st.booleans())
def test_clean_up_deletes_what_is_over_and_nothing_else(shape: Shape, fails: bool) -> None:
    """Every handler finds in its own slot what it would find without clean-up; at the end only what failed has one."""
    graphs = [Graph(shape, may_fail=fails, auto_cleanup_contexts=cleans) for cleans in (False, True)]
    left: list[set[str]] = []
    failed: set[str] = set()

    async def stimulate(graph: Graph) -> None:
        stimulation = graph.cns.stimulate(graph.first, concurrency=shape.concurrency)
        await end_of(stimulation)
        left.append(set(locals_beside(stimulation.context_store)))
        failed.update(failure.task.neuron.name for failure in stimulation.failed_tasks)

    for graph in graphs:
        asyncio.run(stimulate(graph))

    kept, cleaned = graphs
    assert cleaned.visits == kept.visits
    assert left[0] == {name for name, _ in kept.visits}
    assert failed <= left[1]
    if not failed:
        assert left[1] == set()

"""Stimulations of any graph: what runs, what is told, and when it ends, against a naive model.

Graphs may have cycles; a payload counts down, so that every stimulation ends. Handlers are sync, async without suspending,
or suspend; they return nothing, one signal, lists and generators, or fail. Listeners are sync or async, and may fail.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cnstra import CNS, Drain, Response, Signal, Stimulation, StimulationAborted, StimulationFailed, collateral, neuron
from support.stimulating import Told, end_of

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)

Call = tuple[str, str, int]
"""Neuron, collateral, payload."""


@dataclass(frozen=True)
class Behaviour:
    """What a dendrite does with a payload above zero; at zero it returns nothing."""

    emits: tuple[int, ...]
    suspends: int | None
    """None is a sync handler; else how often an async one suspends."""
    fails_at: frozenset[int]
    lazily: bool
    """Whether it returns a generator rather than a list."""


@dataclass(frozen=True)
class Shape:
    """A graph: the collaterals that each neuron hears, with what it does then; and its limit."""

    channels: int
    neurons: tuple[tuple[dict[int, Behaviour], int | None], ...]
    first: tuple[tuple[int, int], ...]
    """Initial signals: collateral and payload."""
    concurrency: int | None


def behaviours(channels: int) -> st.SearchStrategy[Behaviour]:
    return st.builds(
        Behaviour,
        emits=st.lists(st.integers(0, channels - 1), max_size=2).map(tuple),
        suspends=st.sampled_from([None, None, 0, 1, 2]),
        fails_at=st.frozensets(st.integers(0, 3), max_size=1),
        lazily=st.booleans(),
    )


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    channels = draw(st.integers(1, 4))
    channel = st.integers(0, channels - 1)
    made = st.tuples(
        st.dictionaries(channel, behaviours(channels), max_size=2), st.sampled_from([None, None, None, 1, 2])
    )
    return Shape(
        channels=channels,
        neurons=tuple(draw(st.lists(made, min_size=1, max_size=4))),
        first=tuple(draw(st.lists(st.tuples(channel, st.integers(0, 3)), max_size=3))),
        concurrency=draw(st.sampled_from([None, None, 1, 2])),
    )


@dataclass
class Graph:
    """The graph of a shape, and what its handlers did."""

    shape: Shape
    may_fail: bool = True
    suspends: bool = True
    abort: threading.Event = field(default_factory=threading.Event)
    abort_at: int | None = None
    calls: list[Call] = field(default_factory=list)
    late_calls: int = 0
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.channels = [collateral(f"c{index}", int) for index in range(self.shape.channels)]
        self.cns = CNS([self._neuron(index) for index in range(len(self.shape.neurons))])

    @property
    def first(self) -> list[Signal[int]]:
        return [self.channels[channel].create_signal(payload) for channel, payload in self.shape.first]

    def _neuron(self, index: int) -> Any:
        hears, limit = self.shape.neurons[index]
        made = neuron(f"n{index}", {channel.name: channel for channel in self.channels}, concurrency=limit)
        for channel, behaviour in hears.items():
            made.dendrite(self.channels[channel])(self._handler(made.name, f"c{channel}", behaviour))
        return made

    def _handler(self, name: str, channel: str, behaviour: Behaviour) -> Any:
        def begin(payload: int) -> None:
            self.late_calls += self.abort.is_set()
            self.calls.append((name, channel, payload))
            if len(self.calls) == self.abort_at:
                self.abort.set()
            self.running[name] += 1
            self.most[name] = max(self.most[name], self.running[name])

        def finish(payload: int) -> Any:
            self.running[name] -= 1
            if self.may_fail and payload in behaviour.fails_at:
                raise ArithmeticError(payload)
            if not payload or not behaviour.emits:
                return None
            signals = (self.channels[emitted].create_signal(payload - 1) for emitted in behaviour.emits)
            if len(behaviour.emits) == 1 and not behaviour.lazily:
                return next(signals)
            return signals if behaviour.lazily else list(signals)

        def at_once(payload: int) -> Any:
            begin(payload)
            return finish(payload)

        async def in_time(payload: int) -> Any:
            begin(payload)
            for _ in range(behaviour.suspends or 0):
                await asyncio.sleep(0)
            return finish(payload)

        return at_once if behaviour.suspends is None or not self.suspends else in_time


@dataclass
class Model:
    """What is to come of a shape: no queue, no order, only who hears whom."""

    shape: Shape
    may_fail: bool
    calls: Counter[Call] = field(default_factory=Counter)
    failures: int = 0
    responses: int = 0

    def __post_init__(self) -> None:
        self.responses = max(1, len(self.shape.first))
        for channel, payload in self.shape.first:
            self._signal(channel, payload)

    def _signal(self, channel: int, payload: int) -> None:
        for index, (hears, _) in enumerate(self.shape.neurons):
            if (behaviour := hears.get(channel)) is None:
                continue
            self.calls[f"n{index}", f"c{channel}", payload] += 1
            if self.may_fail and payload in behaviour.fails_at:
                self.failures += 1
                self.responses += 1
                continue
            emits = behaviour.emits if payload else ()
            self.responses += max(1, len(emits))
            for emitted in emits:
                self._signal(emitted, payload - 1)


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

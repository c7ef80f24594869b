"""Graphs of any shape for stimulations, what their handlers did, and a naive model of what they are to do.

Graphs may have cycles; a payload counts down, so that every stimulation ends. Handlers are sync, async without suspending,
or suspend; they return nothing, one signal, lists and generators, or fail.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from cnstra import CNS, Context, Signal, collateral, neuron

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
    auto_cleanup_contexts: bool = False
    abort: threading.Event = field(default_factory=threading.Event)
    abort_at: int | None = None
    calls: list[Call] = field(default_factory=list)
    late_calls: int = 0
    """Handlers that were called although the stimulation had been aborted."""
    visits: list[tuple[str, int]] = field(default_factory=list)
    """Neuron, and how often it was visited by what its local context says."""
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.channels = [collateral(f"c{index}", int) for index in range(self.shape.channels)]
        self.cns = CNS(
            [self._neuron(index) for index in range(len(self.shape.neurons))],
            auto_cleanup_contexts=self.auto_cleanup_contexts,
        )

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
        def begin(payload: int, ctx: Context) -> None:
            visit = (ctx.local.get() or 0) + 1
            ctx.local.set(visit)
            self.visits.append((name, visit))
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

        def at_once(payload: int, axon: Any, ctx: Context) -> Any:
            begin(payload, ctx)
            return finish(payload)

        async def in_time(payload: int, axon: Any, ctx: Context) -> Any:
            begin(payload, ctx)
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

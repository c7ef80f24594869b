"""A graph within one process, as users write and run it, judged by the type checkers.

Nothing in this file runs; ``test_types.py`` has mypy and pyright read it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from cnstra import (
    CNS,
    AfferentPath,
    Axon,
    Collateral,
    Context,
    Drain,
    Failure,
    Modality,
    Neuron,
    Response,
    Signal,
    Stimulation,
    StimulationAborted,
    StimulationFailed,
    StimulationGate,
    Task,
    afferent_path,
    collateral,
    modality,
    neuron,
)
from cnstra.stores import InMemoryContextStore, ReactiveContextStore, RedisContextStore
from cnstra.stores.reactive import Collection, ContextRecord


@dataclass(frozen=True)
class Query:
    words: list[str]


class SplitAxon(Axon):
    word = collateral("split.word", str)
    nothing = collateral("split.nothing")


asked = collateral("asked", Query)
split = neuron("split", SplitAxon)
look = neuron("look", concurrency=2, max_duration=timedelta(seconds=2), local=int)


@split.dendrite(asked)
def to_words(query: Query, axon: SplitAxon) -> list[Signal[str]]:
    return [axon.word.create_signal(word) for word in query.words]


@look.dendrite(SplitAxon.word)
async def look_up(word: str, _axon: Axon, ctx: Context[dict[str, int], int]) -> None:
    assert_type(ctx.get(), dict[str, int] | None)
    assert_type(ctx.local.get(), int | None)
    assert_type(ctx.modality, Modality | None)
    assert_type(ctx.afferent_path, AfferentPath | None)
    if ctx.abort_signal is not None:
        assert_type(ctx.abort_signal.is_set(), bool)
    ctx.local.set(len(word))
    await asyncio.sleep(0)


cns = CNS([split, look])
one = asked.create_signal(Query(["a"]))


# Listeners: plain and async functions, objects that can be called, lambdas.
def hear(response: Response) -> None:
    assert_type(response.stimulation, Stimulation)
    assert_type(response.input_signal, Signal[Any] | None)
    assert_type(response.output_signal, Signal[Any] | None)
    assert_type(response.error, BaseException | None)
    assert_type(response.neuron, Neuron[Any, Any] | None)
    assert_type(response.queue_length, int)
    assert_type(response.hops, int | None)
    if response.output_signal is not None:
        assert_type(response.output_signal.collateral, Collateral[Any])


async def write_down(response: Response) -> None:
    await asyncio.sleep(0)


def sometimes_async(response: Response) -> Awaitable[None] | None:
    return None if response.error is None else write_down(response)


def flush(drain: Drain) -> None:
    assert_type(drain.queue_length, int)
    assert_type(drain.pending_activations, int)
    assert_type(drain.active_activations, int)
    assert_type(drain.stimulation, Stimulation)


class Journal:
    def __call__(self, response: Response) -> None: ...


lengths: list[int] = []
assert_type(cns.add_response_listener(hear), Callable[[], None])
cns.add_response_listener(write_down)
cns.add_response_listener(Journal())
assert_type(cns.add_drain_listener(flush), Callable[[], None])
cns.add_drain_listener(lambda drain: lengths.append(drain.queue_length))


# The three ways to run it, with each option.
class Notebook:
    """A store of the user's own."""

    def __init__(self) -> None:
        self.value: Any = None

    def get(self) -> Any:
        return self.value

    def set(self, value: Any) -> None:
        self.value = value


def stores(client: RedisContextStore, contexts: Collection[str, ContextRecord]) -> None:
    assert_type(cns.run(one), Stimulation)
    cns.run([one, SplitAxon.word.create_signal("b"), SplitAxon.nothing.create_signal()])
    cns.run(each for each in [one, one])
    cns.run((), ctx=None)
    cns.run(one, ctx=Notebook())
    cns.run(one, ctx=client)
    cns.run(one, ctx=InMemoryContextStore({"a": 1}))
    cns.run(one, create_context_store=Notebook)
    cns.run(one, create_context_store=InMemoryContextStore)
    cns.run(one, create_context_store=lambda: ReactiveContextStore(contexts, "run-1"))
    cns.run(one, on_response=sometimes_async, on_drain=flush, concurrency=3, max_neuron_hops=10)
    cns.run(one, on_response=write_down, stimulation_context={"request": 17}, abort_signal=threading.Event())
    cns.run(one, on_response=None, on_drain=None, concurrency=None, max_neuron_hops=None, abort_signal=None)


async def handle_request() -> int:
    abort = asyncio.Event()
    stimulation = cns.stimulate(one, abort_signal=abort, on_response=lambda response: hear(response))
    assert_type(stimulation, Stimulation)
    try:
        assert_type(await asyncio.wait_for(stimulation.wait_until_complete(), 1), None)
    except TimeoutError:
        abort.set()
    except (StimulationFailed, StimulationAborted) as error:
        assert_type(error.failures, list[Failure])
        for failure in error.failures:
            assert_type(failure.task, Task)
            assert_type(failure.error, BaseException)
            assert_type(failure.aborted, bool)
        again = cns.activate(error.failures, ctx=error.context_store, concurrency=1)
        assert_type(again, Stimulation)
    assert_type(stimulation.is_complete, bool)
    assert_type(stimulation.failed_tasks, list[Failure])
    assert_type(stimulation.outstanding_tasks, list[Task])
    assert_type(stimulation.id, str)
    cns.activate(stimulation.failed_tasks)
    cns.activate(stimulation.outstanding_tasks)
    cns.activate([Task(neuron=look, collateral=SplitAxon.word, signal=SplitAxon.word.create_signal("c"))])
    cns.activate([Task(neuron=split, collateral=asked, signal=None), *stimulation.failed_tasks])
    return 200


# A gate.
async def nightly() -> None:
    gate = StimulationGate(cns, one, concurrency=2, on_response=hear, create_context_store=Notebook)
    StimulationGate(cns, [one, one])
    await gate.drain()
    await asyncio.gather(gate.drain(), gate.drain())
    assert_type(gate.is_draining(), bool)
    assert_type(gate.abort(), bool)
    assert_type(gate.current_stimulation, Stimulation | None)


# Modalities.
click = afferent_path()
button = afferent_path(click)
entry = modality(click=click, button=button)
other = modality({"1": afferent_path()})
assert_type(click, AfferentPath)
assert_type(entry, Modality)
assert_type(entry.click, AfferentPath)
assert_type(entry["click"], AfferentPath)


def by_click(query: Query, axon: SplitAxon) -> str:
    return query.words[0]


async def by_button(query: Query) -> str:
    return query.words[-1]


by_entry = neuron("by entry", SplitAxon)
by_entry.modality_dendrite(
    asked,
    modality=[entry, other],
    paths={click: by_click, button: by_button},
    default={entry: by_click, None: by_button},
    output=lambda word, axon: axon.word.create_signal(word),
)
neuron("default", SplitAxon).modality_dendrite(
    asked,
    modality=entry,
    default=lambda query: query.words[0],
    output=lambda word, axon, ctx: [axon.word.create_signal(word)],
)
CNS([by_entry]).run(one, modality=entry, afferent_path=entry.button)

"""Drains: one report at the end of each synchronous turn, whatever ended it."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from cnstra import CNS, Drain, Stimulation, StimulationAborted, collateral, neuron
from support.stimulating import Told, end_of, ended_well, in_a_loop

a, b, c = collateral("a", int), collateral("b", int), collateral("c", int)


def leaf(name: str, hears: Any, **options: Any) -> Any:
    made = neuron(name, **options)
    made.dendrite(hears)(lambda _: None)
    return made


def fan(count: int) -> Any:
    made = neuron("fan", {"b": b})
    made.dendrite(a)(lambda _, axon: [axon.b.create_signal(index) for index in range(count)])
    return made


def test_a_synchronous_stimulation_is_one_turn() -> None:
    """It ends with the queue empty."""
    drained = Told()

    CNS([leaf("leaf", a)]).stimulate(a.create_signal(1), on_drain=drained)

    assert drained.line == "0(0/0)"


def test_a_turn_of_many_hops_is_told_of_once() -> None:
    """Three neurons in a row, one turn."""
    first, second = neuron("first", {"b": b}), neuron("second", {"c": c})
    first.dendrite(a)(lambda n, axon: axon.b.create_signal(n))
    second.dendrite(b)(lambda n, axon: axon.c.create_signal(n))
    drained = Told()

    CNS([first, second, leaf("third", c)]).stimulate(a.create_signal(1), on_drain=drained)

    assert drained.line == "0(0/0)"


@in_a_loop
async def test_a_turn_ends_when_the_last_handler_suspends() -> None:
    """What it wrote before that is there in the first drain; the second turn is what its end brings."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    written, flushed = list[str](), list[list[str]]()
    writes, loads, drained = neuron("writes", {"b": b}), neuron("loads"), Told()

    @writes.dendrite(a)
    async def optimistic(_: int, axon: Any) -> Any:
        written.append("optimistic")
        await go
        return axon.b.create_signal(1)

    loads.dendrite(b)(lambda _: written.append("loaded"))

    def on_drain(drain: Drain) -> None:
        drained(drain)
        flushed.append(list(written))

    stimulation = CNS([writes, loads]).stimulate(a.create_signal(1), on_drain=on_drain)
    at_return = drained.line
    go.set_result(None)
    await stimulation.wait_until_complete()

    assert at_return == "1(0/1)", "the first drain comes before stimulate returns"
    assert drained.line == "1(0/1) 0(0/0)"
    assert flushed == [["optimistic"], ["optimistic", "loaded"]]


@in_a_loop
async def test_a_turn_ends_at_the_stimulations_limit() -> None:
    """Two of three handlers run, the third one is pending."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    slow, drained = neuron("slow"), Told()

    @slow.dendrite(b)
    async def wait(_: int) -> None:
        await go

    stimulation = CNS([fan(3), slow]).stimulate(a.create_signal(0), concurrency=2, on_drain=drained)
    go.set_result(None)
    await stimulation.wait_until_complete()

    assert drained.counts[0] == (3, 1, 2)
    assert drained.counts[-1] == (0, 0, 0)
    assert all(active <= 2 and length == pending + active for length, pending, active in drained.counts)


@in_a_loop
async def test_the_last_turn_of_an_aborted_stimulation_shows_what_was_left() -> None:
    """Nothing runs any more, and what was queued still counts as pending."""
    abort, go = threading.Event(), asyncio.get_running_loop().create_future()
    slow, drained = neuron("slow"), Told()

    @slow.dendrite(b)
    async def wait(_: int) -> None:
        abort.set()
        await go

    stimulation = CNS([fan(2), slow]).stimulate(a.create_signal(0), concurrency=1, abort_signal=abort, on_drain=drained)
    go.set_result(None)
    assert isinstance(await end_of(stimulation), StimulationAborted)

    assert drained.line == "2(1/1) 1(1/0)"
    assert [failure.aborted for failure in stimulation.failed_tasks] == [True]


@in_a_loop
async def test_a_turn_ends_when_an_async_listener_holds_tasks_back() -> None:
    """They are pending, never active; each listener that ends begins a turn."""
    first, drained, told = neuron("first", {"b": b}), Told(), Told()
    first.dendrite(a)(lambda n, axon: axon.b.create_signal(n))

    await (
        CNS([first, leaf("second", b)])
        .stimulate(a.create_signal(1), on_response=told.slowly, on_drain=drained)
        .wait_until_complete()
    )

    assert drained.line == "1(1/0) 1(1/0) 0(0/0) 0(0/0)"


@in_a_loop
async def test_a_turn_goes_on_through_a_neurons_gate_that_has_a_place() -> None:
    """Sync handlers behind a gate of one follow each other within the turn: a place is given up when each returns."""
    drained = Told()

    stimulation = CNS([fan(2), leaf("gated", b, concurrency=1)]).stimulate(a.create_signal(0), on_drain=drained)

    assert stimulation.is_complete
    assert drained.line == "0(0/0)"


@in_a_loop
async def test_a_turn_ends_where_a_neurons_gate_is_full() -> None:
    """The one who waits is pending, and runs in the turn in which the place is given up."""
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gated, drained = neuron("gated", concurrency=1), Told()

    @gated.dendrite(b)
    async def wait(n: int) -> None:
        if n == 0:
            await go

    stimulation = CNS([fan(2), gated]).stimulate(a.create_signal(0), on_drain=drained)
    go.set_result(None)
    await stimulation.wait_until_complete()

    assert drained.line == "2(1/1) 0(0/0)"


def test_a_drain_listener_may_stimulate() -> None:
    """Each stimulation tells of its own turn, once, however they nest."""
    turns: dict[Stimulation, int] = {}
    cns = CNS([leaf("leaf", a), leaf("other", b)])

    def nested(drain: Drain) -> None:
        turns[drain.stimulation] = turns.get(drain.stimulation, 0) + 1
        if len(turns) < 3:
            cns.stimulate(b.create_signal(1))

    cns.add_drain_listener(nested)
    outer = cns.stimulate(a.create_signal(1))

    assert list(turns.values()) == [1, 1, 1]
    assert next(iter(turns)) is outer


def test_nothing_is_told_where_nobody_listens() -> None:
    """A stimulation without a drain listener ends as any other."""
    stimulation = CNS([leaf("leaf", a)]).stimulate(a.create_signal(1))

    assert stimulation.is_complete
    ended_well(stimulation)


def test_a_drain_listener_of_the_cns_is_told_until_it_is_removed() -> None:
    """One turn each of two stimulations; the third one is not told of."""
    cns, drained = CNS([leaf("leaf", a)]), Told()
    remove = cns.add_drain_listener(drained)

    cns.stimulate(a.create_signal(1))
    cns.stimulate(a.create_signal(1))
    remove()
    cns.stimulate(a.create_signal(1))

    assert drained.line == "0(0/0) 0(0/0)"


def test_a_drain_listener_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The next listener is told, the stimulation goes well, and the log has the error."""
    cns, drained = CNS([leaf("leaf", a)]), Told()

    def bad(_: Drain) -> None:
        raise ValueError("bad flush")

    cns.add_drain_listener(bad)
    cns.add_drain_listener(drained)
    with caplog.at_level(logging.ERROR, logger="cnstra.stimulation"):
        stimulation = cns.stimulate(a.create_signal(1))

    ended_well(stimulation)
    assert drained.line == "0(0/0)"
    assert "bad flush" in caplog.text

"""Stimulations from sync code: no event loop where nothing suspends, one where ``run`` needs it, an error where none can be."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cnstra import (
    CNS,
    Axon,
    NoEventLoop,
    Response,
    StimulationAborted,
    StimulationError,
    StimulationFailed,
    collateral,
    neuron,
)
from support.stimulating import Told, ended_well, in_a_loop


class Out(Axon):
    out = collateral("out", int)


start = collateral("start", int)


def graph(handler: Any, **options: Any) -> tuple[CNS, list[Any]]:
    """Two neurons; what the second one heard."""
    heard: list[Any] = []
    first, second = neuron("first", Out, **options), neuron("second")
    first.dendrite(start)(handler)
    second.dendrite(Out.out)(heard.append)
    return CNS([first, second]), heard


async def never_suspends(n: int, axon: Out) -> Any:
    return axon.out.create_signal(n)


async def suspends(n: int, axon: Out) -> Any:
    await asyncio.sleep(0)
    return axon.out.create_signal(n)


def test_an_async_handler_that_never_suspends_needs_no_loop() -> None:
    """It counts as sync: all has happened when stimulate returns."""
    cns, heard = graph(never_suspends)

    ended_well(cns.stimulate(start.create_signal(1)))

    assert heard == [1]


@pytest.mark.parametrize(
    "handler", [suspends, lambda n, axon: suspends(n, axon)], ids=["async", "returns an awaitable"]
)
def test_one_that_suspends_fails_where_no_loop_runs(handler: Any) -> None:
    """Nothing could wake it: its task fails with NoEventLoop, others go on, and stimulate raises nothing."""
    cns, heard = graph(handler)
    told = Told()

    stimulation = cns.stimulate(start.create_signal(1), on_response=told)

    assert stimulation.is_complete
    [failure] = stimulation.failed_tasks
    assert isinstance(failure.error, NoEventLoop)
    assert "cns.run()" in str(failure.error)
    assert heard == []
    assert told.line == "1(1/0) 0(0/0)"


def test_one_that_cleans_up_when_it_cannot_wait_does_so() -> None:
    """The error is raised at the await, so ``finally`` runs there and then."""
    steps: list[str] = []

    async def cleans_up(_: int) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            steps.append("cleaned up")

    cns, _ = graph(cleans_up)
    stimulation = cns.stimulate(start.create_signal(1))

    assert steps == ["cleaned up"]
    assert len(stimulation.failed_tasks) == 1


def test_a_listener_that_suspends_fails_the_stimulation_where_no_loop_runs() -> None:
    """Its error is NoEventLoop; what it held back runs."""
    cns, heard = graph(never_suspends)

    async def listen(_: Response) -> None:
        await asyncio.sleep(0)

    stimulation = cns.stimulate(start.create_signal(1), on_response=listen)

    assert heard == [1]
    assert stimulation.failed_tasks == []
    with pytest.raises(NoEventLoop):
        asyncio.run(stimulation.wait_until_complete())


def test_run_starts_no_loop_that_it_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync handlers, and async ones that never suspend without one, of which only the first kind is sure not to."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a loop was started")

    cns, heard = graph(lambda n, axon: axon.out.create_signal(n))
    monkeypatch.setattr(asyncio, "run", refuse)
    stimulation = cns.run(start.create_signal(1))

    assert heard == [1]
    assert stimulation.is_complete


@pytest.mark.parametrize("handler", [suspends, never_suspends])
def test_run_starts_a_loop_that_it_needs(handler: Any) -> None:
    """And is over when it returns."""
    cns, heard = graph(handler)
    told = Told()

    stimulation = cns.run([start.create_signal(n) for n in range(3)], on_response=told)

    assert stimulation.is_complete
    assert sorted(heard) == [0, 1, 2]
    told.check()


def test_run_starts_a_loop_for_a_listener() -> None:
    """An async one holds back what it has to."""
    cns, heard = graph(lambda n, axon: axon.out.create_signal(n))
    told = Told()

    cns.run(start.create_signal(1), on_response=told.slowly)

    assert heard == [1]
    assert told.line == "1(1/0) 1(1/0) 0(0/0)"


def test_run_starts_a_loop_where_a_neurons_gate_is_full() -> None:
    """Another thread holds the place; run waits for it, as stimulate without a loop cannot."""
    entered, go = threading.Event(), threading.Event()
    order: list[str] = []

    def hold(n: int, axon: Any) -> Any:
        order.append(f"begin {n}")
        if n == 0:
            entered.set()
            assert go.wait(60)
        order.append(f"end {n}")
        return axon.out.create_signal(n)

    cns, _ = graph(hold, concurrency=1)
    other = threading.Thread(target=cns.stimulate, args=[start.create_signal(0)])
    other.start()
    assert entered.wait(60)
    refused = cns.stimulate(start.create_signal(1))

    def let_go(response: Response) -> None:
        if response.input_signal is None:
            threading.Thread(target=go.set).start()

    cns.run(start.create_signal(2), on_response=let_go)
    other.join()

    assert order == ["begin 0", "end 0", "begin 2", "end 2"]
    [failure] = refused.failed_tasks
    assert isinstance(failure.error, NoEventLoop)


def test_run_raises_what_waiting_raises() -> None:
    """Failures, an abort, a listener's error as itself."""

    def fail(_: int) -> None:
        raise ValueError("bad")

    cns, _ = graph(fail)
    abort = threading.Event()
    abort.set()
    error = LookupError("a listener's")

    def bad(_: Response) -> None:
        raise error

    with pytest.raises(StimulationFailed) as failed:
        cns.run(start.create_signal(1))
    with pytest.raises(StimulationAborted) as aborted:
        cns.run(start.create_signal(1), abort_signal=abort)
    with pytest.raises(LookupError) as raised:
        cns.run(start.create_signal(1), on_response=bad)

    assert isinstance(failed.value.__cause__, ValueError)
    assert [failure.aborted for failure in aborted.value.failures] == [True]
    assert raised.value is error


@in_a_loop
async def test_run_refuses_to_block_a_running_loop() -> None:
    """It says what to write instead, and has started nothing."""
    cns, heard = graph(never_suspends)

    with pytest.raises(StimulationError, match="wait_until_complete"):
        cns.run(start.create_signal(1))

    assert heard == []


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"max_neuron_hops": 0},
        {"max_neuron_hops": 1.5},
        {"on_response": "text"},
        {"on_drain": 5},
        {"abort_signal": object()},
        {"ctx": object()},
        {"create_context_store": 5},
        {"modality": "ui"},
        {"afferent_path": "ui"},
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_runs(options: Any) -> None:
    """With the option's name; so are signals that are none, and a namesake of one of the graph's collaterals."""
    cns, heard = graph(never_suspends)
    [name] = options

    with pytest.raises(StimulationError, match=name):
        cns.stimulate(start.create_signal(1), **options)
    with pytest.raises(StimulationError, match="signals"):
        cns.stimulate(["text"])  # type: ignore[list-item]
    with pytest.raises(StimulationError, match="another collateral"):
        cns.stimulate(collateral("start", int).create_signal(1))
    with pytest.raises(TypeError, match="retries"):
        cns.stimulate(start.create_signal(1), retries=3)  # type: ignore[call-arg]

    assert heard == []

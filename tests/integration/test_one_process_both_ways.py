"""One graph, built once, in one process: run durably by a worker, and stimulated beside it, at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cnstra import CNS, Axon, Context, Orchestrator, collateral, neuron
from support.serving import serving
from support.stimulating import Told

PATIENCE = 60.0
HELD = 1000


class Sums(Axon):
    added = collateral("sums.added", int)
    told = collateral("sums.told", str)


class Both:
    """A graph of a sync and an async step; the first one holds one payload until it is let go."""

    def __init__(self) -> None:
        self.inside, self.go = threading.Event(), threading.Event()
        self.start = collateral("sums.start", int)
        adds, tells = neuron("adds", Sums), neuron("tells", Sums, local=int)

        @adds.dendrite(self.start)
        def add(n: int, axon: Sums, ctx: Context) -> Any:
            if n == HELD:
                self.inside.set()
                assert self.go.wait(PATIENCE)
            ctx["sum"] = n + ctx.services
            return axon.added.create_signal(ctx["sum"])

        @tells.dendrite(Sums.added)
        async def tell(n: int, axon: Sums, ctx: Context[Any, int]) -> Any:
            await asyncio.sleep(0)
            ctx.local.set(n)
            ctx.update("told", lambda told: [*(told or []), n])
            return axon.told.create_signal(f"{n} of {ctx['sum']}, {ctx.local.get()}, {ctx.stimulation_context}")

        self.cns = CNS([adds, tells], name="sums", services=100)


@pytest.fixture
def both(database_url: str, broker_url: str) -> Iterator[tuple[Both, Orchestrator]]:
    graph = Both()
    with (
        serving(graph.cns, database_url, broker_url),
        Orchestrator(graph.cns, database=database_url, broker=broker_url) as orchestrator,
    ):
        yield graph, orchestrator


def test_a_graph_runs_unchanged_both_ways(both: tuple[Both, Orchestrator]) -> None:
    """The same outputs, the same context; only what a stimulation alone has is None in the durable run."""
    graph, orchestrator = both
    told = Told()

    stimulation = graph.cns.run(graph.start.create_signal(1), on_response=told, stimulation_context="here")
    result = orchestrator.submit(graph.start.create_signal(1)).wait(timeout=PATIENCE)

    assert told.payloads("sums.told") == ["101 of 101, 101, here"]
    assert [signal.payload for signal in result.outputs] == ["101 of 101, 101, None"]
    assert stimulation.context_store.get() == result.context == {"sum": 101, "told": [101]}


def test_a_stimulation_passes_a_durable_run_that_is_under_way(both: tuple[Both, Orchestrator]) -> None:
    """A handler of the run is held on a thread of the worker; meanwhile the same neurons are stimulated, to the end."""
    graph, orchestrator = both
    run = orchestrator.submit(graph.start.create_signal(HELD))
    assert graph.inside.wait(PATIENCE)
    stimulations = [graph.cns.run(graph.start.create_signal(n)) for n in range(20)]
    under_way = run.status()
    graph.go.set()
    result = run.wait(timeout=PATIENCE)

    assert [stimulation.context_store.get()["sum"] for stimulation in stimulations] == list(range(100, 120))
    assert (under_way, result.status) == ("running", "completed")
    assert result.context == {"sum": HELD + 100, "told": [HELD + 100]}


def test_runs_and_stimulations_at_once_keep_out_of_each_others_way(both: tuple[Both, Orchestrator]) -> None:
    """Ten runs, and stimulations in an event loop of their own for as long as they take: every one has its own sum."""
    graph, orchestrator = both
    done = threading.Event()
    sums: list[tuple[int, int]] = []

    async def stimulate() -> None:
        n = 0
        while not done.is_set() or n < 50:
            stimulation = graph.cns.stimulate(graph.start.create_signal(n % HELD))
            await stimulation.wait_until_complete()
            sums.append((n, stimulation.context_store.get()["sum"]))
            n += 1

    thread = threading.Thread(target=asyncio.run, args=[stimulate()])
    thread.start()
    runs = [orchestrator.submit(graph.start.create_signal(n)) for n in range(10)]
    results = [run.wait(timeout=PATIENCE) for run in runs]
    done.set()
    thread.join(PATIENCE)

    assert [result.context["sum"] for result in results] == list(range(100, 110))
    assert all(found == n % HELD + 100 for n, found in sums)
    assert len(sums) >= 50

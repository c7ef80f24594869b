"""Tests as users write them with the test kit, judged by the type checkers.

Nothing in this file runs; ``test_types.py`` has mypy and pyright read it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_type

from cnstra import CNS, AsyncOrchestrator, Axon, Orchestrator, Run, RunResult, collateral, neuron
from cnstra.testing import AsyncLab, AsyncLabRun, CallOutcome, HandlerCall, Lab, LabRun
from cnstra.testing.fixtures import OpenOrchestrator, StartWorker

begun = collateral("begun", int)


class CounterAxon(Axon):
    counted = collateral("counted", int)


counter = neuron("counter", CounterAxon)


@counter.dendrite(begun)
def count(number: int, axon: CounterAxon) -> None: ...


cns = CNS([counter], name="counting")


def place(orchestrator: Orchestrator) -> Run:
    return orchestrator.submit(begun.create_signal(1), idempotency_key="1")


def test_in_a_lab() -> None:
    with Lab(cns, services=object(), seed=1, start=datetime(2030, 1, 1, tzinfo=UTC), poison_limit=3) as lab:
        assert_type(lab, Lab)
        place(lab)
        run = lab.submit(begun.create_signal(1), delay=timedelta(days=1), tags={"a": "b"})
        assert_type(run, LabRun)
        assert_type(lab.list_runs(status="failed"), list[LabRun])
        assert_type(lab.submit_many([begun.create_signal(1)]), list[LabRun])
        lab.fail(counter, ConnectionError("away"), times=2)
        lab.fail("counter", ConnectionError, when=lambda call: call.payload == 1)
        lab.crash(count, "before_call", nth=2)
        lab.stall(None)
        lab.storm(seed=7, crash=0.2)
        lab.advance(timedelta(days=1))
        assert_type(run.wait(timeout=3), RunResult)
        assert_type(run.calls(count), list[HandlerCall])
        assert_type(lab.calls()[0].outcome, CallOutcome)
        assert_type(lab.now, datetime)


async def test_in_an_async_lab() -> None:
    async with AsyncLab(cns) as lab:
        assert_type(lab, AsyncLab)
        client: AsyncOrchestrator = lab
        await client.submit(begun.create_signal(1))
        run = await lab.submit(begun.create_signal(1))
        assert_type(run, AsyncLabRun)
        await lab.run_until_idle()
        assert_type(await run.wait(), RunResult)
        assert_type(run.calls(), list[HandlerCall])


def test_on_servers(cnstra_worker: StartWorker, cnstra_orchestrator: OpenOrchestrator) -> None:
    stop = cnstra_worker(cns, services=None, threads=2, lease=timedelta(seconds=5))
    assert_type(cnstra_orchestrator(cns), Orchestrator)
    stop()

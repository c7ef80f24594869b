"""Workers that ``dramatiq`` itself starts, reloads and stops."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cnstra import ConfigurationError, GraphError, Orchestrator
from cnstra.running import dramatiq_broker
from support.apps.sagas import Job, begin, cns, nameless
from support.commands import Servers, WorkerCommand
from support.waiting import eventually

_TESTS = str(Path(__file__).parents[1])

Start = Callable[..., WorkerCommand]


@pytest.fixture
def dramatiq(both: Servers, tmp_path: Path) -> Iterator[Start]:
    """Starts ``dramatiq`` on the servers of the test."""
    with ExitStack() as stack:

        def start(*arguments: str, servers: Servers = both, **environment: str) -> WorkerCommand:
            return stack.enter_context(
                WorkerCommand(
                    tmp_path / "dramatiq.log",
                    *("support.apps.under_dramatiq:broker", "--threads", "1", *arguments),
                    servers=servers,
                    environment={"PYTHONPATH": _TESTS, **environment},
                    command=[str(Path(sys.executable).parent / "dramatiq")],
                )
            )

        yield start


def test_its_processes_serve_runs_and_drain_when_it_stops_them(
    dramatiq: Start, client: Orchestrator, make_gate: Any
) -> None:
    """Two processes; a doorbell wakes one of them; the handler that runs at the end is let come to its own."""
    worker = dramatiq("--processes", "2")
    runs = client.submit_many([begin.create_signal(Job()) for _ in range(20)])
    assert {run.wait(timeout=60).status for run in runs} == {"completed"}
    gate = make_gate()
    last = client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()

    worker.send(signal.SIGTERM)
    worker.logged("draining")
    gate.open()

    assert worker.ended() == 0
    assert "drained" in worker.log
    assert "done by" in (client.get_run(last.id).context() or {})  # the step is committed


def test_a_reload_brings_new_processes_and_loses_nothing(dramatiq: Start, client: Orchestrator) -> None:
    """SIGHUP: dramatiq stops its processes, and starts others. What is submitted meanwhile is done by these."""
    worker = dramatiq("--processes", "1")
    assert client.submit(begin.create_signal(Job())).wait(timeout=60).context is not None
    before = client.submit(begin.create_signal(Job())).wait(timeout=60).context["done by"]

    worker.send(signal.SIGHUP)
    runs = client.submit_many([begin.create_signal(Job()) for _ in range(20)])

    assert {run.wait(timeout=60).status for run in runs} == {"completed"}
    eventually(lambda: client.submit(begin.create_signal(Job())).wait(timeout=60).context["done by"] != before)


def test_one_that_cannot_serve_ends_and_says_why(dramatiq: Start, empty_database_url: str, broker_url: str) -> None:
    """Dramatiq swallows what its hooks raise; a process that listens and answers nothing would be worse than none."""
    worker = dramatiq("--processes", "1", servers=Servers(database_url=empty_database_url, broker_url=broker_url))

    assert worker.ended() != 0
    assert "run `cnstra migrate`" in worker.log


def test_what_cannot_be_served_is_refused_where_the_broker_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of no neuron, a graph without a name, a URL that is missing: found when the module is imported."""
    urls = {"database": "postgresql://nobody@127.0.0.1:1/nothing", "broker": "redis://127.0.0.1:1/0"}
    with pytest.raises(ConfigurationError, match="no neuron of CNS 'sagas' is on queue 'fast'"):
        dramatiq_broker(cns, queues=["fast"], **urls)
    with pytest.raises(ConfigurationError, match="threads is 0"):
        dramatiq_broker(cns, threads=0, **urls)
    monkeypatch.delenv("CNSTRA_DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="CNSTRA_DATABASE_URL"):
        dramatiq_broker(cns, broker=urls["broker"])
    with pytest.raises(GraphError, match="without a name"):
        dramatiq_broker(nameless, **urls)

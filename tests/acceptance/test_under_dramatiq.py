"""Workers that ``dramatiq`` itself starts, reloads and stops."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from cnstra import ConfigurationError, GraphError, Orchestrator
from cnstra.orchestrator.ports import door
from cnstra.running import dramatiq_broker
from cnstra.workers.doorbell import DramatiqBell
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


def test_a_process_that_drains_leaves_doorbells_to_others(
    dramatiq: Start, both: Servers, client: Orchestrator, make_gate: Any
) -> None:
    """It could answer none of them, and they would wake nobody else; dramatiq by itself stops taking last."""
    worker = dramatiq("--processes", "1")
    gate = make_gate()
    client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    worker.send(signal.SIGTERM)
    worker.logged("draining")

    client.submit(begin.create_signal(Job()))
    bell = DramatiqBell(both.broker_url)
    waiting = bell.qsize(door(cns.durable_name, "default"))
    bell.close()
    gate.open()

    assert waiting == 1
    assert worker.ended() == 0


def test_a_reload_brings_new_processes_and_loses_nothing(dramatiq: Start, client: Orchestrator) -> None:
    """SIGHUP: dramatiq stops its processes, and starts others. What is submitted meanwhile is done by these."""
    worker = dramatiq("--processes", "1")
    assert client.submit(begin.create_signal(Job())).wait(timeout=60).context is not None
    before = client.submit(begin.create_signal(Job())).wait(timeout=60).context["done by"]

    worker.send(signal.SIGHUP)
    runs = client.submit_many([begin.create_signal(Job()) for _ in range(20)])

    assert {run.wait(timeout=60).status for run in runs} == {"completed"}
    eventually(lambda: client.submit(begin.create_signal(Job())).wait(timeout=60).context["done by"] != before)


def test_a_file_that_changes_reloads_the_processes(dramatiq: Start, client: Orchestrator, tmp_path: Path) -> None:
    """``--watch`` of dramatiq. Its own pattern finds no file with watchdog 7, so the page gives another one."""
    watched = tmp_path / "watched"
    watched.mkdir()
    dramatiq("--processes", "1", "--watch", str(watched), "--watch-include", "**/*.py")
    before = client.submit(begin.create_signal(Job())).wait(timeout=60).context["done by"]

    (watched / "shop.py").write_text("changed = True")

    eventually(lambda: client.submit(begin.create_signal(Job())).wait(timeout=60).context["done by"] != before)


def test_the_work_of_a_process_that_was_killed_is_done_by_the_next_ones(
    dramatiq: Start, both: Servers, client: Orchestrator, make_gate: Any
) -> None:
    """Dramatiq stops the others with it, and ends; what supervises it starts it again."""
    worker = dramatiq("--processes", "2", TEST_LEASE="2")
    gate = make_gate()
    run = client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    with psycopg.connect(both.database_url) as connection:
        [(serving,)] = connection.execute("select pid from cnstra.workers where running > 0").fetchall()

    os.kill(serving, signal.SIGKILL)

    assert worker.ended() != 0
    assert "drained" in worker.log
    gate.open()
    dramatiq("--processes", "2", TEST_LEASE="2")
    gate.reached().open()
    assert run.wait(timeout=60).status == "completed"


def test_processes_do_not_outlive_their_parent(dramatiq: Start, client: Orchestrator, make_gate: Any) -> None:
    """SIGKILL to dramatiq itself: its processes would serve on, with yesterday's code, and log into a pipe that nobody reads."""
    worker = dramatiq("--processes", "2")
    gate = make_gate()
    client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    processes = worker.children()
    assert len(processes) == 2

    worker.send(signal.SIGKILL)
    worker.ended()

    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


def test_a_thread_of_the_application_does_not_keep_a_drained_process(dramatiq: Start, client: Orchestrator) -> None:
    """Python would wait for it for ever, and dramatiq for the process."""
    worker = dramatiq("--processes", "1", LINGERS="yes")
    client.submit(begin.create_signal(Job())).wait(timeout=60)

    worker.send(signal.SIGTERM)

    assert worker.ended() == 0


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

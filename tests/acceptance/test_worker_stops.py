"""A worker stops: it lets handlers end, gives the rest back, and does not stay longer than it was allowed to."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from cnstra import Orchestrator, Run
from cnstra.servers import HeldServers
from support.apps.sagas import Job, begin, begin_async
from support.commands import Servers, cnstra
from support.waiting import eventually

PATIENCE = 60.0


def activation(run: Run) -> dict[str, Any]:
    """The run's first activation."""
    found: dict[str, Any] = run.describe()["activations"][0]
    return found


def test_draining_lets_the_running_handler_end_and_gives_back_what_was_not_begun(
    start_worker, client: Orchestrator, make_gate
) -> None:
    """What was begun is committed, what was not is free for others at once, and has no try."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--threads", "1").ready()
    running = client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    waiting = client.submit(begin.create_signal(Job()))
    eventually(lambda: activation(waiting)["status"] == "running", what="a claim of what has to wait for its thread")

    worker.send(signal.SIGTERM)
    eventually(lambda: activation(waiting)["status"] == "ready", what="a claim that was given back")
    still = activation(running)["status"]
    gate.open()

    assert worker.ended() == 0
    assert still == "running"
    assert activation(running)["status"] == "done"
    assert (activation(waiting)["status"], activation(waiting)["tries"]) == ("ready", 0)


def test_what_a_drained_worker_left_is_done_by_the_next_one(start_worker, client: Orchestrator, make_gate) -> None:
    """A deploy loses nothing and repeats nothing: the handler that was let end is not called again."""
    gate = make_gate()
    before = start_worker("sagas:cns").ready()
    run = client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    before.send(signal.SIGTERM)
    before.logged("draining")
    gate.open()
    assert before.ended() == 0

    start_worker("sagas:cns").ready()

    assert run.wait(PATIENCE).status == "completed"
    assert [found["tries"] for found in run.describe()["activations"]] == [1, 1]


def test_a_second_signal_ends_a_worker_at_once_and_with_its_lease(
    start_worker, client: Orchestrator, make_gate
) -> None:
    """Others do not have to wait for a lease that would hold for an hour."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--lease", "3600", "--drain", "3600").ready()
    run = client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    worker.send(signal.SIGTERM)
    worker.logged("draining")

    worker.send(signal.SIGINT)

    assert worker.ended() == 8
    start_worker("sagas:cns").ready()
    gate.open()
    gate.reached().open()
    assert run.wait(PATIENCE).status == "completed"
    assert activation(run)["tries"] == 2


@pytest.mark.parametrize("entry", [begin, begin_async], ids=["sync", "async"])
def test_a_handler_that_is_stuck_in_c_does_not_outstay_the_time_to_drain(
    start_worker, client: Orchestrator, make_gate, entry
) -> None:
    """No exception reaches it, and no thread can be killed; the process can end."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--drain", "0").ready()
    client.submit(entry.create_signal(Job("stick in C", gate.path)))
    gate.reached()

    worker.send(signal.SIGTERM)

    assert worker.ended() == 8
    assert worker.logged("ending at once")


def test_a_handler_that_holds_the_interpreter_is_ended_by_the_parent(
    start_worker, client: Orchestrator, make_gate
) -> None:
    """No Python code runs in such a process any more, the handling of signals included."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--drain", "0", "--processes", "2").ready()
    client.submit(begin.create_signal(Job("stick with the GIL", gate.path)))
    gate.reached()

    worker.send(signal.SIGTERM)

    assert worker.ended() == 8
    assert worker.logged("does not end, and is killed")


def test_a_worker_can_be_stopped_while_postgres_is_away(start_worker, own_servers: HeldServers) -> None:
    """It cannot end its lease then, and does not wait for that."""
    servers = Servers(database_url=own_servers.database_url, broker_url=own_servers.broker_url)
    assert cnstra("migrate", servers=servers).code == 0
    worker = start_worker("sagas:cns", "--drain", "0", servers=servers).ready()
    own_servers.stop_postgres()

    worker.send(signal.SIGTERM)

    assert worker.ended() in (0, 8)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_what_an_application_leaves_open_does_not_keep_a_drained_worker(
    start_worker, tmp_path: Path, processes: str
) -> None:
    """A finalizer that waits for threads is not called; what it registered for the end is."""
    goodbye = tmp_path / "goodbye"
    environment = {"LINGERS_BY": "finalizer", "LINGERING_SAYS_GOODBYE_IN": str(goodbye)}
    worker = start_worker("lingering:cns", "--processes", processes, environment=environment).ready()

    worker.send(signal.SIGTERM)

    assert worker.ended() == 0
    assert goodbye.exists()


def test_a_thread_of_the_application_does_not_keep_a_drained_worker(start_worker, tmp_path: Path) -> None:
    """Python would wait for it for ever."""
    environment = {"LINGERS_BY": "thread", "LINGERING_SAYS_GOODBYE_IN": str(tmp_path / "goodbye")}
    worker = start_worker("lingering:cns", environment=environment).ready()

    worker.send(signal.SIGTERM)

    assert worker.ended() == 0


@pytest.mark.parametrize("entry", [begin, begin_async], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("deed", "kind"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("raise base", "Stop")]
)
def test_whatever_a_handler_raises_the_worker_lives_on(
    start_worker, client: Orchestrator, entry, deed: str, kind: str
) -> None:
    """A handler may raise what ends a program; here it ends a try."""
    worker = start_worker("sagas:cns", "--threads", "1").ready()

    failed = client.submit(entry.create_signal(Job(deed))).wait(PATIENCE)
    after = client.submit(entry.create_signal(Job())).wait(PATIENCE)
    worker.send(signal.SIGTERM)

    assert failed.status == "failed"
    assert (failed.error_type or "").endswith(kind)
    assert after.status == "completed"
    assert worker.ended() == 0

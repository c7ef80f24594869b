"""A worker of several processes: its parent replaces those that die, and none outlives it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import psycopg

from cnstra import Orchestrator
from support.apps.sagas import Job, begin
from support.commands import NOWHERE, Servers, WorkerCommand
from support.waiting import eventually

PATIENCE = 60.0


def pids_of_workers(database_url: str) -> set[int]:
    """The processes that hold a lease, as everybody can see."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        return {pid for (pid,) in connection.execute("select pid from cnstra.workers")}


def test_all_processes_of_a_worker_take_work_and_are_one_process_group(start_worker, database_url: str) -> None:
    """Whoever signals or kills the group reaches all of them."""
    worker = start_worker("sagas:cns", "--processes", "3").ready()

    children = worker.children()

    assert {child.pid for child in children} == pids_of_workers(database_url)
    assert {os.getpgid(child.pid) for child in children} == {worker.pid}
    assert len(children) == 3


def test_a_process_that_was_killed_is_replaced_and_its_work_is_done(
    start_worker, client: Orchestrator, database_url: str, make_gate
) -> None:
    """A crash costs a lease's length, and no run."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--processes", "2", "--lease", "1").ready()
    run = client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    holder = run.describe()["activations"][0]["worker"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        [[victim]] = connection.execute("select pid from cnstra.workers where worker = %s", [holder]).fetchall()

    os.kill(victim, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(victim), what="the end of the victim")
    gate.open()
    gate.reached().open()

    assert run.wait(PATIENCE).status == "completed"
    assert run.describe()["activations"][0]["tries"] == 2
    assert worker.logged(f"(pid {victim}) was killed by SIGKILL; another takes its place")
    eventually(lambda: len(worker.children()) == 2, what="two processes again")
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0


def test_the_children_of_a_parent_that_was_killed_are_gone(start_worker, database_url: str) -> None:
    """A parent that nobody could ask, as after the kernel's own choice when memory runs out, leaves nothing behind."""
    worker = start_worker("sagas:cns", "--processes", "2").ready()
    children = worker.children()

    worker.send(signal.SIGKILL)

    gone, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert len(gone) == 2
    assert alive == []


def test_a_child_that_is_in_a_handler_goes_with_its_parent(start_worker, client: Orchestrator, make_gate) -> None:
    """Nothing in a handler has to end first."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--processes", "2").ready()
    client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    children = worker.children()

    worker.send(signal.SIGKILL)

    assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []


def test_a_signal_to_the_whole_group_drains_once(start_worker, client: Orchestrator, make_gate) -> None:
    """Ctrl-C reaches parent and children alike: that is one request to stop, and not two."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--processes", "2").ready()
    run = client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()

    worker.send_to_group(signal.SIGINT)
    eventually(lambda: len(worker.children()) == 1, what="the end of the child that has nothing to do")
    gate.open()

    assert worker.ended() == 0
    assert run.describe()["activations"][0]["status"] == "done"


def test_a_child_that_is_told_to_stop_by_itself_drains_and_is_replaced(start_worker) -> None:
    """Whoever recycles processes one after the other can."""
    worker = start_worker("sagas:cns", "--processes", "2").ready()
    first, second = worker.children()

    first.send_signal(signal.SIGTERM)

    assert worker.logged(f"(pid {first.pid}) ended with code 0; another takes its place")
    eventually(lambda: len(worker.children()) == 2, what="two processes again")
    assert second in worker.children()


def test_processes_that_die_at_once_are_tried_again_and_again_and_can_be_stopped(tmp_path: Path) -> None:
    """With growing pauses, so that nothing burns; and not for ever against somebody's will."""
    deaths = tmp_path / "deaths"
    deaths.touch()
    environment = {"DYING_LEAVES_A_LINE_IN": str(deaths)}
    log = tmp_path / "worker.log"
    with WorkerCommand(log, "dying:cns", "--processes", "2", servers=NOWHERE, environment=environment) as worker:
        eventually(lambda: len(deaths.read_text().splitlines()) >= 6, what="three deaths in each place")

        worker.send(signal.SIGTERM)

        assert worker.ended() == 0
        assert "ended with code 17; another takes its place in " in worker.log


def test_a_worker_serves_only_the_queues_that_it_is_told(start_worker, client: Orchestrator) -> None:
    """A run goes from one worker to another by the queues of its neurons."""
    start_worker("sagas:cns", "--queues", "default").ready()
    run = client.submit(begin.create_signal(Job()))
    eventually(lambda: len(run.describe()["activations"]) == 2, what="the first step's end")
    left = run.describe()["activations"][1]
    start_worker("sagas:cns", "--queues", "slow").ready()

    assert run.wait(PATIENCE).status == "completed"
    first, second = run.describe()["activations"]
    assert (left["neuron"], left["queue"]) == ("second", "slow")
    assert first["worker"] != second["worker"]


def test_no_password_shows_in_a_list_of_processes(start_worker, both: Servers) -> None:
    """Everybody on a machine can read the arguments of everybody's processes."""
    worker = start_worker("sagas:cns", "--processes", "2").ready()
    password = both.database_url.partition("@")[0].rpartition(":")[2]

    shown = [" ".join(child.cmdline()) for child in worker.children()]

    assert all("sagas:cns" in line and password not in line for line in shown)

"""Probes of a worker: whether it lives, and whether it takes work, as who runs containers asks."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any
from urllib.request import urlopen

import pytest

from cnstra import Orchestrator
from cnstra.servers import HeldServers
from support.apps.sagas import Job, begin
from support.commands import NOWHERE, Ended, Servers, WorkerCommand, cnstra
from support.doors import free_port
from support.waiting import eventually

PATIENCE = 60.0


@pytest.fixture
def health() -> str:
    """An address for probes, by which several workers of one machine would not meet."""
    return str(free_port())


def ask(question: str, health: str) -> Any:
    """What the worker answers, as the document has it; the exit code says the same."""
    ended = cnstra("health", question, "--health", health, "--json")
    assert ended.code in (0, 1), ended.err
    document = ended.json
    assert document[question] is (ended.code == 0)
    assert (document["reasons"] == []) is document[question]
    return document


def becomes(question: str, answer: bool, health: str, because: str = "") -> bool:
    """Wait until the worker answers so, with such a reason."""

    def answers() -> bool:
        document = ask(question, health)
        return document[question] is answer and because in "; ".join(document["reasons"])

    return eventually(answers, what=f"{question}: {answer} {because}")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_that_printed_ready_lives_and_is_ready(start_worker, health: str, processes: str) -> None:
    """At once: a script that waited for the line does not have to ask twice."""
    start_worker("sagas:cns", "--health", health, "--processes", processes).ready()
    with urlopen(f"http://127.0.0.1:{health}/ready", timeout=PATIENCE) as answer:
        at_once = json.load(answer)

    assert at_once == ask("ready", health) == {"ready": True, "reasons": []}
    assert ask("live", health) == {"live": True, "reasons": []}


def test_health_is_told_in_words(start_worker, health: str) -> None:
    """One word; with a no, why."""
    worker = start_worker("sagas:cns", "--lease", "1", environment={"CNSTRA_HEALTH": health}).ready()

    def asked(question: str) -> Ended:
        return cnstra("health", question, environment={"CNSTRA_HEALTH": health})

    assert (asked("live").out, asked("ready").out) == ("live\n", "ready\n")
    worker.children()[0].suspend()
    eventually(lambda: asked("live").code == 1, what="a process that is missed")
    assert asked("live").out.startswith("not live: process 1 has not turned for ")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_whose_postgres_is_away_lives_and_is_not_ready(
    start_worker, own_servers: HeldServers, health: str, processes: str
) -> None:
    """Else an outage of the database would end all workers. When it is back, they are ready by themselves."""
    servers = Servers(database_url=own_servers.database_url, broker_url=own_servers.broker_url)
    assert cnstra("migrate", servers=servers).code == 0
    start_worker("sagas:cns", "--health", health, "--processes", processes, "--lease", "3", servers=servers).ready()

    own_servers.stop_postgres()

    becomes("ready", False, health, "has not renewed its lease for")
    assert ask("live", health)["live"]
    own_servers.start_postgres()
    becomes("ready", True, health)


def test_a_worker_that_waits_for_postgres_at_its_start_lives(start_worker, health: str) -> None:
    """It answers from the beginning on."""
    worker = start_worker("sagas:cns", "--health", health, servers=NOWHERE)
    worker.logged("waiting up to 60 s for Postgres: ")

    assert ask("live", health)["live"]
    assert ask("ready", health)["reasons"] == ["process 1 does not take work yet"]


def test_a_worker_whose_broker_is_away_is_ready(start_worker, health: str, database_url: str) -> None:
    """Sweeps find the work."""
    servers = Servers(database_url=database_url, broker_url=NOWHERE.broker_url)
    start_worker("sagas:cns", "--health", health, servers=servers).ready()

    assert ask("ready", health)["ready"]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_that_drains_lives_and_is_not_ready(
    start_worker, client: Orchestrator, make_gate, health: str, processes: str
) -> None:
    """It is asked until its end: a probe that failed would have it killed before its handlers are done."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--health", health, "--processes", processes).ready()
    client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()

    worker.send(signal.SIGTERM)
    worker.logged("draining")

    assert ask("ready", health)["reasons"] == ["the worker drains"]
    assert ask("live", health)["live"]
    gate.open()
    assert worker.ended() == 0


def test_a_process_that_is_told_to_stop_by_itself_is_not_ready_until_it_is_replaced(
    start_worker, client: Orchestrator, make_gate, health: str
) -> None:
    """Whoever recycles one process after another waits for this."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--health", health).ready()
    client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()

    worker.children()[0].terminate()

    becomes("ready", False, health, "process 1 drains")
    assert ask("live", health)["live"]
    gate.open()
    becomes("ready", True, health)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_process_that_does_not_turn_is_missed(start_worker, health: str, processes: str) -> None:
    """Stopped, as by a kernel that has frozen it; and back, as if nothing had been."""
    worker = start_worker("sagas:cns", "--health", health, "--processes", processes, "--lease", "1").ready()
    stopped = worker.children()[-1]

    stopped.suspend()

    becomes("live", False, health, f"process {processes} has not turned for ")
    stopped.resume()
    becomes("live", True, health)
    becomes("ready", True, health)


def test_a_handler_that_takes_long_is_no_reason_to_start_a_worker_again(
    start_worker, client: Orchestrator, make_gate, health: str
) -> None:
    """Blocked in C, for longer than a process may be silent: the main thread turns beside it, and the lease is renewed."""
    gate = make_gate()
    worker = start_worker("sagas:cns", "--health", health, "--lease", "1").ready()
    client.submit(begin.create_signal(Job("stick in C", gate.path)))
    gate.reached()
    beside = start_worker("sagas:cns", "--health", other := str(free_port()), "--lease", "1").ready()

    beside.children()[0].suspend()
    becomes("live", False, other)  # so long has it been

    assert ask("live", health)["live"]
    assert ask("ready", health)["ready"]
    assert worker.running


def test_a_handler_that_holds_the_interpreter_for_good_is_missed(
    start_worker, client: Orchestrator, make_gate, health: str
) -> None:
    """Its lease is lost, and nothing else can run in its process. The answer comes from a process in which no handler is."""
    gate = make_gate()
    start_worker("sagas:cns", "--health", health, "--lease", "1").ready()
    client.submit(begin.create_signal(Job("stick with the GIL", gate.path)))
    gate.reached()

    becomes("live", False, health, "process 1 has not turned for ")


def test_a_process_that_has_lost_a_thread_that_it_works_with_is_missed(
    start_worker, client: Orchestrator, health: str
) -> None:
    """It turns, keeps its lease, and would do nothing for ever."""
    worker = start_worker("sagas:cns", "--health", health).ready()

    client.submit(begin.create_signal(Job("end the claimer")))

    becomes("live", False, health, "process 1 has lost cnstra-claimer")
    worker.logged("CRITICAL cnstra.worker: thread cnstra-claimer has ended")


def test_a_process_that_died_is_not_ready_until_another_is(start_worker, health: str) -> None:
    """The worker lives: it has seen it by itself."""
    worker = start_worker("sagas:cns", "--health", health, "--processes", "2", "--lease", "1").ready()
    [victim, _] = worker.children()

    os.kill(victim.pid, signal.SIGKILL)
    worker.logged("was killed by SIGKILL; another takes its place")

    assert ask("live", health)["live"]
    becomes("ready", True, health)
    assert victim.pid not in {child.pid for child in worker.children()}


def test_a_port_that_is_taken_is_refused_at_the_start(health: str) -> None:
    """In one line, before anything is loaded."""
    with socket.create_server(("127.0.0.1", int(health))):
        refused = cnstra("worker", "nowhere:cns", "--health", health, servers=NOWHERE)

    assert refused.code == 5
    assert refused.complaint.startswith(
        f"cnstra: cannot answer probes at {health}: Address already in use; choose another"
    )


def test_a_bad_address_is_refused_by_both_commands() -> None:
    """It is named; and so is what was forgotten."""
    for command in (("worker", "sagas:cns"), ("health",)):
        refused = cnstra(*command, "--health", "everywhere", servers=NOWHERE)
        assert (refused.code, "'everywhere' is no address for probes" in refused.complaint) == (5, True)
    assert "set CNSTRA_HEALTH" in cnstra("health").complaint


def test_nobody_who_answers_is_not_the_same_as_a_no(health: str) -> None:
    """A worker that has not begun, or has ended; or somebody else at its port, such as a broker."""
    nobody = cnstra("health", "--health", health)

    assert (nobody.code, nobody.out) == (7, "")
    assert nobody.complaint == f"cnstra: no worker answers probes at 127.0.0.1:{health}: Connection refused"


def test_a_worker_without_an_address_listens_nowhere(start_worker) -> None:
    """And has no second process."""
    worker: WorkerCommand = start_worker("sagas:cns").ready()

    assert worker.children() == []

"""What a worker logs while things go wrong: whom it is about, and nothing that nobody else may read."""

from __future__ import annotations

import json
import re
import signal
from typing import Any
from urllib.parse import urlsplit

import pytest

from cnstra import Orchestrator, Run
from cnstra.servers import HeldServers
from support.apps.sagas import Job, begin, begin_async, cns
from support.commands import Servers, WorkerCommand, cnstra
from support.gates import Gate
from support.waiting import eventually

PATIENCE = 90.0
CARD = "4111-1111-1111-1111"
"""What is in payloads, and in the messages of handlers' errors."""

FORMS = ["text", "json"]
_ABOUT = re.compile(r"run ([0-9a-f-]{36})(?:, activation (\d+))?")


def told(worker: WorkerCommand, run: Run, words: str, form: str) -> dict[str, Any]:
    """The line with these words about the first activation of a run, once it is there; as fields."""

    def found() -> list[str]:
        return [line for line in worker.log.splitlines() if words in line and str(run.id) in line]

    [line, *_] = eventually(found, PATIENCE, what=f"{words!r} in the log of the worker")
    if form == "json":
        said: dict[str, Any] = json.loads(line)
        return said
    about = _ABOUT.search(line)
    assert about is not None, line
    return {"run_id": about[1], "activation_id": about[2] and int(about[2])}


def assert_sound(log: str, form: str, servers: Servers) -> None:
    """Each line of JSON has as fields whom its message names; no payload, no password."""
    passwords = [urlsplit(url).password for url in (servers.database_url, servers.broker_url)]
    assert [secret for secret in (CARD, *passwords) if secret and secret in log] == []
    for line in log.splitlines() if form == "json" else ():
        said = json.loads(line)
        named = said.get("activations") or [said]
        if about := _ABOUT.search(said["message"]):
            assert named[0].get("run_id") == about[1], line
            assert about[2] is None or named[0].get("activation_id") == int(about[2]), line


@pytest.mark.parametrize("form", FORMS)
def test_a_handler_that_fails_is_named_and_not_quoted(
    start_worker, client: Orchestrator, both: Servers, form: str
) -> None:
    """The type of its error is enough to look for it; what it says stands in the run."""
    worker = start_worker("sagas:cns", "--log-format", form).ready()
    run = client.submit(begin.create_signal(Job("fail with", CARD)))
    assert CARD in (run.wait(PATIENCE).error or "")

    failed, own = (told(worker, run, words, form) for words in ("ValueError; failed for good", "about to fail"))

    for said in (failed, own):
        assert (said["run_id"], said["activation_id"]) == (str(run.id), 1)
    assert_sound(worker.log, form, both)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_handler_leaves_behind_is_not_quoted(
    start_worker, client: Orchestrator, both: Servers, form: str
) -> None:
    """A task and a thread of its own that nobody waits for, a generator: what they raise is told by its type and its place."""
    worker = start_worker("sagas:cns", "--log-format", form).ready()
    run = client.submit(begin_async.create_signal(Job("leave broken things", CARD)))
    assert run.wait(PATIENCE).status == "completed"

    for how in ("what a handler had begun raised", "has ended with", "what was left to be cleaned up raised"):
        worker.logged(f"{how} ValueError at")
    assert "sagas.py" in worker.log
    assert_sound(worker.log, form, both)


@pytest.mark.parametrize("form", FORMS)
def test_what_kills_its_workers_is_named(start_worker, client: Orchestrator, both: Servers, form: str) -> None:
    """By who took its work over, and by who gives it up in the end."""
    killed = start_worker("sagas:cns", "--log-format", form, "--processes", "2", "--lease", "0.5").ready()
    run = client.submit(begin.create_signal(Job("kill", CARD)))
    assert run.wait(PATIENCE).error_type == "cnstra.Poisoned"

    lost, given_up = (told(killed, run, words, form) for words in ("was lost with", "Poisoned; failed for good"))

    assert (lost["run_id"], lost["activation_id"]) == (given_up["run_id"], given_up["activation_id"])
    assert given_up["activation_id"] == 1
    assert_sound(killed.log, form, both)


@pytest.mark.parametrize("form", FORMS)
def test_a_claim_that_was_lost_is_named_by_both(
    start_worker, client: Orchestrator, both: Servers, make_gate: Any, form: str
) -> None:
    """By the worker that stalled, and by the one that has it now."""
    gate: Gate = make_gate()
    stalled = start_worker("sagas:cns", "--log-format", form, "--lease", "1").ready()
    run = client.submit(begin.create_signal(Job("wait", gate.path)))
    gate.reached()
    stalled.send(signal.SIGSTOP)
    heir = start_worker("sagas:cns", "--log-format", form).ready()
    lost = told(heir, run, "was lost with", form)
    gate.open()
    stalled.send(signal.SIGCONT)

    refused = told(stalled, run, "its claim was taken away", form)

    assert (lost["run_id"], lost["activation_id"]) == (refused["run_id"], refused["activation_id"]) == (str(run.id), 1)
    for worker in (stalled, heir):
        assert_sound(worker.log, form, both)


@pytest.mark.parametrize("form", FORMS)
def test_outages_are_told_without_what_was_under_way(start_worker, own_servers: HeldServers, form: str) -> None:
    """Both servers go and come back, one after the other, and everything is logged that there is."""
    servers = Servers(database_url=own_servers.database_url, broker_url=own_servers.broker_url)
    assert cnstra("migrate", servers=servers).code == 0
    worker = start_worker("sagas:cns", "--log-format", form, "--log-level", "debug", servers=servers).ready()
    with Orchestrator(cns, database=servers.database_url, broker=servers.broker_url) as client:
        own_servers.stop_valkey()
        run = client.submit(begin.create_signal(Job("fail with", CARD)))
        assert run.wait(PATIENCE).status == "failed"
        own_servers.stop_postgres()
        worker.logged("could not renew its lease")
        own_servers.start_postgres()
        own_servers.start_valkey()
        after = client.submit(begin.create_signal(Job()))
        assert after.wait(PATIENCE).status == "completed"

    assert told(worker, run, "ValueError; failed for good", form)["activation_id"] == 1
    assert_sound(worker.log, form, servers)

"""A worker starts: it says so once, or says in one line why it cannot."""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cnstra import Orchestrator
from cnstra.servers import HeldServers
from support.apps.sagas import Job, begin
from support.commands import NOWHERE, Servers, cnstra

PATIENCE = 60.0


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """The path of a socket has 108 bytes at most."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_a_worker_prints_ready_and_nothing_else_and_does_the_work(start_worker, client: Orchestrator) -> None:
    """The line is what scripts wait for, so it comes when work is taken, and alone."""
    worker = start_worker("sagas:cns").ready()

    result = client.submit(begin.create_signal(Job())).wait(PATIENCE)
    worker.send(signal.SIGTERM)

    assert result.status == "completed"
    assert worker.ended() == 0
    assert worker.rest_of_output() == ""


def test_a_worker_of_several_processes_prints_ready_once(start_worker, client: Orchestrator) -> None:
    """Once for all of its processes, when each of them takes work."""
    worker = start_worker("sagas:cns", "--processes", "2").ready()

    alive = client.list_runs()
    worker.send(signal.SIGTERM)

    assert alive == []
    assert worker.log.count(" takes work") == 2
    assert worker.ended() == 0
    assert worker.rest_of_output() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux: that it is told goes untested here")
@pytest.mark.parametrize(("processes", "kind"), [("1", "a path"), ("2", "a path"), ("1", "a name")])
def test_a_worker_tells_systemd_when_it_takes_work(start_worker, short_folder: Path, processes: str, kind: str) -> None:
    """Once, from the process that systemd started: it listens to no other. Its socket has a path, or a name that is none."""
    address = str(short_folder / "notify") if kind == "a path" else f"@cnstra-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0", 1))
        systemd.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        worker = start_worker("sagas:cns", "--processes", processes, environment={"NOTIFY_SOCKET": address}).ready()
        systemd.setblocking(False)
        said, [(_, _, sender)], _, _ = systemd.recvmsg(64, socket.CMSG_SPACE(struct.calcsize("3i")))
        with pytest.raises(BlockingIOError):
            systemd.recv(64)

    assert said == b"READY=1"
    assert struct.unpack("3i", sender)[0] == worker.pid


def test_a_worker_serves_where_there_is_no_systemd_to_be_told(start_worker, tmp_path: Path) -> None:
    """A socket that is gone, as of a service manager that is being replaced."""
    start_worker("sagas:cns", environment={"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_a_worker_tells_its_limits_to_the_others(start_worker, database_url: str) -> None:
    """`concurrency=` of a neuron holds over all workers: each says what its code has; nothing is warned of."""
    worker = start_worker("sagas:cns").ready()

    with psycopg.connect(database_url) as connection:
        assert connection.execute("select limits from cnstra.worker").fetchall() == [({"first": 2},)]
    assert "WARNING" not in worker.log


def test_a_log_line_names_time_level_logger_and_no_password(start_worker, both: Servers) -> None:
    """Logs go to places where passwords must not be."""
    worker = start_worker("sagas:cns", "--log-level", "debug").ready()
    worker.send(signal.SIGTERM)
    worker.ended()

    password = both.database_url.partition("@")[0].rpartition(":")[2]
    assert all(len(line.split()) >= 5 and line[4] == "-" and line[23] == "Z" for line in worker.log.splitlines())
    assert " INFO cnstra.worker: " in worker.log
    assert password not in worker.log


BAD_APPS = {
    "sagas": "APP is module:attribute, as in sagas:cns, and 'sagas' is not",
    "sagas.py:cns": "APP is module:attribute, as in sagas:cns, and 'sagas.py:cns' is not",
    "nowhere:cns": "there is no module 'nowhere'; looked in ",
    "nowhere.else:cns": "there is no module 'nowhere'; looked in ",
    "sagas:cnz": "APP 'sagas:cnz': sagas has no 'cnz'; did you mean sagas:cns or sagas:nameless?",
    "sagas:something_else": "it is a int, and no CNS; did you mean sagas:cns",
    "json:cns": "json has no 'cns'; json has no CNS at all",
    "sagas:nameless": "a CNS without a name cannot run durably",
    "broken:cns": "importing broken failed: ValueError: no good at all",
    "lacking:cns": "importing lacking failed: ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
    "leaving:cns": "importing leaving failed: SystemExit: done",
    "refused:cns": "neuron 'deaf', made at",
}


@pytest.mark.parametrize("app", BAD_APPS)
def test_a_bad_app_is_named_in_one_line(app: str) -> None:
    """What is wrong with it, what there is instead; and the code that says that another try gives the same."""
    ended = cnstra("worker", app, servers=NOWHERE)

    assert ended.code == 5
    assert ended.out == ""
    assert ended.complaint.startswith("cnstra: ")
    assert BAD_APPS[app] in ended.complaint


def test_a_bad_app_is_named_once_by_a_worker_of_several_processes() -> None:
    """Each child fails; their parent gives up, with the code and the line of one."""
    ended = cnstra("worker", "broken:cns", "--processes", "2", servers=NOWHERE)

    assert ended.code == 5
    assert ended.complaint == "cnstra: APP 'broken:cns': importing broken failed: ValueError: no good at all"


def test_the_traceback_is_shown_on_request() -> None:
    """One line says what is wrong, and not where in somebody's module."""
    ended = cnstra("worker", "broken:cns", "--debug", servers=NOWHERE)

    assert ended.code == 5
    assert 'raise ValueError("no good\\nat all")' in ended.err


def test_a_queue_that_no_neuron_is_on_is_refused() -> None:
    """Else a worker with a typing error would idle for ever."""
    ended = cnstra("worker", "sagas:cns", "--queues", "slow,fast", servers=NOWHERE)

    assert ended.code == 5
    assert ended.complaint == ("cnstra: no neuron of CNS 'sagas' is on queue 'fast'; its queues are default, slow")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_database_without_the_schema_is_refused_at_once(
    empty_database_url: str, broker_url: str, processes: str
) -> None:
    """Waiting would not help; ``cnstra migrate`` does."""
    servers = Servers(database_url=empty_database_url, broker_url=broker_url)

    refused = cnstra("worker", "sagas:cns", "--processes", processes, servers=servers)

    assert refused.code == 5
    assert "run `cnstra migrate`" in refused.complaint


def test_no_servers_at_all_are_a_matter_of_configuration(tmp_path: Path) -> None:
    """Whoever forgot the URLs learns their names."""
    ended = cnstra("worker", "sagas:cns", folder=tmp_path)

    assert ended.code == 5
    assert "CNSTRA_DATABASE_URL" in ended.complaint


def test_a_worker_waits_at_its_start_for_a_postgres_that_is_away(start_worker, own_servers: HeldServers) -> None:
    """Machines that start together come up in any order."""
    servers = Servers(database_url=own_servers.database_url, broker_url=own_servers.broker_url)
    assert cnstra("migrate", servers=servers).code == 0
    own_servers.stop_postgres()
    worker = start_worker("sagas:cns", servers=servers)
    worker.logged("waiting up to 60 s for Postgres: ")

    own_servers.start_postgres()

    worker.ready()
    assert worker.log.count("for Postgres") == 1


def test_a_worker_that_waits_for_postgres_can_be_told_to_stop(start_worker) -> None:
    """It has taken nothing, so there is nothing to drain."""
    worker = start_worker("sagas:cns", servers=NOWHERE)
    worker.logged("waiting up to 60 s for Postgres: ")

    worker.send(signal.SIGTERM)

    assert worker.ended() == 0
    assert worker.rest_of_output() == ""


def test_a_worker_starts_and_serves_while_the_broker_is_away(start_worker, database_url: str) -> None:
    """The broker only rings: without it, sweeps find the work."""
    servers = Servers(database_url=database_url, broker_url=NOWHERE.broker_url)
    worker = start_worker("sagas:cns", servers=servers).ready()

    ended = cnstra("submit", "sagas:cns", "begin", "{}", "--wait", servers=servers)

    assert ended.code == 0
    assert worker.running


def test_a_worker_goes_on_when_its_servers_come_back(start_worker, own_servers: HeldServers) -> None:
    """Neither a crash of Postgres nor one of the broker ends a worker, or makes it deaf."""
    servers = Servers(database_url=own_servers.database_url, broker_url=own_servers.broker_url)
    assert cnstra("migrate", servers=servers).code == 0
    worker = start_worker("sagas:cns", servers=servers).ready()
    for restart in (own_servers.restart_postgres, own_servers.restart_valkey):
        restart()
        ended = cnstra("submit", "sagas:cns", "begin", "{}", "--wait", servers=servers)
        assert ended.code == 0, ended.err

    worker.send(signal.SIGTERM)

    assert worker.ended() == 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_that_logs_json_logs_nothing_else(start_worker, client: Orchestrator, processes: str) -> None:
    """Each line of all its processes is one object; what a handler's failure is about stands in fields."""
    worker = start_worker("sagas:cns", "--log-format", "json", "--processes", processes).ready()
    run = client.submit(begin.create_signal(Job("fail once")))
    assert run.wait(timeout=60).status == "failed"
    worker.logged("failed for good")

    said = [json.loads(line) for line in worker.log.splitlines()]

    [failure] = [one for one in said if "failed for good" in one["message"]]
    assert (failure["run_id"], failure["activation_id"], failure["neuron"]) == (str(run.id), 1, "first")

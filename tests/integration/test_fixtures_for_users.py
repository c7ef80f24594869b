"""``cnstra.testing.fixtures`` in a user's project: a session of pytest of its own, as a user would start it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from cnstra.servers import HeldServers
from cnstra.testing.fresh import fresh_broker

CONFTEST = """
pytest_plugins = ["cnstra.testing.fixtures"]
"""
TESTS = """
from datetime import timedelta

import psycopg
import pytest

from cnstra import CNS, Axon, collateral, neuron

begun = collateral("begun", int)


class CounterAxon(Axon):
    counted = collateral("counted", int)


counter = neuron("counter", CounterAxon)


@counter.dendrite(begun)
def count(number: int, axon: CounterAxon, ctx):
    return axon.counted.create_signal(number + ctx.services)


cns = CNS([counter], name="counting", services=100)


@pytest.mark.parametrize("number", range(4))
def test_a_run_on_real_servers(cnstra_worker, cnstra_orchestrator, cnstra_database_url, number):
    stop = cnstra_worker(cns, services=1, threads=2, lease=timedelta(seconds=30))
    orchestrator = cnstra_orchestrator(cns)
    result = orchestrator.submit(begun.create_signal(number)).wait(timeout=60)
    assert [signal.payload for signal in result.outputs] == [number + 1]
    assert len(orchestrator.list_runs()) == 1  # nobody else's
    with psycopg.connect(cnstra_database_url) as connection:
        [[workers]] = connection.execute("select count(*) from cnstra.workers")
    assert workers == 1
    stop()
    with psycopg.connect(cnstra_database_url) as connection:
        [[name]] = connection.execute("select current_database()")
        [[workers]] = connection.execute("select count(*) from cnstra.workers")
    assert workers == 0
    print("database", name)


@pytest.mark.parametrize("number", range(8))
def test_servers(cnstra_servers, number, worker_id):
    print("servers of", worker_id, cnstra_servers)
"""


def session(project: Path, *arguments: str, **environment: str) -> str:
    """What a session of pytest in a user's project prints; all of its tests must have passed."""
    (project / "conftest.py").write_text(CONFTEST)
    (project / "test_counting.py").write_text(TESTS)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CNSTRA_", "PYTEST"))}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rP",
            "-W",
            "error",
            "-p",
            "no:valkey",
            "-p",
            "no:cacheprovider",
            *arguments,
        ],
        cwd=project,
        env=own | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one process", "two processes"])
def test_each_test_has_a_database_a_broker_and_a_worker_of_its_own(
    processes: list[str], tmp_path: Path, own_servers: HeldServers
) -> None:
    """On servers of the user's, which are left as they were."""
    with fresh_broker(own_servers.broker_url, tmp_path) as somebodys, redis.Redis.from_url(somebodys) as client:
        client.set("somebody's", "data")
        printed = session(
            tmp_path,
            *processes,
            CNSTRA_DATABASE_URL=own_servers.database_url,
            CNSTRA_BROKER_URL=own_servers.broker_url,
        )
        assert client.get("somebody's") == b"data"

    databases = re.findall(r"^database (\w+)$", printed, re.MULTILINE)
    assert len(set(databases)) == 4
    with psycopg.connect(own_servers.database_url) as connection:
        left = connection.execute("select datname from pg_database where datname = any(%s)", [databases]).fetchall()
    assert left == []


def test_servers_are_started_for_who_names_none_and_end_with_the_session(tmp_path: Path) -> None:
    """One pair for all processes; their folder is gone afterwards."""
    printed = session(tmp_path, "-n", "2")

    assert len(set(re.findall(r"^servers of (\w+)", printed, re.MULTILINE))) == 2
    [url] = set(re.findall(r"database_url='postgresql://[^@]*@([^']*)'", printed))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://anybody@{url}", connect_timeout=5).close()


def test_who_uses_no_server_starts_none(tmp_path: Path) -> None:
    """To load the fixtures costs nothing but an empty folder, which goes again."""
    (tmp_path / "test_nothing.py").write_text(
        "def test_nothing(pytestconfig):\n    print(*pytestconfig.stash._storage.values())\n"
    )
    printed = session(tmp_path, "test_nothing.py")

    [home] = re.findall(r"/\S+/cnstra-test-\w+", printed)
    assert not Path(home).exists()

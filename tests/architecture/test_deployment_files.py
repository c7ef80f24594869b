"""What is in ``deploy/`` fits the product: commands that exist, times that allow a drain, files that an image needs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cnstra.running.endpoint import address_of
from tests.architecture.test_distributions_are_complete import PARTS

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = {path.name: path.read_text() for path in (DEPLOY / "systemd").iterdir()}
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
LEEWAY = 5
"""Seconds by which whoever stops a worker is more patient than ``--drain``."""


def value_of(unit: str, key: str) -> str:
    [value] = re.findall(rf"^{key}=(.*)$", UNITS[unit], re.MULTILINE)
    return str(value)


def commands() -> dict[str, list[str]]:
    """Each command line of ours, as arguments of ``cnstra``."""
    found = {f"compose: {name}": list(service["command"]) for name, service in OURS.items()}
    for name, service in OURS.items():
        if "healthcheck" in service:
            [kind, program, *arguments] = service["healthcheck"]["test"]
            assert (kind, program) == ("CMD", "cnstra")
            found[f"compose: {name}, its check"] = arguments
    for unit in UNITS:
        program, *arguments = shlex.split(value_of(unit, "ExecStart"))
        assert program == "/opt/cnstra/bin/cnstra"
        found[unit] = arguments
    return found


@pytest.mark.parametrize("where", commands())
def test_the_command_lines_are_understood(where: str) -> None:
    """A command or an option that there is not would be refused before the help is shown."""
    done = subprocess.run(
        [sys.executable, "-m", "cnstra", *commands()[where], "--help"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_an_option_that_there_is_not_would_be_seen() -> None:
    """The same with a typing error: else the test above proves nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "cnstra", "worker", "app", "--proceses", "2", "--help"], capture_output=True, text=True
    )

    assert done.returncode == 2


def test_whoever_stops_a_worker_is_more_patient_than_its_drain() -> None:
    """Else handlers are killed that would have ended."""

    def drain(arguments: list[str]) -> int:
        return int(arguments[arguments.index("--drain") + 1])

    worker = OURS["worker"]
    assert int(worker["stop_grace_period"].removesuffix("s")) >= drain(worker["command"]) + LEEWAY
    [unit] = [name for name in UNITS if "worker" in name]
    assert int(value_of(unit, "TimeoutStopSec")) >= drain(shlex.split(value_of(unit, "ExecStart"))) + LEEWAY
    assert value_of(unit, "RestartPreventExitStatus") == "5"


def test_the_image_is_built_from_what_a_wheel_needs() -> None:
    """What the Dockerfile copies is what the wheel's own test builds from; and nothing runs as root in it."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().splitlines()
    copied = {
        part for line in lines if line.startswith("COPY ") and "--from" not in line for part in line.split()[1:-1]
    }

    assert copied == set(PARTS)
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]


def test_workers_begin_after_the_schema_and_the_broker() -> None:
    """The migration waits for a Postgres that is healthy, and the workers for the migration."""
    assert OURS["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert OURS["worker"]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "valkey": {"condition": "service_healthy"},
    }
    for needed in ("postgres", "valkey"):
        assert COMPOSE["services"][needed]["healthcheck"]["test"][0] == "CMD"


def test_postgres_is_healthy_where_others_reach_it() -> None:
    """By TCP. The server that fills a new database listens on a socket file alone, and stops before the one that stays begins."""
    check = COMPOSE["services"]["postgres"]["healthcheck"]["test"]

    assert check[check.index("--host") + 1] == "127.0.0.1"


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_no_log_grows_for_ever(name: str) -> None:
    """Unless it is told, the container engine keeps all that a container ever said."""
    log = COMPOSE["services"][name]["logging"]

    assert log == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}


def test_the_broker_keeps_what_it_has_and_throws_nothing_away() -> None:
    """A file that is appended to, and an error where memory is short: an evicted queue is a second of latency for all that was in
    it."""
    command = COMPOSE["services"]["valkey"]["command"]

    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert COMPOSE["services"]["valkey"]["volumes"] == ["valkey:/data"]


def test_workers_can_be_scaled_and_come_back() -> None:
    """None has a name or a port of its own; each is started again, and so are the servers."""
    assert not OURS["worker"].keys() & {"container_name", "ports", "hostname"}
    for name in ("worker", "postgres", "valkey"):
        assert COMPOSE["services"][name]["restart"] == "unless-stopped"
    assert OURS["migrate"]["restart"] == "on-failure"  # and not when it has succeeded


def test_the_folder_of_the_graph_has_to_be_said_and_to_be_there() -> None:
    """One that is left out, or spelt wrong, would be an empty one that was made for the occasion."""
    [folder] = OURS["worker"]["volumes"]

    assert (folder["type"], folder["target"], folder["read_only"]) == ("bind", "/app", True)
    assert folder["source"].startswith("${APP_FOLDER:?")
    assert folder["bind"] == {"create_host_path": False}


def test_containers_of_ours_may_no_more_than_they_need() -> None:
    """A file system that can only be read, and no capabilities."""
    for service in OURS.values():
        assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_workers_are_probed_where_they_answer() -> None:
    """The check asks whether they live, at the address that both find in the environment."""
    assert OURS["worker"]["healthcheck"]["test"] == ["CMD", "cnstra", "health", "live"]
    assert address_of(OURS["worker"]["environment"]["CNSTRA_HEALTH"]) == ("127.0.0.1", 8080)


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """Its own verifier says nothing about them; the program that they start stands elsewhere here."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine: the units of deploy/systemd go unverified here")
    for name, text in UNITS.items():
        (tmp_path / name).write_text(text.replace("/opt/cnstra/bin/cnstra", shutil.which("true") or "/bin/true"))
    units = [str(tmp_path / name.replace("@.", "@shop.")) for name in UNITS]

    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")

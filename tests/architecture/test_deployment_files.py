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

"""What is in ``deploy/`` fits the product: commands that exist, times that allow a drain, files that an image needs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cnstra.running.endpoint import address_of
from cnstra.running.parent import DEAF
from cnstra.running.process import GRACE, LEASE_ENDS_WITHIN
from tests.architecture.test_distributions_are_complete import PARTS

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = {path.name: path.read_text() for path in (DEPLOY / "systemd").iterdir()}
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
LEEWAY = 5
"""Seconds by which whoever stops a worker is more patient than ``--drain``."""


CNSTRA = "/opt/cnstra/bin/cnstra"
"""The program that units start."""
EXPOSED = 20
"""Tenths of how much a unit may reach at most, by what systemd makes of it: 100 is all, and what has no limits has 92 to 96."""


def values_of(unit: str, key: str) -> list[str]:
    return [str(value) for value in re.findall(rf"^{key}=(.*)$", UNITS[unit], re.MULTILINE)]


def value_of(unit: str, key: str) -> str:
    [value] = values_of(unit, key)
    return value


def commands() -> dict[str, list[str]]:
    """Each command line of ours, as arguments of ``cnstra``."""
    found = {f"compose: {name}": list(service["command"]) for name, service in OURS.items()}
    for name, service in OURS.items():
        if "healthcheck" in service:
            [kind, program, *arguments] = service["healthcheck"]["test"]
            assert (kind, program) == ("CMD", "cnstra")
            found[f"compose: {name}, its check"] = arguments
    for unit in UNITS:
        line = value_of(unit, "ExecStart")
        script = re.search(rf"{CNSTRA} ([^;]+);", line)
        program, *arguments = shlex.split(line) if script is None else [CNSTRA, *shlex.split(script[1])]
        assert program == CNSTRA
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


def test_a_worker_is_gone_before_who_stops_it_is_out_of_patience() -> None:
    """Also one whose process hears nothing: its parent kills it, after all others had their time, and has a second left."""
    assert GRACE + max(LEASE_ENDS_WITHIN, GRACE) <= GRACE + DEAF <= LEEWAY - 1


def test_the_image_is_built_from_what_a_wheel_needs() -> None:
    """What the Dockerfile copies is what the wheel's own test builds from, and no more is sent; nothing runs as root in it."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().splitlines()
    copied = {
        part for line in lines if line.startswith("COPY ") and "--from" not in line for part in line.split()[1:-1]
    }

    ignored = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    assert copied == {*PARTS, "deploy/docker/requirements.txt"}
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert "*" in ignored
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]


def test_an_image_that_is_built_again_is_the_same() -> None:
    """All that is beside our own code is there in one version, which is one that ``pyproject.toml`` allows. Whether anything is
    missing is asked when the image is built.
    """
    lines = (DEPLOY / "docker" / "requirements.txt").read_text().splitlines()
    pinned = {canonicalize_name(one.name): one for one in (Requirement(line) for line in lines if line[0] != "#")}
    wanted = [Requirement(text) for text in metadata.requires("cnstra") or ()]

    for one in pinned.values():
        assert [version.operator for version in one.specifier] == ["=="], one
    for needed in wanted:
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("rabbitmq", "sealed")):
            [version] = pinned[canonicalize_name(needed.name)].specifier
            assert needed.specifier.contains(version.version), needed
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert len(re.findall("pip install .*--no-deps", dockerfile)) == 2
    assert "pip check" in dockerfile


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
    # A number that was only said once, `up --scale`, is forgotten by the next `up`.
    assert OURS["worker"]["deploy"] == {"mode": "replicated", "replicas": "${WORKERS:-1}"}
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


@pytest.fixture
def analyze() -> str:
    """systemd's own verifier."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("no systemd-analyze on this machine: the units of deploy/systemd go unverified here")
    return found


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units as files, of a graph; the program that they start stands elsewhere here."""
    for name, text in UNITS.items():
        (tmp_path / name).write_text(text.replace(CNSTRA, shutil.which("true") or "/bin/true"))
    return [str(tmp_path / name.replace("@.", "@shop.")) for name in UNITS]


def test_systemd_understands_the_units(analyze: str, units: list[str]) -> None:
    """It says nothing about them."""
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_units_may_no_more_than_they_need(analyze: str, units: list[str], tmp_path: Path) -> None:
    """By systemd's own account of what each of them could reach."""
    for unit, file in zip(UNITS, units, strict=True):
        plain = tmp_path / Path(file).name  # this does not find templates
        plain.write_text(UNITS[unit])
        line = [analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSED}", str(plain)]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_each_start_of_a_worker_brings_the_schema_up_to_date() -> None:
    """A unit that stayed active after its first success would do nothing after an upgrade, and workers refuse an old schema."""
    [worker] = [name for name in UNITS if "worker" in name]

    assert "cnstra-migrate.service" in value_of(worker, "Wants").split()
    assert "cnstra-migrate.service" in value_of(worker, "After").split()
    assert value_of("cnstra-migrate.service", "Type") == "oneshot"
    assert values_of("cnstra-migrate.service", "RemainAfterExit") == []


@pytest.mark.parametrize(
    ("codes", "code"), [([0], 0), ([7, 7, 0], 0), ([5], 5), ([7, 1], 1)], ids=["at once", "later", "refused", "failed"]
)
def test_the_migration_waits_for_postgres_and_for_nothing_else(tmp_path: Path, codes: list[int], code: int) -> None:
    """Workers, which begin when it has ended, would else find the old schema, and would not be started again."""
    program, left = tmp_path / "cnstra", tmp_path / "codes"
    left.write_text("".join(f"{one}\n" for one in codes))
    program.write_text(f"#!/bin/sh\ncode=$(head -n 1 {left})\nsed -i 1d {left}\nexit $code\n")
    program.chmod(0o755)
    line = value_of("cnstra-migrate.service", "ExecStart").replace("$$", "$").replace(CNSTRA, str(program))

    done = subprocess.run(shlex.split(line.replace("sleep 2", "true")), check=False)

    assert done.returncode == code
    assert left.read_text() == ""


def test_a_worker_outlives_what_its_processes_may_do() -> None:
    """One that uses up the memory is replaced by its parent, which systemd would else stop; no number of failures is the last."""
    [worker] = [name for name in UNITS if "worker" in name]

    assert value_of(worker, "Type") == "notify"  # who restarts one machine after the other waits for work to be taken
    assert value_of(worker, "OOMPolicy") == "continue"
    assert value_of(worker, "Restart") == "on-failure"
    assert value_of(worker, "KillMode") == "mixed"
    for unit in UNITS:
        assert value_of(unit, "StartLimitIntervalSec") == "0"

"""Running the command ``cnstra`` as its users do: as a process, in a folder, with an environment.

A worker gets a process group of its own, and what is left of the group is killed when its block ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from support.waiting import eventually

APPS = Path(__file__).parent / "apps"
"""The folder with the graphs that the commands are given."""

MODULES = {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))}
"""For the environment of what imports ``support``."""

_PATIENCE = 120.0  # seconds after which a command that has not ended has failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where a command finds its servers."""

    database_url: str
    broker_url: str

    @property
    def environment(self) -> dict[str, str]:
        """As variables."""
        return {"CNSTRA_DATABASE_URL": self.database_url, "CNSTRA_BROKER_URL": self.broker_url}


NOWHERE = Servers(database_url="postgresql://nobody@127.0.0.1:1/nothing", broker_url="redis://127.0.0.1:1/0")
"""Servers that nobody runs, for commands that must end before they ask for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document that it printed."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line that it complained with."""
        (line,) = self.err.splitlines()
        return line


def cnstra(
    *arguments: str,
    servers: Servers | None = None,
    folder: Path = APPS,
    environment: Mapping[str, str] | None = None,
    given: str = "",
) -> Ended:
    """Run one command to its end; ``given`` is its standard input."""
    done = subprocess.run(
        command_line(arguments),
        cwd=folder,
        env=environment_of(servers, environment),
        input=given,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)


def command_line(arguments: Sequence[str]) -> list[str]:
    """What to execute for ``cnstra`` with these arguments."""
    return [sys.executable, "-m", "cnstra", *arguments]


def environment_of(servers: Servers | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The test's own environment without what would tell a command anything, and with the servers."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CNSTRA_")}
    return plain | (servers.environment if servers else {}) | dict(more or {})


class WorkerCommand:
    """A ``cnstra worker`` that runs until its block ends, or another ``command`` that serves."""

    def __init__(
        self,
        log: Path,
        *arguments: str,
        servers: Servers,
        folder: Path = APPS,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """``log`` is a file for its standard error."""
        self._log = log
        with log.open("wb") as err:
            self._process = subprocess.Popen(
                command_line(["worker", *arguments]) if command is None else [*command, *arguments],
                cwd=folder,
                env=environment_of(servers, environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def ready(self) -> Self:
        """Wait for the line that says so."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "ready\n", f"printed {line!r}, and logged:\n{self.log}"
        return self

    def send(self, number: signal.Signals) -> None:
        """To the command's own process alone."""
        self._process.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """To all of its processes, as a terminal or an init system does."""
        os.killpg(self.pid, number)

    def ended(self) -> int:
        """Wait until it has ended; its exit code."""
        return self._process.wait(_PATIENCE)

    def kill(self) -> None:
        """SIGKILL to all of its processes; returns when nothing of it is left."""
        self.send_to_group(signal.SIGKILL)
        self._process.wait()

    def rest_of_output(self) -> str:
        """What else it printed, up to its end."""
        assert self._process.stdout is not None
        return self._process.stdout.read()

    def logged(self, text: str) -> bool:
        """Wait until the log holds this text."""
        return eventually(lambda: text in self.log, what=f"{text!r} in the worker's log")

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def children(self) -> list[psutil.Process]:
        """The processes that it started and that live."""
        return [child for child in psutil.Process(self.pid).children() if child.status() != psutil.STATUS_ZOMBIE]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

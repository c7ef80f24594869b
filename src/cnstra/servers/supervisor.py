"""The parent of both servers: a detached process, one a home, that outlives whoever started it.

It starts servers when somebody asks for them, and ends, stopping them, when nobody holds the home any more,
unless it was told to keep them. It has no opinion on who asks: whoever can open its socket may. It does not
restart a server that dies by itself before somebody joins: tests must see what a dead server looks like.

Started by `client` as ``python -m cnstra.servers.supervisor``; reports on its standard output, once, how the
start went.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

from cnstra.orchestrator.errors import ServersError
from cnstra.servers.account import servers_account
from cnstra.servers.control import Listener, Message
from cnstra.servers.home import Home
from cnstra.servers.locks import FileLock
from cnstra.servers.postgres import PostgresServer
from cnstra.servers.server import Server, Stop
from cnstra.servers.valkey import ValkeyServer

_TICK = 0.2  # seconds between two looks at whether anybody still holds the home
_KINDS: dict[str, type[PostgresServer] | type[ValkeyServer]] = {
    "postgres": PostgresServer,
    "valkey": ValkeyServer,
}


class Supervisor:
    """The servers of one home."""

    def __init__(self, home: Home, alive: FileLock, *, durable: bool) -> None:
        self._home = home
        self._alive = alive
        self._secrets = home.secrets(durable=durable)
        self._account = servers_account()
        self._data = home.data_folder(self._account)
        self._servers: dict[str, Server] = {}
        self._holders = FileLock(home.holders)
        self._keep = False
        self._stopping = False

    def handle(self, message: Message) -> Message:
        """Do what a client asks."""
        match message:
            case {"do": "join", "servers": list(names), "keep": bool(keep), "durable": bool(durable)}:
                return self.join(names, keep=keep, durable=durable)
            case {"do": "restart", "server": str(name), "how": str(how)}:
                server = self._named(name)
                server.stop(Stop(how))
                server.start()
            case {"do": "stop", "server": str(name), "how": str(how)}:
                self._named(name).stop(Stop(how))
            case {"do": "start", "server": str(name)}:
                server = self._named(name)
                if not server.running:
                    server.start()
            case {"do": "end"}:
                self.end()
            case _:
                raise ServersError(f"the supervisor does not know what to do with {message!r}")
        return {}

    def join(self, names: Iterable[str], *, keep: bool, durable: bool) -> Message:
        """Start what is missing of the servers called `names`, and say where they are."""
        if durable and not self._secrets.durable:
            raise ServersError(
                f"the servers in {self._home.path} were started for tests, and their data will be "
                "thrown away; set CNSTRA_HOME to another folder"
            )
        self._keep = self._keep or keep
        urls: Message = {}
        for name in names:
            if name not in self._servers:
                self._servers[name] = _KINDS[name](
                    home=self._home, data=self._data, account=self._account, secrets=self._secrets
                )
            if not self._servers[name].running:
                self._servers[name].start()
            urls[name] = self._servers[name].url
        return urls

    def end(self) -> None:
        """Stop the servers soon, whoever holds them."""
        self._stopping = True

    def run(self, listener: Listener) -> None:
        """Serve until told to end, until nobody is left, or until somebody has deleted the home."""
        while not self._stopping:
            listener.serve_one(self.handle, seconds=_TICK)
            # Taken alone, the lock stays with us to our end: newcomers wait, and start a new supervisor.
            if not self._alive.is_in_place() or (not self._keep and self._holders.try_exclusive()):
                self.end()

    def stop_servers(self) -> None:
        """Stop each server, also when another does not stop; throw away data that were not meant to last."""
        with ExitStack() as stack:
            if not self._secrets.durable and self._alive.is_in_place():  # else they are somebody else's by now
                stack.callback(self._home.discard, self._data)
            for server in self._servers.values():
                stack.callback(server.stop, Stop.FAST)

    def _named(self, name: str) -> Server:
        try:
            return self._servers[name]
        except KeyError:
            raise ServersError(f"{name} is not among the servers that run in {self._home.path}") from None


def main(arguments: list[str]) -> int:
    """Run a supervisor; the exit code tells whether the servers could be started."""
    parser = argparse.ArgumentParser(prog="python -m cnstra.servers.supervisor")
    parser.add_argument("home", type=Path)
    parser.add_argument("--server", action="append", choices=list(_KINDS), required=True)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--durable", action="store_true")
    options = parser.parse_args(arguments)
    _detach()
    home = Home.at(options.home)
    alive = FileLock(home.supervisor)
    if not alive.try_exclusive():
        _report({"error": f"{home.path} already has a supervisor"})
        return 1
    with ExitStack() as at_the_end:
        listener = Listener(home)
        at_the_end.callback(listener.close)
        try:
            supervisor = Supervisor(home, alive, durable=options.durable)
            at_the_end.callback(supervisor.stop_servers)
            _end_on_signals(supervisor)
            _report(supervisor.join(options.server, keep=options.keep, durable=options.durable))
        except ServersError as error:
            at_the_end.close()  # who hears of it finds nothing left behind
            _report({"error": str(error)})
            return 1
        supervisor.run(listener)
        listener.close()  # from here on newcomers wait for our end
    return 0


def _detach() -> None:
    """Leave the process that started us, its folder and its terminal."""
    if os.fork():
        os._exit(0)  # whoever started us is not to be our parent, nor to wait for us
    os.umask(0o077)  # what we and the servers write is nobody else's
    os.chdir("/")


def _report(message: Message) -> None:
    """Tell whoever started us how it went; they may be gone."""
    with suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def _end_on_signals(supervisor: Supervisor) -> None:
    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a signal handler
        supervisor.end()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGHUP, end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What other code does with the development servers: start or join them, hold them, keep them, stop them.

Whoever uses the servers holds a shared lock on the home. The first one starts the supervisor; the supervisor
ends after the last one, however that one ended. Only one process at a time starts, joins or stops.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from cnstra import settings
from cnstra.orchestrator.errors import ServersError
from cnstra.servers import postgres, valkey
from cnstra.servers.control import Message, Unreachable, ask, checked, remove_old_socket
from cnstra.servers.home import Home
from cnstra.servers.locks import FileLock, alone, wait_for

_SECONDS = 150.0  # for anything, on a slow machine: two servers that each use up their own deadlines
_VARIABLES = {"postgres": settings.DATABASE_URL, "valkey": settings.BROKER_URL}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Servers:
    """Where to connect. The URLs hold passwords, the ``repr`` does not."""

    database_url: str
    broker_url: str

    def __repr__(self) -> str:
        database, broker = _shown(self.database_url), _shown(self.broker_url)
        return f"{type(self).__name__}(database_url={database!r}, broker_url={broker!r})"


class HeldServers:
    """Servers that live at least until `close`, or until this process ends in whatever way.

    A forked child does not hold them: it calls `hold` itself if it outlives its parent.
    """

    def __init__(self, servers: Servers, home: Home, lock: FileLock | None) -> None:
        self._servers = servers
        self._home = home
        self._lock = lock
        _held.add(self)

    @property
    def database_url(self) -> str:
        """The URL of the database, the password included."""
        return self._servers.database_url

    @property
    def broker_url(self) -> str:
        """The URL of the broker, the password included."""
        return self._servers.broker_url

    def restart_postgres(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """Stop Postgres and start it again at the same URL.

        `immediate` is like a crash: clients lose their connections, and Postgres recovers from its log.
        `fast` rolls open transactions back first. Returns when it takes connections.
        """
        self._tell("restart", "postgres", how=mode)

    def restart_valkey(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """Stop Valkey and start it again at the same URL; `immediate` is SIGKILL.

        Servers that are not durable come back empty. Returns when it takes commands.
        """
        self._tell("restart", "valkey", how=mode)

    def stop_postgres(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """Stop Postgres until `start_postgres`."""
        self._tell("stop", "postgres", how=mode)

    def start_postgres(self) -> None:
        """Start Postgres after `stop_postgres`, at the same URL."""
        self._tell("start", "postgres")

    def stop_valkey(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """Stop Valkey until `start_valkey`."""
        self._tell("stop", "valkey", how=mode)

    def start_valkey(self) -> None:
        """Start Valkey after `stop_valkey`, at the same URL."""
        self._tell("start", "valkey")

    def close(self) -> None:
        """Let go of the servers; they stop soon after the last holder has. May be called twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._lock is None else "held"
        return f"<{type(self).__name__} {state} {self._servers!r}>"

    def _tell(self, what: str, server: str, **details: str) -> None:
        if self._lock is None:
            raise ServersError(f"cannot {what} {server}: this process holds no servers of {self._home.path}")
        try:
            ask(self._home, {"do": what, "server": server, **details}, seconds=_SECONDS)
        except Unreachable as error:
            raise ServersError(f"cannot {what} {server}: the supervisor of {self._home.path} is gone") from error


def up(home: Path | None = None) -> Servers:
    """Start the development servers, or join them, and leave them running until `down`.

    `home` defaults to ``$CNSTRA_HOME``, and that to ``.cnstra`` in the current folder. What
    ``CNSTRA_DATABASE_URL`` or ``CNSTRA_BROKER_URL`` names is taken as it is, and nothing is started in its
    place. Creates no schema. Raises ServersError when they cannot be started, and says why.
    """
    held = _hold(Home.at(home), durable=True, keep=True)
    with held:
        return Servers(database_url=held.database_url, broker_url=held.broker_url)


def hold(home: Path | None = None, *, durable: bool = True) -> HeldServers:
    """Start the development servers, or join them, for as long as somebody holds them.

    With `durable` false, which is for tests, a new home is made whose data are not synced to disk and are
    thrown away after the last holder; they do survive a crash of Postgres alone. Else as `up`.
    """
    return _hold(Home.at(home), durable=durable, keep=False)


def down(home: Path | None = None) -> bool:
    """Stop the development servers, whoever holds them; return when they are gone, False when none ran."""
    place = Home.at(home)
    if not place.path.exists():
        return False
    place.check_owner()
    with alone(place.starting, seconds=_SECONDS):
        supervised = place.supervised
        if supervised:
            _end(place)
        return _stop_leftovers(place) or supervised  # it may have been killed while we asked it to end


def _hold(home: Home, *, durable: bool, keep: bool) -> HeldServers:
    given = _given(home)
    wanted = [server for server in _VARIABLES if server not in given]
    if not wanted:
        return HeldServers(_servers(given), home, None)
    home.create()
    lock = FileLock(home.holders)
    try:
        # Waits only while a supervisor is stopping that had been left by everybody.
        if not wait_for(lock.try_shared, seconds=_SECONDS):
            raise ServersError(f"the servers in {home.path} do not stop; see {home.supervisor_log}")
        with alone(home.starting, seconds=_SECONDS):
            given |= _join(home, wanted, durable=durable, keep=keep)
    except BaseException:
        lock.close()
        raise
    return HeldServers(_servers(given), home, lock)


def _given(home: Home) -> dict[str, str]:
    """The servers that the environment names, by kind; without those that are ours, from an earlier `up`."""
    secrets = home.known_secrets() if home.path.exists() else None
    ours = () if secrets is None else (secrets.role, secrets.valkey)
    found = {server: settings.said(name) for server, name in _VARIABLES.items()}
    return {server: url for server, url in found.items() if url and not any(password in url for password in ours)}


def _servers(urls: dict[str, str]) -> Servers:
    return Servers(database_url=urls["postgres"], broker_url=urls["valkey"])


def _join(home: Home, wanted: list[str], *, durable: bool, keep: bool) -> dict[str, str]:
    request: Message = {"do": "join", "servers": wanted, "durable": durable, "keep": keep}
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        if not home.supervised:
            return _start(home, wanted, durable=durable, keep=keep)
        try:
            return ask(home, request, seconds=_SECONDS)
        except Unreachable:  # it is about to listen, or about to end
            time.sleep(0.05)
    raise ServersError(f"the supervisor of {home.path} neither answers nor ends; see {home.supervisor_log}")


def _start(home: Home, wanted: list[str], *, durable: bool, keep: bool) -> dict[str, str]:
    # -P keeps the current folder off the module path: a redis.py that lies there is not ours to import.
    command = [sys.executable, "-P", "-m", "cnstra.servers.supervisor", str(home.path)]
    command += [f"--server={server}" for server in wanted]
    command += ["--durable"] * durable + ["--keep"] * keep
    with (
        open(home.supervisor_log, "wb", opener=_private) as log,
        subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        ) as starting,
    ):
        assert starting.stdout is not None
        answer = starting.stdout.readline()
    if not answer:
        said = home.supervisor_log.read_text(errors="replace")[-3000:]
        raise ServersError(f"the supervisor of {home.path} did not start:\n{said}")
    return checked(json.loads(answer))


def _end(home: Home) -> None:
    def ended() -> bool:
        if not home.supervised:
            return True
        with suppress(Unreachable):  # it is about to listen, or already ending
            ask(home, {"do": "end"}, seconds=_SECONDS)
        return False

    if not wait_for(ended, seconds=_SECONDS):
        raise ServersError(f"the supervisor of {home.path} does not end; see {home.supervisor_log}")


def _stop_leftovers(home: Home) -> bool:
    """Stop servers whose supervisor was killed."""
    stopped = [
        server.process(home, data).stop_leftover()
        for data in home.known_data_folders()
        for server in (postgres, valkey)
    ]
    remove_old_socket(home)
    return any(stopped)


def _shown(url: str) -> str:
    return re.sub(r"(password=)[^&\s]+", r"\1***", re.sub(r"(//[^/@:]*):.*@", r"\1:***@", url))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_held: weakref.WeakSet[HeldServers] = weakref.WeakSet()


def _let_go_after_fork() -> None:
    for held in list(_held):
        held.close()


os.register_at_fork(after_in_child=_let_go_after_fork)

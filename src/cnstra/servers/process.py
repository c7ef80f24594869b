"""One server process: started as a child of the supervisor, known to be alive by a lock, stopped by signals.

Each server inherits a locked descriptor. As long as anything of it lives, also after its supervisor was
killed, the lock is taken; so the next supervisor knows a server that was left behind for certain, and the pid
file only tells where to send the signal. Knows nothing of what the server is.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cnstra.orchestrator.errors import ServersError
from cnstra.servers.account import Account
from cnstra.servers.locks import FileLock, is_locked, wait_for

START_SECONDS = 60.0
_STOP_SECONDS = 20.0  # for each signal, before the next and harder one is sent
_LOG_LIMIT = 8 * 2**20
# Below the ports that the kernel gives to outgoing connections: a client that tries again and again to reach
# a server which is away can otherwise be given that server's port, connect to itself, and keep it out.
_PORTS = range(20_000, 32_000)


@dataclass(slots=True, kw_only=True)
class ServerProcess:
    """A server called `name`. `signals` stop it, the gentlest first; SIGKILL follows by itself."""

    name: str
    alive: Path
    pid_file: Path
    log: Path
    signals: Sequence[signal.Signals]
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """The process id of the child that was started last."""
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        """Whether the child that we started lives."""
        return self._child is not None and self._child.poll() is None

    def spawn(self, command: Sequence[str], *, account: Account, env: Mapping[str, str], stdin: str = "") -> None:
        """Start `command` as `account`, its output in the log; `stdin` is what it can read."""
        lock = FileLock(self.alive)
        try:
            if not lock.try_exclusive():
                raise ServersError(f"{self.name} is still running, though nobody supervises it; see {self.log}")
            with open(self.log, "ab", opener=_private) as log:
                if log.tell() > _LOG_LIMIT:
                    log.truncate(0)
                self._child = subprocess.Popen(  # noqa: S603 - programs that we have found ourselves
                    list(command),
                    stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(env),
                    cwd="/",
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                    user=account.user,
                    group=account.group,
                    extra_groups=account.extra_groups,
                )
        finally:
            lock.close()
        if self._child.stdin is not None:
            # One that has ended already is told by `await_ready`.
            with suppress(BrokenPipeError), self._child.stdin as pipe:
                pipe.write(stdin.encode())

    def await_ready(self, ready: Callable[[], bool]) -> bool:
        """Wait for `ready`; False when the server has ended instead."""
        if not wait_for(lambda: not self.running or ready(), seconds=START_SECONDS):
            self.stop()
            raise ServersError(f"{self.name} did not become ready within {START_SECONDS:.0f} s:\n{self.log_end()}")
        return self.running

    def stop(self, signals: Sequence[signal.Signals] | None = None) -> None:
        """Stop the child, and whatever it had started; by the given signals in place of the usual ones."""
        if self._child is not None:
            child = self._child
            _end(child.pid, signals or self.signals, lambda: child.poll() is not None)
            child.wait()
        self._await_silence()

    def stop_leftover(self) -> bool:
        """Stop what a supervisor that was killed has left behind; False when there is nothing."""
        if not is_locked(self.alive):
            return False
        if wait_for(lambda: not is_locked(self.alive) or self._noted_pid() is not None, seconds=START_SECONDS):
            pid = self._noted_pid()
            if pid is not None and is_locked(self.alive):
                _end(pid, self.signals, lambda: not is_locked(self.alive))
        self._await_silence()
        return True

    def log_end(self) -> str:
        """The last lines that the server wrote."""
        try:
            return self.log.read_text(errors="replace")[-2000:]
        except OSError as error:
            return f"(no log: {error})"

    def _noted_pid(self) -> int | None:
        try:
            return int(self.pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _await_silence(self) -> None:
        if not wait_for(lambda: not is_locked(self.alive), seconds=_STOP_SECONDS):
            raise ServersError(f"{self.name} does not stop; something of it still holds {self.alive}, see {self.log}")


def ports(preferred: int | None) -> Iterator[int]:
    """Ports to try for a server, the `preferred` one first, each free when it was looked at."""
    if preferred is not None and port_is_free(preferred):
        yield preferred
    for _ in range(20):
        port = secrets.choice(_PORTS)
        if port_is_free(port):
            yield port


def port_is_free(port: int) -> bool:
    """Whether a server can listen on `port` of the loopback address at this moment."""
    with socket.socket() as probe:
        # As the servers do: connections of a predecessor that are being closed are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _end(pid: int, signals: Sequence[signal.Signals], gone: Callable[[], bool]) -> None:
    for number in (*signals, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if wait_for(gone, seconds=_STOP_SECONDS):
            return


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

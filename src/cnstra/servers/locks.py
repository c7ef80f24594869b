"""Advisory file locks, and waiting for a condition with a deadline.

A lock says that somebody is alive, and the kernel frees it however that somebody ends, SIGKILL included: a
pid file can promise neither. This module knows nothing of servers, and never waits without a deadline.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cnstra.orchestrator.errors import ServersError

_PAUSE = 0.02  # seconds between two looks at a condition


def wait_for(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Look at `condition` until it holds; False when it still did not after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True


class FileLock:
    """A lock on the file at `path`, which is created when it is missing, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_shared(self) -> bool:
        """Take the lock together with others who share it; False when somebody has it alone."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take the lock alone; False when anybody else has it."""
        return self._try(fcntl.LOCK_EX)

    def is_in_place(self) -> bool:
        """Whether the file is still the one at its path: nobody who looks there meets a lock on a deleted file."""
        try:
            return os.path.samestat(os.fstat(self.fileno()), self._path.stat())
        except OSError:
            return False

    def fileno(self) -> int:
        """The descriptor: a child process that inherits it holds the lock, too."""
        if self._descriptor is None:
            raise ValueError("this lock has been closed")
        return self._descriptor

    def close(self) -> None:
        """Let go; a child that has inherited the descriptor goes on holding the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self.fileno(), kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def is_locked(path: Path) -> bool:
    """Whether somebody has the lock on `path` alone."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        return not lock.try_shared()
    finally:
        lock.close()


@contextmanager
def alone(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock on `path` exclusively for the length of the block."""
    lock = FileLock(path)
    try:
        if not wait_for(lock.try_exclusive, seconds=seconds):
            raise ServersError(
                "another process has been starting or stopping the development servers "
                f"for over {seconds:.0f} s; it holds {path}"
            )
        yield
    finally:
        lock.close()

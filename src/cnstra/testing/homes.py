"""Folders for the servers of tests: in memory where there is room, gone at their end, also when their owner was killed.

Owns where they are, and what the next one does with what was left. Refuses to know what runs in them, but that it is stopped.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from cnstra.orchestrator.errors import ServersError
from cnstra.servers import down
from cnstra.servers.locks import FileLock

_DISK = Path("/tmp")  # noqa: S108 - mkdtemp makes a folder of our own in it
_MEMORY = Path("/dev/shm")  # noqa: S108
_FACTS = Path("/proc/meminfo")
_PLENTY = 4 * 2**30
"""Bytes. Containers have 64 MB of it by default."""

_PREFIX = "cnstra-test-"
_ALIVE = "alive.lock"
_NEW = 60.0
"""Seconds in which who makes a home may not have its lock yet."""

_alive: dict[Path, FileLock] = {}


def new_home(*, on_disk: bool = False) -> Path:
    """A new folder for servers: short of path, and such that the account which runs them can pass through.

    In memory, where the machine has plenty: a database is some 300 files, and many a disk takes a millisecond for each. What is
    there outlives the servers, however they die. ``on_disk``: for who measures what a disk costs.
    """
    folder = _DISK if on_disk or not _has_room(_MEMORY) else _MEMORY
    _remove_leftovers(folder)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))  # pytest makes its own below one with 0700
    home.chmod(0o711)
    _alive[home] = FileLock(home / _ALIVE)
    _alive[home].try_exclusive()
    return home


def _has_room(memory: Path) -> bool:
    """Whether servers may keep their data there: what is free below it, and in the machine, is much more than tests take; and
    programs may run there, as those of a wheel are copied for who cannot reach it.
    """
    try:
        below = os.statvfs(memory)
        facts = dict(line.split(":", 1) for line in _FACTS.read_text().splitlines())
        available = int(facts["MemAvailable"].removesuffix("kB")) * 1024
    except (OSError, KeyError, ValueError):  # another system: it has no such folder, or says it otherwise
        return False
    if below.f_flag & os.ST_NOEXEC or not os.access(memory, os.W_OK | os.X_OK):
        return False
    return min(below.f_bavail * below.f_frsize, available) >= _PLENTY


def _remove_leftovers(folder: Path) -> None:
    """Remove the homes of those who were killed: in memory they would take room until the machine is started again."""
    for home in folder.glob(f"{_PREFIX}*"):
        alive = home / _ALIVE
        with suppress(OSError, ServersError):  # somebody else's, or somebody else removes it
            if time.time() - alive.stat().st_mtime < _NEW:
                continue
            with closing(FileLock(alive)) as lock:
                if lock.try_exclusive():
                    for servers in home.rglob("supervisor.lock"):
                        down(servers.parent)
                    delete_home(home)


def remove_home(home: Path) -> None:
    """Stop the servers of ``home``, whoever holds them, and delete it."""
    if any(one.name != _ALIVE for one in home.iterdir()):
        down(home)
    delete_home(home)


def delete_home(home: Path) -> None:
    """Delete a home in which no servers run."""
    shutil.rmtree(home)
    lock = _alive.pop(home, None)
    if lock is not None:
        lock.close()


@contextmanager
def temporary_home(*, on_disk: bool = False) -> Iterator[Path]:
    """A folder for servers for the length of the block; what runs there at its end is stopped."""
    home = new_home(on_disk=on_disk)
    try:
        yield home
    finally:
        remove_home(home)

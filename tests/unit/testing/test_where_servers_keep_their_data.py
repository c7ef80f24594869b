"""Private servers of tests keep their data in memory, where that can be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnstra.testing import homes

GIB = 2**30


def memory(monkeypatch: pytest.MonkeyPatch, folder: Path, *, free: int, flags: int = 0) -> None:
    """A folder stands for the memory, with so many bytes free."""
    found = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_flag=flags)
    monkeypatch.setattr(homes, "_MEMORY", folder)
    monkeypatch.setattr(os, "statvfs", lambda _path: found)


def made(**how: Any) -> Path:
    """The folder above a new home, which is gone again."""
    with homes.temporary_home(**how) as home:
        return home.parent


@pytest.fixture(autouse=True)
def plenty_of_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the machine has."""
    facts = tmp_path / "meminfo"
    facts.write_text("MemTotal:       9000000 kB\nMemAvailable:    8000000 kB\n")
    monkeypatch.setattr(homes, "_FACTS", facts)


def test_they_do_where_there_is_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And on the disk where somebody asks for that."""
    memory(monkeypatch, tmp_path, free=5 * GIB)
    assert made() == tmp_path
    assert made(on_disk=True) == Path("/tmp")


@pytest.mark.parametrize(
    "why", [{"free": 3 * GIB}, {"free": 5 * GIB, "flags": os.ST_NOEXEC}], ids=["too little room", "no programs"]
)
def test_they_do_not_where_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, why: Any) -> None:
    """A container has 64 MB by default, and may let nothing run there."""
    memory(monkeypatch, tmp_path, **why)
    assert made() == Path("/tmp")


@pytest.mark.parametrize("facts", ["MemAvailable:    3000000 kB\n", "MemTotal: 9000000 kB\n", ""])
def test_nor_where_the_machine_has_little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, facts: str) -> None:
    """Or does not say."""
    memory(monkeypatch, tmp_path, free=5 * GIB)
    (tmp_path / "meminfo").write_text(facts)
    assert made() == Path("/tmp")


def test_nor_where_there_is_no_such_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not every system has it."""
    monkeypatch.setattr(homes, "_MEMORY", tmp_path / "missing")
    assert made() == Path("/tmp")


def test_who_is_killed_leaves_nothing_for_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next one who needs a home removes his; not that of who lives, or has begun a moment ago."""
    memory(monkeypatch, tmp_path, free=5 * GIB)
    old, new = (killed(tmp_path) for _ in range(2))
    with homes.temporary_home() as living:
        for home in (old, living):
            os.utime(home / "alive.lock", (0, 0))
        with homes.temporary_home() as next_one:
            assert set(tmp_path.glob("cnstra-test-*")) == {living, next_one, new}


_KILLED = """
import os, signal, sys
from pathlib import Path
from cnstra.testing import homes
homes._MEMORY = homes._DISK = Path(sys.argv[1])
print(homes.new_home(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder: Path) -> Path:
    """The home of a process that was killed."""
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(folder)], stdout=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    return Path(ended.stdout.strip())

"""What a test starts beside the usual servers ends with the test's process, also when that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil

import support
from support.waiting import eventually

_OWNER = """
import subprocess, sys
from support.reaping import reap
children = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(600)'])"
for command in (children, "pass"):
    started = subprocess.Popen([sys.executable, "-c", command], start_new_session=True, stdout=subprocess.PIPE)
    reap(started.pid)
    started.stdout.readline()
    print(started.pid, flush=True)
sys.stdin.read()
"""


def test_what_a_test_started_ends_when_its_process_is_killed() -> None:
    """By SIGKILL, so that nobody can clean up; also what it has started itself, in whichever session."""
    folder = Path(support.__path__[0]).parent
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    ) as owner:
        assert owner.stdout is not None
        started = psutil.Process(int(owner.stdout.readline()))
        family = [started, *started.children(recursive=True)]
        assert len(family) == 2
        owner.stdout.readline()  # and one that has ended by itself

        owner.send_signal(signal.SIGKILL)

        eventually(lambda: not any(map(_lives, family)), what="what it started has ended")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

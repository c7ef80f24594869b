"""What a test starts beside the usual servers ends with the test's process, also when that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil

from support import guarded
from support.waiting import eventually

_OWNER = """
import subprocess, sys
command = [sys.executable, {guarded!r}, "-1", "-1", sys.executable, "-c", "import time; time.sleep(600)"]
server = subprocess.Popen(command, stdin=subprocess.PIPE)
server.wait()
"""


def test_a_guarded_server_ends_when_who_wanted_it_is_killed() -> None:
    """By SIGKILL, so that nobody can clean up."""
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER.format(guarded=guarded.__file__)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        assert server.is_running()

        owner.send_signal(signal.SIGKILL)

        eventually(lambda: not server.is_running(), what="the server has ended")

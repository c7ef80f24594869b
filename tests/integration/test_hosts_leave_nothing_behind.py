"""The hosts of the tests themselves: what one that was killed has left behind is removed, and what lives is left alone."""

from __future__ import annotations

import subprocess
import sys

from support.commands import MODULES
from support.hosts import Network, swept
from support.waiting import eventually

_DIES = """
import os, subprocess
from support.hosts import Network
network = Network().__enter__()
host = network.host()
left = subprocess.Popen(host.command(["sleep", "3600"]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(host.name, left.pid, flush=True)
os._exit(1)
"""


def test_the_hosts_of_a_process_that_was_killed_are_removed_by_the_next_one(network: Network) -> None:
    """With what runs there; those of a process that lives stay."""
    mine = network.host()
    died = subprocess.run([sys.executable, "-c", _DIES], env=MODULES, capture_output=True, text=True, check=False)
    name, pid = died.stdout.split()

    removed = swept()

    assert name in removed
    assert mine.name not in removed
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert mine.name in listed
    assert name not in listed
    eventually(lambda: not _runs(pid), what="what ran there has ended")


def _runs(pid: str) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout
    return shown.strip() not in ("", "Z")

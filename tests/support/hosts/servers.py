"""Postgres and Valkey that listen on one more address, so that other hosts reach the servers themselves.

They are the development servers under their own supervisor, whose program is in ``reachable``. As those they end with whoever
holds them, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnstra.servers import HeldServers, hold
from cnstra.servers.home import Home
from cnstra.servers.locks import FileLock
from support.commands import MODULES
from support.folders import temporary_home

ADDRESS = "CNSTRA_TESTS_SERVERS_ADDRESS"
"""The variable that names the address."""


@contextmanager
def servers_on(address: str) -> Iterator[HeldServers]:
    """Servers for the length of the block, which listen on ``address``, too. Their URLs are those on this machine."""
    with temporary_home() as home:
        holding = FileLock(Home.at(home).holders)  # so that the supervisor does not end before anybody joins
        assert holding.try_shared()
        _supervise(home, address)
        with hold(home, durable=False) as held:
            holding.close()
            yield held


def _supervise(home: Path, address: str) -> None:
    command = [sys.executable, "-m", "support.hosts.reachable", str(home), "--server=postgres", "--server=valkey"]
    environment = os.environ | MODULES | {ADDRESS: address}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as starting:
        assert starting.stdout is not None
        answer = starting.stdout.readline()
    assert "postgresql://" in answer, answer or "the supervisor did not start"

"""Hosts and the network between them and this machine, where the servers are.

Each host is a network namespace, and so is the router that all of their packets pass. What is lost is lost there, without a
word to either end: no reset and no refusal, as behind a switch that has lost its uplink. Connections that were open stay open
at both ends, and nothing of them comes through; connections that are begun get no answer.

Names hold the id of the process that made them. What a process that was killed has left behind, its workers included, is
removed by the next one that makes a network.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

import psutil

from support.hosts.places import Place

Way = Literal["both", "there", "back"]
"""What is lost: all packets, those to the server, or those from it."""

_NAME = re.compile(r"cnstra-(\d+)-\w+")
_BLOCKS = 8192  # of sixteen addresses, in 198.18.0.0/15: those that RFC 2544 gives to who tries networks
_MISSING = "what is promised of hosts that are cut off goes untested here"


class Network:
    """A router, the hosts behind it, and ``address``: this machine's own, as hosts see it."""

    def __init__(self) -> None:
        self._mine = f"cnstra-{os.getpid()}"
        self._short = f"c{os.getpid()}"  # names of devices have 15 characters at most
        self._router = f"{self._mine}-router"
        self._block = _free_block()
        self._hosts: list[Host] = []
        self.address = self._address(1)

    def __enter__(self) -> Self:
        swept()
        try:
            self._make_router()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def host(self) -> Host:
        """Another host, which is there until ``clear``."""
        number = len(self._hosts) + 1
        assert number < 13, "a block has no more addresses"
        name, near, address = f"{self._mine}-host{number}", f"{self._short}h{number}", self._address(2 + number)
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", self._router, "link", "add", near, "type", "veth", "peer", "name", "out", "netns", name)
        self._connect(self._router, near, self._address(2), to=address)
        self._connect(name, "out", address, to=self._address(2))
        _ip("-n", name, "route", "add", "default", "via", self._address(2))
        host = Host(name, address, router=self._router, near=near, far=f"{self._short}r")
        self._hosts.append(host)
        return host

    def clear(self) -> None:
        """Remove all hosts, with what runs there."""
        while self._hosts:
            host = self._hosts.pop()
            host.heal()
            _remove(host.name)

    def _make_router(self) -> None:
        outside, inside = f"{self._short}s", f"{self._short}r"
        _ip("netns", "add", self._router)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self._router)
        self._connect(None, outside, self.address, to=self._address(2))
        self._connect(self._router, inside, self._address(2), to=self.address)
        _ip("route", "add", f"{self._address(0)}/28", "via", self._address(2))
        _run("ip", "netns", "exec", self._router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def _connect(self, namespace: str | None, device: str, address: str, *, to: str) -> None:
        """One end of a line: its own address, and that of the other end."""
        where = ("-n", namespace) if namespace else ()
        _ip(*where, "address", "add", f"{address}/32", "peer", f"{to}/32", "dev", device)
        _ip(*where, "link", "set", device, "up")

    def _address(self, number: int) -> str:
        return _address(self._block, number)

    def _remove(self) -> None:
        for name in _namespaces():
            if name.startswith(f"{self._mine}-"):
                _remove(name)


class Host:
    """A machine without servers: a namespace ``name`` with an ``address``."""

    def __init__(self, name: str, address: str, *, router: str, near: str, far: str) -> None:
        self.name = name
        self.address = address
        self._router = router
        self._devices = (near, far)
        self._lost: list[Sequence[str]] = []

    def command(self, command: Sequence[str]) -> list[str]:
        """What to execute, here, so that ``command`` runs there, under the same process id."""
        return ["ip", "netns", "exec", self.name, *command]

    def cut_off_from(self, *places: Place, way: Way = "both") -> None:
        """Lose, from now on, what goes between this host and servers."""
        near, far = self._devices
        for place in places:
            if way != "back":
                self._lose("iif", near, "ipproto", "tcp", "dport", str(place.port))
            if way != "there":
                self._lose("iif", far, "to", self.address, "ipproto", "tcp", "sport", str(place.port))

    def forget(self, place: Place, ports: Iterable[int], way: Way = "both") -> None:
        """Lose, from now on, what goes over connections that were begun at these ports: as a firewall that has forgotten them."""
        near, far = self._devices
        for port in ports:
            if way != "back":
                self._lose("iif", near, "ipproto", "tcp", "sport", str(port), "dport", str(place.port))
            if way != "there":
                of_server = ("ipproto", "tcp", "sport", str(place.port), "dport", str(port))
                self._lose("iif", far, "to", self.address, *of_server)

    def heal(self) -> None:
        """Let everything through again."""
        while self._lost:
            _ip("-n", self._router, "rule", "del", *self._lost.pop())

    @property
    def is_cut_off(self) -> bool:
        """Whether anything is lost."""
        return bool(self._lost)

    def _lose(self, *which: str) -> None:
        rule = (*which, "type", "blackhole")
        if rule not in self._lost:
            _ip("-n", self._router, "rule", "add", *rule)
            self._lost.append(rule)


def why_not() -> str | None:
    """Why there can be no hosts on this machine; None where there can."""
    if sys.platform != "linux":
        return f"hosts in namespaces need Linux: {_MISSING}"
    if shutil.which("ip") is None:
        return f"no command ip on this machine (Debian: apt-get install iproute2): {_MISSING}"
    if os.geteuid() != 0:
        return f"only root may make network namespaces: {_MISSING}"
    try:
        with Network() as network:
            host = network.host()
            host.cut_off_from(Place(url="", port=1))
            host.heal()
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"this root may make no network namespaces and rules ({' '.join(said.split())}): {_MISSING}"
    return None


def swept() -> list[str]:
    """Remove what processes that are gone have left behind; its names."""
    stale = [name for name in _namespaces() if not psutil.pid_exists(_maker(name))]
    for name in stale:
        _remove(name)
    return stale


def _maker(name: str) -> int:
    found = _NAME.fullmatch(name)
    assert found is not None
    return int(found[1])


def _namespaces() -> Iterator[str]:
    for line in _run("ip", "netns", "list").splitlines():
        name = line.split()[0] if line.split() else ""
        if _NAME.fullmatch(name):
            yield name


def _remove(name: str) -> None:
    """A namespace, with the processes and the devices in it; it may be gone already."""
    with suppress(subprocess.CalledProcessError):
        for pid in _run("ip", "netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    with suppress(subprocess.CalledProcessError):
        for device in re.findall(
            r"^\d+: (\w+)", _run("ip", "-n", name, "-o", "link", "show", "type", "veth"), re.MULTILINE
        ):
            _ip("-n", name, "link", "del", device)
    with suppress(subprocess.CalledProcessError):
        _ip("netns", "del", name)


def _free_block() -> int:
    """The first block of addresses from one on that nobody else's process has begun with, that this machine does not use."""
    used = _run("ip", "-o", "-4", "address", "show") if shutil.which("ip") else ""
    block = os.getpid() % _BLOCKS
    while f" {_address(block, 1)} " in used:
        block = (block + 1) % _BLOCKS
    return block


def _address(block: int, number: int) -> str:
    whole = block * 16 + number
    return f"198.{18 + (whole >> 16)}.{(whole >> 8) & 255}.{whole & 255}"


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

"""Stores of contexts for tests: one in memory, and a wire to a real one that can be away."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

from support.wire import Wire


class AwayError(Exception):
    """What a store raises that is away."""


class MemoryBlobStore:
    """Blobs in a dict. ``away`` makes it raise; ``asked`` counts its calls."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.away = False
        self.asked: Counter[str] = Counter()

    def put(self, key: str, data: bytes) -> None:
        self._ask("put")
        self.blobs[key] = data

    def get(self, key: str) -> bytes | None:
        self._ask("get")
        return self.blobs.get(key)

    def delete(self, keys: Iterable[str]) -> None:
        self._ask("delete")
        for key in keys:
            self.blobs.pop(key, None)

    def _ask(self, what: str) -> None:
        self.asked[what] += 1
        if self.away:
            raise AwayError("the store is away")


class GetsMany(MemoryBlobStore):
    """The same, with ``get_many``."""

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._ask("get_many")
        return [self.blobs.get(key) for key in keys]


class Severed(Wire):
    """A wire to a server that is away whenever the test says so: everything that goes over it then is cut off."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self._away = threading.Event()
        self._tried = threading.Semaphore(0)

    def sever(self) -> None:
        """The server is away from now on."""
        self._away.set()
        self.cut()

    def mend(self) -> None:
        """It is back."""
        self._away.clear()

    def was_tried(self) -> None:
        """Wait until somebody has tried to reach the server while it is away; once a try."""
        assert self._tried.acquire(timeout=60), "nobody tries"

    def _passes(self, data: bytes, source: socket.socket, target: socket.socket) -> bool:
        if self._away.is_set():
            self._tried.release()
            return False
        return True

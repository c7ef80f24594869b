"""A proxy between a client and Postgres that loses the reply of a COMMIT: the server has committed, the client cannot know.

It forwards bytes both ways. Once armed, it lets the next COMMIT through, waits for the server's answer, swallows it, and
cuts the connection; then it forwards again.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # the simple-query message, as psycopg sends it
_TAKEN = 1 << 16


class LosesCommitReplies:
    """A proxy before the server of ``database_url``; ``url`` is the same database through it."""

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._server = (parts.hostname or "", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._armed = threading.Event()
        self._lost = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        port = self._listener.getsockname()[1]
        account, _, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{account}@127.0.0.1:{port}", query="sslmode=disable").geturl()

    def arm(self) -> None:
        """Lose the reply of the next COMMIT."""
        self._lost.clear()
        self._armed.set()

    @property
    def has_lost_one(self) -> bool:
        """Whether a reply was lost since it was armed."""
        return self._lost.is_set()

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        for one in self._open:
            _cut(one)
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._server)
            self._open += [client, server]
            swallow = threading.Event()
            self._begin(self._to_server, client, server, swallow)
            self._begin(self._to_client, client, server, swallow)

    def _to_server(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        while data := _received(client):
            if data == _COMMIT and self._armed.is_set():
                self._armed.clear()
                swallow.set()
            _send(server, data)
        _cut(server)

    def _to_client(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        while data := _received(server):
            if swallow.is_set():
                self._lost.set()
                break
            _send(client, data)
        _cut(client)


def _received(one: socket.socket) -> bytes:
    try:
        return one.recv(_TAKEN)
    except OSError:
        return b""


def _send(one: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the other side has gone; what comes from it says so next
        one.sendall(data)


def _cut(one: socket.socket) -> None:
    with suppress(OSError):  # cut already
        one.shutdown(socket.SHUT_RDWR)

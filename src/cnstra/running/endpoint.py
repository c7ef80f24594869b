"""A small endpoint for probes: GET and HEAD of a few paths over HTTP, each answered with a JSON object of a few lines.

It has no thread: it is part of its owner's loop, so an answer says that this loop turns. Nothing that a client does holds
that up: sockets do not block, a request has a length and a time, and there are only so many clients at once. It shows no
data, and takes none.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cnstra.orchestrator.errors import ConfigurationError

LOCAL = "127.0.0.1"
_MOST_CLIENTS = 16
_LONGEST_REQUEST = 8192
_PATIENCE = 2.0
"""Seconds that a client has for its request."""

Reasons = Callable[[], list[str]]
"""Why the answer is no; nothing for yes."""


def address_of(text: str) -> tuple[str, int]:
    """Host and port of ``PORT``, ``HOST:PORT`` or ``[HOST]:PORT``; a port alone is this machine's own. Raises
    ``ConfigurationError``."""
    host, colon, port = text.strip().rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") and host.endswith("]") else host
    if (colon and not bare) or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
        raise ConfigurationError(
            f"{text!r} is no address for probes: it is to be PORT or HOST:PORT, as in 0.0.0.0:8080"
        )
    if not 0 < int(port) < 65536:
        raise ConfigurationError(f"{text!r} is no address for probes: a port is from 1 to 65535")
    return bare or LOCAL, int(port)


@dataclass(slots=True)
class _Client:
    """A connection, what came of its request, and until when the rest may come."""

    socket: socket.socket
    until: float
    request: bytes = b""


class Endpoint:
    """Listens at an address from the beginning, and answers once it is served. Raises ``ConfigurationError`` when it cannot."""

    def __init__(self, address: str) -> None:
        self._socket = _listening(address)
        self._clients: list[_Client] = []
        self._questions: Mapping[str, tuple[str, Reasons]] = {}
        self._selector: selectors.BaseSelector | None = None

    def serve(self, selector: selectors.BaseSelector, questions: Mapping[str, tuple[str, Reasons]]) -> None:
        """From now on answer, whenever the owner of ``selector`` calls the data of a key that is ready. ``questions`` are by
        path: the name of the answer in the object, and the reasons against it.
        """
        self._selector, self._questions = selector, questions
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Listen no more."""
        for client in list(self._clients):
            self._drop(client)
        if self._selector is not None:
            self._selector.unregister(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        assert self._selector is not None
        now = time.monotonic()
        for late in [client for client in self._clients if client.until <= now]:
            self._drop(late)
        try:
            connection, _ = self._socket.accept()
        except OSError:  # it has gone again; or no more files can be open
            return
        connection.setblocking(False)
        if len(self._clients) >= _MOST_CLIENTS:
            self._drop(self._clients[0])
        client = _Client(connection, now + _PATIENCE)
        self._clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._read, client))

    def _read(self, client: _Client) -> None:
        if client not in self._clients:  # dropped a moment ago, for another
            return
        try:
            more = client.socket.recv(_LONGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        client.request += more
        if more and b"\r\n\r\n" not in client.request and len(client.request) <= _LONGEST_REQUEST:
            return
        if more:
            with suppress(OSError):  # so little always fits into the socket's buffer
                client.socket.send(self._answer(client.request))
        self._drop(client)

    def _drop(self, client: _Client) -> None:
        assert self._selector is not None
        self._clients.remove(client)
        self._selector.unregister(client.socket)
        client.socket.close()

    def _answer(self, request: bytes) -> bytes:
        if len(request) > _LONGEST_REQUEST:
            return _response("431 Request Header Fields Too Large", {"error": "the request is too long"})
        method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            return _response("400 Bad Request", {"error": "this is no request of HTTP/1"})
        question = self._questions.get(path.partition("?")[0])
        if question is None:
            return _response("404 Not Found", {"error": f"there is only {' and '.join(self._questions)}"})
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", {"error": "only GET and HEAD"}, "Allow: GET, HEAD\r\n")
        name, reasons = question
        against = reasons()
        status = "503 Service Unavailable" if against else "200 OK"
        return _response(status, {name: not against, "reasons": against}, body=method == "GET")


def _response(status: str, document: Mapping[str, object], more: str = "", *, body: bool = True) -> bytes:
    text = json.dumps(document).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        f"Cache-Control: no-store\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + (text if body else b"")


def _listening(address: str) -> socket.socket:
    host, port = address_of(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        both = host == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server((host, port), family=family, backlog=_MOST_CLIENTS, dualstack_ipv6=both)
    except OSError as error:
        known = error.errno is not None and error.errno > 0  # what a host's name cannot be resolved with is below
        problem = os.strerror(error.errno) if known and error.errno else error.strerror or str(error)
        raise ConfigurationError(f"cannot answer probes at {address}: {problem}; choose another --health") from None
    listening.setblocking(False)
    return listening

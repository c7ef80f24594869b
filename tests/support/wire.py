"""A wire to a server, which a test can cut: whatever goes over it at that moment is lost, in both directions.

New connections go through at once. One that finds no server is closed, as the server's own refusal would be.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, and throw away what was not sent
_TAKEN = 1 << 16


class Wire:
    """A wire to the server of a URL; ``url`` is that server at the other end of it."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self.lead_to(server_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        account, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{account}{at}127.0.0.1:{self._listener.getsockname()[1]}").geturl()
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                    one.shutdown(socket.SHUT_RDWR)

    def lead_to(self, server_url: str) -> None:
        """New connections go to that server from now on, as when a name is given to another host; those that there are stay."""
        parts = urlsplit(server_url)
        self._server = (parts.hostname or "", parts.port or 0)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._accepting.join()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:  # it is away
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._serve, args=[client, server], daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """Carry what the client says there, and on another thread what the server says here; then let go of both."""
        back = threading.Thread(target=self._carry, args=[server, client], daemon=True)
        back.start()
        self._carry(client, server)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while (data := source.recv(_TAKEN)) and self._passes(data, source, target):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _passes(self, data: bytes, source: socket.socket, target: socket.socket) -> bool:
        """Whether what came from one end goes to the other; where it does not, it is lost, and the connection is cut."""
        return True

"""A wire to Postgres that loses the reply of a commit: the server has committed, and the client cannot know.

Once armed, it lets the next COMMIT through, or the next statement that is a transaction by itself, waits for the server's
answer, loses it, and cuts the connection. Then it is a wire like any other.
"""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

from support.wire import Wire

# The simple-query messages, as psycopg sends them, and as a transaction begins that takes its settings along.
_BEGIN = b"Q\x00\x00\x00\x0aBEGIN\x00"
_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_BEGIN_WITH_SETTINGS = b"begin;"
_PARSE, _BIND = b"P", b"B"


def _begins(data: bytes) -> bool:
    """Whether a transaction begins."""
    return data == _BEGIN or (data.startswith(b"Q") and data[5:].startswith(_BEGIN_WITH_SETTINGS))


def _executes(data: bytes) -> bool:
    """Whether a statement is executed: one that was prepared, or, as behind a pooler, one that comes just before."""
    at = 0
    while data[at : at + 1] == _PARSE:
        at += 1 + int.from_bytes(data[at + 1 : at + 5])
    return data[at : at + 1] == _BIND


class LosesCommitReplies(Wire):
    """A wire to the server of a database; ``url`` is the same database at its other end."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        query = "&".join(filter(None, [urlsplit(database_url).query, "sslmode=disable"]))  # to be read on its way
        self.url = urlsplit(self.url)._replace(query=query).geturl()
        self._armed = threading.Event()
        self._lost = threading.Event()
        self._committing: socket.socket | None = None
        self._begun: set[socket.socket] = set()

    def arm(self) -> None:
        """Lose the reply of the next commit."""
        self._lost.clear()
        self._armed.set()

    @property
    def has_lost_one(self) -> bool:
        """Whether a reply was lost since it was armed."""
        return self._lost.is_set()

    def _passes(self, data: bytes, source: socket.socket, target: socket.socket) -> bool:
        if _begins(data):
            self._begun.add(source)
        elif data == _COMMIT or (_executes(data) and source not in self._begun):
            self._begun.discard(source)
            if self._armed.is_set():
                self._armed.clear()
                self._committing = target
        elif source is self._committing:
            self._committing = None
            self._lost.set()
            return False
        return True

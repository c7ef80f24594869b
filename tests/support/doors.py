"""Where a server was: a port at which somebody else answers."""

from __future__ import annotations

import random
import socket


def turn_away(port: int, connections: int) -> None:
    """Stand in a dead server's place until so many have tried to connect; close on each of them."""
    with socket.create_server(("127.0.0.1", port)) as door:
        for _ in range(connections):
            door.accept()[0].close()


def free_port() -> int:
    """A port that nobody listens on at the moment, and that no system gives to clients: a server that is gone for a while finds
    it free again.
    """
    while True:
        port = random.randrange(11_000, 20_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

"""Where a server was: a port at which somebody else answers."""

from __future__ import annotations

import socket


def turn_away(port: int, connections: int) -> None:
    """Stand in a dead server's place until so many have tried to connect; close on each of them."""
    with socket.create_server(("127.0.0.1", port)) as door:
        for _ in range(connections):
            door.accept()[0].close()


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

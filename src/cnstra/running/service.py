"""Tells systemd, where that started the worker as a service of ``Type=notify``, that work is taken: one datagram to the socket
that it names in the environment, as sd_notify(3) describes. Anywhere else, nothing.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_PATIENCE = 1.0
"""Seconds to wait for an init system that does not read; it takes the worker for one that has not begun then."""


def tell_ready() -> None:
    """Say it, if there is somebody to whom; who cannot be reached does not keep a worker from its work."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(_PATIENCE)
        line.sendto(b"READY=1", address if address.startswith("/") else "\0" + address.removeprefix("@"))

"""How processes speak with the supervisor: one JSON document each way over a socket that only its owner can
open.

Owns the format and where the socket lies, which is not in the home, since a socket's path is limited to about
100 bytes. Knows nothing of what is asked.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnstra.orchestrator.errors import ServersError
from cnstra.servers.home import Home, write_private

Message = dict[str, Any]

_PREFIX = "cnstra-"
_READ_SECONDS = 5.0  # a client that connects and says nothing holds up everybody else


class Unreachable(Exception):
    """Nobody answered: the supervisor is about to listen, or has stopped listening."""


def ask(home: Home, message: Message, *, seconds: float) -> Message:
    """Send `message` to the supervisor of `home` and return its answer; raises ServersError for one that it
    refuses.
    """
    try:
        address = home.control.read_text()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(seconds)
            client.connect(address)
            client.sendall(json.dumps(message).encode() + b"\n")
            answer = _line(client)
    except TimeoutError as error:
        raise ServersError(
            f"the supervisor of {home.path} gave no answer within {seconds:.0f} s; see {home.supervisor_log}"
        ) from error
    except OSError as error:
        raise Unreachable from error
    if not answer:
        raise Unreachable
    return checked(json.loads(answer))


def checked(answer: Message) -> Message:
    """The `answer`, unless it says what went wrong."""
    if "error" in answer:
        raise ServersError(str(answer["error"]))
    return answer


class Listener:
    """The supervisor's end."""

    def __init__(self, home: Home) -> None:
        self._home = home
        remove_old_socket(home)
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_folder()))
        self._socket = socket.socket(socket.AF_UNIX)
        self._address = str(self._folder / "control")
        self._socket.bind(self._address)
        self._socket.listen(64)
        write_private(home.control, self._address)

    def serve_one(self, handle: Callable[[Message], Message], *, seconds: float) -> None:
        """Answer one client with what `handle` returns; give up when none has come within `seconds`."""
        self._socket.settimeout(seconds)
        try:
            client, _ = self._socket.accept()
        except TimeoutError:
            return
        with client, suppress(OSError, ValueError):  # the client's trouble: it may have been killed meanwhile
            client.settimeout(_READ_SECONDS)
            message = json.loads(_line(client))
            client.sendall(json.dumps(_answer(handle, message)).encode() + b"\n")

    def close(self) -> None:
        """Answer nobody any more. May be called twice."""
        self._socket.close()
        with suppress(OSError):
            if self._home.control.read_text() == self._address:
                self._home.control.unlink()
        shutil.rmtree(self._folder, ignore_errors=True)


def remove_old_socket(home: Home) -> None:
    """Remove the socket of a supervisor that was killed."""
    with suppress(OSError):
        folder = Path(home.control.read_text()).parent
        if folder.parent == _short_folder() and folder.name.startswith(_PREFIX):
            shutil.rmtree(folder)
        home.control.unlink()


def _answer(handle: Callable[[Message], Message], message: Message) -> Message:
    try:
        return handle(message)
    except ServersError as error:
        return {"error": str(error)}
    except Exception as error:  # the supervisor outlives it, and its client learns of it
        traceback.print_exc()
        return {"error": f"the supervisor failed: {error!r}"}


def _line(peer: socket.socket) -> bytes:
    with peer.makefile("rb") as file:
        return file.readline()


def _short_folder() -> Path:
    tmp = Path("/tmp")  # noqa: S108 - mkdtemp makes a folder of our own in it
    return tmp if tmp.is_dir() else Path(tempfile.gettempdir())

"""Gates: where a handler in another process stops until the test lets it through.

Each is a named pipe, so that neither side has to ask again and again. ``Gate`` is the test's side, ``stop_at`` the handler's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from support.waiting import eventually


class Gate:
    """One of them, which is made with this."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._held: int | None = None

    def reached(self) -> Self:
        """Wait until a handler stands here."""
        self._held = eventually(self._try_to_hold, what=f"a handler that stands at {self.path}")
        return self

    def open(self) -> None:
        """Let the handler that stands here through."""
        assert self._held is not None, "nobody stands here"
        os.close(self._held)
        self._held = None

    def _try_to_hold(self) -> int | None:
        try:
            return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody has it open for reading
            return None


def stop_at(paths: Sequence[str], try_number: int) -> None:
    """Stop at the gate of this try, if it has one."""
    for path in paths[try_number - 1 : try_number]:
        with open(path, "rb") as gate:
            gate.read()


async def stop_at_async(paths: Sequence[str], try_number: int) -> None:
    """The same, while the event loop goes on."""
    await asyncio.to_thread(stop_at, paths, try_number)

"""Ends the workers when the demo is gone without having stopped them: after a SIGKILL, say.

A process of its own, which reads the workers' process groups from its standard input. The kernel closes that when the demo
ends, however it ends; then whatever group is still on the list is told to stop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

_PROGRAM = [sys.executable, "-m", __name__]


class Leash:
    """Holds process groups until they are let go of."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module, found from the folder
            _PROGRAM, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
        )

    def hold(self, group: int) -> None:
        """From now on, this group ends with us."""
        self._tell(f"+{group}")

    def let_go(self, group: int) -> None:
        """It has ended: its number may come to be somebody else's."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """Let the process end, which stops what is still held."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


def _watch() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    held: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        (held.add if line[0] == "+" else held.discard)(group)
    for group in held:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)


if __name__ == "__main__":
    _watch()

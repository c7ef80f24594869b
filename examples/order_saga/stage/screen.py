"""What the demo shows: lines, one line that is updated in place where there is a terminal, commands, tables."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from typing import TextIO

_EVERY = 2.0  # seconds between two plain lines of progress
_LINES = 4  # of what a command printed


class Screen:
    """Writes to a terminal, or to whatever standard output is."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        if isinstance(self._out, TextIOWrapper):
            self._out.reconfigure(errors="replace")  # a mark that this terminal lacks is no reason to stop
        self._updates = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._began = time.monotonic()
        self._shown = ""
        self._shown_at = -_EVERY

    def say(self, text: str = "") -> None:
        """A line, or several."""
        self._write(f"{text}\n")

    def step(self, what: str, text: str) -> None:
        """A line of the list of what happens."""
        self.say(f"  {what:<9} {text}")

    def command(self, arguments: Sequence[str], output: Sequence[str]) -> None:
        """A command as the user could have given it, and what it printed, without the middle of much."""
        self.say(f"\n  $ cnstra {' '.join(arguments)}")
        left_out = len(output) - _LINES
        shown = output if left_out <= 0 else [*output[:2], f"… {left_out} lines …", *output[2 + left_out :]]
        for line in shown:
            self.say(f"    {line}")

    def progress(self, text: str, *, now: bool = False) -> None:
        """How it stands: in place of the last such line on a terminal, else as a line every other second, or ``now``."""
        if self._updates:
            self._out.write(f"\r\x1b[K  {self._clock()} {text}")
            self._out.flush()
            self._shown = text
        elif now or (text != self._shown and time.monotonic() - self._shown_at >= _EVERY):
            self.say(f"  {self._clock()} {text}")
            self._shown, self._shown_at = text, time.monotonic()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows under their columns' names."""
        lines = [list(columns), *([str(value) for value in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            self.say("     " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())

    def _clock(self) -> str:
        return f"{time.monotonic() - self._began:6.1f} s "

    def _write(self, text: str) -> None:
        if self._updates and self._shown:
            self._out.write("\n")
            self._shown = ""
        self._out.write(text)
        self._out.flush()

"""Signals as bytes in a pipe: a loop that waits for other pipes waits for signals in the same place.

Nothing is done inside of a signal handler, where any lock may be held.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any, Self

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What asks a worker to drain: an init system, a keyboard, a terminal that was closed."""

_MAY_STAY_IGNORED = (signal.SIGINT, signal.SIGHUP)


class SignalPipe:
    """While it is entered, signals arrive here. Only in the main thread.

    SIGINT and SIGHUP stay ignored where they were (``nohup``, a job in the background of a script).
    """

    def __init__(self, numbers: Iterable[signal.Signals] = STOPPING) -> None:
        self._numbers = tuple(numbers)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            if number not in _MAY_STAY_IGNORED or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, _into_the_pipe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """What becomes readable when a signal came."""
        return self._read

    def read(self) -> list[signal.Signals]:
        """The signals that came, in their order."""
        try:
            return [signal.Signals(number) for number in os.read(self._read, 4096)]
        except BlockingIOError:
            return []


def _into_the_pipe(_number: int, _frame: FrameType | None) -> None:
    """Python has written the signal's number into the pipe before it calls this."""


def end_quietly_on_sigterm() -> None:
    """Before any work is taken, SIGTERM ends a worker at once, and in good order: there is nothing to drain."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))

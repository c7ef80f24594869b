"""One child of a worker, as its parent sees it: a fresh interpreter with a pipe each way.

The parent alone holds the writing end of the orders. The kernel closes it however the parent ends, and that is how a child
learns of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from cnstra.exits import EndedWith, Exit
from cnstra.running.health import Process, Pulse
from cnstra.running.orders import Orders


class Child:
    """A process that was started. ``ready`` once it takes work, ``refusal`` when it said why it cannot, ``told`` what it tells of
    itself for probes.
    """

    def __init__(self, number: int, orders: Orders) -> None:
        told, self._tell = os.pipe()
        self._report, report = os.pipe()
        os.set_blocking(self._report, False)
        # -P keeps the current folder off the path until APP is loaded: a redis.py that lies there is not ours to import.
        command = [sys.executable, "-P", "-m", "cnstra.running.child", str(told), str(report), str(number), orders.app]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                command, stdin=subprocess.DEVNULL, pass_fds=(told, report)
            )
        finally:
            os.close(told)
            os.close(report)
        self.pid = self._process.pid
        self.started = time.monotonic()
        self.ready = False
        self.refusal: EndedWith | None = None
        self.told = Process(number=number)
        self._heard = b""
        self._write(orders.packed())

    def fileno(self) -> int:
        """What becomes readable when the child has something to say."""
        return self._report

    def hear(self) -> bool:
        """Take in what it reports; False when nothing will follow."""
        while True:
            try:
                said = os.read(self._report, 65536)
            except BlockingIOError:
                return True
            if not said:
                return False
            *lines, self._heard = (self._heard + said).split(b"\n")
            for line in lines:
                self._take_in(json.loads(line))

    def _take_in(self, report: dict[str, Any]) -> None:
        if "error" in report:
            self.refusal = EndedWith(report["error"], Exit(report["code"]))
        elif "pulse" in report:
            pulse = Pulse.unpacked(report["pulse"])
            self.told = Process(number=self.told.number, pulse=pulse, heard=time.monotonic())
        else:
            self.ready = True

    def tell(self, request: bytes) -> None:
        """Order it to stop, in one way or another."""
        self._write(request + b"\n")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def ended(self) -> bool:
        """Whether it has ended; then ``code`` and ``how`` say how."""
        return self._process.poll() is not None

    @property
    def code(self) -> int:
        """The exit code; negative: the signal that killed it."""
        return 0 if self._process.returncode is None else self._process.returncode

    @property
    def how(self) -> str:
        """How it ended, in words."""
        return f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with code {self.code}"

    def close(self) -> None:
        """Let go of the pipes of a child that has ended."""
        os.close(self._tell)
        os.close(self._report)

    def _write(self, line: bytes) -> None:
        with suppress(BrokenPipeError):  # it has ended, which its parent is about to see
            os.write(self._tell, line)

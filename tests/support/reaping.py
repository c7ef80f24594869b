"""Ends what a test process has started, when that one is gone without having done so, however it ended.

One helper process for all of it: it is told of each, and waits for the end of its standard input, which the kernel brings about
when the other process is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from functools import cache

import psutil


def reap(pid: int) -> None:
    """Have this process, and whatever it starts, ended with the one that calls this; it may have ended by itself before."""
    reaper = _reaper(os.getpid())
    assert reaper.stdin is not None
    reaper.stdin.write(f"{pid}\n".encode())
    reaper.stdin.flush()


@cache
def _reaper(_owner: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, start_new_session=True, cwd="/")


def main() -> None:
    known: list[psutil.Process] = []
    for line in sys.stdin:
        with suppress(psutil.NoSuchProcess):
            known.append(psutil.Process(int(line)))
    for process in known:
        with suppress(psutil.NoSuchProcess):
            for each in (*process.children(recursive=True), process):  # raises for an id that is another's by now
                with suppress(psutil.NoSuchProcess):
                    each.kill()


if __name__ == "__main__":
    main()

"""The worker processes of a peer: started, watched while they are waited for, and stopped whatever happens.

It knows no peer. Workers inherit stderr, and never write to stdout, which belongs to the document.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.peers.programs.speaking import PATIENCE, Wrong

Crew = Sequence["subprocess.Popen[bytes]"]

GRACE = 10.0
"""Seconds that workers have to stop by themselves."""


@contextmanager
def crew(commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None) -> Iterator[Crew]:
    """Run ``python -m <command>`` for each command, and end all of them on the way out."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            started.append(_start(command, environment or {}))  # noqa: PERF401 - whoever was started before is ended
        yield started
    finally:
        _end(started)


def wait_until(true: Callable[[], bool], what: str, workers: Crew = (), *, every: float = 0.02) -> None:
    """Ask again and again. Raises ``Wrong`` when it takes too long, or when a worker has died."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise Wrong(f"{what}: given up after {PATIENCE:.0f} s")
        for worker in workers:
            if worker.poll() is not None:
                raise Wrong(f"{what}: a worker ended with {worker.returncode}")
        time.sleep(every)


def wait_for_all(workers: Crew, processes: int, who: Callable[[Crew, int], Iterable[object]]) -> None:
    """Wait until so many processes take work; ``who`` says which processes so many pieces of it came to."""
    seen: set[object] = set()

    def all_were_seen() -> bool:
        seen.update(who(workers, processes * 8))
        return len(seen) >= processes

    wait_until(all_were_seen, "the workers", workers)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the program's own commands
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env={**os.environ, **environment},
    )


def _end(workers: Crew) -> None:
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()

"""The worker processes: ``cnstra worker``, once for each, with what it prints in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from order_saga.stage.commands import EXAMPLES, DemoError, cnstra
from order_saga.stage.leash import Leash

COMMAND = ("worker", "order_saga.graph:cns", "--lease", "5")
_READY_WITHIN = 60.0
_STOPPED_WITHIN = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ready(self) -> bool:
        return "ready" in (line.strip() for line in self.log.read_text(errors="replace").splitlines())


class Crew:
    """Workers that take work until the end of the block; none of them outlives this process."""

    def __init__(self, environment: Mapping[str, str], logs: Path, command: Sequence[str] = COMMAND) -> None:
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self._logs = logs
        self._command = command
        self._workers: list[_Worker] = []
        self._spawned = 0

    def start(self) -> int:
        """Start one more worker, and wait until it takes work; its process id."""
        worker = self._spawn()
        end = time.monotonic() + _READY_WITHIN
        while not worker.ready:
            self.check()
            if time.monotonic() > end:
                raise DemoError(
                    f"worker {worker.process.pid} is not ready after {_READY_WITHIN:.0f} s; see {worker.log}"
                )
            time.sleep(0.05)
        return worker.process.pid

    def kill_one(self) -> int:
        """SIGKILL to one worker and to all that it started: it gets no chance to say goodbye. Its process id."""
        victim = self._workers.pop(0)
        os.killpg(victim.process.pid, signal.SIGKILL)
        self._reap(victim, timeout=None)
        return victim.process.pid

    def check(self) -> None:
        """Raise ``DemoError`` when a worker has ended of itself."""
        for worker in self._workers:
            if (code := worker.process.poll()) is not None:
                said = worker.log.read_text(errors="replace").strip()[-2000:]
                raise DemoError(f"worker {worker.process.pid} ended with {code}; {worker.log} says:\n{said}")

    def __enter__(self) -> Self:
        self._leash = Leash(EXAMPLES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask the workers to stop, kill those that do not, and return when all are gone."""
        try:
            for worker in self._workers:
                with suppress(ProcessLookupError):
                    os.killpg(worker.process.pid, signal.SIGTERM)
            end = time.monotonic() + _STOPPED_WITHIN
            for worker in self._workers:
                try:
                    self._reap(worker, timeout=max(end - time.monotonic(), 0.0))
                except subprocess.TimeoutExpired:
                    os.killpg(worker.process.pid, signal.SIGKILL)
                    self._reap(worker, timeout=None)
        finally:
            self._leash.close()

    def _spawn(self) -> _Worker:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._spawned += 1
        log = self._logs / f"worker-{self._spawned}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command
                cnstra(*self._command),
                cwd=EXAMPLES,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = _Worker(process=process, log=log)
        self._workers.append(worker)
        self._leash.hold(process.pid)
        return worker

    def _reap(self, worker: _Worker, timeout: float | None) -> None:
        worker.process.wait(timeout)
        self._leash.let_go(worker.process.pid)

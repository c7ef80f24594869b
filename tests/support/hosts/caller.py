"""A client on a host: a program that submits letters when it is told to, and says what became of it.

``python -m support.hosts.caller`` reads an idempotency key a line, and answers each with one JSON document: the run's id, or
the error's name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from cnstra import CnstraError, Orchestrator
from support import seals
from support.apps import on_hosts
from support.commands import MODULES
from support.hosts.network import Host


class Caller:
    """It, as a test has it; its connections are open once the block has begun."""

    def __init__(self, host: Host, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            host.command([sys.executable, "-m", "support.hosts.caller"]),
            env=os.environ | environment | MODULES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def submit(self, key: str) -> UUID | str:
        """Submit a letter under this key: the run's id, or the name of the error."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{key}\n")
        self._process.stdin.flush()
        answer = self._answer()
        return UUID(answer["run"]) if "run" in answer else str(answer["error"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said


def main() -> None:
    with Orchestrator(on_hosts.letters, codec=seals.codec()) as client:
        client.list_runs(limit=1)
        print("{}", flush=True)
        for line in sys.stdin:
            try:
                run = client.submit(on_hosts.posted.create_signal({"number": 1}), idempotency_key=line.strip())
            except CnstraError as error:
                print(json.dumps({"error": type(error).__name__}), flush=True)
            else:
                print(json.dumps({"run": str(run.id)}), flush=True)


if __name__ == "__main__":
    main()

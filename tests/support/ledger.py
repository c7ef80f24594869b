"""The outside world of the handlers: a ledger that keeps every call, whoever made it, and forgets nothing.

It is a file that is only appended to, one line a call in one write, so that a call is kept also where its process is
killed a moment later, and while the servers are away. The worker program names it; where none is named, nothing is kept.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from cnstra import Context

_file: int | None = None


def open_ledger(path: Path) -> None:
    """Let this process write to the ledger at ``path``."""
    global _file
    _file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(ctx: Context, what: str = "", **details: Any) -> None:
    """Keep that a handler was called, and with what right."""
    if _file is None:
        return
    line = {
        "key": ctx.idempotency_key,
        "run": str(ctx.run_id),
        "activation": ctx.activation_id,
        "attempt": ctx.attempt,
        "try": ctx.try_number,
        "version": ctx.version,
        "pid": os.getpid(),
        "what": what,
        **details,
    }
    os.write(_file, json.dumps(line).encode() + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call."""

    key: str
    run_id: UUID
    activation_id: int
    attempt: int
    try_number: int
    version: int
    pid: int
    what: str
    details: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """The ledger as a test reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self, run_id: UUID | None = None) -> list[Entry]:
        """Every call so far, of one run or of all, in the order in which they were made."""
        return [entry for entry in self._read() if run_id is None or entry.run_id == run_id]

    def calls(self, run_id: UUID) -> dict[int, int]:
        """How often the handler of each of a run's activations was called."""
        return dict(sorted(Counter(entry.activation_id for entry in self.entries(run_id)).items()))

    def effects(self) -> set[str]:
        """What has happened in a world that looks at idempotency keys: each key counts once."""
        return {entry.key for entry in self._read()}

    def _read(self) -> Iterator[Entry]:
        if not self.path.exists():
            return
        *whole, _ = self.path.read_bytes().split(
            b"\n"
        )  # a reader may meet a write half way: what has no end is not there yet
        for line in whole:
            said = json.loads(line)
            yield Entry(
                key=said.pop("key"),
                run_id=UUID(said.pop("run")),
                activation_id=said.pop("activation"),
                attempt=said.pop("attempt"),
                try_number=said.pop("try"),
                version=said.pop("version"),
                pid=said.pop("pid"),
                what=said.pop("what"),
                details=said,
            )

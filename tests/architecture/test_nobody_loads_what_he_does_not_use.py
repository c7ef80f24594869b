"""What takes long to load is loaded by who uses it: a command begins in a moment, and a graph in one process needs no client of a
broker."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = (
    "structlog",
    "rich",
    "redis",
    "pika",
    "cryptography",
    "pydantic",
    "cnstra.running.command",
    "cnstra.workers.hop",
)


@pytest.mark.parametrize("module", ["cnstra", "cnstra.cli.program"])
def test_what_takes_long_to_load_is_loaded_by_who_uses_it(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {_HEAVY!r} if name in sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []

"""The ``cnstra`` commands that the demo gives, as the user would give them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2]
"""The folder in which ``order_saga.graph:cns`` is found."""


class DemoError(Exception):
    """The demo cannot go on."""


def cnstra(*arguments: str) -> list[str]:
    """A command line of this Python's cnstra."""
    return [sys.executable, "-m", "cnstra", *arguments]


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Give a command and return the lines that it printed. Raises ``DemoError`` when it failed."""
    done = subprocess.run(  # noqa: S603 - our own command
        cnstra(*arguments), cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DemoError(f"`cnstra {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return (done.stdout + done.stderr).splitlines()

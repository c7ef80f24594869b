"""Where figures were taken: the machine, its load, the Python, and the versions of what was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What does not change while figures are taken."""

    system: str
    processor: str
    cores: int
    """Those that this process may use."""
    python: str
    versions: dict[str, str]
    """Of the installed distributions that the figures depend on."""
    commit: str | None
    """The revision of the project that was measured, with a ``+`` when files differ from it; None outside of git."""


def this_machine(distributions: Sequence[str] = ()) -> Machine:
    """The machine that this process runs on."""
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=_cores(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={name: metadata.version(name) for name in distributions},
        commit=_commit(),
    )


def load() -> tuple[float, float, float] | None:
    """The load averages of 1, 5 and 15 minutes; None where the system keeps none."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):
        return None


def pace() -> float:
    """Millions of rounds of a plain loop in a second, the best of five takes: how fast Python is here, at this moment.

    A machine that others use, too, may have half of yesterday's, whatever its processor is called.
    """
    return max(_rounds_per_second() for _ in range(5)) / 1e6


def now() -> str:
    """The time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _rounds_per_second() -> float:
    rounds, total = 1_000_000, 0
    began = time.perf_counter()
    for number in range(rounds):
        total += number
    return rounds / (time.perf_counter() - began)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _commit() -> str | None:
    revision = _git("rev-parse", "--short=12", "HEAD")
    if not revision:
        return None
    return f"{revision}+" if _git("status", "--porcelain", "--untracked-files=no") else revision


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - constant arguments
            ["git", *arguments],  # noqa: S607 - the user's own git
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

"""The virtual environment of each peer: made the first time it is needed, and again when what it is made of has changed.

It needs ``python -m venv`` and ``pip``, and whatever package index pip is configured for. It refuses to use an environment
that was not finished.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".peers"
PROGRAMS = Path(__file__).resolve().parent / "programs"


class Unprepared(Exception):
    """A peer's environment could not be made, so nothing was measured."""


def requirements(peer: str) -> Path:
    """The file that pins a peer, and everything it needs."""
    return PROGRAMS / f"{peer}.txt"


def version(peer: str) -> str:
    """The version of a peer that its file pins."""
    for line in requirements(peer).read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{peer}=="):
            return line.partition("==")[2].strip()
    raise Unprepared(f"{requirements(peer)} does not pin {peer}")


def folder(peer: str, cache: Path = CACHE) -> Path:
    """Where a peer's environment is: named for the requirements and the Python that it is made of."""
    made_of = (
        f"{platform.python_implementation()} {platform.python_version()}\n".encode() + requirements(peer).read_bytes()
    )
    return cache / f"{peer}-{hashlib.sha256(made_of).hexdigest()[:12]}"


def prepare(peer: str, cache: Path = CACHE) -> Path:
    """Make the environment, unless there is one; gives its Python. Raises ``Unprepared``."""
    place = folder(peer, cache)
    python, finished = place / "bin" / "python", place / "finished"
    if finished.exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    sys.stderr.write(f"peers: making {place}\n")
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n", encoding="utf-8")
    _run([sys.executable, "-m", "venv", str(place)], peer)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "install", "--requirement", str(requirements(peer))], peer)
    finished.touch()
    return python


def _run(command: list[str], peer: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no input of anybody's
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Unprepared(f"the environment of {peer} could not be made: {' '.join(command)}: {last}")

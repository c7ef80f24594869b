"""Running the examples as their users do: ``python -m`` in the folder of the examples, on servers that the environment names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.commands import Ended, Servers, cnstra, environment_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def play(module: str, *arguments: str, servers: Servers, home: Path) -> Ended:
    """Run an example to its end; ``home`` is where it keeps its files."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=EXAMPLES,
        env=environment_of(servers, {"CNSTRA_HOME": str(home)}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)


def shows_its_graph(example: str) -> bool:
    """Whether an example's README has the picture that ``cnstra graph`` draws."""
    drawn = cnstra("graph", f"{example}.graph:cns", folder=EXAMPLES).out
    return bool(drawn) and f"```mermaid\n{drawn}```" in (EXAMPLES / example / "README.md").read_text()

"""The public types, judged by mypy --strict and by pyright in strict mode.

The files beside this one are read, not run. Those called ``*_accepts`` must type-check. Those called
``*_refuses`` hold mistakes, each marked with the error that a checker must find there; both checkers are set to
object to a mark without an error, so a mistake that is no longer found fails here as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = sorted(path.name for path in HERE.glob("*_accepts.py")) + sorted(
    path.name for path in HERE.glob("*_refuses.py")
)
MISTAKE = """
from typing import assert_type
from cnstra.orchestrator.graph import Collateral, collateral
assert_type(collateral("x", int), Collateral[str])
"""
NEEDLESS_MARK = """
from cnstra.orchestrator.graph import collateral
collateral("x", int).create_signal(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
"""


def mypy(*paths: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy with the project's settings."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    return subprocess.run([*command, *map(str, paths)], cwd=ROOT, capture_output=True, text=True, check=False)


def pyright(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pyright on a folder with the settings beside this file.

    The extra ``pyright[nodejs]`` brings node as a wheel; without any node, pyright would try to download one.
    """
    settings = json.loads((HERE / "pyrightconfig.json").read_text())
    project = folder / "pyrightconfig.json"
    if folder != HERE:
        project.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--project", str(project), "--pythonpath", sys.executable]
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def report(result: subprocess.CompletedProcess[str]) -> str:
    """What a failed assertion shows."""
    return f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"


def test_mypy_agrees_with_every_assertion_and_every_mark() -> None:
    """mypy --strict accepts all that users write, and finds exactly the mistakes that are marked."""
    assert len(FILES) >= 2, "the files to judge are missing"
    result = mypy(*(HERE / name for name in FILES))
    assert result.returncode == 0, report(result)
    assert f"no issues found in {len(FILES)} source files" in result.stdout, report(result)


def test_pyright_agrees_with_every_assertion_and_every_mark() -> None:
    """Pyright in strict mode accepts all that users write, and finds exactly the mistakes that are marked."""
    result = pyright(HERE)
    assert result.returncode == 0, report(result)
    assert "0 errors" in result.stdout, report(result)


@pytest.mark.parametrize("source", [MISTAKE, NEEDLESS_MARK], ids=["a wrong type", "a mark without an error"])
def test_both_checkers_would_find_a_mistake(tmp_path: Path, source: str) -> None:
    """The two tests above can fail: a wrong type, or a mark that is not needed, is reported by each checker."""
    (tmp_path / "mistaken.py").write_text(source)
    for result in (mypy(tmp_path / "mistaken.py"), pyright(tmp_path)):
        assert result.returncode == 1, report(result)
        assert "mistaken.py" in result.stdout, report(result)

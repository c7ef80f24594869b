"""The folders at the top of the repository are subpackages of cnstra, and nothing else."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("orchestrator", "stores", "workers")


def run(code: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` as ``python -c`` does: the current folder is on the module path."""
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_bare_import_at_the_top_of_the_repository_is_refused(name: str) -> None:
    """The folder is there to be found; a second copy of its classes would fail every isinstance, so it says
    its name.
    """
    done = run(f"import {name}", folder=ROOT)
    assert done.returncode != 0
    assert f"ImportError: this package is cnstra.{name}; '{name}' would be a second copy" in done.stderr


@pytest.mark.parametrize("name", FOLDERS)
def test_an_installation_takes_no_name_that_users_have_themselves(name: str, tmp_path: Path) -> None:
    """Outside of the repository there is no such module: users can have an `orchestrator` of their own."""
    done = run(f"import {name}", folder=tmp_path)
    assert f"ModuleNotFoundError: No module named '{name}'" in done.stderr
    done = run(f"import cnstra.{name}", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_distribution_owns_one_top_level_name() -> None:
    """What pip installs for cnstra is importable as cnstra only."""
    names = [name for name, owners in importlib.metadata.packages_distributions().items() if "cnstra" in owners]
    assert [name for name in names if not name.startswith("__editable__")] == ["cnstra"]


@pytest.mark.parametrize("name", FOLDERS)
def test_each_folder_is_linked_into_the_package(name: str) -> None:
    """The links are relative, so that a clone anywhere has them."""
    link = ROOT / "src" / "cnstra" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", "..", name)

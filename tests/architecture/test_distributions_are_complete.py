"""What is built for users holds the real files behind the links, and the files that are not Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "src", "orchestrator", "stores", "workers")
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_{kind}(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to build in: a build leaves files behind."""
    copy = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, copy / part)
    return copy


def expected(checkout: Path) -> set[str]:
    """Every file of the package, by its path below ``src``."""
    return {
        str(Path(folder, name).relative_to(checkout / "src"))
        for folder, _, names in os.walk(checkout / "src" / "cnstra", followlinks=True)
        for name in names
    }


def build(kind: str, checkout: Path, target: Path) -> Path:
    """Build a distribution with the installed setuptools, as pip would."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD.format(kind=kind), str(target)],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


def test_a_wheel_has_every_file_of_the_package(checkout: Path, tmp_path: Path) -> None:
    """Nothing is missing behind the links, and nothing else is installed."""
    with zipfile.ZipFile(build("wheel", checkout, tmp_path)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        sizes = {info.filename: info.file_size for info in wheel.infolist()}
    wanted = expected(checkout)
    assert {"cnstra/py.typed", "cnstra/orchestrator/errors.py", "cnstra/servers/supervisor.py"} <= wanted
    assert names == wanted
    assert sizes["cnstra/orchestrator/errors.py"] == (ROOT / "orchestrator" / "errors.py").stat().st_size


def test_an_sdist_has_every_file_of_the_package_as_a_file(checkout: Path, tmp_path: Path) -> None:
    """Who builds from it needs no links: where they lead is not part of it."""
    with tarfile.open(build("sdist", checkout, tmp_path)) as sdist:
        members = {member.name.partition("/")[2]: member for member in sdist.getmembers()}
    wanted = {f"src/{name}" for name in expected(checkout)}
    assert wanted <= members.keys()
    assert not [name for name in wanted if not members[name].isfile()]

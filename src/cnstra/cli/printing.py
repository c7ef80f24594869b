"""What commands print: one JSON document, or text for people. Times are UTC in both."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

_LONGEST_CELL = 80


def say(text: str = "") -> None:
    """One line, or several, to standard output."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """One line for whoever watches, to standard error: it is in nobody's way who reads the output."""
    sys.stderr.write(" ".join(text.split()) + "\n")


def say_json(document: Any) -> None:
    """The one JSON document of a command, on one line."""
    say(json.dumps(document, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return f"\\x{bytes(value).hex()}"
    return str(value)


def compact(value: Any) -> str:
    """A JSON value, in as little space as it takes."""
    return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"))


def when(moment: datetime | None) -> str:
    """A time, to the second; nothing for none."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def duration(seconds: float) -> str:
    """A length of time, in the two units that tell most."""
    whole = max(int(seconds), 0)
    if seconds < 10:
        return f"{max(seconds, 0.0):.3g} s"
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def cell(value: Any) -> str:
    """A value in a table: on one line, and no longer than it helps."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return when(value)
    text = value if isinstance(value, str) else str(value) if not isinstance(value, dict | list) else compact(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns under their names, as wide as they need to be."""
    lines = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )

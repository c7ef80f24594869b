"""Times on the command line: lengths as 90s, 15m, 1h, 30d, 2w, and moments as 2026-01-31T12:00+01:00."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

AGES = "90s, 15m, 1h, 30d, 2w"

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta | None:
    """A length of time; None for what is none, or is too long to count."""
    found = _AGE.fullmatch(text.strip())
    try:
        return None if found is None else timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        return None


def written(length: timedelta) -> str:
    """The same in the largest unit in which it is a whole number."""
    for letter, unit in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if length and not length % unit:
            return f"{length // unit}{letter}"
    return f"{length.total_seconds():g}s"


def moment(text: str, now: datetime) -> datetime:
    """What is said after ``--since``: a length of time ago, or a moment."""
    try:
        ago = age(text)
        return read_moment(text) if ago is None else now - ago
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"--since {text!r} is no time such as 1h or 2026-01-31") from None


def limit(text: str) -> timedelta | datetime:
    """What is said after ``--deadline``: a length of time to take, or a moment."""
    try:
        return age(text) or read_moment(text)
    except ValueError:
        raise typer.BadParameter(f"--deadline {text!r} is no time such as 1h or 2026-01-31T12:00+01:00") from None


def read_moment(text: str) -> datetime:
    """A moment; UTC where it does not say. Raises ``ValueError``."""
    found = datetime.fromisoformat(text.strip())
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

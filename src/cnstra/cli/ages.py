"""Lengths of time on the command line: 90s, 15m, 1h, 30d, 2w."""

from __future__ import annotations

import re
from datetime import timedelta

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

"""How long a context lives: the checks of ``ttl``, and how long is remembered that one was deleted."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from cnstra.orchestrator.errors import ConfigurationError

Ttl = float | timedelta | None
"""Seconds, a timedelta, or None: for ever."""

LONGEST = timedelta(days=36_525)
"""A century."""

REMEMBERED = timedelta(hours=1)
"""How long a context without ``ttl`` that was deleted keeps its version, for whoever still holds the one before."""

_SHORTEST = timedelta(milliseconds=1)


def lifetime(ttl: Any, where: str) -> timedelta | None:
    """``ttl`` as it was given, checked. Raises ``ConfigurationError``."""
    if ttl is None or isinstance(ttl, timedelta):
        span = ttl
    elif type(ttl) not in (int, float):
        raise ConfigurationError(f"{where}: ttl is a {type(ttl).__name__}; give seconds, a timedelta, or None for ever")
    elif not math.isfinite(ttl) or abs(ttl) > LONGEST.total_seconds():
        raise ConfigurationError(f"{where}: ttl is {ttl}; it is at most a century, or None for ever")
    else:
        span = timedelta(seconds=ttl)
    if span is not None and not _SHORTEST <= span <= LONGEST:
        raise ConfigurationError(f"{where}: ttl is {ttl}; it is from a millisecond to a century, or None for ever")
    return span

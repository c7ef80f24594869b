"""Signals that wait: for how long, or until when.

What they wait for is a moment of the store's clock. Refused are times without a zone, which mean another moment on every
machine, waits backwards, and waits above a century.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cnstra.orchestrator.errors import TimerError

LONGEST_DELAY = timedelta(days=36_525)
"""A century."""


def checked_timer(delay: Any, at: Any, where: str) -> tuple[timedelta | None, datetime | None]:
    """A delay or a time, one of both. Raises TimerError, naming ``where``."""
    if delay is not None and at is not None:
        raise TimerError(f"{where}: delay= and at= were both given; a signal waits for one of them")
    if delay is not None and (not isinstance(delay, timedelta) or not timedelta(0) <= delay <= LONGEST_DELAY):
        raise TimerError(f"{where}: delay={delay!r} must be a timedelta from nothing to a century")
    if at is not None:
        if not isinstance(at, datetime):
            raise TimerError(f"{where}: at={at!r} must be a datetime with a time zone")
        if at.utcoffset() is None:
            raise TimerError(
                f"{where}: at={at!r} has no time zone, and would mean another moment on every machine; give it one, such "
                "as datetime(..., tzinfo=UTC)"
            )
    return delay, at

"""Waiting for something to become true, in place of sleeping and hoping.

The deadline is there to end a test that has failed, not to measure: no test asserts how long something took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 60.0, *, what: str = "") -> T:
    """Ask `predicate` until it gives something true, and return that; fail after `timeout` seconds, naming
    `what`.
    """
    end = time.monotonic() + timeout
    while not (found := predicate()):
        if time.monotonic() > end:
            raise AssertionError(f"after {timeout:.0f} s still not: {what or predicate!r} (last: {found!r})")
        time.sleep(0.02)
    return found

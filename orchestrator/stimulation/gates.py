"""How many handlers of one neuron run at once, over all stimulations of a CNS in this process, on any thread.

A place that is given up goes to whoever has waited longest, and to nobody else: it is handed over, never put back first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

Waiter = Callable[[], None]
"""Called, on whichever thread gave the place up, once the place is the waiter's."""


class NeuronGate:
    """The places of one neuron."""

    __slots__ = ("_free", "_lock", "_waiters")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = Lock()
        self._waiters: deque[Waiter] = deque()

    def enter(self, waiter: Waiter) -> bool:
        """Take a place; or, where none is free, line up: ``waiter`` is called when there is one."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return True
            self._waiters.append(waiter)
            return False

    def try_enter(self) -> bool:
        """Take a place if one is free."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return True
            return False

    def leave(self) -> None:
        """Give a place up."""
        with self._lock:
            if not self._waiters:
                self._free += 1
                return
            waiter = self._waiters.popleft()
        waiter()

    def withdraw(self, waiter: Waiter) -> None:
        """Stop waiting. A place that was handed over already is the waiter's all the same, and to be given up."""
        with self._lock, suppress(ValueError):
            self._waiters.remove(waiter)

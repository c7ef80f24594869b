"""How many handlers of one neuron run at once, over all stimulations of a CNS in this process, on any thread.

A place that is given up goes to whoever has waited longest, and to nobody else: it is handed over, never put back first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock


class NeuronGate:
    """The places of one neuron."""

    __slots__ = ("_free", "_lock", "_waiting")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = Lock()
        self._waiting: deque[Place] = deque()

    def enter(self, place: Place) -> bool:
        """Take a place; or, where none is free, line up: ``place`` is told when it is had."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return True
            self._waiting.append(place)
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
            if not self._waiting:
                self._free += 1
                return
            place = self._waiting.popleft()
        place.is_free(place)

    def withdraw(self, place: Place) -> None:
        """Stop waiting for a place. One that was handed over already is had all the same, and to be given up."""
        with self._lock, suppress(ValueError):
            self._waiting.remove(place)


class Place:
    """A claim to a place in a gate. ``is_free`` is called, on whichever thread gave the place up, once it is had."""

    __slots__ = ("gate", "is_free")

    def __init__(self, gate: NeuronGate, is_free: Callable[[Place], None]) -> None:
        self.gate, self.is_free = gate, is_free

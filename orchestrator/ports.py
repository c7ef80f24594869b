"""The seams: what the orchestrator and the workers ask of the world around them.

Time, randomness, the store and the broker come in through these protocols. The adapters live in ``cnstra.stores`` and
``cnstra.workers``; only the facade puts them together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


def door(graph: str, queue: str) -> str:
    """Where the doorbell of a graph's queue is: workers of another graph on the same broker do not hear it.

    The name of the broker's queue. No queue's own name has an ``@``, so it is of one graph and one queue.
    """
    return f"{queue}@{graph}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Work behind one door that became ready: (run, activation) ids, as hints."""

    door: str
    activations: tuple[tuple[UUID, int], ...]


class Bell(Protocol):
    """Rings workers through the broker. What it carries may be lost; only latency may suffer."""

    def ring(self, rings: Sequence[Ring]) -> None:
        """Tell idle workers that there is work. Never raises for a broker that is away: a sweep rings again."""
        ...

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        ...


Foresee = Callable[[Sequence[Ring]], None]
"""Is told of doorbells that are likely to be rung next, while who will ring them has to wait for something else. Soon done, and
never raises."""


class Entropy(Protocol):
    """Where ids and nonces come from; a seeded one makes a whole run repeatable."""

    def run_id(self) -> UUID:
        """A new UUIDv7: it sorts by the time at which it was made."""
        ...

    def nonce(self) -> int:
        """63 random bits, one draw a claim."""
        ...


class SystemEntropy:
    """The operating system's randomness and clock.

    The layout of UUIDv7 is that of RFC 9562, section 5.7: 48 bits of Unix milliseconds, then random bits.
    """

    def run_id(self) -> UUID:
        return uuid7(time.time_ns() // 1_000_000, os.urandom(10))

    def nonce(self) -> int:
        return int.from_bytes(os.urandom(8)) >> 1


def uuid7(milliseconds: int, random: bytes) -> UUID:
    """The UUIDv7 of a Unix time in milliseconds and ten random bytes (RFC 9562, section 5.7)."""
    value = milliseconds << 80 | int.from_bytes(random)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)

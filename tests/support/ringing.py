"""Rings of made-up work."""

from __future__ import annotations

from uuid import uuid4

from cnstra.orchestrator.ports import Ring


def ring_of(count: int, queue: str = "default") -> Ring:
    """For so many activations, of as many runs."""
    return Ring(door=queue, activations=tuple((uuid4(), number) for number in range(count)))

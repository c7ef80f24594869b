"""What is measured, suite by suite.

A suite gives its races one after the other, and each is run before the next is asked for: so a suite that needs servers
keeps them up in a ``with`` around its ``yield``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.measuring import Effort, Race
from benchmarks.suites import durable, in_process


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Races that belong together."""

    says: str
    races: Callable[[Effort], Iterator[Race]]


SUITES: Mapping[str, Suite] = {
    "in-process": Suite(
        says="a graph inside one process, beside bare loops of the same handlers", races=in_process.races
    ),
    "durable": Suite(says="durable runs on private servers, beside others doing the same work", races=durable.races),
}

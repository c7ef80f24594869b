"""The tasks of one stimulation that are not done, each in the one place where it waits or runs.

The counters that listeners are told come from here alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from cnstra.orchestrator.errors import MaxDurationExceeded
from cnstra.orchestrator.graph import Signal
from cnstra.orchestrator.stimulation.bodies import Ended
from cnstra.orchestrator.stimulation.gates import Place
from cnstra.orchestrator.stimulation.plan import Route
from cnstra.orchestrator.stimulation.records import Task

Item = tuple[Route, Signal[Any]]
"""A task, as the engine keeps it."""


class Frontier:
    """Where the tasks are."""

    __slots__ = ("bodies", "limbo", "lined_up", "queue", "unheard")

    queue: deque[Item]
    """To be called next, in this order."""
    limbo: dict[int, Item]
    """Made, and waiting for listeners, or for their turn among the signals of an array; by identity."""
    lined_up: dict[Place, Item]
    """Waiting for a place in their neuron's gate."""
    bodies: dict[asyncio.Task[Any], Body]
    """Called, and suspended."""
    unheard: int
    """Signals of an array, still to be told of, that nobody hears: no task stands for them, and they count as one."""

    def __init__(self) -> None:
        self.queue = deque()
        self.limbo = {}
        self.lined_up = {}
        self.bodies = {}
        self.unheard = 0

    @property
    def pending(self) -> int:
        """Tasks whose handler was not called yet."""
        return len(self.queue) + len(self.limbo) + len(self.lined_up) + self.unheard

    def hold(self, items: Iterable[Item]) -> None:
        """Put tasks into limbo."""
        limbo = self.limbo
        for item in items:
            limbo[id(item)] = item

    def release(self, items: Iterable[Item]) -> None:
        """Take tasks out of limbo."""
        for item in items:
            del self.limbo[id(item)]

    def put_with_place(self, item: Item) -> None:
        """Put a task that has got a place before all that have none, and behind those that had theirs before it."""
        queue, before = self.queue, 0
        while before < len(queue) and queue[before][0].has_place:
            before += 1
        queue.insert(before, item)

    def items(self) -> list[Item]:
        """All of them."""
        bodies = (body.item for body in self.bodies.values())
        return [*self.queue, *self.limbo.values(), *self.lined_up.values(), *bodies]


class Body:
    """An async handler that has suspended."""

    __slots__ = ("heard", "item", "overdue", "timer")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.overdue = False
        self.heard = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def stop(self, task: asyncio.Task[Any]) -> None:
        """Its ``max_duration`` is over, unless it was heard of since."""
        loop, seconds = task.get_loop(), self.item[0].seconds or 0.0
        if self.heard and self.heard + seconds > loop.time():
            self.timer = loop.call_at(self.heard + seconds, self.stop, task)
            return
        self.overdue = True
        task.cancel()

    def end(self, end: Ended) -> Ended:
        """What it came to, seen by the clock: one that was stopped has failed, whatever it made of that."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.overdue:
            return end
        error = MaxDurationExceeded(
            f"{task_of(self.item)} took longer than its max_duration of {self.item[0].seconds:g} s, and was cancelled"
        )
        error.__cause__ = end.error
        return Ended(error=error)


def task_of(item: Item) -> Task:
    """A task, as users know it."""
    route, signal = item
    return Task(neuron=route.neuron, collateral=route.collateral, signal=signal)

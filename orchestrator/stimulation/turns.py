"""The turns of a stimulation: when it runs, and when it has ended.

A turn begins when something is put in: the first signals, the end of an async handler or listener, a place in a neuron's
gate. It runs everything that can run, and ends when the rest has to wait. Then is told whoever wants to know of drains,
and then it shows whether the stimulation is at its end. A stimulation belongs to the thread that started it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING

from cnstra.orchestrator.errors import StimulationAborted
from cnstra.orchestrator.stimulation.frontier import Frontier, task_of
from cnstra.orchestrator.stimulation.plan import Route
from cnstra.orchestrator.stimulation.records import Drain
from cnstra.orchestrator.stimulation.shared import Shared

if TYPE_CHECKING:
    from cnstra.orchestrator.stimulation.stimulation import Stimulation

_logger = logging.getLogger("cnstra.stimulation")


class Turns:
    """Of one stimulation."""

    __slots__ = (
        "_abandoned",
        "_barriers",
        "_context",
        "_depth",
        "_loop",
        "_options",
        "_postponed",
        "_shared",
        "_stimulation",
        "_thread",
        "frontier",
    )

    frontier: Frontier

    def __init__(self, stimulation: Stimulation, shared: Shared) -> None:
        self._stimulation = stimulation
        self._shared = shared
        self._options = stimulation.options
        self.frontier = Frontier()
        self._barriers = 0
        self._depth = 0
        self._thread = 0
        # What needs an event loop, where none has been started yet; and whether it came up within the queue's loop.
        self._postponed: list[tuple[bool, Callable[[], None]]] = []
        self._abandoned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: contextvars.Context | None = None

    def _open_turn(self) -> None:
        self._depth += 1
        self._thread = get_ident()

    def _close_turn(self) -> None:
        self._depth -= 1
        if self._depth or self._postponed:
            return
        frontier = self.frontier
        pending, active = frontier.pending, len(frontier.bodies)
        if not (active or self._barriers or self._stimulation.is_complete) and (pending == 0 or self._is_aborted):
            self._end()
        drainers = self._shared.drainers
        if self._options.on_drain is not None:
            drainers = (self._options.on_drain, *drainers)
        if drainers:
            drain = Drain(self._stimulation, pending, active)
            for listener in drainers:
                try:
                    listener(drain)
                except Exception:
                    _logger.exception("%s: a drain listener raised; the stimulation goes on", self._stimulation)

    @property
    def _is_aborted(self) -> bool:
        signal = self._options.abort_signal
        return self._abandoned or (signal is not None and signal.is_set())

    def _end(self) -> None:
        aborted = self._is_aborted
        if aborted:
            self._give_up_the_rest()
        self._shared.running.discard(self._stimulation)
        told = bool(self._options.on_response or self._shared.responders)
        self._stimulation._end(aborted=aborted, is_known=aborted or told)

    def _give_up_the_rest(self) -> None:
        frontier = self.frontier
        for place in frontier.lined_up:
            place.gate.withdraw(place)  # one that is on its way here is given up when it comes
        for item in (*frontier.queue, *frontier.limbo.values(), *frontier.lined_up.values()):
            if item[0].has_place:
                self._leave(item[0])
            error = StimulationAborted(f"{task_of(item)} was not started: {self._stimulation} was aborted")
            self._stimulation._note_failure(item, error, aborted=True)
        frontier.queue.clear()
        frontier.limbo.clear()
        frontier.lined_up.clear()

    def abandon(self) -> None:
        """Start nothing more, as when it is aborted."""
        self._abandoned = True
        self._postponed.clear()
        self._look_up()

    def notice_abort(self) -> None:
        """Look at the abort signal soon."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # its loop is closed: it looks no more at anything
                loop.call_soon_threadsafe(self._look_up)

    def _look_up(self) -> None:
        self._open_turn()
        self._close_turn()

    def _remember(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """From here on others hold the stimulation only by what it waits for; and that may be held by it alone."""
        if loop is not None and self._loop is None:
            self._loop = loop
            self._context = contextvars.copy_context()
            self._shared.running.add(self._stimulation)

    def _leave(self, route: Route) -> None:
        """Give up the task's place, if its neuron has a gate."""
        if route.gate is not None and route.refusal is None:
            route.gate.leave()

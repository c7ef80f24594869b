"""The parent of a worker's processes: starts them, replaces those that die, tells them when to stop.

It loads no graph and touches no server, so there is nothing in it that a handler could break. It waits in one place: for
signals, its children's ends among them, for what children report, for probes, and for the time of the next replacement.
"""

from __future__ import annotations

import logging
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from cnstra.exits import EndedWith, Exit
from cnstra.running.children import Child
from cnstra.running.endpoint import Endpoint
from cnstra.running.health import Process, against_life, against_work
from cnstra.running.orders import DRAIN, NOW, Orders
from cnstra.running.process import GRACE
from cnstra.running.signals import STOPPING, SignalPipe

_log = logging.getLogger("cnstra.worker")

_LASTED = 10.0
"""Seconds after which a child that died had not died at once."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_NOW = 3.0
"""Seconds that a child has to end at once in."""
DEAF = 2.0
"""Seconds after the grace that every child has, which the end of its lease and its threads fit into. One that is still there then
hears nothing, and is killed: before whoever supervises the parent, with 5 s more patience than the time to drain, kills all."""


@dataclass(slots=True)
class _Place:
    """Where one child after the other does its work; ``again`` is the time of the next one."""

    number: int
    child: Child | None = None
    failures: int = 0
    again: float | None = 0.0


class Parent:
    """Runs ``orders.processes`` children. ``ready`` is called once, when all of them take work; ``endpoint`` answers probes."""

    def __init__(self, orders: Orders, *, ready: Callable[[], None], endpoint: Endpoint | None = None) -> None:
        self._orders = orders
        self._ready = ready
        self._endpoint = endpoint
        self._was_ready = False
        self._places = [_Place(number) for number in range(1, orders.processes + 1)]
        self._told: bytes | None = None
        self._deadline = 0.0
        self._refusal: EndedWith | None = None
        self._code = Exit.DONE
        self._selector = selectors.DefaultSelector()

    def run(self) -> Exit:
        """Serve until told to stop. Raises ``EndedWith`` when a child could not start for a reason that will stay."""
        with SignalPipe((*STOPPING, signal.SIGCHLD)) as signals, self._selector:
            self._selector.register(signals, selectors.EVENT_READ)
            if self._endpoint is not None:
                questions = {"/live": ("live", self._against_life), "/ready": ("ready", self._against_work)}
                self._endpoint.serve(self._selector, questions)
            while self._told is None or any(place.child for place in self._places):
                self._fill_places()
                for key, _ in self._selector.select(self._patience()):
                    if isinstance(key.fileobj, Child):
                        self._hear(key.fileobj)
                    elif key.data is not None:
                        key.data()
                for number in signals.read():
                    if number != signal.SIGCHLD:
                        self._signalled(number)
                self._look_at_children()
            if self._endpoint is not None:
                self._endpoint.close()
        if self._refusal is not None:
            raise self._refusal
        return self._code

    # -- children ----------------------------------------------------------------------------------------------

    def _fill_places(self) -> None:
        for place in self._places:
            if self._told is None and place.again is not None and place.again <= time.monotonic():
                place.child, place.again = Child(place.number, self._orders), None
                self._selector.register(place.child, selectors.EVENT_READ)

    def _patience(self) -> float | None:
        """Seconds until something is to be done without being asked."""
        if self._told is not None:
            return max(self._deadline - time.monotonic(), 0.0)
        times = [place.again for place in self._places if place.again is not None]
        return max(min(times) - time.monotonic(), 0.0) if times else None

    def _hear(self, child: Child) -> None:
        if not child.hear():
            self._selector.unregister(child)
        if not self._was_ready and all(place.child and place.child.ready for place in self._places):
            self._was_ready = True
            _log.info("all of %d processes take work", len(self._places))
            self._ready()

    def _look_at_children(self) -> None:
        late = self._told is not None and time.monotonic() >= self._deadline
        for place in self._places:
            child = place.child
            if child is None:
                continue
            if child.ended():
                place.child = None
                child.hear()
                if child in self._selector.get_map():
                    self._selector.unregister(child)
                child.close()
                self._ended(place, child)
            elif late:
                _log.warning("process %d (pid %d) does not end, and is killed", place.number, child.pid)
                child.kill()
        if late:
            self._deadline = time.monotonic() + _NOW

    def _ended(self, place: _Place, child: Child) -> None:
        if self._told is not None:
            if child.ready and child.code != Exit.DONE:  # one that was not had nothing to drain
                self._code = Exit.CUT_SHORT
            return
        if child.refusal is not None and not self._was_ready:
            self._refusal = child.refusal
            self._drain()
            return
        lasted = child.ready and time.monotonic() - child.started >= _LASTED
        place.failures = 0 if lasted else place.failures + 1
        pause = 0.0 if place.failures < 2 else min(_FIRST_PAUSE * 2.0 ** (place.failures - 2), _LONGEST_PAUSE)
        place.again = time.monotonic() + pause
        _log.warning(
            "process %d (pid %d) %s%s; another takes its place%s",
            place.number, child.pid, child.how,
            f": {child.refusal}" if child.refusal else "",
            f" in {pause:g} s" if pause else "",
        )  # fmt: skip

    # -- probes ------------------------------------------------------------------------------------------------

    def _processes(self) -> list[Process]:
        return [place.child.told if place.child else Process(number=place.number) for place in self._places]

    def _against_life(self) -> list[str]:
        if self._told is not None:  # its end is near, and has its own deadline
            return []
        return against_life(self._processes(), lease=self._orders.lease, now=time.monotonic())

    def _against_work(self) -> list[str]:
        if self._told is not None:
            return ["the worker drains"]
        return against_work(self._processes(), lease=self._orders.lease, now=time.monotonic())

    # -- stopping ----------------------------------------------------------------------------------------------

    def _signalled(self, number: signal.Signals) -> None:
        _log.info("received %s", number.name)
        if self._told is None:
            self._drain()
        elif self._told == DRAIN:
            self._tell(NOW, _NOW)

    def _drain(self) -> None:
        self._tell(DRAIN, self._orders.drain + GRACE + DEAF)

    def _tell(self, request: bytes, seconds: float) -> None:
        """Order all children to stop; those that have not within so many seconds are killed."""
        self._told = request
        self._deadline = time.monotonic() + seconds
        for place in self._places:
            place.again = None
            if place.child is not None:
                place.child.tell(request)

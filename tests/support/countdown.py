"""A graph that counts down, a hop a number, for who looks on from outside; hops wait at gates that a test has put there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tenacity import Retrying, stop_after_attempt

from cnstra import CNS, Context, Orchestrator, collateral, neuron
from support.serving import serving

begin = collateral("begin", int)


class Countdown:
    """Its ``cns``, whose runs begin at ``begin``. What ``writes`` says of a number is whether its hop writes that; ``unlucky`` is
    one whose hop fails in the first attempt."""

    def __init__(
        self, name: str, *, writes: Callable[[int], object] = lambda _: True, unlucky: int | None = None
    ) -> None:
        self.gates: dict[int, threading.Event] = {}
        """What the hop of a number waits for."""
        out = {"on": collateral("on", int), "done": collateral("done", int)}
        counter = neuron("counter", out, retry=Retrying(stop=stop_after_attempt(1)))

        @counter.dendrite(begin)
        @counter.dendrite(out["on"])
        def count(number: int, axon: Any, ctx: Context[Any]) -> Any:
            if number in self.gates:
                assert self.gates[number].wait(60)
            if (number, ctx.attempt) == (unlucky, 1):
                raise ValueError("no luck")
            if writes(number):
                ctx["last"] = number
            return axon.on.create_signal(number - 1) if number else axon.done.create_signal(0)

        self.cns = CNS([counter], name=name)

    @contextmanager
    def open_at_the_end(self) -> Iterator[None]:
        """No gates at first; whatever waits at one after the block goes on."""
        self.gates.clear()
        try:
            yield
        finally:
            for gate in self.gates.values():
                gate.set()

    @contextmanager
    def served(self, database_url: str, broker_url: str) -> Iterator[Orchestrator]:
        """A client, and somebody who does the work."""
        with (
            Orchestrator(self.cns, database=database_url, broker=broker_url) as orchestrator,
            serving(self.cns, database_url, broker_url),
        ):
            yield orchestrator

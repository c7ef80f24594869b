"""Stimulations in tests: an event loop without a plugin, and listeners that write down what they were told.

Nothing here waits for a time: tests order what happens by futures and events.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from cnstra import Drain, Response, Stimulation

P = ParamSpec("P")


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an async test one that pytest can call."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Told:
    """A listener of responses or of drains, which keeps what it was told; and the counters as one line.

    ``2(2/0) 0(0/0)`` is two reports: queue length, pending, active.
    """

    def __init__(self) -> None:
        self.counts: list[tuple[int, int, int]] = []
        self.responses: list[Response] = []
        self.drains: list[Drain] = []

    def __call__(self, report: Response | Drain) -> None:
        self.counts.append((report.queue_length, report.pending_activations, report.active_activations))
        if isinstance(report, Response):
            self.responses.append(report)
        else:
            self.drains.append(report)

    async def slowly(self, report: Response) -> None:
        """The same as an async listener that suspends once."""
        self(report)
        await asyncio.sleep(0)

    @property
    def line(self) -> str:
        return " ".join(f"{length}({pending}/{active})" for length, pending, active in self.counts)

    @property
    def outputs(self) -> list[tuple[str, Any]]:
        """Name and payload of every output signal, in order."""
        signals = [response.output_signal for response in self.responses]
        return [(signal.collateral.name, signal.payload) for signal in signals if signal is not None]

    def payloads(self, name: str) -> list[Any]:
        """The payloads of the output signals on one collateral."""
        return [payload for found, payload in self.outputs if found == name]

    def check(self) -> None:
        """What holds for the counters of every stimulation that ran to its end."""
        assert self.counts
        for length, pending, active in self.counts:
            assert length == pending + active
            assert pending >= 0
            assert active >= 0
        lengths = [length for length, _, _ in self.counts]
        assert lengths.index(0) == len(lengths) - 1, f"zero comes once, and last: {self.line}"


async def end_of(stimulation: Stimulation) -> BaseException | None:
    """Wait for the end; what ``wait_until_complete`` raised, or None."""
    try:
        await stimulation.wait_until_complete()
    except Exception as error:
        return error
    return None


def ended_well(stimulation: Stimulation) -> None:
    """It is over without having waited for anything, and nothing in it failed."""
    assert stimulation.is_complete
    asyncio.run(stimulation.wait_until_complete())

"""Response listeners: told in the order of registration, waited for together.

A listener that is async is a barrier: what its response's signal starts is held back until all listeners of that
response have ended. Their errors stop nobody; the first of them, in the order of registration, is kept.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any

from cnstra.orchestrator.stimulation.bodies import Ended, begin, ended
from cnstra.orchestrator.stimulation.options import OnResponse
from cnstra.orchestrator.stimulation.records import Response


class Barrier:
    """The listeners of one response that have to be waited for, or have raised."""

    __slots__ = ("_open", "_passed", "answers", "errors")

    answers: dict[int, Any]
    """What is awaited of each listener, by its place in the order, until ``begin``."""
    errors: dict[int, BaseException]

    def __init__(self) -> None:
        self.answers = {}
        self.errors = {}
        self._open = 0
        self._passed: Callable[[], None] = _nothing

    @property
    def error(self) -> BaseException | None:
        """The error of the first listener that raised."""
        return self.errors[min(self.errors)] if self.errors else None

    def begin(
        self,
        loop: asyncio.AbstractEventLoop | None,
        passed: Callable[[], None],
        context: contextvars.Context | None,
    ) -> bool:
        """Begin the async listeners, at once and together. True when none of them has to be waited for; else ``passed``
        is called once the last one has ended.
        """
        self._passed = passed
        answers, self.answers = self.answers, {}
        for place, answer in answers.items():
            begun = begin(answer, loop, "a response listener")
            if not isinstance(begun, Ended) and not begun.done():
                self._open += 1
                begun.add_done_callback(partial(self._end, place), context=context)
            elif (error := ended(begun).error) is not None:
                self.errors[place] = error
        return self._open == 0

    def _end(self, place: int, task: asyncio.Task[Any]) -> None:
        if (error := ended(task).error) is not None:
            self.errors[place] = error
        self._open -= 1
        if self._open == 0:
            self._passed()


def tell(listeners: Sequence[OnResponse], response: Response) -> Barrier | None:
    """Call every listener. None when all of them are content and done, as most are."""
    barrier = None
    place = -1
    for listener in listeners:
        place += 1
        try:
            answer = listener(response)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            barrier = barrier or Barrier()
            barrier.errors[place] = error
        else:
            if answer is not None and isawaitable(answer):
                barrier = barrier or Barrier()
                barrier.answers[place] = answer
    return barrier


def _nothing() -> None:
    return None

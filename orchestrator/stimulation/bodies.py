"""The async part of handlers and listeners: begun at once, and what came of it.

With a running event loop an awaitable becomes a task of its own. Without one it is carried as far as it goes without
waiting; where it must wait, it is told that nothing could ever wake it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from types import CoroutineType
from typing import Any

import msgspec

from cnstra.orchestrator.errors import NoEventLoop
from cnstra.orchestrator.stimulation.eager import start


class Ended(msgspec.Struct, frozen=True, eq=False):
    """What an awaitable came to: a value, or an error."""

    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


running_loop = asyncio._get_running_loop
"""The event loop that runs in this thread, or None. (Public in all but its name: ``asyncio`` exports it for frameworks.)"""


def begin(awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop | None, name: str) -> asyncio.Task[Any] | Ended:
    """Run an awaitable up to its first suspension: a task that may be done, or how it ended where no event loop runs."""
    body = awaitable if type(awaitable) is CoroutineType else _awaited(awaitable)
    return start(loop, body, name) if loop is not None else _by_hand(body, name)


def ended(task: asyncio.Task[Any] | Ended) -> Ended:
    """How a task that is done has ended."""
    if isinstance(task, Ended):
        return task
    if task.cancelled():
        return Ended(error=asyncio.CancelledError(f"the task of {task.get_name()} was cancelled"))
    if (error := task.exception()) is not None:
        return Ended(error=error)
    return Ended(task.result())


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _by_hand(body: Coroutine[Any, Any, Any], name: str) -> Ended:
    try:
        body.send(None)
        body.throw(
            NoEventLoop(
                f"{name} has to wait, and no event loop is running to wake it; use cns.run(), or stimulate from async code"
            )
        )
    except StopIteration as stop:
        return Ended(stop.value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return Ended(error=error)
    body.close()
    return Ended(error=NoEventLoop(f"{name} goes on waiting, and no event loop is running to wake it; use cns.run()"))

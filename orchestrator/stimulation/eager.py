"""Tasks whose first part runs at once, inside the call that makes them.

Up to its first suspension a handler runs within the turn that called it, in a task of its own all the same: with its own
``asyncio.current_task()``, its own context variables, and ``asyncio.timeout`` that cancels nobody else. Python 3.12
and later have such tasks; for 3.11 the same is made of asyncio's own task in Python, whose code changes no more.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

if sys.version_info >= (3, 12):

    def start(loop: asyncio.AbstractEventLoop, body: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine up to its first suspension; the task is done if it never suspended."""
        return asyncio.Task(body, loop=loop, name=name, eager_start=True)

else:
    from asyncio import tasks

    class _Deferred:
        """Stands for the loop while a task is made: keeps the first step instead of scheduling it."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self.loop = loop
            self.step: Any = None

        def call_soon(self, step: Any, *_: Any, **__: Any) -> None:
            self.step = step

        def get_debug(self) -> bool:
            return self.loop.get_debug()

        def is_closed(self) -> bool:
            return self.loop.is_closed()

    def start(loop: asyncio.AbstractEventLoop, body: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine up to its first suspension; the task is done if it never suspended."""
        deferred = _Deferred(loop)
        task: Any = tasks._PyTask(body, loop=deferred, name=name)  # type: ignore[attr-defined]
        task._loop = loop
        outer = asyncio.current_task(loop)
        if outer is not None:
            tasks._leave_task(loop, outer)
        try:
            task._context.run(deferred.step)
        finally:
            if outer is not None:
                tasks._enter_task(loop, outer)
        made: asyncio.Task[Any] = task
        return made

"""The event loop on which async handlers run: one a process, on a thread of its own.

It goes on whatever a handler does to it: one that stops it, or raises what ends programs, stops nobody else. Refuses to
know what its coroutines are.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cnstra.workers.calling import told

_log = logging.getLogger("cnstra.worker")

Make = Callable[[], Coroutine[Any, Any, None]]

_LONGEST_CANCEL = 0.5  # seconds for cancelled coroutines to clean up


class Coroutines:
    """An event loop, and the tasks on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_unheard)
        self._thread = threading.Thread(target=self._run, name="cnstra-loop", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself."""
        return self._loop

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    def put(self, jobs: Sequence[tuple[Make, object]]) -> None:
        """Run these as tasks, soon, each named after something; any thread may ask."""
        self._loop.call_soon_threadsafe(self._spawn, jobs)

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run this, and wait on the calling thread for what it returns, or raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        """End: what still runs is cancelled, and has a moment to clean up."""
        self._stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)

    def _spawn(self, jobs: Sequence[tuple[Make, object]]) -> None:
        for make, what in jobs:
            task = self._loop.create_task(make(), name=f"cnstra {what}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _run(self) -> None:
        try:
            while not self._ran():
                pass
        finally:  # handlers that did not end in time are cancelled; their claims run out
            left = asyncio.all_tasks(self._loop)  # and what they had begun
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left, timeout=_LONGEST_CANCEL))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _ran(self) -> bool:
        """Run the loop until it is stopped; False when it was a handler, or a task of one, that stopped it."""
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets these two through, out of any task
            _log.error("a task that a handler had begun raised %s; the worker goes on", type(error).__name__)
        return self._stopped  # else a handler has stopped it, and others are on it


def _unheard(_loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
    """Something went wrong that nobody waits for, in what a handler has left running. asyncio itself would quote it, and what
    it held."""
    error = about.get("exception")
    if error is None:
        _log.error("what a handler had begun: %s", about["message"])
    else:
        _log.error("what a handler had begun raised %s, and nobody waited for it", told(error))

"""The end of a stimulation, and who waits for it, on whichever event loops."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from cnstra.orchestrator.stimulation.bodies import running_loop


class Completion:
    """Open, then settled, once. An error is kept for whoever asks; it is raised as often as that."""

    __slots__ = ("_error", "_waiters", "is_settled")

    is_settled: bool

    def __init__(self) -> None:
        self.is_settled = False
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def settle(self, error: BaseException | None) -> None:
        """It has ended, with ``error`` if not well."""
        self.is_settled = True
        self._error = error
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _wake(waiter)

    async def wait(self) -> None:
        """Wait for the end, whatever it is."""
        if not self.is_settled:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            if self.is_settled:  # by another thread, which may have looked for waiters just before
                _set(waiter)
            await waiter

    def check(self) -> None:
        """Raise the error, if there is one."""
        if self._error is not None:
            raise self._error


def _wake(waiter: asyncio.Future[None]) -> None:
    loop = waiter.get_loop()
    if running_loop() is loop:
        _set(waiter)
    else:
        with suppress(RuntimeError):  # that loop is closed, so nobody waits there
            loop.call_soon_threadsafe(_set, waiter)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

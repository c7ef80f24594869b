"""The end of a stimulation, and who waits for it, on whichever event loops."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from cnstra.orchestrator.stimulation.bodies import running_loop

_logger = logging.getLogger("cnstra.stimulation")


class Completion:
    """Open, then settled, once. An error is kept for whoever asks, and raised as often as that; one that nobody has asked
    for is logged when the stimulation goes.
    """

    __slots__ = ("_error", "_unheard", "_waiters", "is_settled")

    is_settled: bool

    def __init__(self) -> None:
        self.is_settled = False
        self._error: BaseException | None = None
        self._unheard: _Unheard | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def settle(self, error: BaseException | None, *, is_known: bool = False) -> None:
        """It has ended, with ``error`` if not well; ``is_known`` says that somebody was told of that already."""
        self.is_settled = True
        self._error = error
        if error is not None and not is_known:
            self._unheard = _Unheard(str(error))
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

    def hear(self) -> None:
        """Somebody knows how it ended."""
        if self._unheard is not None:
            self._unheard.message = None

    def check(self) -> None:
        """Raise the error, if there is one."""
        self.hear()
        if self._error is not None:
            raise self._error


class _Unheard:
    """Says, as it goes, that nobody wanted to know of an error: as asyncio does of its tasks."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message: str | None = message

    def __del__(self) -> None:
        if self.message is not None:
            _logger.error("%s; nobody has waited for it", self.message)


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

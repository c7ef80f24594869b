"""Mirrors as their users hold them: who looks, on a thread of its own or on the event loop, and what an outage means.

Both colours drive the same ``Mirroring``. Refuses to know how a look is made.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import UUID

from cnstra.orchestrator.errors import ReactiveError, StoreUnavailable
from cnstra.orchestrator.flows import drive, drive_async
from cnstra.orchestrator.mirroring import SLOWEST, Mirroring
from cnstra.orchestrator.submitting import run_uuid
from cnstra.workers.doorbell.outage import Outage

_log = logging.getLogger("cnstra.mirror")

_PATIENCE = 1.0  # seconds for a look that is under way when the mirror is closed; it hands on nothing any more


def _outage() -> Outage:
    return Outage(
        _log,
        who="A mirror",
        meanwhile="It asks again until it has caught up.",
        back="the store is back, and nothing was missed.",
    )


class _Following:
    """What both know of how it goes."""

    def __init__(self, mirroring: Mirroring) -> None:
        self._mirroring = mirroring
        self._open = False
        self._closed = False
        self._error: Exception | None = None

    def _is_over(self) -> bool:
        """Never true: raises where nothing can come any more."""
        if self._error is not None:
            raise self._error
        if self._closed or not self._open:
            raise ReactiveError("the mirror is not open: use it in the block of its (async) with statement")
        return False

    def _end_block(self, error: BaseException | None) -> None:
        """Raise what has ended the mirror, unless the block raises something itself."""
        if self._error is not None and error is None:
            raise self._error


class Mirror(_Following):
    """Keeps a collection in step with runs, from the beginning of its ``with`` block to the end, on a thread of its own.

    In the block the collection has had everything that was committed before. Raises at the beginning: ``RunNotFound``,
    ``StoreUnavailable``, ``SchemaError``. Later on it outlives a store that is away; what else ends it is logged, and raised by
    whoever waits, and at the end of the block.
    """

    def __init__(self, mirroring: Mirroring) -> None:
        super().__init__(mirroring)
        self._looked = threading.Condition()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def catch_up(self, timeout: float | None = None) -> None:
        """Return once the collection has all that was committed before this call. ``TimeoutError`` after ``timeout`` seconds."""
        ticket = self._mirroring.ask()
        self._wait(lambda: self._mirroring.is_served(ticket), timeout, "has not caught up")

    def wait_until(self, run_id: UUID | str, version: int = 1, timeout: float | None = None) -> None:
        """Return once the collection has had this version of a run, or a later one. ``TimeoutError`` after ``timeout`` seconds.

        Raises ``RunStateError`` for a run that ended before, ``ReactiveError`` for one that the mirror does not follow.
        """
        run, ticket = run_uuid(run_id), self._mirroring.ask()
        what = f"has not seen version {version} of run {run}"
        self._wait(lambda: self._mirroring.has(run, version, ticket), timeout, what)

    def _wait(self, reached: Callable[[], bool], timeout: float | None, what: str) -> None:
        self._wanted.set()
        with self._looked:
            if not self._looked.wait_for(lambda: self._is_over() or reached(), timeout):
                raise TimeoutError(f"the mirror {what} after {timeout} seconds; it goes on")

    def close(self) -> None:
        """Look no more. When this returns the collection is not written any more. Idempotent."""
        self._mirroring.end()
        with self._looked:
            self._closed = True
            self._looked.notify_all()
        self._wanted.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)

    def _follow(self) -> None:
        outage, pause = _outage(), 0.0
        while not self._closed:
            self._wanted.wait(pause)
            self._wanted.clear()
            if self._closed:
                return
            try:
                pause = drive(self._mirroring.look())
            except StoreUnavailable as error:
                pause = SLOWEST
                if not self._closed:
                    outage.began(error)
            except Exception as error:
                _log.exception("A mirror has ended.")
                self._error, self._closed = error, True
            else:
                outage.ended()
            with self._looked:
                self._looked.notify_all()

    def __enter__(self) -> Self:
        drive(self._mirroring.begin())
        self._open = True
        self._thread = threading.Thread(target=self._follow, name="cnstra-mirror", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._end_block(error)


class AsyncMirror(_Following):
    """The same on the event loop of its ``async with`` block, where the collection is written, too; see ``Mirror``."""

    def __init__(self, mirroring: Mirroring) -> None:
        super().__init__(mirroring)
        self._looked = asyncio.Condition()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def catch_up(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Return once the collection has all that was committed before this call; see ``Mirror.catch_up``."""
        ticket = self._mirroring.ask()
        await self._wait(lambda: self._mirroring.is_served(ticket), timeout, "has not caught up")

    async def wait_until(self, run_id: UUID | str, version: int = 1, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Return once the collection has had this version of a run, or a later one; see ``Mirror.wait_until``."""
        run, ticket = run_uuid(run_id), self._mirroring.ask()
        what = f"has not seen version {version} of run {run}"
        await self._wait(lambda: self._mirroring.has(run, version, ticket), timeout, what)

    async def _wait(self, reached: Callable[[], bool], timeout: float | None, what: str) -> None:  # noqa: ASYNC109
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout), self._looked:
                await self._looked.wait_for(lambda: self._is_over() or reached())
        except TimeoutError:
            raise TimeoutError(f"the mirror {what} after {timeout} seconds; it goes on") from None

    async def close(self) -> None:
        """Look no more. When this returns the collection is not written any more. Idempotent."""
        self._mirroring.end()
        self._closed = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        async with self._looked:
            self._looked.notify_all()

    async def _follow(self) -> None:
        outage, pause = _outage(), 0.0
        while not self._closed:
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                pause = await drive_async(self._mirroring.look())
            except StoreUnavailable as error:
                pause = SLOWEST
                outage.began(error)
            except Exception as error:
                _log.exception("A mirror has ended.")
                self._error, self._closed = error, True
            else:
                outage.ended()
            async with self._looked:
                self._looked.notify_all()

    async def __aenter__(self) -> Self:
        await drive_async(self._mirroring.begin())
        self._open = True
        self._task = asyncio.create_task(self._follow(), name="cnstra-mirror")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        self._end_block(error)

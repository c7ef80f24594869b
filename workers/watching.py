"""The calls that are under way in this process, and the time that each may take.

Owns whose a call's end is: that of the call itself, if it comes within ``max_duration`` of its beginning or of its last
heartbeat, or else that of the watch, by which it has failed. A coroutine that takes too long is cancelled first, and has a
while to end by itself; a thread cannot be interrupted, and loses its claim at once. What a call comes to after that is
dropped. Refuses to know what a lost call's settlement looks like, and what becomes of its thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct

from cnstra.orchestrator.errors import MaxDurationExceeded
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.run_context import Lifeline
from cnstra.orchestrator.store import Work
from cnstra.workers.holding import Key, key_of

_log = logging.getLogger("cnstra.worker")

PATIENCE = 10.0
"""Seconds that a coroutine has to end after it was cancelled, before its claim is given up."""


class Clock(Protocol):
    """The time by which calls are watched, in seconds that only grow."""

    def now(self) -> float: ...

    def wait(self, change: threading.Condition, seconds: float | None) -> None:
        """Wait, holding the condition, until somebody notifies it or so many seconds have passed; None is for ever."""
        ...


class SystemClock:
    """This machine's."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, change: threading.Condition, seconds: float | None) -> None:
        change.wait(seconds)


class UnderWay(Struct, eq=False, kw_only=True):
    """One call. ``heard`` is when it was last heard of, ``cancelled`` when its coroutine was told to end, which ``cancel``
    does; ``lost`` is called on a thread of its own when its claim is given up.
    """

    work: Work
    longest: timedelta | None
    is_async: bool
    lifeline: Lifeline
    lost: Callable[[MaxDurationExceeded], None]
    began: float
    heard: float
    cancel: Callable[[], None] | None = None
    cancelled: float | None = None

    def due(self) -> float | None:
        """When something is to be done about it; None is never."""
        if self.longest is None:
            return None
        return self.heard + self.longest.total_seconds() if self.cancelled is None else self.cancelled + PATIENCE

    def exceeded(self, *, is_lost: bool) -> MaxDurationExceeded:
        """How it has failed."""
        since = "" if self.heard == self.began else " since its last heartbeat"
        how = "cannot be interrupted" if self.cancelled is None else "was cancelled"
        rest = "; what it still comes to is dropped" if is_lost else ""
        return MaxDurationExceeded(
            f"{self.work}: it took longer than its max_duration of {self.longest}{since}, and {how}{rest}"
        )


class Watch:
    """Watches calls, on a thread of its own. ``reported`` is told of progress, ``shut_changed`` when ``shut`` has changed."""

    def __init__(
        self,
        clock: Clock,
        most_stuck: int,
        *,
        reported: Callable[[UUID, Claimed, str], None],
        shut_changed: Callable[[], None],
    ) -> None:
        self.shut: frozenset[bool] = frozenset()
        """The kinds of handlers, async (True) or sync, of which too many are stuck: another might be the next."""
        self._clock = clock
        self._most_stuck = most_stuck
        self._reported = reported
        self._shut_changed = shut_changed
        self._calls: dict[Key, UnderWay] = {}
        self._stuck: dict[Key, UnderWay] = {}  # lost, and not back yet
        self._lock = threading.Lock()  # by itself quicker to take than through the condition
        self._change = threading.Condition(self._lock)
        self._next: float | None = None  # when the thread will look again
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="cnstra-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; returns at once."""
        with self._lock:
            self._stopped = True
            self._change.notify_all()

    # -- calls -------------------------------------------------------------------------------------------------

    def begin(
        self,
        work: Work,
        lifeline: Lifeline,
        longest: timedelta | None,
        lost: Callable[[MaxDurationExceeded], None],
        *,
        is_async: bool,
    ) -> UnderWay:
        """A call begins: its time counts from here on."""
        now = self._clock.now()
        call = UnderWay(
            work=work, longest=longest, is_async=is_async, lifeline=lifeline, lost=lost, began=now, heard=now
        )
        lifeline.heard_by(partial(self._hear, call))
        with self._lock:
            self._calls[key_of(work.run_id, work.fence)] = call
            self._look_by(call.due())
        return call

    def stands(self, call: UnderWay) -> bool:
        """Whether a call's end would count, if it came now. Nobody ends one that may take as long as it likes."""
        return call.longest is None or key_of(call.work.run_id, call.work.fence) in self._calls

    def end(self, work: Work, how: str) -> bool:
        """A call has ended; whether its end counts. ``how`` it did is for the log: what was lost is told of in one line."""
        key = key_of(work.run_id, work.fence)
        with self._lock:
            in_time = self._calls.pop(key, None)
            call = in_time or self._stuck.pop(key, None)
            left = len(self._stuck)
        if call is not None:
            call.lifeline.left_alone()  # and there is no cycle to collect
        if in_time is not None:
            return True
        if call is not None:
            _log.warning(
                "%s: %s %.1f s after its beginning, too late for its max_duration of %s: that is dropped; %d calls are "
                "stuck still",
                work,
                how,
                self._clock.now() - call.began,
                call.longest,
                left,
            )
            self._count_stuck()
        return False

    def stuck(self, *, is_async: bool) -> int:
        """How many calls have lost their claims, and are not back: threads, or coroutines."""
        with self._lock:
            return sum(call.is_async is is_async for call in self._stuck.values())

    def _count_stuck(self) -> None:
        """Each that is stuck holds memory, and whatever its handler holds: there is to be an end to that."""
        with self._lock:
            stuck = Counter(call.is_async for call in self._stuck.values())
            before = self.shut
            self.shut = frozenset(kind for kind, count in stuck.items() if count >= self._most_stuck)
            changed = self.shut ^ before
        for kind in changed:
            colour = "async" if kind else "sync"
            if kind in before:
                _log.warning("fewer %s handlers are stuck: this process takes work for such handlers again", colour)
            else:
                _log.error(
                    "%d %s handlers are stuck beyond their max_duration: this process takes no more work for %s handlers "
                    "until some of them end; see why they do not, and restart it",
                    stuck[kind],
                    colour,
                    colour,
                )
        if changed:
            self._shut_changed()

    def cancel(self, run_id: UUID) -> None:
        """Tell the run's calls that their work is of no use any more: ``ctx.cancelled``. They go on, if they like."""
        with self._lock:
            calls = [call for call in self._calls.values() if call.work.run_id == run_id]
        for call in calls:
            call.lifeline.cancelled = True

    def disown(self, run_id: UUID, fence: Claimed) -> None:
        """The same for one claim that was taken away."""
        with self._lock:
            call = self._calls.get(key_of(run_id, fence))
        if call is not None:
            call.lifeline.cancelled = True

    def _hear(self, call: UnderWay, progress: str | None) -> None:
        work = call.work
        key = key_of(work.run_id, work.fence)
        with self._lock:  # within it: nothing is reported of a call that has ended
            if key in self._calls:
                call.heard = self._clock.now()
                if progress is not None:
                    self._reported(work.run_id, work.fence, progress)
                return
            lost = key in self._stuck
        if lost:
            raise call.exceeded(is_lost=True)

    async def in_time(self, awaitable: Any, call: UnderWay) -> Any:
        """What a call's async part returns. One that takes too long is cancelled, and has failed with
        ``MaxDurationExceeded``, whatever it makes of that.
        """
        if call.longest is None:
            return await awaitable
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)

        def expire() -> None:
            with suppress(RuntimeError):  # it has just ended by itself
                limit.reschedule(loop.time())

        def cancel() -> None:
            loop.call_soon_threadsafe(expire)

        try:
            async with limit:
                call.cancel = cancel
                try:
                    returned = await awaitable
                finally:
                    call.cancel = None
        except BaseException as error:
            if limit.expired():
                raise call.exceeded(is_lost=False) from error
            raise
        if limit.expired():
            raise call.exceeded(is_lost=False)
        return returned

    # -- time --------------------------------------------------------------------------------------------------

    def _look_by(self, due: float | None) -> None:
        if due is not None and (self._next is None or due < self._next):
            self._next = due
            self._change.notify_all()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stopped:
                    return
                left = None if self._next is None else self._next - self._clock.now()
                if left is None or left > 0:
                    self._clock.wait(self._change, left)
                    continue
            try:
                self._look()
            except Exception:  # the thread must live on
                _log.exception("a call that takes too long could not be ended")

    def _look(self) -> None:
        """End what has taken too long."""
        lost: list[UnderWay] = []
        with self._lock:
            now = self._clock.now()
            for key, call in list(self._calls.items()):
                due = call.due()
                if due is None or due > now:
                    continue
                if call.cancel is not None and call.cancelled is None:
                    call.cancelled = now
                    with suppress(RuntimeError):  # its loop is closed: the worker has stopped
                        call.cancel()
                else:
                    self._stuck[key] = self._calls.pop(key)
                    call.lifeline.cancelled = True
                    lost.append(call)
            self._next = min((due for call in self._calls.values() if (due := call.due()) is not None), default=None)
        if lost:
            self._count_stuck()
        for call in lost:  # policies are users' code, and may be slow: no other call waits for that
            threading.Thread(
                target=call.lost, args=(call.exceeded(is_lost=True),), name="cnstra-overdue", daemon=True
            ).start()

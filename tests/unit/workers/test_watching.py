"""Whose a call's end is, as a matter of time: the call's own, or that of the watch. Time passes as the test says."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from datetime import timedelta
from queue import Queue
from typing import Any
from uuid import UUID
from weakref import ref

import pytest

from cnstra import MaxDurationExceeded
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.run_context import Lifeline
from cnstra.orchestrator.store import Work
from cnstra.workers.watching import PATIENCE, UnderWay, Watch
from support.clocks import ManualTime
from support.works import RUN, work

OTHER = UUID("0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f11")
MINUTE = timedelta(minutes=1)


class Held:
    """What a call holds."""

    def lost(self, error: MaxDurationExceeded) -> None: ...


class Watched:
    """A watch in a time of the test's own, and what it told."""

    def __init__(self) -> None:
        self.time = ManualTime()
        self.reports: list[tuple[UUID, int, str]] = []
        self.changes = 0
        self.watch = Watch(self.time, 2, reported=self._reported, shut_changed=self._changed)
        self._lost: Queue[MaxDurationExceeded] = Queue()
        self.watch.start()

    def _reported(self, run_id: UUID, fence: Claimed, progress: str) -> None:
        self.reports.append((run_id, fence.activation_id, progress))

    def _changed(self) -> None:
        self.changes += 1

    def begin(
        self, of: Work, longest: timedelta | None = MINUTE, *, is_async: bool = False
    ) -> tuple[Lifeline, UnderWay]:
        lifeline = Lifeline()
        return lifeline, self.watch.begin(of, lifeline, longest, self._lost.put, is_async=is_async)

    def lost(self) -> MaxDurationExceeded:
        return self._lost.get(timeout=60.0)

    @property
    def none_lost(self) -> bool:
        return self._lost.empty()


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.watch.stop()


def test_a_call_that_ends_in_time_is_its_own(watched: Watched) -> None:
    """Its end counts, and its time is forgotten with it."""
    _, call = watched.begin(work())
    watched.time.advance(59)
    assert watched.watch.stands(call)
    assert watched.watch.end(work(), "its handler returned")
    watched.time.advance(3600)
    assert watched.none_lost
    assert watched.watch.stuck(is_async=False) == 0


def test_a_call_without_a_limit_may_take_for_ever(watched: Watched) -> None:
    """Nobody takes its claim."""
    _, call = watched.begin(work(), None)
    watched.begin(work(2))
    watched.time.advance(1_000_000)
    assert "activation 2" in str(watched.lost())
    assert watched.watch.stands(call)
    assert watched.watch.end(work(), "its handler returned")


def test_a_call_that_takes_too_long_is_lost(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """The error names it and its limit; its end is dropped, with one line that says how long it took; it is told."""
    lifeline, call = watched.begin(work())
    watched.time.advance(60)
    error = str(watched.lost())
    assert f"run {RUN}, activation 1 (bank on order): it took longer than its max_duration of 0:01:00" in error
    assert "cannot be interrupted; what it still comes to is dropped" in error
    assert watched.watch.stuck(is_async=False) == 1
    assert lifeline.cancelled
    assert not watched.watch.stands(call)
    watched.time.advance(30)

    assert not watched.watch.end(work(), "its handler returned")

    [line] = caplog.messages
    assert f"run {RUN}, activation 1 (bank on order): its handler returned 90.0 s after its beginning" in line
    assert watched.watch.stuck(is_async=False) == 0


def test_each_heartbeat_begins_its_time_anew(watched: Watched) -> None:
    """As long as they come, it goes on; the error of one that stopped says so."""
    lifeline, _ = watched.begin(work())
    for _ in range(5):
        watched.time.advance(59)
        lifeline.beat(None)
    watched.time.advance(59)
    assert watched.none_lost
    watched.time.advance(1)
    assert "max_duration of 0:01:00 since its last heartbeat" in str(watched.lost())


def test_a_heartbeat_that_comes_too_late_raises(watched: Watched) -> None:
    """A handler that comes back to life learns that it works for nothing; its progress goes nowhere."""
    lifeline, _ = watched.begin(work())
    lifeline.beat("1")
    watched.time.advance(60)
    watched.lost()
    with pytest.raises(MaxDurationExceeded, match="activation 1"):
        lifeline.beat("2")
    assert watched.reports == [(RUN, 1, "1")]


def test_heartbeats_of_what_a_call_left_behind_do_nothing(watched: Watched) -> None:
    """A thread that a handler began may beat on for a moment after the handler's end, in time or not."""
    lifeline, _ = watched.begin(work())
    late, _ = watched.begin(work(2), timedelta(seconds=1))
    watched.watch.end(work(), "its handler returned")
    watched.time.advance(1)
    watched.lost()
    watched.watch.end(work(2), "its handler returned")
    lifeline.beat("1")
    late.beat("2")
    assert watched.reports == []


def test_a_call_that_has_ended_leaves_nothing_to_the_garbage_collector(watched: Watched) -> None:
    """What it held, a payload and a context above all, goes with it: nothing refers to itself by way of the watch."""
    gc.disable()
    try:
        held = Held()
        gone = ref(held)
        watched.watch.begin(work(), Lifeline(), MINUTE, held.lost, is_async=False)
        del held
        assert gone() is not None
        watched.watch.end(work(), "its handler returned")
        assert gone() is None
    finally:
        gc.enable()


def test_only_the_calls_of_a_run_are_told_that_it_ends(watched: Watched) -> None:
    """All of those, and they go on: their ends count."""
    first, second, other = (watched.begin(one)[0] for one in (work(1), work(2), work(1, OTHER)))
    watched.watch.cancel(RUN)
    assert (first.cancelled, second.cancelled, other.cancelled) == (True, True, False)
    assert watched.watch.end(work(1), "its handler returned")


def test_a_claim_that_was_taken_away_tells_its_own_call(watched: Watched) -> None:
    """And no other of its run."""
    first, second = (watched.begin(one)[0] for one in (work(1), work(2)))
    watched.watch.disown(RUN, work(1).fence)
    assert (first.cancelled, second.cancelled) == (True, False)


def test_with_too_many_stuck_no_more_of_their_kind_are_called(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Threads and coroutines are counted apart; it is said loudly, and ends when one comes back."""
    for number in (1, 2):
        watched.begin(work(number))
    watched.begin(work(3), is_async=True)
    watched.time.advance(60)
    for _ in range(3):
        watched.lost()
    assert (watched.watch.shut, watched.changes) == ({False}, 1)
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "2 sync handlers are stuck beyond their max_duration: this process takes no more work for sync" in line

    watched.watch.end(work(1), "its handler returned")

    assert (watched.watch.shut, watched.changes) == (frozenset(), 2)


class Body:
    """A coroutine in a loop of its own, under the watch."""

    def __init__(self, watched: Watched, *, stubborn: bool) -> None:
        self.cancelled = threading.Event()
        self.begun = threading.Event()
        self._stubborn = stubborn
        self.lifeline, self._call = watched.begin(work(), is_async=True)
        self._loop = asyncio.new_event_loop()
        self._let_go = asyncio.Event()
        self._watched = watched
        self._ended: Queue[Any] = Queue()
        threading.Thread(target=self._run, daemon=True).start()
        assert self.begun.wait(60)

    async def _body(self) -> str:
        self.begun.set()
        try:
            await self._let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            if self._stubborn:
                await self._let_go.wait()
        return "done"

    def _run(self) -> None:
        try:
            self._ended.put(self._loop.run_until_complete(self._watched.watch.in_time(self._body(), self._call)))
        except BaseException as error:
            self._ended.put(error)
        finally:
            self._loop.close()

    def let_go(self) -> None:
        self._loop.call_soon_threadsafe(self._let_go.set)

    def ended(self) -> Any:
        return self._ended.get(timeout=60.0)


def test_a_coroutine_that_takes_too_long_is_cancelled_and_ends_by_itself(watched: Watched) -> None:
    """Whatever it makes of that, it has failed; its claim is its own until it has ended."""
    body = Body(watched, stubborn=False)
    watched.time.advance(60)
    error = body.ended()
    assert isinstance(error, MaxDurationExceeded)
    assert str(error).endswith("it took longer than its max_duration of 0:01:00, and was cancelled")
    assert watched.watch.end(work(), "its handler raised")
    assert watched.none_lost


def test_the_heartbeats_of_a_coroutine_begin_its_time_anew(watched: Watched) -> None:
    """The same as those of a thread."""
    body = Body(watched, stubborn=False)
    for _ in range(3):
        watched.time.advance(59)
        body.lifeline.beat(None)
    body.let_go()
    assert body.ended() == "done"


def test_a_coroutine_that_will_not_end_is_lost_after_a_while(watched: Watched) -> None:
    """It was cancelled, and goes on: a claim must not be held for ever."""
    body = Body(watched, stubborn=True)
    watched.time.advance(60)
    assert body.cancelled.wait(60)
    watched.time.advance(PATIENCE - 1)
    assert watched.none_lost
    watched.time.advance(1)
    assert "and was cancelled; what it still comes to is dropped" in str(watched.lost())
    assert watched.watch.stuck(is_async=True) == 1
    body.let_go()
    assert isinstance(body.ended(), MaxDurationExceeded)
    assert not watched.watch.end(work(), "its handler raised")

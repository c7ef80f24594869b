"""Heartbeats, progress and being unwanted, within one process. Time passes as the test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cnstra import CNS, Context, ContextError, MaxDurationExceeded, collateral, neuron

start = collateral("start", int)
MINUTE = timedelta(minutes=1)


class Loop:
    """An event loop whose time stands still until the test moves it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._now = self._loop.time()
        self._loop.time = lambda: self._now  # type: ignore[method-assign]

    async def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, and whatever is due happen."""
        self._now += seconds
        for _ in range(3):
            await asyncio.sleep(0)

    def run(self, body: Any) -> Any:
        return self._loop.run_until_complete(body)

    def close(self) -> None:
        self._loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("beats", [True, False])
def test_a_heartbeat_begins_the_time_of_an_async_handler_anew(loop: Loop, beats: bool) -> None:
    """As often as it comes; without it the handler is cancelled when its time is over."""
    one = neuron("one")
    lived = list[float]()

    @one.dendrite(start, max_duration=MINUTE)
    async def wait(n: int, axon: Any, ctx: Context) -> None:
        await asyncio.sleep(0)
        for _ in range(4):
            await loop.pass_time(45)
            if beats:
                ctx.heartbeat()
            lived.append(45)

    async def main() -> list[BaseException]:
        stimulation = CNS([one]).stimulate(start.create_signal(1))
        await asyncio.wait([asyncio.ensure_future(stimulation.wait_until_complete())])
        return [failure.error for failure in stimulation.failed_tasks]

    errors = loop.run(main())

    assert [type(error) for error in errors] == ([] if beats else [MaxDurationExceeded])
    assert len(lived) == (4 if beats else 1)


def test_a_heartbeat_that_is_missing_at_last_ends_the_handler(loop: Loop) -> None:
    """Its time counts from the last one, and is not without end."""
    one = neuron("one")
    lived = list[str]()

    @one.dendrite(start, max_duration=MINUTE)
    async def wait(n: int, axon: Any, ctx: Context) -> None:
        await asyncio.sleep(0)
        await loop.pass_time(45)
        ctx.heartbeat()
        await loop.pass_time(45)
        lived.append("beyond its first minute")
        await loop.pass_time(45)
        lived.append("beyond the minute after its heartbeat")

    async def main() -> None:
        stimulation = CNS([one]).stimulate(start.create_signal(1))
        await asyncio.wait([asyncio.ensure_future(stimulation.wait_until_complete())])
        assert [type(failure.error) for failure in stimulation.failed_tasks] == [MaxDurationExceeded]

    loop.run(main())

    assert lived == ["beyond its first minute"]


def test_progress_is_the_calls_own_and_is_checked() -> None:
    """A handler reads what it reported itself, and what is no durable value is refused as in a durable run."""
    one = neuron("one")
    seen = list[Any]()

    @one.dendrite(start)
    def report(n: int, axon: Any, ctx: Context) -> None:
        seen.append(ctx.progress)
        ctx.heartbeat({"rows": n})
        seen.append(ctx.progress)
        ctx.heartbeat({"rows": (1, 2)})

    stimulation = CNS([one]).stimulate([start.create_signal(1), start.create_signal(2)])

    assert seen == [None, {"rows": 1}, None, {"rows": 2}]
    errors = [failure.error for failure in stimulation.failed_tasks]
    assert [type(error) for error in errors] == [ContextError] * 2
    assert f"progress of stimulation {stimulation.id}, activation 1 (one): $.rows is a builtins.tuple" in str(errors[0])


def test_a_handler_is_cancelled_when_its_stimulation_is_aborted() -> None:
    """As the abort signal says; without one it never is. There is no deadline."""
    one, abort = neuron("one"), threading.Event()
    seen = list[Any]()

    @one.dendrite(start)
    def look(n: int, axon: Any, ctx: Context) -> None:
        seen.append((ctx.cancelled, ctx.deadline))
        abort.set()
        seen.append(ctx.cancelled)

    CNS([one]).stimulate(start.create_signal(1), abort_signal=abort)
    CNS([one]).stimulate(start.create_signal(1))

    assert seen == [(False, None), True, (False, None), False]

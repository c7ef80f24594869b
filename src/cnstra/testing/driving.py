"""Driving a lab: turns and the clock, until nothing is left to do; and the two drivers that call the handlers.

The blocking driver calls async handlers on an event loop of the lab's own, in the calling thread; the async one on the loop
that runs. Neither starts a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cnstra.orchestrator.errors import MaxDurationExceeded
from cnstra.orchestrator.flows import not_found
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.machine.states import ENDED, RunStatus
from cnstra.orchestrator.run_context import lifeline_of
from cnstra.stores.memory import MemoryStore
from cnstra.testing.bench import Bench, Ended, T, Turns
from cnstra.testing.clock import LabClock
from cnstra.testing.crew import Crew
from cnstra.testing.errors import LabError
from cnstra.testing.story import what_it_waits_for
from cnstra.workers.calling import Call


class Drive:
    """What a test asks of a lab's hops and clock."""

    def __init__(self, bench: Bench, crew: Crew, clock: LabClock, store: MemoryStore) -> None:
        self._bench = bench
        self._crew = crew
        self._clock = clock
        self._store = store

    def until_idle(self) -> Turns[None]:
        """Run what is ready, and what follows from it, without time passing."""
        self._bench.rest()
        yield from self._bench.until_idle()

    def until(self, moment: datetime) -> Turns[None]:
        """Let time pass until then: whatever falls due on the way does so at its own time, in its order."""
        self._bench.rest()
        yield from self._bench.until_idle()
        while (next_moment := self._crew.next_moment()) is not None and next_moment < moment:
            yield from self._at(next_moment)
        yield from self._at(moment)

    def until_ended(self, run_id: UUID, timeout: float | None) -> Turns[None]:
        """Let as much time pass as a run needs to come to its end. Raises ``TimeoutError`` where it does not."""
        self._bench.rest()
        latest = None if timeout is None else self._clock.now() + timedelta(seconds=timeout)
        yield from self._bench.until_idle()
        while not self._has_ended(run_id):
            moment = self._crew.next_moment()
            if moment is None:
                raise TimeoutError(f"{self._waits(run_id)}; nothing that is under way in the lab will move it")
            if latest is not None and moment > latest:
                yield from self._at(latest)
                raise TimeoutError(f"{self._waits(run_id)}; {timeout} seconds of the lab's time have passed")
            yield from self._at(moment)

    def _at(self, moment: datetime) -> Turns[None]:
        self._clock.move_to(moment)
        yield from self._bench.until_idle()

    def _has_ended(self, run_id: UUID) -> bool:
        status = self._store.run(self._store.run_status(run_id))
        if status is None:
            raise not_found(run_id)
        return RunStatus(status) in ENDED

    def _waits(self, run_id: UUID) -> str:
        row = self._store.run(self._store.run_row(run_id))
        assert row is not None
        return what_it_waits_for(row, self._store.run(self._store.activation_rows(run_id)))


_NESTED = "a handler cannot drive the lab that is calling it; let it submit, and the test drive"
_CLOSED = "this lab is closed, and runs nothing any more"


class BlockingDriver:
    """Calls handlers in the calling thread; what is async in them, on an event loop of its own."""

    def __init__(self, cns: CNS) -> None:
        self._has_async = _has_async(cns)
        self._runner: asyncio.Runner | None = None
        self._busy = False
        self._closed = False

    def drive(self, turns: Turns[T]) -> T:
        self._check()
        self._busy = True
        ended: Ended | None = None
        try:
            while True:
                try:
                    call = next(turns) if ended is None else turns.send(ended)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                ended = self._called(call)
        finally:
            self._busy = False
            turns.close()

    def _check(self) -> None:
        if self._closed:
            raise LabError(_CLOSED)
        if self._busy:
            raise LabError(_NESTED)
        if self._has_async and asyncio._get_running_loop() is not None:
            raise LabError(
                "the graph has async handlers, and an event loop runs here already; in async tests use AsyncLab, "
                "whose handlers run on that loop"
            )

    def _called(self, call: Call) -> Ended:
        try:
            returned = call.begin()
            if inspect.isawaitable(returned):
                if self._runner is None:
                    self._runner = asyncio.Runner()
                returned = self._runner.run(_in_time(returned, call), context=contextvars.copy_context())
        except KeyboardInterrupt:  # that is for who runs the tests
            raise
        except BaseException as error:  # a handler may raise anything; in a worker, too, only its try has failed then
            return Ended(error=error)
        return Ended(returned=returned)

    def close(self) -> None:
        self._closed = True
        if self._runner is not None:
            self._runner.close()
            self._runner = None


class AsyncDriver:
    """Calls handlers on the event loop that runs. Of several tasks that drive a lab, one does at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._driver: asyncio.Task[Any] | None = None
        self._closed = False

    async def drive(self, turns: Turns[T]) -> T:
        if self._closed:
            raise LabError(_CLOSED)
        if self._driver is not None and self._driver is asyncio.current_task():
            raise LabError(_NESTED)
        async with self._lock:
            self._driver = asyncio.current_task()
            ended: Ended | None = None
            try:
                while True:
                    try:
                        call = next(turns) if ended is None else turns.send(ended)
                    except StopIteration as stop:
                        result: T = stop.value
                        return result
                    ended = await self._called(call)
            finally:
                self._driver = None
                turns.close()

    async def _called(self, call: Call) -> Ended:
        try:
            returned = call.begin()
            if inspect.isawaitable(returned):
                returned = await _in_time(returned, call)
        except KeyboardInterrupt:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # it is the test that is cancelled
                raise
            cancelled = RuntimeError("the handler was cancelled from inside")
            cancelled.__cause__ = error
            return Ended(error=cancelled)
        except BaseException as error:
            return Ended(error=error)
        return Ended(returned=returned)

    def close(self) -> None:
        self._closed = True


async def _in_time(awaitable: Any, call: Call) -> Any:
    """What a call's async part returns. One that takes longer than its ``max_duration``, in real time from its beginning or
    its last heartbeat, is cancelled, and has failed, whatever it makes of that.
    """
    longest = call.callee.max_duration
    if longest is None:
        return await awaitable
    loop = asyncio.get_running_loop()
    exceeded = MaxDurationExceeded(f"{call.work}: it took longer than its max_duration of {longest}, and was cancelled")
    limit = asyncio.timeout(longest.total_seconds())
    lifeline_of(call.context).heard_by(lambda _: limit.reschedule(loop.time() + longest.total_seconds()))
    try:
        async with limit:
            returned = await awaitable
    except BaseException as error:
        if limit.expired():
            raise exceeded from error
        raise
    finally:
        lifeline_of(call.context).heard_by(lambda _: None)
    if limit.expired():
        raise exceeded
    return returned


def _has_async(cns: CNS) -> bool:
    return any(
        any(dendrite.is_async for dendrite in neuron.dendrites.values())
        or any(compensation.is_async for compensation in neuron.compensations.values())
        for neuron in cns.neurons.values()
    )

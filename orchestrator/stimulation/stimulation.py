"""One stimulation: a graph run inside this process, from its first signals to the last of what they start.

It goes in turns. A turn begins when something is put in (the first signals, the end of an async handler or listener, a
place in a neuron's gate), runs everything that can run, in order, and ends when the rest has to wait. Within a turn the
queue is worked off by one loop, so that no chain of signals, however long, deepens the stack. The order is CNStra's
(TypeScript): what a handler emits lines up behind what is queued; what comes in from outside of the loop is run with all
that it starts, subscriber by subscriber.

It knows no store of runs and asks no retry policy. A stimulation belongs to the thread that started it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from threading import get_ident
from types import CoroutineType
from typing import Any

from cnstra.orchestrator.contexts import InMemoryContextStore, VersionedContextStore
from cnstra.orchestrator.errors import (
    HopLimitReached,
    MaxDurationExceeded,
    NoEventLoop,
    StimulationAborted,
    StimulationFailed,
)
from cnstra.orchestrator.graph import CNS, Signal, normalise_outputs
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.stimulation.barriers import Barrier, tell
from cnstra.orchestrator.stimulation.bodies import Ended, begin, ended, running_loop
from cnstra.orchestrator.stimulation.cleanup import Components
from cnstra.orchestrator.stimulation.context import Locals, StimulationContext, locals_beside
from cnstra.orchestrator.stimulation.gates import NeuronGate
from cnstra.orchestrator.stimulation.options import Options
from cnstra.orchestrator.stimulation.plan import Route
from cnstra.orchestrator.stimulation.records import Drain, Failure, Response, Task
from cnstra.orchestrator.stimulation.shared import Shared

Item = tuple[Route, Signal[Any]]
"""A task, as the engine keeps it."""

_logger = logging.getLogger("cnstra.stimulation")
_unlimited = float("inf")
_NEVER_AWAITABLE = frozenset({list, tuple})
_GOES_ON: Any = object()


class Stimulation:
    """A graph under way, or done. Made by ``cns.stimulate``, ``cns.run`` and ``cns.activate``."""

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_active",
        "_barriers",
        "_blocking",
        "_bodies",
        "_calls",
        "_components",
        "_context",
        "_depth",
        "_done",
        "_error",
        "_failures",
        "_id",
        "_limbo",
        "_limit",
        "_lined_up",
        "_listener_error",
        "_locals",
        "_loop",
        "_postponed",
        "_pumping",
        "_queue",
        "_shared",
        "_store",
        "_thread",
        "_told",
        "_unheard",
        "_visits",
        "_waiters",
        "has_versions",
        "options",
    )

    options: Options
    """What it was started with."""
    has_versions: bool
    """Whether the context store counts versions, as CNStra's own do."""

    def __init__(self, shared: Shared, options: Options, *, blocking: bool = False) -> None:
        self._shared = shared
        self.options = options
        self._told = () if options.on_response is None else (options.on_response,)
        self._queue: deque[Item] = deque()
        self._limbo: dict[int, Item] = {}  # tasks that wait for listeners, or for their turn among an array's
        self._unheard = 0  # signals of an array still to be told of that nobody hears
        self._lined_up: dict[_Place, Item] = {}  # tasks that wait for a place in their neuron's gate
        self._bodies: dict[asyncio.Task[Any], _Body] = {}
        self._active = 0
        self._barriers = 0
        self._failures: list[Failure] = []
        self._listener_error: BaseException | None = None
        self._limit = options.concurrency or _unlimited
        self._visits: dict[str, int] | None = None if options.max_neuron_hops is None else {}
        self._components = Components(shared.plan) if shared.cns.auto_cleanup_contexts else None
        self._store = options.ctx
        self.has_versions = self._store is not None and isinstance(self._store, VersionedContextStore)
        self._locals: Locals | None = None
        self._id: str | None = None
        self._calls = 0
        self._pumping = False
        self._depth = 0
        self._blocking = blocking
        self._postponed: list[Any] = []  # what needs an event loop, where run() has not started one yet
        self._abandoned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._context: contextvars.Context | None = None
        self._done = False
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # -- for users -----------------------------------------------------------------------------------------------

    @property
    def cns(self) -> CNS:
        """The graph."""
        return self._shared.cns

    @property
    def id(self) -> str:
        """A UUIDv7 of its own, for logs and for what must be told apart."""
        if self._id is None:
            self._id = str(SystemEntropy().run_id())
        return self._id

    @property
    def context_store(self) -> Any:
        """The store of its context: the one that it was given, or one in memory."""
        if self._store is None:
            self._store = InMemoryContextStore()
            self.has_versions = True
        return self._store

    @property
    def failed_tasks(self) -> list[Failure]:
        """The tasks that failed, and those that an abort kept from starting, in this order."""
        return list(self._failures)

    @property
    def outstanding_tasks(self) -> list[Task]:
        """Every task that is not done: queued, held back, running, failed. ``activate`` goes on with them."""
        items = [*self._queue, *self._limbo.values(), *self._lined_up.values()]
        items.extend(body.item for body in self._bodies.values())
        return [*map(_task, items), *(failure.task for failure in self._failures)]

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it is under way any more."""
        return self._done

    async def wait_until_complete(self) -> None:
        """Wait for its end; to stop waiting stops nothing else.

        Raises ``StimulationFailed`` when tasks failed, ``StimulationAborted`` when it was aborted, and the error of the
        first response listener that raised, as itself.
        """
        await self.ended()
        self.raise_outcome()

    async def ended(self) -> None:
        """Wait for its end, whatever it was."""
        if not self._done:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def raise_outcome(self) -> None:
        """Raise what ``wait_until_complete`` raises; nothing for a stimulation that went well, or is still under way."""
        if self._error is not None:
            raise self._error

    # -- starting ------------------------------------------------------------------------------------------------

    def stimulate(self, signals: Sequence[Signal[Any]]) -> None:
        """Begin with signals: everything that runs without waiting has run when this returns."""
        heard = self._shared.plan.heard
        self._open_turn()
        try:
            self._emit(None, None, [(signal, heard.get(signal.collateral, ())) for signal in signals])
        finally:
            self._close_turn()

    def activate(self, items: Iterable[Item]) -> None:
        """Begin with tasks."""
        self._open_turn()
        try:
            self._enter([self._made(route, signal) for route, signal in items])
        finally:
            self._close_turn()

    def carry_on(self) -> None:
        """Go on where a blocking stimulation had to stop for want of an event loop, which runs now."""
        self._open_turn()
        try:
            postponed, self._postponed = self._postponed, []
            for begin_it in postponed:
                begin_it()
            self._pump()
        finally:
            self._close_turn()

    def abandon(self) -> None:
        """Start nothing more, as when it is aborted."""
        self._abandoned = True
        self._postponed.clear()
        self._look_up()

    def notice_abort(self) -> None:
        """Look at the abort signal now: otherwise it is looked at when a turn ends. Any thread may call this."""
        loop = self._loop
        if loop is None or self._done:
            return
        with suppress(RuntimeError):  # its loop is closed: it looks no more at anything
            loop.call_soon_threadsafe(self._look_up)

    def _look_up(self) -> None:
        self._open_turn()
        self._close_turn()

    # -- turns ---------------------------------------------------------------------------------------------------

    def _open_turn(self) -> None:
        self._depth += 1
        self._thread = get_ident()

    def _close_turn(self) -> None:
        self._depth -= 1
        if self._depth or self._postponed:
            return
        pending, active = self._pending, self._active
        waiting = self._active + self._barriers
        if not self._done and waiting == 0 and (pending == 0 or self._is_aborted):
            self._finish()
        drainers = self._shared.drainers
        local = self.options.on_drain
        if local is None and not drainers:
            return
        drain = Drain(self, pending, active)
        self._depth += 1  # what a listener feeds in belongs to the turn that closes
        try:
            for listener in drainers if local is None else (local, *drainers):
                try:
                    listener(drain)
                except Exception:
                    _logger.exception("stimulation %s: a drain listener raised; the stimulation goes on", self.id)
        finally:
            self._depth -= 1

    @property
    def _pending(self) -> int:
        return len(self._queue) + len(self._limbo) + len(self._lined_up) + self._unheard

    @property
    def _is_aborted(self) -> bool:
        signal = self.options.abort_signal
        return self._abandoned or (signal is not None and signal.is_set())

    def _finish(self) -> None:
        aborted = self._is_aborted
        if aborted:
            self._give_up_the_rest()
        self._done = True
        self._error = self._outcome(aborted)
        self._shared.running.discard(self)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _wake(waiter)

    def _outcome(self, aborted: bool) -> BaseException | None:
        if aborted:
            return StimulationAborted(f"{self} was aborted; {len(self._failures)} tasks are left over", self._failures)
        if self._listener_error is not None:
            return self._listener_error
        if not self._failures:
            return None
        first = self._failures[0]
        failed = StimulationFailed(
            f"{self}: {len(self._failures)} tasks failed, the first of them {first.task} with "
            f"{type(first.error).__name__}",
            self._failures,
        )
        failed.__cause__ = first.error
        return failed

    def _give_up_the_rest(self) -> None:
        for place in self._lined_up:
            place.gate.withdraw(place)  # one that is on its way here is given up when it comes
        for item in (*self._queue, *self._lined_up.values()):
            if item[0].has_place:
                self._leave(item[0])
            error = StimulationAborted(f"{_task(item)} was not started: {self} was aborted", ())
            self._failures.append(Failure(task=_task(item), error=error, aborted=True))
        self._queue.clear()
        self._lined_up.clear()

    # -- running what is queued ------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Run what can run, in order, until the rest has to wait."""
        if self._pumping:
            return
        self._pumping = True
        try:
            self._work_off()
        finally:
            self._pumping = False

    def _work_off(self) -> None:
        queue, shared, limit = self._queue, self._shared, self._limit
        abort = self.options.abort_signal
        told = self._told
        counted = self._visits is not None or self._components is not None
        append, take = queue.append, queue.popleft
        while queue:
            if self._active >= limit or (abort is not None and abort.is_set()) or self._abandoned or self._postponed:
                return
            item = take()
            route, signal = item
            if not route.ordinary:
                self._run_with_care(item)
                continue
            try:
                arity = route.arity
                if arity == 2:
                    result = route.call(signal.payload, route.axon)
                elif arity == 1:
                    result = route.call(signal.payload)
                else:
                    result = route.call(signal.payload, route.axon, StimulationContext(self, route))
            except Exception as error:
                self._failed(item, error)
                continue
            except BaseException as error:
                self._interrupted(item, error)
                continue
            if type(result) is CoroutineType and (result := self._begun(item, result)) is _GOES_ON:
                continue
            if result is None:
                heard: tuple[Route, ...] | None = ()
            else:
                heard = route.emits.get(result.collateral) if type(result) is Signal else None
            if heard is None or counted:
                self._returned(item, result)
                continue
            for each in heard:  # a hop in its most frequent forms: one signal, or none
                append((each, result))
            if told or shared.responders:
                self._tell_of_the_last(len(heard), route, signal, result, None)

    def _run_with_care(self, item: Item) -> None:
        """A task that may not run, or not yet."""
        route, signal = item
        if route.refusal is not None:
            self._failed(item, route.refusal)
            return
        if not route.has_place and not self._has_got_a_place(item):
            return
        try:
            result = self._call(route, signal)
        except Exception as error:
            self._leave(route)
            self._failed(item, error)
        except BaseException as error:
            self._leave(route)
            self._interrupted(item, error)
        else:
            self._returned(item, result)

    def _call(self, route: Route, signal: Signal[Any]) -> Any:
        if route.arity == 2:
            return route.call(signal.payload, route.axon)
        if route.arity == 1:
            return route.call(signal.payload)
        return route.call(signal.payload, route.axon, StimulationContext(self, route))

    def _returned(self, item: Item, result: Any) -> None:
        kind = type(result)
        if kind is CoroutineType or (
            result is not None and kind is not Signal and kind not in _NEVER_AWAITABLE and isawaitable(result)
        ):
            result = self._begun(item, result)
        if result is not _GOES_ON:
            self._succeeded(item, result)

    # -- the end of a task -----------------------------------------------------------------------------------------

    def _succeeded(self, item: Item, result: Any) -> None:
        route, signal = item
        try:
            emitted = self._heard(route, result)
        except BaseException as error:  # a generator is the handler's own code, and may raise anything
            self._leave(route)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self._failed(item, error)
            return
        self._emit(route, signal, emitted)
        self._leave(route)

    def _heard(self, route: Route, result: Any) -> list[tuple[Signal[Any], tuple[Route, ...]]]:
        if result is None:
            return []
        emits = route.emits
        if type(result) is Signal and result.collateral in emits:
            return [(result, emits[result.collateral])]
        if type(result) is list:
            try:
                return [(signal, emits[signal.collateral]) for signal in result]
            except (AttributeError, KeyError, TypeError):
                pass  # it is told below what is wrong with it
        assert route.dendrite is not None
        return [(signal, emits[signal.collateral]) for signal in normalise_outputs(route.dendrite, result)]

    def _failed(self, item: Item, error: BaseException) -> None:
        route, signal = item
        self._failures.append(Failure(task=_task(item), error=error, aborted=self._is_aborted))
        self._tell(route, signal, None, [], error)

    def _interrupted(self, item: Item, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self._failures.append(Failure(task=_task(item), error=error, aborted=True))
            raise error
        self._failed(item, error)

    def _leave(self, route: Route) -> None:
        if route.gate is not None:
            route.gate.leave()

    # -- what comes of it --------------------------------------------------------------------------------------------

    def _emit(
        self,
        emitter: Route | None,
        cause: Signal[Any] | None,
        emitted: Sequence[tuple[Signal[Any], tuple[Route, ...]]],
    ) -> None:
        """Tell of each signal, and start those who hear it. All of their tasks count from the beginning."""
        made = [(signal, [self._made(route, signal) for route in heard]) for signal, heard in emitted]
        if emitter is not None and self._components is not None:
            self._components.leave(emitter, None if self._store is None else self.locals)
        if not made:
            self._tell(emitter, cause, None, [])
            return
        for _, items in made:
            self._limbo.update((id(item), item) for item in items)
            self._unheard += not items
        for signal, items in made:
            for item in items:
                del self._limbo[id(item)]
            self._unheard -= not items
            self._tell(emitter, cause, signal, items)

    def _made(self, route: Route, signal: Signal[Any]) -> Item:
        visits = self._visits
        if visits is not None:
            name = route.neuron.name
            visits[name] = visits.get(name, 0) + 1
            if visits[name] > (self.options.max_neuron_hops or 0):
                route = route.refused(
                    HopLimitReached(
                        f"{self}: neuron {name!r} was to be visited more than max_neuron_hops="
                        f"{self.options.max_neuron_hops} times"
                    )
                )
        if self._components is not None:
            self._components.enter(route)
        return (route, signal)

    def _tell(
        self,
        emitter: Route | None,
        cause: Signal[Any] | None,
        signal: Signal[Any] | None,
        items: list[Item],
        error: BaseException | None = None,
    ) -> None:
        """Tell the listeners of one signal, or of none, and then start its tasks."""
        if not (self._told or self._shared.responders):
            self._enter(items)
        elif self._pumping:
            self._queue.extend(items)
            self._tell_of_the_last(len(items), emitter, cause, signal, error)
        else:
            self._limbo.update((id(item), item) for item in items)
            self._held_by(self._heard_by_listeners(emitter, cause, signal, error), items)

    def _tell_of_the_last(
        self,
        count: int,
        emitter: Route | None,
        cause: Signal[Any] | None,
        signal: Signal[Any] | None,
        error: BaseException | None,
    ) -> None:
        """Tell the listeners of a signal whose tasks are in their places, the last ones of the queue. There they stay,
        unless a listener suspends.
        """
        barrier = self._heard_by_listeners(emitter, cause, signal, error)
        if barrier is not None:
            items = [self._queue.pop() for _ in range(count)][::-1]
            self._limbo.update((id(item), item) for item in items)
            self._held_by(barrier, items)

    def _heard_by_listeners(
        self,
        emitter: Route | None,
        cause: Signal[Any] | None,
        signal: Signal[Any] | None,
        error: BaseException | None,
    ) -> Barrier | None:
        pending = len(self._queue) + len(self._limbo) + len(self._lined_up) + self._unheard
        neuron = visits = None
        if emitter is not None:
            neuron = emitter.neuron
            if self._visits is not None:
                visits = self._visits.get(neuron.name, 0)
        response = Response(self, cause, signal, error, neuron, pending, self._active, visits)
        return tell(self._told + self._shared.responders, response)

    def _held_by(self, barrier: Barrier | None, items: list[Item]) -> None:
        if barrier is None or not barrier.answers:
            self._pass(barrier, items)
        else:
            self._hold(barrier, items)

    def _hold(self, barrier: Barrier, items: list[Item]) -> None:
        """Keep tasks back until async listeners have ended."""
        loop = running_loop()
        if loop is None and self._blocking:
            self._postponed.append(partial(self._hold, barrier, items))
            return
        self._barriers += 1
        self._remember(loop)

        def passed() -> None:
            self._open_turn()
            try:
                self._barriers -= 1
                self._pass(barrier, items)
            finally:
                self._close_turn()

        if barrier.begin(loop, passed, self._context):
            self._barriers -= 1
            self._pass(barrier, items)

    def _pass(self, barrier: Barrier | None, items: list[Item]) -> None:
        if barrier is not None and self._listener_error is None:
            self._listener_error = barrier.error
        for item in items:
            del self._limbo[id(item)]
        self._enter(items)

    def _enter(self, items: list[Item]) -> None:
        """Line tasks up; outside of the loop, run each with all that it starts."""
        if self._pumping:
            self._queue.extend(items)
            return
        self._limbo.update((id(item), item) for item in items)
        for item in items:
            del self._limbo[id(item)]
            self._queue.append(item)
            self._pump()

    # -- handlers that suspend -------------------------------------------------------------------------------------

    def _begun(self, item: Item, awaitable: Any) -> Any:
        """Run a handler's async part up to its first suspension. Gives what it returned if there was none; else it goes
        on, or has failed, and that is all that is to be done for it now.
        """
        loop = running_loop()
        if loop is None and self._blocking:
            self._postponed.append(partial(self._returned, item, awaitable))
            return _GOES_ON
        try:
            begun = begin(awaitable, loop, item[0].title)
            if isinstance(begun, Ended) or begun.done():
                return begun.result()
        except BaseException as error:
            self._leave(item[0])
            self._interrupted(item, error)
            return _GOES_ON
        self._suspended(item, begun)
        return _GOES_ON

    def _suspended(self, item: Item, task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()
        self._remember(loop)
        self._active += 1
        body = self._bodies[task] = _Body(item)
        if (seconds := item[0].seconds) is not None:
            body.timer = loop.call_later(seconds, body.stop, task)
        task.add_done_callback(self._body_ended, context=self._context)

    def _body_ended(self, task: asyncio.Task[Any]) -> None:
        self._open_turn()
        try:
            self._active -= 1
            body = self._bodies.pop(task)
            end = body.end(ended(task))
            if end.error is None:
                self._succeeded(body.item, end.value)
            else:
                self._leave(body.item[0])
                self._failed(body.item, end.error)
            self._pump()
        finally:
            self._close_turn()

    def _remember(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """From here on others hold this stimulation only by what it waits for; and that may be held by it alone."""
        if loop is not None and self._loop is None:
            self._loop = loop
            self._context = contextvars.copy_context()
            self._shared.running.add(self)

    # -- places in a neuron's gate -----------------------------------------------------------------------------------

    def _has_got_a_place(self, item: Item) -> bool:
        """Take a place in the neuron's gate for a task, or have it wait for one."""
        route = item[0]
        assert route.gate is not None
        loop = running_loop()
        if loop is None:
            if route.gate.try_enter():
                return True
            if self._blocking:
                self._queue.appendleft(item)
                self._postponed.append(lambda: None)
            else:
                limit = route.neuron.concurrency
                self._failed(
                    item,
                    NoEventLoop(
                        f"{_task(item)} has to wait, as {limit} handlers of its neuron run, and no event loop is running "
                        "to wake it; use cns.run(), or stimulate from async code"
                    ),
                )
            return False
        self._remember(loop)
        place = _Place(self, route.gate)
        self._lined_up[place] = item
        if route.gate.enter(place):
            del self._lined_up[place]
            return True
        return False

    def place_is_free(self, place: _Place) -> None:
        """A place was handed over, on whatever thread gave it up."""
        if self._depth and self._thread == get_ident():
            self._take_place(place)
            return
        loop = self._loop
        assert loop is not None
        try:
            if running_loop() is loop:
                loop.call_soon(self._take_place, place, context=self._context)
            else:
                loop.call_soon_threadsafe(self._take_place, place, context=self._context)
        except RuntimeError:  # its loop was closed under it: the place is for somebody else
            place.gate.leave()

    def _take_place(self, place: _Place) -> None:
        item = self._lined_up.pop(place, None)
        if item is None:
            place.gate.leave()
            return
        self._open_turn()
        try:
            route, signal = item
            self._queue.appendleft((route.with_place(), signal))
            if self._depth == 1:  # else the turn that gave the place up comes to it
                self._pump()
        finally:
            self._close_turn()

    def count_call(self) -> int:
        """The number of the call that is about to be made, from 1."""
        self._calls += 1
        return self._calls

    @property
    def locals(self) -> Locals:
        """The local contexts of its neurons."""
        if self._locals is None:
            self._locals = locals_beside(self.context_store)
        return self._locals

    def __repr__(self) -> str:
        return f"stimulation {self.id}"


class _Body:
    """An async handler that has suspended."""

    __slots__ = ("item", "overdue", "timer")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.overdue = False
        self.timer: asyncio.TimerHandle | None = None

    def stop(self, task: asyncio.Task[Any]) -> None:
        """Its ``max_duration`` is over."""
        self.overdue = True
        task.cancel()

    def end(self, end: Ended) -> Ended:
        """What it came to, seen by the clock: one that was stopped has failed, whatever it made of that."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.overdue:
            return end
        error = MaxDurationExceeded(
            f"{_task(self.item)} took longer than its max_duration of {self.item[0].seconds:g} s, and was cancelled"
        )
        error.__cause__ = end.error
        return Ended(error=error)


class _Place:
    """A task's claim to a place in a gate."""

    __slots__ = ("gate", "stimulation")

    def __init__(self, stimulation: Stimulation, gate: NeuronGate) -> None:
        self.stimulation, self.gate = stimulation, gate

    def __call__(self) -> None:
        self.stimulation.place_is_free(self)


def _task(item: Item) -> Task:
    route, signal = item
    return Task(neuron=route.neuron, collateral=route.collateral, signal=signal)


def _wake(waiter: asyncio.Future[None]) -> None:
    loop = waiter.get_loop()
    if running_loop() is loop:
        _set(waiter)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(_set, waiter)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

"""The engine of a stimulation: what runs within its turns, and in which order.

The queue is worked off by one loop, so that no chain of signals, however long, deepens the stack. The order is CNStra's
(TypeScript): what a handler emits lines up behind what is queued; what comes in from outside of the loop is run with all
that it starts, subscriber by subscriber.

It knows no store of runs and asks no retry policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from threading import get_ident
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from cnstra.orchestrator.errors import HopLimitReached, NoEventLoop
from cnstra.orchestrator.graph import Signal, normalise_outputs
from cnstra.orchestrator.stimulation.barriers import Barrier, tell
from cnstra.orchestrator.stimulation.bodies import Ended, begin, ended, running_loop
from cnstra.orchestrator.stimulation.cleanup import Components
from cnstra.orchestrator.stimulation.context import StimulationContext
from cnstra.orchestrator.stimulation.eager import start
from cnstra.orchestrator.stimulation.frontier import Body, Item, task_of
from cnstra.orchestrator.stimulation.gates import Place
from cnstra.orchestrator.stimulation.options import momentary
from cnstra.orchestrator.stimulation.plan import Route
from cnstra.orchestrator.stimulation.records import Response
from cnstra.orchestrator.stimulation.shared import Shared
from cnstra.orchestrator.stimulation.turns import Turns

if TYPE_CHECKING:
    from cnstra.orchestrator.stimulation.stimulation import Stimulation

Emitted = list[tuple[Signal[Any], tuple[Route, ...]]]
"""Signals, each with those who hear it."""

_unlimited = float("inf")
_NEVER_AWAITABLE = frozenset({Signal, list, tuple, type(None)})
_SIGNALS = frozenset({Signal})
_INTERRUPTS = (KeyboardInterrupt, SystemExit)
_GOES_ON: Any = object()


class Engine(Turns):
    """Of one stimulation."""

    __slots__ = ("_blocking", "_components", "_limit", "_pumping", "_told", "_visits")

    def __init__(self, stimulation: Stimulation, shared: Shared, *, blocking: bool) -> None:
        super().__init__(stimulation, shared)
        options = stimulation.options
        self._told = () if options.on_response is None else (options.on_response,)
        self._limit = options.concurrency or _unlimited
        self._visits: dict[str, int] | None = None if options.max_neuron_hops is None else {}
        self._components = Components(shared.plan) if shared.cns.auto_cleanup_contexts else None
        self._pumping = False
        self._blocking = blocking

    # -- turns ---------------------------------------------------------------------------------------------------

    def stimulate(self, signals: Iterable[Signal[Any]]) -> None:
        """A turn that begins with signals."""
        heard = self._shared.plan.heard
        self._open_turn()
        try:
            self._emit(None, None, [(signal, heard.get(signal.collateral, ())) for signal in signals])
        finally:
            self._close_turn()

    def activate(self, items: Iterable[Item]) -> None:
        """A turn that begins with tasks."""
        self._open_turn()
        try:
            self._enter([self._made(route, signal) for route, signal in items])
        finally:
            self._close_turn()

    def carry_on(self) -> None:
        """Go on with a turn that had to stop for want of an event loop."""
        self._open_turn()
        try:
            postponed, self._postponed = self._postponed, []
            for within_the_loop, begin_it in postponed:
                if within_the_loop:
                    self._pump((begin_it,))
                else:
                    begin_it()
        finally:
            self._close_turn()

    def _postpone(self, begin_it: Callable[[], None]) -> None:
        """Keep something until an event loop runs. What would come after it is kept, too, so that the order is the same."""
        self._postponed.append((self._pumping, begin_it))

    # -- the queue -----------------------------------------------------------------------------------------------

    def _enter(self, items: Sequence[Item]) -> None:
        """Line tasks up; outside of the loop, run each with all that it starts."""
        frontier = self.frontier
        if self._pumping:
            frontier.queue.extend(items)
        elif len(items) == 1 and not self._postponed:
            frontier.queue.append(items[0])
            self._pump()
        else:
            frontier.hold(items)
            self._enter_each(items)

    def _enter_each(self, items: Sequence[Item]) -> None:
        frontier = self.frontier
        for place, item in enumerate(items):
            if self._postponed:
                self._postpone(partial(self._enter_each, items[place:]))
                return
            frontier.release((item,))
            frontier.queue.append(item)
            self._pump()

    def _pump(self, first: Iterable[Callable[[], None]] = ()) -> None:
        """Run what can run, in order, until the rest has to wait."""
        if self._pumping:
            return
        self._pumping = True
        try:
            for begin_it in first:
                begin_it()
            self._work_off()
        finally:
            self._pumping = False

    def _work_off(self) -> None:
        frontier, shared, stimulation = self.frontier, self._shared, self._stimulation
        queue, bodies = frontier.queue, frontier.bodies
        append, take = queue.append, queue.popleft
        limit, abort, told = self._limit, self._options.abort_signal, self._told
        counted = self._visits is not None or self._components is not None
        loop = running_loop()
        while queue:
            if len(bodies) >= limit or (abort is not None and abort.is_set()) or self._abandoned or self._postponed:
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
                    result = route.call(signal.payload, route.axon, StimulationContext(stimulation, route))
                if loop is not None and type(result) is CoroutineType:
                    task = start(loop, result, route.title)
                    if not task.done():
                        self._suspended(item, task)
                        continue
                    result = task.result()
            except BaseException as error:
                self._failed(item, error)
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
        """Run a task that may not run, or not yet."""
        route, signal = item
        if route.refusal is not None:
            self._failed(item, route.refusal)
        elif route.has_place or self._has_got_a_place(item):
            try:
                result = route.called(signal.payload, partial(StimulationContext, self._stimulation, route))
            except BaseException as error:
                self._failed(item, error)
            else:
                self._returned(item, result)

    # -- the end of a task ---------------------------------------------------------------------------------------

    def _returned(self, item: Item, result: Any) -> None:
        if type(result) not in _NEVER_AWAITABLE and isawaitable(result):
            result = self._begun(item, result)
        if result is not _GOES_ON:
            self._succeeded(item, result)

    def _succeeded(self, item: Item, result: Any) -> None:
        route, signal = item
        try:
            emitted = _heard(route, result)
        except BaseException as error:  # a generator is the handler's own code, and may raise anything
            self._failed(item, error)
            return
        try:
            self._emit(route, signal, emitted)
        finally:  # a listener's interrupt comes through here, and the CNS may be used after it
            self._leave(route)

    def _failed(self, item: Item, error: BaseException) -> None:
        route, signal = item
        self._leave(route)
        interrupt = isinstance(error, _INTERRUPTS)
        self._stimulation._note_failure(item, error, aborted=interrupt or self._is_aborted)
        if interrupt:
            raise error
        self._tell(route, signal, None, [], error)

    def _stopped(self, item: Item, interrupt: BaseException) -> None:
        """An interrupt came out of a suspended handler. asyncio has raised it out of the event loop already, which is
        being taken down, or goes on by the user's leave: nothing more starts here.
        """
        self._leave(item[0])
        self._stimulation._note_failure(item, interrupt, aborted=True)
        self._abandoned = True

    # -- what comes of it ----------------------------------------------------------------------------------------

    def _emit(self, emitter: Route | None, cause: Signal[Any] | None, emitted: Emitted) -> None:
        """Tell of each signal, and start those who hear it. All of their tasks count from the beginning."""
        silent = not (self._told or self._shared.responders) and self._visits is None and self._components is None
        if silent and (self._pumping or len(emitted) <= 1):
            self._enter([(route, signal) for signal, heard in emitted for route in heard])
            return
        made = [(signal, [self._made(route, signal) for route in heard]) for signal, heard in emitted]
        if emitter is not None and self._components is not None:
            self._components.leave(emitter, self._stimulation._known_locals)
        if not made:
            self._tell(emitter, cause, None, [])
            return
        frontier = self.frontier
        for _, items in made:
            frontier.hold(items)
            frontier.unheard += not items
        self._tell_each(emitter, cause, made)

    def _tell_each(
        self, emitter: Route | None, cause: Signal[Any] | None, made: Sequence[tuple[Signal[Any], list[Item]]]
    ) -> None:
        frontier = self.frontier
        for place, (signal, items) in enumerate(made):
            if self._postponed:
                self._postpone(partial(self._tell_each, emitter, cause, made[place:]))
                return
            frontier.release(items)
            frontier.unheard -= not items
            self._tell(emitter, cause, signal, items)

    def _made(self, route: Route, signal: Signal[Any]) -> Item:
        visits = self._visits
        if visits is not None:
            name, most = route.neuron.name, self._options.max_neuron_hops or 0
            visits[name] = visits.get(name, 0) + 1
            if visits[name] > most:
                error = HopLimitReached(
                    f"{self._stimulation}: neuron {name!r} was to be visited more often than max_neuron_hops={most} allows"
                )
                route = route.refused(error)
        if self._components is not None:
            self._components.enter(route)
        return (route, signal)

    def _tell(
        self,
        emitter: Route | None,
        cause: Signal[Any] | None,
        signal: Signal[Any] | None,
        items: Sequence[Item],
        error: BaseException | None = None,
    ) -> None:
        """Tell the listeners of one signal, or of none, and then start its tasks."""
        if not (self._told or self._shared.responders):
            self._enter(items)
        elif self._pumping:
            self.frontier.queue.extend(items)
            self._tell_of_the_last(len(items), emitter, cause, signal, error)
        else:
            self.frontier.hold(items)
            self._pass_or_hold(self._told_listeners(emitter, cause, signal, error), items)

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
        barrier = self._told_listeners(emitter, cause, signal, error)
        if barrier is not None:
            items = [self.frontier.queue.pop() for _ in range(count)][::-1]
            self.frontier.hold(items)
            self._pass_or_hold(barrier, items)

    def _told_listeners(
        self,
        emitter: Route | None,
        cause: Signal[Any] | None,
        signal: Signal[Any] | None,
        error: BaseException | None,
    ) -> Barrier | None:
        frontier = self.frontier
        neuron = visits = None
        if emitter is not None:
            neuron = emitter.neuron
            if self._visits is not None:
                visits = self._visits.get(neuron.name, 0)
        active = len(frontier.bodies)
        response = Response(self._stimulation, cause, signal, error, neuron, frontier.pending, active, visits)
        return tell(self._told + self._shared.responders, response)

    def _pass_or_hold(self, barrier: Barrier | None, items: Sequence[Item]) -> None:
        if barrier is None or not barrier.answers:
            self._pass(barrier, items)
            return
        loop = running_loop()
        if loop is None and self._blocking:
            self._postpone(partial(self._pass_or_hold, barrier, items))
            return
        self._barriers += 1
        self._remember(loop)
        if barrier.begin(loop, partial(self._barrier_ended, barrier, items), self._context):
            self._barriers -= 1
            self._pass(barrier, items)

    def _barrier_ended(self, barrier: Barrier, items: Sequence[Item]) -> None:
        self._open_turn()
        try:
            self._barriers -= 1
            self._pass(barrier, items)
        finally:
            self._close_turn()

    def _pass(self, barrier: Barrier | None, items: Sequence[Item]) -> None:
        if barrier is not None:
            self._stimulation._note_listener_error(barrier.error)
        self.frontier.release(items)
        self._enter(items)

    # -- handlers that suspend -----------------------------------------------------------------------------------

    def _begun(self, item: Item, awaitable: Any) -> Any:
        """Run a handler's async part up to its first suspension. Gives what it returned if there was none; else it goes
        on, or has failed, and nothing is to be done for it now.
        """
        loop = running_loop()
        if loop is None and self._blocking:
            self.frontier.hold((item,))  # its body has not begun: it is pending still
            self._postpone(partial(self._begun_late, item, awaitable))
            return _GOES_ON
        try:
            begun = begin(awaitable, loop, item[0].title)
            if isinstance(begun, Ended) or begun.done():
                return begun.result()
        except BaseException as error:
            self._failed(item, error)
            return _GOES_ON
        self._suspended(item, begun)
        return _GOES_ON

    def _begun_late(self, item: Item, awaitable: Any) -> None:
        self.frontier.release((item,))
        self._returned(item, awaitable)

    def _suspended(self, item: Item, task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()
        self._remember(loop)
        body = self.frontier.bodies[task] = Body(item)
        if (seconds := item[0].seconds) is not None:
            body.timer = loop.call_later(seconds, body.stop, task)
        task.add_done_callback(self._body_ended, context=self._context)

    def hear(self) -> None:
        """A heartbeat: where the task is that of a handler, its ``max_duration`` counts from here on."""
        loop = running_loop()
        task = None if loop is None else asyncio.current_task(loop)
        body = None if task is None else self.frontier.bodies.get(task)
        if loop is not None and body is not None:
            body.heard = loop.time()

    def _body_ended(self, task: asyncio.Task[Any]) -> None:
        self._open_turn()
        try:
            body = self.frontier.bodies.pop(task)
            end = body.end(ended(task))
            if end.error is None:
                self._succeeded(body.item, end.value)
            elif isinstance(end.error, _INTERRUPTS):
                self._stopped(body.item, end.error)
            else:
                self._failed(body.item, end.error)
            self._pump()
        finally:
            self._close_turn()

    # -- places in a neuron's gate -------------------------------------------------------------------------------

    def _has_got_a_place(self, item: Item) -> bool:
        """Take a place in the neuron's gate for a task, or have it wait for one."""
        gate = item[0].gate
        assert gate is not None
        loop = running_loop()
        if loop is None:
            return gate.try_enter() or self._cannot_wait(item)
        self._remember(loop)
        place = Place(gate, self._place_is_free)
        self.frontier.lined_up[place] = item
        if gate.enter(place):
            del self.frontier.lined_up[place]
            return True
        return False

    def _cannot_wait(self, item: Item) -> bool:
        if self._blocking:
            self.frontier.queue.appendleft(item)
            self._postpone(_nothing)
            return False
        error = NoEventLoop(
            f"{task_of(item)} has to wait for {item[0].neuron.concurrency} others of its neuron, and no event loop is "
            "running to wake it; use cns.run(), or stimulate from async code"
        )
        route = item[0].refused(error)
        self._failed((route, item[1]), error)
        return False

    def _place_is_free(self, place: Place) -> None:
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

    def _take_place(self, place: Place) -> None:
        item = self.frontier.lined_up.pop(place, None)
        if item is None:
            place.gate.leave()
            return
        self._open_turn()
        try:
            route, signal = item
            self.frontier.put_with_place((route.with_place(), signal))
            if self._depth == 1:  # else the turn that gave the place up comes to it
                self._pump()
        finally:
            self._close_turn()


def _heard(route: Route, result: Any) -> Emitted:
    """What a handler returned, as signals with those who hear them. Raises OutputError."""
    if result is None:
        return []
    emits = route.emits
    if type(result) is Signal and result.collateral in emits:
        return [(result, emits[result.collateral])]
    if type(result) is list and _SIGNALS.issuperset(map(type, result)):
        with suppress(KeyError):  # what is wrong with it is told below
            return [(signal, emits[signal.collateral]) for signal in result]
    assert route.dendrite is not None
    signals: list[Signal[Any]] = [momentary(emission) for emission in normalise_outputs(route.dendrite, result)]
    return [(signal, emits[signal.collateral]) for signal in signals]


def _nothing() -> None:
    return None

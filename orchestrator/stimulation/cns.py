"""The CNS, as users have it: a graph that can also be run inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from typing_extensions import Unpack

from cnstra.orchestrator.errors import StimulationError
from cnstra.orchestrator.graph import CNS as Graph
from cnstra.orchestrator.graph import Signal
from cnstra.orchestrator.stimulation.bodies import running_loop
from cnstra.orchestrator.stimulation.options import OnDrain, OnResponse, StimulateOptions, checked, initial
from cnstra.orchestrator.stimulation.records import Failure, Task
from cnstra.orchestrator.stimulation.shared import Shared
from cnstra.orchestrator.stimulation.stimulation import Stimulation
from cnstra.orchestrator.stimulation.tasks import items_of

_making = Lock()


class CNS(Graph):
    """A graph of neurons.

    ``name`` is needed to run it durably; ``version`` pins its runs to workers that have this version, and
    defaults to the graph's fingerprint, which pins nothing. ``services`` is handed to handlers as
    ``ctx.services``. ``retry`` is the policy of its runs, ``context`` the declared type of the state that a
    run's neurons share. ``auto_cleanup_contexts`` has local contexts deleted, within one process, as soon as no signal
    under way can reach their neuron again.
    """

    __slots__ = ("_shared",)

    _shared: Shared

    def stimulate(
        self, signals: Signal[Any] | Iterable[Signal[Any]], **options: Unpack[StimulateOptions]
    ) -> Stimulation:
        """Run the graph in this process, from one signal or several.

        Everything that runs without waiting has run when this returns; the rest goes on in the event loop that is
        running. Raises StimulationError for signals or options that cannot be, and no error of a handler:
        ``wait_until_complete`` does that.
        """
        first = initial(signals)
        stimulation = self._stimulation(first, options)
        stimulation._begin(first)
        return stimulation

    def run(self, signals: Signal[Any] | Iterable[Signal[Any]], **options: Unpack[StimulateOptions]) -> Stimulation:
        """Run the graph to its end, blocking; starts an event loop if something has to wait.

        Raises what ``wait_until_complete`` raises, and StimulationError inside a running event loop.
        """
        if running_loop() is not None:
            raise StimulationError(
                "cns.run() would block the event loop that runs here; use await cns.stimulate(...).wait_until_complete()"
            )
        first = initial(signals)
        stimulation = self._stimulation(first, options, blocking=True)
        stimulation._begin(first)
        if not stimulation.is_complete:
            asyncio.run(stimulation._to_the_end())
        stimulation._check()
        return stimulation

    def activate(self, tasks: Iterable[Task | Failure], **options: Unpack[StimulateOptions]) -> Stimulation:
        """Run tasks: those that failed in another stimulation, or that were outstanding when it was saved.

        With ``ctx=`` the context store of that stimulation they go on from what it had written. A task whose neuron has
        no dendrite on its collateral fails. Raises StimulationError for what is no task.
        """
        items = items_of(tasks, self._engine.plan)
        self._engine.refuse_transactions(route for route, _ in items)
        stimulation = Stimulation(self._engine, checked(options))
        stimulation._resume(items)
        return stimulation

    def add_response_listener(self, listener: OnResponse) -> Callable[[], None]:
        """Have a function told of every response of every stimulation. Gives what removes it again."""
        return self._engine.add_responder(listener)

    def add_drain_listener(self, listener: OnDrain) -> Callable[[], None]:
        """Have a function told of the end of every synchronous turn. Gives what removes it again."""
        return self._engine.add_drainer(listener)

    def _stimulation(
        self, first: Iterable[Signal[Any]], options: StimulateOptions, *, blocking: bool = False
    ) -> Stimulation:
        """One that has not begun."""
        self._engine.refuse_namesakes(first)
        heard = self._engine.plan.heard
        self._engine.refuse_transactions(route for signal in first for route in heard.get(signal.collateral, ()))
        return Stimulation(self._engine, checked(options), blocking=blocking)

    @property
    def _engine(self) -> Shared:
        try:
            return self._shared
        except AttributeError:
            with _making:
                if not hasattr(self, "_shared"):
                    self._build(_shared=Shared(self))
            return self._shared

"""What all stimulations of one CNS in a process share: its routes and gates, its listeners, and who is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from threading import Lock
from typing import TYPE_CHECKING, Any

from cnstra.orchestrator.errors import StimulationError
from cnstra.orchestrator.graph import CNS as Graph
from cnstra.orchestrator.graph import Signal
from cnstra.orchestrator.stimulation.options import OnDrain, OnResponse
from cnstra.orchestrator.stimulation.plan import Plan, Route

if TYPE_CHECKING:
    from cnstra.orchestrator.stimulation.stimulation import Stimulation


class Shared:
    """Of one CNS. Its listeners are replaced as a whole, so that whoever is telling them needs no lock."""

    __slots__ = ("_drainers", "_lock", "_responders", "cns", "drainers", "plan", "responders", "running")

    responders: tuple[OnResponse, ...]
    drainers: tuple[OnDrain, ...]
    running: set[Stimulation]
    """Those that wait for something: nobody else may hold them."""

    def __init__(self, cns: Graph) -> None:
        self.cns = cns
        self.plan = Plan(cns)
        self.running = set()
        self._lock = Lock()
        self._responders: dict[object, OnResponse] = {}
        self._drainers: dict[object, OnDrain] = {}
        self.responders = ()
        self.drainers = ()

    def refuse_namesakes(self, signals: Iterable[Signal[Any]]) -> None:
        """Refuse signals on a collateral that has the name of one in the graph, and is another: nobody would hear it."""
        for signal in signals:
            if signal.collateral not in self.plan.heard:
                known = self.cns.collateral(signal.collateral.name)
                if known is not None:
                    raise StimulationError(
                        f"the signal is on another collateral that is named {known.name!r} too, made at "
                        f"{signal.collateral.defined_at}; use the one of the graph, made at {known.defined_at}"
                    )

    def refuse_transactions(self, first: Iterable[Route]) -> None:
        """Refuse what can reach a handler that needs the transaction of a durable hop, before anything has run."""
        if found := self.plan.transactional(first):
            named = ", ".join(f"neuron {one.neuron.name!r} on {one.collateral.name!r}" for one in found)
            raise StimulationError(
                f"{named}: transaction=True needs a durable run, and the signals reach it; submit them, or call the handler "
                "itself in a test"
            )

    def add_responder(self, listener: OnResponse) -> Callable[[], None]:
        """Add a response listener; gives its remover."""
        _check(listener, "response")
        return self._add(self._responders, listener)

    def add_drainer(self, listener: OnDrain) -> Callable[[], None]:
        """Add a drain listener; gives its remover."""
        _check(listener, "drain")
        refuse_async(listener, "a drain listener")
        return self._add(self._drainers, listener)

    def _add(self, listeners: dict[object, Any], listener: Any) -> Callable[[], None]:
        registration = object()  # each add is its own, also of the same function
        with self._lock:
            listeners[registration] = listener
            self._publish()

        def remove() -> None:
            with self._lock:
                listeners.pop(registration, None)
                self._publish()

        return remove

    def _publish(self) -> None:
        self.responders = tuple(self._responders.values())
        self.drainers = tuple(self._drainers.values())


def _check(listener: object, kind: str) -> None:
    if not callable(listener):
        raise StimulationError(f"a {kind} listener must be a function, got {type(listener).__name__}")


def refuse_async(listener: object, what: str) -> None:
    """Raise StimulationError for a coroutine function, where nobody would await it."""
    if iscoroutinefunction(listener):
        raise StimulationError(f"{what} must be a plain function: nothing waits for it; use a response listener")

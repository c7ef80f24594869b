"""Where flows run, what all of them need, and the two drivers: blocking and async."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from cnstra.orchestrator.blobs import Blobs
from cnstra.orchestrator.driving import driven, driven_async
from cnstra.orchestrator.errors import CnstraError, ConfigurationError, RunNotFound, SubmitError
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.ports import Entropy, Foresee, Ring
from cnstra.orchestrator.store import Operations

T = TypeVar("T")
Flow = Generator[Any, Any, T]

FIRST_PAUSE = 0.005
"""Seconds between the first two looks at what has not come yet; each pause is longer than the one before."""
LONGEST_PAUSE = 0.25


class World(Protocol):
    """Where flows run: each method gives its result, or an awaitable of it."""

    def run(self, operation: Any, /) -> Any: ...
    def run_in(self, connection: Any, operation: Any, /) -> Any: ...
    def ring(self, rings: Sequence[Ring], /) -> Any: ...
    def call(self, blocking: Callable[[], Any], /) -> Any: ...
    def sleep(self, seconds: float, /) -> Any: ...
    def monotonic(self) -> float: ...


def drive(flow: Flow[T]) -> T:
    """Run a flow in a blocking world, which has done what the flow asks when it is asked."""
    return driven(flow, lambda done: done)


async def drive_async(flow: Flow[T]) -> T:
    """Run a flow in an async world."""
    return await driven_async(flow, lambda awaitable: awaitable)


class Flowing:
    """What all flows stand on. ``cns`` is needed to submit, and decodes payloads and context where it is given.

    ``blobs``, where given, is the store of the user's own in which new runs keep their contexts. ``foresee`` is what makes the
    world ready to ring.
    """

    def __init__(
        self,
        cns: CNS | None,
        operations: Operations,
        world: World,
        entropy: Entropy,
        blobs: Blobs | None = None,
        foresee: Foresee | None = None,
    ) -> None:
        if cns is not None and not isinstance(cns, CNS):
            raise ConfigurationError(
                f"{cns!r} is no CNS; give the graph itself, CNS([...], name='shop'), or leave it out"
            )
        self._cns = cns
        self._operations = operations
        self._world = world
        self._entropy = entropy
        self._blobs = blobs
        self._foresee = foresee
        self._checked = False

    @property
    def world(self) -> World:
        """Where these flows run."""
        return self._world

    def _run(self, operation: Any) -> Flow[Any]:
        if not self._checked:
            yield self._world.run(self._operations.check_schema())
            self._checked = True
        return (yield self._world.run(operation))

    def _graph(self, doing: str = "submitting", error: type[CnstraError] = SubmitError) -> CNS:
        if self._cns is None:
            raise error(f"{doing} needs the graph: Orchestrator(cns, ...)")
        return self._cns

    def row(self, run_id: uuid.UUID) -> Flow[Mapping[str, Any]]:
        """The run's row of ``cnstra.runs``. Raises ``RunNotFound``."""
        found = yield from self._run(self._operations.run_row(run_id))
        if found is None:
            raise not_found(run_id)
        return cast("Mapping[str, Any]", found)


def not_found(run_id: uuid.UUID) -> RunNotFound:
    """What is said of a run that is not stored, or not any more."""
    return RunNotFound(
        f"no run {run_id} is stored here: it never was, or it was pruned after its end, by hand or by `cnstra retention`; "
        "look at `cnstra runs`, and at CNSTRA_DATABASE_URL"
    )

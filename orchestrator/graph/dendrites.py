"""Dendrites: handlers bound to one incoming collateral of one neuron.

A dendrite is made by ``Neuron.dendrite`` and known by (neuron, collateral). It stays callable like its
handler, so that a unit test can call the handler with whatever arguments it likes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, overload

from tenacity import BaseRetrying
from typing_extensions import ParamSpec, TypeVar

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.axons import Axon
from cnstra.orchestrator.graph.collaterals import Collateral, Signal
from cnstra.orchestrator.graph.compensations import Compensate, Compensation, check_options, make_compensation
from cnstra.orchestrator.graph.expectations import Expectation
from cnstra.orchestrator.graph.groups import Gathering
from cnstra.orchestrator.graph.options import OnConflict
from cnstra.orchestrator.graph.scatters import Scatter

if TYPE_CHECKING:
    from cnstra.orchestrator.context import Context
    from cnstra.orchestrator.graph.neurons import Neuron

Emission = Signal[Any] | Scatter[Any] | Expectation
"""One thing that a handler gives back."""
Returned = Emission | Iterable[Emission] | None
"""What a handler gives back: a signal, a scatter or an expectation, several of them, or None."""

P = TypeVar("P")
A = TypeVar("A", bound=Axon)
L = TypeVar("L", default=Any)
R = TypeVar("R", bound="Returned | Awaitable[Returned]", default=Any)
Q = ParamSpec("Q", default=...)
X = TypeVar("X", default=P)
"""What the handler is called with: the payload; of a gather, the list of results."""
Y = TypeVar("Y")
N = TypeVar("N", bound="Awaitable[None] | None")

_NONE_YET: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Dendrite(Generic[P, A, L, Q, R, X]):
    """A handler that answers to one collateral of one neuron."""

    neuron: Neuron[A, L]
    collateral: Collateral[P]
    name: str
    handler: Callable[Q, R]
    arity: int
    """How many of (payload, axon, ctx) the handler takes."""
    is_async: bool
    """Whether the handler is a coroutine function. One that is not may still return an awaitable, as a lambda
    may.
    """
    retry: BaseRetrying | None
    """Its own policy, else its neuron's, else None."""
    max_duration: timedelta | None
    """Its own limit, else its neuron's, else None."""
    on_conflict: OnConflict
    merge: Callable[[Any, Any, Any], Any] | None
    """``(mine, theirs, base)`` when ``on_conflict`` is a function."""
    transaction: bool
    """Whether the handler has a connection of its own, and commits there with the hop."""
    call: Callable[[Any, Any, Any], Any]
    """Calls the handler with as many of (payload, axon, ctx) as it takes, and gives back what it returns. A gather's
    takes the results in the place of the payload.
    """
    together: tuple[str, ...]
    """The collaterals, its own among them, that its handler was registered for at once: they share a compensation."""
    gathering: Gathering | None = None
    """What it gathers; None for what is no gather."""

    @property
    def compensation(self) -> Compensation | None:
        """What undoes its activations, if anything does."""
        return self.neuron.compensations.get(self.collateral.name)

    @overload
    def compensate(
        self,
        handler: Callable[[X], N],
        /,
        *,
        retry: BaseRetrying | None = None,
        uncertain: bool = False,
        max_duration: timedelta | None = None,
    ) -> Callable[[X], N]: ...
    @overload
    def compensate(
        self,
        handler: Callable[[X, Context[Any, L]], N],
        /,
        *,
        retry: BaseRetrying | None = None,
        uncertain: bool = False,
        max_duration: timedelta | None = None,
    ) -> Callable[[X, Context[Any, L]], N]: ...
    @overload
    def compensate(
        self,
        handler: Callable[[X, Context[Any, L], list[Signal[Any]]], N],
        /,
        *,
        retry: BaseRetrying | None = None,
        uncertain: bool = False,
        max_duration: timedelta | None = None,
    ) -> Callable[[X, Context[Any, L], list[Signal[Any]]], N]: ...
    @overload
    def compensate(
        self,
        /,
        *,
        retry: BaseRetrying | None = None,
        uncertain: bool = False,
        max_duration: timedelta | None = None,
    ) -> Compensate[X, L]: ...
    def compensate(
        self,
        handler: Any = _NONE_YET,
        /,
        *,
        retry: BaseRetrying | None = None,
        uncertain: bool = False,
        max_duration: timedelta | None = None,
    ) -> Any:
        """Decorate the function that undoes this dendrite's finished activations; it gives back the function.

        It takes (payload), (payload, ctx) or (payload, ctx, outputs), where ``outputs`` is the list of signals that the
        activation emitted, and emits nothing itself. ``retry`` is its policy, without which it has the default one;
        ``max_duration`` goes before the dendrite's. ``uncertain=True`` has it called, too, for tries that started and
        never committed. Durable runs compensate; within one process nothing does. Raises GraphError or PolicyError.
        """
        where = f"neuron {self.neuron.name!r}, compensation of {self.name} on {self.collateral.name!r}"
        options = check_options(retry, uncertain, max_duration, where)

        def register(given: Any, /) -> Any:
            if isinstance(given, Dendrite):
                raise GraphError(f"{where}: {given.name} is a dendrite, which emits; give a function of its own")
            made = make_compensation(given, options, self.max_duration, where)
            self.neuron.add_compensation(self.together, made)
            return given

        return register if handler is _NONE_YET else register(handler)

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """Call the handler itself, as it was written."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        kind = "dendrite" if self.gathering is None else "gather"
        return f"<{kind} {self.name} of neuron {self.neuron.name!r} on {self.collateral.name!r}>"


class Register(Protocol[P, A, L]):
    """The decorator that ``Neuron.dendrite`` gives: one overload for each number of arguments.

    A union of callables instead would lose the check of lambdas.
    """

    @overload
    def __call__(self, handler: Callable[[P], R], /) -> Dendrite[P, A, L, [P], R]: ...
    @overload
    def __call__(self, handler: Callable[[P, A], R], /) -> Dendrite[P, A, L, [P, A], R]: ...
    @overload
    def __call__(
        self, handler: Callable[[P, A, Context[Any, L]], R], /
    ) -> Dendrite[P, A, L, [P, A, Context[Any, L]], R]: ...


class RegisterGather(Protocol[P, Y, A, L]):
    """The decorator that ``Neuron.gather`` gives. ``Y`` is what a result may be: a payload, or a failure as well."""

    @overload
    def __call__(self, handler: Callable[[list[Y]], R], /) -> Dendrite[P, A, L, [list[Y]], R, list[Y]]: ...
    @overload
    def __call__(self, handler: Callable[[list[Y], A], R], /) -> Dendrite[P, A, L, [list[Y], A], R, list[Y]]: ...
    @overload
    def __call__(
        self, handler: Callable[[list[Y], A, Context[Any, L]], R], /
    ) -> Dendrite[P, A, L, [list[Y], A, Context[Any, L]], R, list[Y]]: ...

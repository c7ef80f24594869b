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

from cnstra.orchestrator.graph.axons import Axon
from cnstra.orchestrator.graph.collaterals import Collateral, Signal
from cnstra.orchestrator.graph.options import OnConflict

if TYPE_CHECKING:
    from cnstra.orchestrator.context import Context
    from cnstra.orchestrator.graph.neurons import Neuron

Returned = Signal[Any] | Iterable[Signal[Any]] | None
"""What a handler gives back: a signal, several, or None."""

P = TypeVar("P")
A = TypeVar("A", bound=Axon)
L = TypeVar("L", default=Any)
R = TypeVar("R", bound="Returned | Awaitable[Returned]", default=Any)
Q = ParamSpec("Q", default=...)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Dendrite(Generic[P, A, L, Q, R]):
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
    """Calls the handler with as many of (payload, axon, ctx) as it takes, and gives back what it returns."""

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """Call the handler itself, as it was written."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<dendrite {self.name} of neuron {self.neuron.name!r} on {self.collateral.name!r}>"


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

"""Compensations: what undoes a finished activation, registered on its dendrite.

It describes; a durable run carries it out, within one process nothing is compensated. A compensation emits nothing, so
generators are refused besides what is refused of handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, overload

from tenacity import BaseRetrying
from typing_extensions import TypeVar

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.collaterals import Signal
from cnstra.orchestrator.graph.handlers import inspect_compensation
from cnstra.orchestrator.graph.options import check_max_duration, check_retry

if TYPE_CHECKING:
    from cnstra.orchestrator.context import Context

X = TypeVar("X")
L = TypeVar("L", default=Any)
N = TypeVar("N", bound="Awaitable[None] | None")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """What undoes the finished activations of one dendrite."""

    name: str
    """The function's."""
    handler: Callable[..., Any]
    is_async: bool
    """Whether the handler is a coroutine function. One that is not may still return an awaitable, as a lambda may."""
    call: Callable[[Any, Any, Any], Any]
    """Calls the handler with as many of (payload, ctx, outputs) as it takes, and gives back what it returns."""
    retry: BaseRetrying | None
    """Its own policy; None is the default one."""
    max_duration: timedelta | None
    """Its own limit, else its dendrite's."""
    uncertain: bool
    """Whether it also undoes tries that started and never committed."""


class Compensate(Protocol[X, L]):
    """The decorator that ``Dendrite.compensate`` gives when it is called with options. It gives the function back."""

    @overload
    def __call__(self, handler: Callable[[X], N], /) -> Callable[[X], N]: ...
    @overload
    def __call__(self, handler: Callable[[X, Context[Any, L]], N], /) -> Callable[[X, Context[Any, L]], N]: ...
    @overload
    def __call__(
        self, handler: Callable[[X, Context[Any, L], list[Signal[Any]]], N], /
    ) -> Callable[[X, Context[Any, L], list[Signal[Any]]], N]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a compensation, checked."""

    retry: BaseRetrying | None
    uncertain: bool
    max_duration: timedelta | None


def check_options(retry: Any, uncertain: Any, max_duration: Any, where: str) -> Options:
    """Raises GraphError or PolicyError, naming ``where``."""
    if not isinstance(uncertain, bool):
        raise GraphError(f"{where}: uncertain= must be True or False, got {uncertain!r}")
    return Options(
        retry=check_retry(retry, where), uncertain=uncertain, max_duration=check_max_duration(max_duration, where)
    )


def make_compensation(
    handler: Any, options: Options, dendrites_max_duration: timedelta | None, where: str
) -> Compensation:
    """A checked compensation. Raises GraphError."""
    checked = inspect_compensation(handler, where)
    return Compensation(
        name=checked.name,
        handler=handler,
        is_async=checked.is_async,
        call=checked.call,
        retry=options.retry,
        max_duration=options.max_duration or dendrites_max_duration,
        uncertain=options.uncertain,
    )

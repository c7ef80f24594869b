"""Collaterals, the named and typed channels of a graph, and the signals that travel on them.

There is no registry: a collateral is known by its object, and its name is unique within one CNS only. A
collateral whose payload type cannot be stored is refused when it is made. ``create_signal`` looks at the
outer type alone, because it runs on every hop; all of a payload is checked where it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Generic, overload

import msgspec
from typing_extensions import TypeVar

from cnstra.orchestrator.graph.fixed import Fixed, calling_place
from cnstra.orchestrator.graph.names import check_name
from cnstra.orchestrator.graph.payload import PayloadType
from cnstra.orchestrator.graph.scatters import Scatter, make_scatter
from cnstra.orchestrator.graph.timers import checked_timer

P = TypeVar("P")


class Signal(msgspec.Struct, Generic[P], frozen=True):
    """One message: the collateral that it travels on, and what it carries. Made by
    ``Collateral.create_signal``.
    """

    # A msgspec.Struct because it is made in a sixth of the time of a frozen dataclass, once for every hop.
    collateral: Collateral[P]
    payload: P


class TimedSignal(Signal[P], frozen=True):
    """A signal whose dendrites are to be called after ``delay``, from the commit of the hop that emits it, or ``at`` a
    time.
    """

    delay: timedelta | None = None
    at: datetime | None = None


class Collateral(Fixed, Generic[P]):
    """A named, typed channel. Made by ``collateral()``."""

    __slots__ = ("_exact_class", "defined_at", "name", "payload", "payload_type")

    name: str
    payload_type: Any
    """The declared type, as it was given; None when the collateral carries nothing."""
    payload: PayloadType
    """Checks, writes and reads payloads of the declared type."""
    defined_at: str
    """``file:line`` where the collateral was made."""
    _exact_class: type | None

    def __init__(self, name: str, payload_type: Any = None) -> None:
        name = check_name(name, "collateral")
        payload = PayloadType(payload_type, f"collateral {name!r}")
        self._build(
            name=name,
            payload_type=payload_type,
            payload=payload,
            defined_at=calling_place(),
            _exact_class=payload.exact_class,
        )

    @overload
    def create_signal(
        self: Collateral[None], payload: None = None, *, delay: timedelta | None = None, at: datetime | None = None
    ) -> Signal[None]: ...
    @overload
    def create_signal(self, payload: P, *, delay: timedelta | None = None, at: datetime | None = None) -> Signal[P]: ...
    def create_signal(
        self, payload: Any = None, *, delay: timedelta | None = None, at: datetime | None = None
    ) -> Signal[Any]:
        """A signal on this collateral; raises PayloadError when the outer type of the payload is another.

        In a durable run the signal may wait: ``delay`` from the commit of the hop that emits it (a timedelta up to a
        century), or until ``at`` (an aware datetime; one that has passed is now). Raises TimerError for a wait that
        cannot be.
        """
        if type(payload) is not self._exact_class:
            self.payload.check(payload)
        if delay is None and at is None:
            return Signal(self, payload)
        delay, at = checked_timer(delay, at, f"a signal on {self.name!r}")
        return TimedSignal(self, payload, delay, at)

    def scatter(self, payloads: Iterable[P], *, limit: int | None = None) -> Scatter[P]:
        """A fan-out as one group, for a handler to return: one member a payload, at most ``limit`` of them at once.

        Its gathers are called once, when everything that the members led to has ended; with no payloads at once. In a
        durable run only. Raises PayloadError when ``payloads`` is no iterable, or when the outer type of one is another,
        and OutputError for a limit that is no whole number from 1.
        """
        return make_scatter(self, payloads, limit)

    def __repr__(self) -> str:
        if self.payload_type is None:
            return f"collateral({self.name!r})"
        return f"collateral({self.name!r}, {self.payload.expected})"

    def __copy__(self) -> Collateral[P]:
        return self

    def __deepcopy__(self, memo: object, /) -> Collateral[P]:
        # A copy would be another channel: signals on it would be refused by the axon of the first.
        return self


@overload
def collateral(name: str, payload_type: None = None) -> Collateral[None]: ...
@overload
def collateral(name: str, payload_type: type[P]) -> Collateral[P]: ...
@overload
def collateral(name: str, payload_type: Any) -> Collateral[Any]: ...
def collateral(name: str, payload_type: Any = None) -> Collateral[Any]:
    """Make a channel called ``name`` that carries ``payload_type``, or nothing.

    Raises GraphError for a name that cannot be used and for a type that has no exact JSON form. Type checkers
    see ``Collateral[Order]`` for a class and ``Collateral[Any]`` for a union; annotate the variable to narrow
    the latter.
    """
    return Collateral(name, payload_type)

"""Scatters: many payloads on one collateral, sent as one group that a gather can wait for.

It describes the fan-out; a durable run carries it out. Refused are payloads of another type, what is one thing and no
several (a text, bytes, a dict), and a limit that is no whole number from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from cnstra.orchestrator.errors import OutputError, PayloadError

if TYPE_CHECKING:
    from cnstra.orchestrator.graph.collaterals import Collateral

P = TypeVar("P")

_ONE_THING = (str, bytes, bytearray, Mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter(Generic[P]):
    """A fan-out as one group, to be returned by a handler. Made by ``Collateral.scatter``."""

    collateral: Collateral[P]
    payloads: tuple[P, ...] = field(repr=False)
    """One for each member of the group, in order; there may be none."""
    limit: int | None
    """How many members run at once; None is no limit."""


def make_scatter(collateral: Collateral[P], payloads: Iterable[P], limit: int | None) -> Scatter[P]:
    """A scatter whose payloads fit the collateral by their outer type. Raises PayloadError or OutputError."""
    where = f"a scatter on {collateral.name!r}"
    if isinstance(payloads, _ONE_THING) or not isinstance(payloads, Iterable):
        raise PayloadError(
            f"{where} takes a list of payloads, or another iterable of them, got {type(payloads).__name__}; for a "
            "single payload give a list of one"
        )
    members = tuple(payloads)
    for index, payload in enumerate(members):
        try:
            collateral.payload.check(payload)
        except PayloadError as error:
            raise PayloadError(f"{where}, payload {index} of {len(members)}: {error}") from None
    return Scatter(collateral=collateral, payloads=members, limit=_checked_limit(limit, where))


def _checked_limit(limit: Any, where: str) -> int | None:
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise OutputError(f"{where}: limit= must be a whole number from 1, or None for no limit, got {limit!r}")
    if limit < 1:
        raise OutputError(f"{where}: limit={limit} must be at least 1; None is no limit")
    return int(limit)

"""A day's orders: which there are, what becomes of each, and what the office and the customers do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from order_approval import provider, warehouse
from order_approval.books import chance
from order_approval.graph import ASK_FROM
from order_approval.orders import Order

_ITEMS = ("book", "lamp", "chair", "piano")
_SOLD_OUT = "unicorn"
_NEVER = timedelta(hours=1)
_SOON = timedelta(seconds=3)


class Kind(StrEnum):
    """What becomes of an order."""

    SMALL = "small"
    APPROVED = "approved"
    REJECTED = "rejected"
    UNANSWERED = "unanswered"
    LATE = "late"
    CANCELLED = "cancelled while it waits"
    REGRETTED = "cancelled at any time"
    DECLINED = "card declined"
    SILENT = "provider silent"
    UNSHIPPABLE = "cannot be shipped"
    SOLD_OUT = "sold out"


ASKED = frozenset({Kind.APPROVED, Kind.REJECTED, Kind.UNANSWERED, Kind.LATE, Kind.CANCELLED})
"""The kinds that are so much money that the office is asked; the others are not, but for some of ``REGRETTED``."""

_SHARES = {Kind.SMALL: 5, Kind.APPROVED: 4, Kind.REGRETTED: 3}  # of the others, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An order, and what is to become of it."""

    kind: Kind
    order: Order

    @property
    def deadline(self) -> timedelta | None:
        """When it is to have ended, from now on."""
        return _SOON if self.kind is Kind.LATE else None


def orders_of(day: str, count: int) -> list[Planned]:
    """So many orders, of all kinds in turn. On another day other calls go wrong."""
    turn = [kind for kind in Kind for _ in range(_SHARES.get(kind, 1))]
    kinds = [turn[number * 7 % len(turn)] for number in range(count)]  # well mixed, as 7 does not divide their number
    return [_planned(day, number, kind) for number, kind in enumerate(kinds)]


def goods(planned: Sequence[Planned]) -> dict[str, int]:
    """What lies on the shelves in the morning: more than enough of everything, and nothing of what is sold out."""
    needed = Counter[str]()
    for one in planned:
        needed[one.order.item] += one.order.quantity
    return {item: quantity + 100 if item != _SOLD_OUT else 0 for item, quantity in needed.items()}


def _planned(day: str, number: int, kind: Kind) -> Planned:
    much = kind in ASKED or (kind is Kind.REGRETTED and number % 2 == 1)
    amount = 1_000 + int(chance("amount", day, number) * (ASK_FROM - 1_000)) + ASK_FROM * much
    order = Order(
        id=f"{day}-{number}",
        item=_SOLD_OUT if kind is Kind.SOLD_OUT else _ITEMS[number % len(_ITEMS)],
        quantity=1 + number % 3,
        amount=amount,
        card={Kind.DECLINED: provider.DECLINED, Kind.SILENT: provider.SILENT}.get(kind, "4000-good"),
        address=warehouse.NOWHERE if kind is Kind.UNSHIPPABLE else f"{number} Long Street",
        decide_within=_SOON if kind is Kind.UNANSWERED else _NEVER,
    )
    return Planned(kind=kind, order=order)

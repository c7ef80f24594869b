"""What travels between the steps of an order: the payloads, and the channels that several steps share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from cnstra import collateral

_SHELVES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One purchase of one customer. ``number`` is unique in its ``batch``, which is one import of purchases."""

    batch: str
    number: int
    customer: int
    day: date
    cds: int
    amount: Decimal

    @property
    def shelf(self) -> int:
        """Where the warehouse keeps what this customer buys."""
        return self.customer % _SHELVES


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What became of an order: a parcel, paid by a charge."""

    batch: str
    number: int
    parcel: str
    charge: str


order_placed = collateral("order.placed", Order)
order_sold_out = collateral("order.sold_out", Order)

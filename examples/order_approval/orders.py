"""What travels between the steps of an order: the payloads, and the channels that come from outside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cnstra import collateral


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a customer wants. Money is in cents."""

    id: str
    item: str
    quantity: int
    amount: int
    card: str
    address: str
    decide_within: timedelta = timedelta(days=3)
    """How long the office has, where it is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the office says to an order."""

    approved: bool
    by: str


order_placed = collateral("order.placed", Order)
order_decided = collateral("order.decided", Decision)
"""Sent by the office: ``orchestrator.send(order_decided.create_signal(...), key=order.id)``."""

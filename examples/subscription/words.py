"""What travels: the payloads, and the channels that lead in from outside and out. Money is in cents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cnstra import Collateral, collateral

PRICES = {"basic": 1_200, "plus": 3_000}
"""A month of each plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """Somebody subscribes."""

    customer: str
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """One month of a subscription, which begins when the last one ends: on whatever day that is worked on."""

    number: int
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """The customer wants another plan, at once."""

    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """The customer leaves."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An upgrade, in the month in which it was wanted."""

    month: Month
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Farewell:
    """The end: what was paid for lasts until then."""

    customer: str
    months: int
    paid_until: datetime


applied = collateral("customer.applied", Application)
wished: Collateral[Upgrade | Goodbye] = collateral("customer.wished", Upgrade | Goodbye)
"""Sent by the customer at any time: ``run.send(wished.create_signal(Upgrade(plan="plus")))``."""

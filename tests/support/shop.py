"""A small shop for tests of the test kit: an order is reserved, charged, reminded of after 30 days, and shipped.

Its bank comes in as ``ctx.services``, and counts what it was asked: whatever happens to workers, each key is to be charged once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from tenacity import Retrying, stop_after_attempt, wait_exponential_jitter, wait_fixed

from cnstra import CNS, Axon, Context, Signal, collateral, neuron

REMINDED_AFTER = timedelta(days=30)


@dataclass(frozen=True)
class Order:
    """What travels through the shop."""

    id: str
    amount: int = 100
    items: tuple[str, ...] = ("book",)


@dataclass
class Bank:
    """Charges once by key; ``asked`` is how often it was asked for each."""

    asked: Counter[str] = field(default_factory=Counter)
    charged: dict[str, int] = field(default_factory=dict)

    def charge(self, amount: int, *, key: str) -> str:
        self.asked[key] += 1
        self.charged.setdefault(key, amount)
        return f"charge of {self.charged[key]}"


order_placed = collateral("order.placed", Order)


class StockAxon(Axon):
    reserved = collateral("stock.reserved", Order)


class PaymentAxon(Axon):
    charged = collateral("payment.charged", Order)
    reminder = collateral("payment.reminder", Order)


class ShippingAxon(Axon):
    shipped = collateral("order.shipped", Order)


stock = neuron("stock", StockAxon)
payment = neuron("payment", PaymentAxon)
shipping = neuron("shipping", ShippingAxon)


@stock.dendrite(
    order_placed, retry=Retrying(stop=stop_after_attempt(4), wait=wait_exponential_jitter(initial=1, max=60))
)
def reserve(order: Order, axon: StockAxon, ctx: Context) -> Signal[Order]:
    """Put the items aside."""
    ctx["reserved"] = list(order.items)
    return axon.reserved.create_signal(order)


@payment.dendrite(StockAxon.reserved, retry=Retrying(stop=stop_after_attempt(3), wait=wait_fixed(60)))
async def charge(order: Order, axon: PaymentAxon, ctx: Context) -> list[Signal[Order]]:
    """Charge, and remember to remind."""
    ctx["charge"] = ctx.services.charge(order.amount, key=ctx.idempotency_key)
    return [axon.charged.create_signal(order), axon.reminder.create_signal(order, delay=REMINDED_AFTER)]


@payment.dendrite(PaymentAxon.reminder)
def remind(order: Order, axon: PaymentAxon, ctx: Context) -> None:
    """A word, a month later."""
    ctx.update("reminders", lambda count: (count or 0) + 1)


@shipping.dendrite(PaymentAxon.charged)
def ship(order: Order, axon: ShippingAxon, ctx: Context) -> Signal[Order]:
    """Send what was paid."""
    ctx["parcel"] = [*ctx["reserved"], ctx["charge"]]
    return axon.shipped.create_signal(order)


cns = CNS([stock, payment, shipping], name="shop", services=Bank())

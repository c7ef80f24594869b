"""An order, from the shelf to the parcel: reserve, ask the office where it is much money, charge, ship.

Where the order cannot go on, its handler raises. Then the run has failed for good, and what had been done is undone, last
things first: the parcel is called back, the money refunded, the stock released. The same happens when the customer cancels,
and when the order's deadline passes.

Each of the three compensations is ``uncertain``: it is called, too, for a step that had begun and whose end nobody knows. The
provider may have charged although its answer was lost, or although the worker died before it could say so.
"""

from __future__ import annotations

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from cnstra import CNS, Axon, Context, Expectation, Signal, collateral, neuron
from order_approval import provider, warehouse
from order_approval.orders import Decision, Order, order_decided, order_placed

ASK_FROM = 50_000
"""From this amount on, in cents, the office is asked."""


class Rejected(Exception):
    """The office does not want the order."""


class NobodyDecided(Exception):
    """The office had its time, and said nothing."""


class StockAxon(Axon):
    """What the stock says."""

    reserved = collateral("stock.reserved", Order)


class OfficeAxon(Axon):
    """What comes of the question whether the order may go on."""

    cleared = collateral("office.cleared", Order)
    silent = collateral("office.silent", Order)


class PaymentAxon(Axon):
    """What the payment says."""

    charged = collateral("payment.charged", Order)


class ShippingAxon(Axon):
    """The end of the order."""

    shipped = collateral("order.shipped", Order)


# Who is away is asked again, for a while; what is a no is not asked twice.
patient = Retrying(
    stop=stop_after_attempt(5),
    wait=wait_exponential(multiplier=0.1, max=2),
    retry=retry_if_exception_type(ConnectionError),
)
# What has to be undone is tried for as long as it takes.
stubborn = patient.copy(stop=stop_after_attempt(30), retry=retry_if_exception_type(Exception))

stock = neuron("stock", StockAxon, retry=patient)
office = neuron("office", OfficeAxon, local=Order, retry=patient)
payment = neuron("payment", PaymentAxon, retry=patient)
shipping = neuron("shipping", ShippingAxon, retry=patient)


# -- the stock -----------------------------------------------------------------------------------------------------


@stock.dendrite(order_placed)
def reserve(order: Order, axon: StockAxon, ctx: Context) -> Signal[Order]:
    """Take the goods off the shelf, for this order."""
    warehouse.reserve(order.id, order.item, order.quantity, key=ctx.idempotency_key)
    return axon.reserved.create_signal(order)


@reserve.compensate(uncertain=True, retry=stubborn)
def release(order: Order, ctx: Context) -> None:
    """Put back what was taken for this order, if anything was."""
    warehouse.release(order.id, key=ctx.idempotency_key)


# -- the office ----------------------------------------------------------------------------------------------------


@office.dendrite(StockAxon.reserved)
def ask(order: Order, axon: OfficeAxon, ctx: Context[None, Order]) -> Signal[Order] | Expectation:
    """Wait for the office where it is much money. Nothing is held meanwhile: no thread, no message, no connection."""
    if order.amount < ASK_FROM:
        return axon.cleared.create_signal(order)
    ctx.local.set(order)
    return ctx.expect(
        order_decided,
        key=order.id,
        timeout=order.decide_within,
        on_timeout=axon.silent.create_signal(order),
    )


@office.dendrite(order_decided)
def decide(decision: Decision, axon: OfficeAxon, ctx: Context[None, Order]) -> Signal[Order]:
    """Go on, or not, as the office has said."""
    if not decision.approved:
        raise Rejected(f"rejected by {decision.by}")
    order = ctx.local.get()
    assert order is not None, "it was set when the question was asked"
    return axon.cleared.create_signal(order)


@office.dendrite(OfficeAxon.silent)
def give_up(order: Order) -> None:
    """No answer is a no."""
    raise NobodyDecided(f"nobody decided within {order.decide_within}")


# -- the payment ---------------------------------------------------------------------------------------------------


@payment.dendrite(OfficeAxon.cleared)
def charge(order: Order, axon: PaymentAxon, ctx: Context) -> Signal[Order]:
    """Charge the card. The key is the same in every try of this step, so that it is charged once."""
    ctx["charge"] = provider.charge(order.id, order.card, order.amount, key=ctx.idempotency_key)
    return axon.charged.create_signal(order)


@charge.compensate(uncertain=True, retry=stubborn)
def refund(order: Order, ctx: Context) -> None:
    """Give back what was charged for this order, if anything was. By the order: the charge's id may have been lost."""
    provider.refund(order.id, key=ctx.idempotency_key)


# -- the parcel ----------------------------------------------------------------------------------------------------


@shipping.dendrite(PaymentAxon.charged)
def ship(order: Order, axon: ShippingAxon, ctx: Context) -> Signal[Order]:
    """Send the goods."""
    ctx["parcel"] = warehouse.ship(order.id, order.address, key=ctx.idempotency_key)
    return axon.shipped.create_signal(order)


@ship.compensate(uncertain=True, retry=stubborn)
def call_back(order: Order, ctx: Context) -> None:
    """Have the parcel come back, if one has left: the worker may have died right after that, and the customer cancelled."""
    warehouse.call_back(order.id, key=ctx.idempotency_key)


cns = CNS([stock, office, payment, shipping], name="order_approval")

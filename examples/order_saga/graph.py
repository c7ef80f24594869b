"""The order saga: check the stock, reserve, charge, ship.

Each handler may be called again, after an error or when its worker died before the step was committed. So each one that
changes something outside passes ``ctx.idempotency_key`` on, which is the same in every call of that step, and the bank and
the warehouse do a thing once by key.
"""

from __future__ import annotations

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from order_saga import bank, warehouse
from order_saga.orders import Order, Parcel, order_placed, order_sold_out


class StockAxon(Axon):
    """What the look at the shelf may say."""

    available = collateral("stock.available", Order)
    sold_out = order_sold_out


class ReservationAxon(Axon):
    """What the reservation may say: others may have been faster since the look."""

    reserved = collateral("stock.reserved", Order)
    sold_out = order_sold_out


class PaymentAxon(Axon):
    """What the payment says. A declined card is no signal: it fails the run, which can be retried."""

    charged = collateral("payment.charged", Order)


class ShippingAxon(Axon):
    """The end of the order."""

    shipped = collateral("order.shipped", Parcel)


# For anything that goes wrong in the warehouse; and, at the bank, only for a bank that could not be talked to.
patient = Retrying(stop=stop_after_attempt(6), wait=wait_exponential_jitter(initial=0.2, max=2, jitter=0.2))
unless_declined = patient.copy(retry=retry_if_exception_type(ConnectionError))

stock = neuron("stock", StockAxon, retry=patient)
reservation = neuron("reservation", ReservationAxon, retry=patient)
payment = neuron("payment", PaymentAxon, queue="bank")
shipping = neuron("shipping", ShippingAxon, retry=patient)


@stock.dendrite(order_placed)
def check(order: Order, axon: StockAxon) -> Signal[Order]:
    """Whether there is enough on the shelf at all."""
    if warehouse.on_hand(order.batch, order.shelf) < order.cds:
        return axon.sold_out.create_signal(order)
    return axon.available.create_signal(order)


@reservation.dendrite(StockAxon.available)
def reserve(order: Order, axon: ReservationAxon, ctx: Context) -> Signal[Order]:
    """Take the CDs off the shelf, for this order."""
    reserved = warehouse.reserve(order.batch, order.number, order.shelf, order.cds, key=ctx.idempotency_key)
    if reserved is None:
        return axon.sold_out.create_signal(order)
    ctx["reservation"] = reserved
    return axon.reserved.create_signal(order)


@payment.dendrite(ReservationAxon.reserved, retry=unless_declined)
async def charge(order: Order, axon: PaymentAxon, ctx: Context) -> Signal[Order]:
    """Charge the customer's card. The attempt tells the bank that a declined card is presented once more."""
    ctx["charge"] = await bank.charge(
        order.amount,
        card=order.customer,
        day=order.day,
        batch=order.batch,
        number=order.number,
        key=ctx.idempotency_key,
        presentation=ctx.attempt,
    )
    return axon.charged.create_signal(order)


@shipping.dendrite(PaymentAxon.charged)
def ship(order: Order, axon: ShippingAxon, ctx: Context) -> Signal[Parcel]:
    """Send what was reserved, now that it is paid."""
    paid = ctx["charge"]
    parcel = warehouse.ship(ctx["reservation"], charge=paid, key=ctx.idempotency_key)
    return axon.shipped.create_signal(Parcel(batch=order.batch, number=order.number, parcel=parcel, charge=paid))


cns = CNS([stock, reservation, payment, shipping], name="order_saga")

"""What must not type-check. Every error that a checker has to find is marked on its line, for both checkers.

A mark that no error needs is an error itself, for mypy --strict and for pyright as configured beside this
file; so a mistake that stops being found fails the test. Nothing in this file runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from cnstra.orchestrator.context import Context
from cnstra.orchestrator.graph import CNS, Axon, Signal, collateral, neuron


@dataclass(frozen=True)
class Order:
    id: str
    amount: int


order = Order("17", 100)
order_placed = collateral("order.placed", Order)
tick = collateral("tick")


class StockAxon(Axon):
    reserved = collateral("stock.reserved", Order)


class PaymentAxon(Axon):
    charged = collateral("payment.charged", Order)


stock = neuron("stock", StockAxon)
counting = neuron("counting", StockAxon, local=int)

# Payloads of another type.
order_placed.create_signal("17")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
order_placed.create_signal()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
tick.create_signal(order)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
collateral("lines", list[str]).create_signal(["a", 1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
collateral(17)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

# What the axon does not have.
missing = stock.axon.sold_out  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
missing_too = StockAxon.sold_out  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
neuron("n", Order)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
neuron("n", {"reserved": "stock.reserved"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
neuron("n", StockAxon())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]

# Options of the wrong kind, or without a meaning.
neuron("n", StockAxon, concurrency="many")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
neuron("n", StockAxon, max_duration=30)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
neuron("n", StockAxon, retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
neuron("n", StockAxon, priority=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
stock.dendrite(order_placed, on_conflict="merge")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
stock.dendrite(order_placed, on_conflict=lambda mine: mine)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
stock.dendrite(order_placed, delay=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
stock.dendrite("order.placed")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
stock.dendrite()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


# Handlers that do not fit: the payload, the axon, the local context, the number of arguments, what they return.
@stock.dendrite(order_placed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def other_payload(payload: str) -> None: ...


@stock.dendrite(order_placed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def other_axon(order: Order, axon: PaymentAxon) -> None: ...


@counting.dendrite(order_placed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def other_local(order: Order, axon: StockAxon, ctx: Context[Any, str]) -> None: ...


@stock.dendrite(order_placed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def too_many(order: Order, axon: StockAxon, ctx: Context, more: int) -> None: ...


@stock.dendrite(order_placed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def too_few() -> None: ...


@stock.dendrite(order_placed)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def returns_payload(order: Order) -> Order:
    return order


@stock.dendrite(order_placed)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def returns_number(order: Order) -> int:
    return order.amount


@stock.dendrite(order_placed)  # type: ignore[arg-type, type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def async_generator(order: Order, axon: StockAxon) -> AsyncIterator[Signal[Order]]:
    yield axon.reserved.create_signal(order)


@stock.dendrite(order_placed, tick)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def one_of_two(either: Order) -> None: ...


# Lambdas are checked, too.
stock.dendrite(order_placed)(lambda order: order.price)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType, reportUnknownMemberType]
stock.dendrite(order_placed)(lambda order, axon: axon.charged)  # type: ignore[arg-type, misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType, reportUnknownMemberType]
stock.dendrite(order_placed)(lambda order, axon: axon.reserved.create_signal(order.id))  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
stock.dendrite(order_placed)(lambda: None)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType, reportCallIssue]


# A dendrite is called as its handler is.
@stock.dendrite(order_placed)
def fine(order: Order, axon: StockAxon) -> Signal[Order]:
    return axon.reserved.create_signal(order)


fine(order)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fine("17", stock.axon)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# Signals, collaterals and graphs do not change.
order_placed.create_signal(order).payload = order  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
CNS([stock], compensate=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
CNS([StockAxon])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
CNS(stock)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
stock.bind(StockAxon)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
stock.bind(order_placed, {})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

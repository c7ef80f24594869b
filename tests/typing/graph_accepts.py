"""What a user writes must type-check, and mean what it says: the public types of the graph, as assertions.

Nothing in this file runs; ``test_types.py`` has mypy and pyright read it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from typing_extensions import TypedDict

from cnstra.orchestrator.context import Context
from cnstra.orchestrator.graph import (
    CNS,
    Axon,
    Collateral,
    Dendrite,
    DictAxon,
    Expectation,
    Neuron,
    Scatter,
    Signal,
    collateral,
    neuron,
    normalise_outputs,
)


@dataclass(frozen=True)
class Order:
    id: str
    amount: int


@dataclass(frozen=True)
class Refund:
    id: str
    reason: str


class Progress(TypedDict):
    done: int


# Collaterals and their signals.
order_placed = collateral("order.placed", Order)
assert_type(order_placed, Collateral[Order])
assert_type(collateral("tick"), Collateral[None])
assert_type(collateral("tick", None), Collateral[None])
assert_type(collateral("lines", list[str]), Collateral[list[str]])
assert_type(collateral("progress", Progress), Collateral[Progress])
assert_type(collateral("either", Order | Refund), Collateral[Any])
narrowed: Collateral[Order | Refund] = collateral("narrowed", Order | Refund)

order = Order("17", 100)
assert_type(order_placed.create_signal(order), Signal[Order])
assert_type(order_placed.create_signal(order).payload, Order)
assert_type(order_placed.create_signal(order).collateral, Collateral[Order])
assert_type(collateral("tick").create_signal(), Signal[None])
assert_type(collateral("tick").create_signal(None), Signal[None])
assert_type(narrowed.create_signal(order), Signal[Order | Refund])


# Axons: a class, a subclass, a dict, nothing.
class StockAxon(Axon):
    reserved = collateral("stock.reserved", Order)
    sold_out = collateral("stock.sold_out", Order)


class WideStockAxon(StockAxon):
    returned = collateral("stock.returned", Refund)


class PaymentAxon(Axon):
    charged = collateral("payment.charged", Order)
    failed = collateral("payment.failed", Refund)


assert_type(StockAxon.reserved, Collateral[Order])
assert_type(WideStockAxon.reserved, Collateral[Order])
stock = neuron("stock", StockAxon)
assert_type(stock, Neuron[StockAxon, Any])
assert_type(stock.axon, StockAxon)
assert_type(stock.axon.reserved, Collateral[Order])
untyped = neuron("untyped", {"reserved": StockAxon.reserved})
assert_type(untyped, Neuron[DictAxon, Any])
assert_type(untyped.axon.reserved, Collateral[Any])
assert_type(neuron("sink"), Neuron[Axon, Any])
assert_type(neuron("counting", StockAxon, local=int), Neuron[StockAxon, int])
assert_type(neuron("counting", {"a": order_placed}, local=int), Neuron[DictAxon, int])
assert_type(neuron("counting", local=Progress), Neuron[Axon, Progress])
payment = neuron("payment", PaymentAxon, concurrency=20, queue="bank", max_duration=timedelta(seconds=30), local=int)
patient = Retrying(
    stop=stop_after_attempt(5),
    wait=wait_exponential_jitter(1, 60),
    retry=retry_if_exception_type(ConnectionError),
)


# Handlers of one, two and three arguments, sync and async, that give nothing, one signal, several.
@stock.dendrite(order_placed)
def takes_payload(order: Order) -> None: ...


@neuron("n", StockAxon).dendrite(order_placed)
def takes_axon(order: Order, axon: StockAxon) -> Signal[Order]:
    return axon.reserved.create_signal(order)


@neuron("n", StockAxon).dendrite(order_placed, retry=patient, max_duration=timedelta(seconds=3))
def takes_context(order: Order, axon: StockAxon, ctx: Context) -> Signal[Order] | None:
    return None if ctx.get("seen") else axon.reserved.create_signal(order)


@neuron("n", StockAxon).dendrite(order_placed, on_conflict="overwrite", transaction=True)
def gives_list(order: Order, axon: StockAxon) -> list[Signal[Order]]:
    return [axon.reserved.create_signal(order), axon.sold_out.create_signal(order)]


@neuron("n", PaymentAxon).dendrite(order_placed, on_conflict=lambda mine, theirs: mine or theirs)
def generates(order: Order, axon: PaymentAxon) -> Iterator[Signal[Any]]:
    yield axon.charged.create_signal(order)
    yield axon.failed.create_signal(Refund(order.id, "no"))


@neuron("n", PaymentAxon).dendrite(order_placed, on_conflict=lambda mine, theirs, base: (mine, theirs, base))
async def awaits(order: Order, axon: PaymentAxon, ctx: Context) -> Signal[Order]:
    return axon.charged.create_signal(order)


@payment.dendrite(StockAxon.reserved)
async def counts(order: Order, axon: PaymentAxon, ctx: Context[Any, int]) -> None:
    assert_type(ctx.local.get(), int | None)
    ctx.local.set(order.amount)


assert_type(takes_payload.neuron, Neuron[StockAxon, Any])
assert_type(takes_payload.collateral, Collateral[Order])
assert_type(counts.neuron, Neuron[PaymentAxon, int])

# A dendrite is called in a unit test as its handler is.
assert_type(takes_axon(order, stock.axon), Signal[Order])
assert_type(gives_list(order, stock.axon), list[Signal[Order]])
assert_type(generates(order, PaymentAxon()), Iterator[Signal[Any]])


async def unit_test(ctx: Context) -> None:
    assert_type(await awaits(order, PaymentAxon(), ctx), Signal[Order])


# Lambdas know the types of their arguments.
one = neuron("n", StockAxon).dendrite(order_placed)(lambda order: None)
assert_type(one.collateral, Collateral[Order])
neuron("n", StockAxon).dendrite(order_placed)(lambda order, axon: axon.reserved.create_signal(order))
neuron("n", StockAxon).dendrite(order_placed)(lambda order, axon, ctx: [axon.sold_out.create_signal(order)])


# One handler for several collaterals takes the union of their payloads.
@neuron("n", PaymentAxon).dendrite(order_placed, PaymentAxon.failed)
def hears_two(either: Order | Refund) -> None: ...


@neuron("n").dendrite(order_placed, PaymentAxon.failed, collateral("progress", Progress))
def hears_three(any_of: Order | Refund | Progress) -> None: ...


@neuron("n").dendrite(StockAxon.reserved, StockAxon.sold_out, PaymentAxon.charged, PaymentAxon.failed)
def hears_many(any_of: Any) -> None: ...


assert_type(hears_two.collateral, Collateral[Order | Refund])


# A decorator of the user's own that keeps the type.
def logged(handler: Callable[[Order], None]) -> Callable[[Order], None]:
    return handler


@neuron("n").dendrite(order_placed)
@logged
def decorated(order: Order) -> None: ...


# Binding another neuron's axon; a CNS and what it gives.
bound = neuron("ledger").bind(PaymentAxon, {"charged": lambda order: None, "failed": lambda refund: None})
assert_type(bound, Neuron[Axon, Any])
neuron("ledger").bind(payment.axon, {"charged": takes_payload, "failed": lambda refund: None})

cns = CNS([stock, payment, untyped], name="shop", version="1", services=object(), retry=patient, context=Order)
for subscriber in cns.subscribers("order.placed"):
    assert_type(subscriber.call(order, stock.axon, None), Any)
    assert_type(normalise_outputs(subscriber, None), list[Signal[Any] | Scatter[Any] | Expectation])
assert_type(cns.queues, tuple[str, ...])
assert_type(cns.collateral("order.placed"), Collateral[Any] | None)
assert_type(cns.network.strongly_connected_components, tuple[frozenset[str], ...])


def some_context() -> Context:
    raise NotImplementedError


def returns_awaitable(order: Order) -> Awaitable[Signal[Any] | None]:
    context: Context = some_context()
    return awaits(order, PaymentAxon(), context)


neuron("n").dendrite(order_placed)(returns_awaitable)


def any_dendrite(dendrite: Dendrite[Any, Any, Any, ..., Any]) -> str:
    return dendrite.name


any_dendrite(takes_axon)
any_dendrite(counts)

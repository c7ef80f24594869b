"""What must not type-check of compensations, expectations, scatters and gathers. Every error that a checker has to find
is marked on its line, for both checkers.

A mark that no error needs is an error itself. Nothing in this file runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from cnstra import Axon, Context, MemberFailure, Signal, collateral, neuron


@dataclass(frozen=True)
class Order:
    id: str


@dataclass(frozen=True)
class Item:
    line: str


order = Order("17")
order_placed = collateral("order.placed", Order)
approved = collateral("order.approved", Order)
item_done = collateral("item.done", Item)


class SplitAxon(Axon):
    item = collateral("item", Item)


class OtherAxon(Axon):
    other = collateral("other", Item)


splitter = neuron("splitter", SplitAxon, local=int)
report = neuron("report", SplitAxon)


@splitter.dendrite(order_placed)
def split(order: Order) -> None: ...


# Scatters of another payload, of no iterable, with a limit of another type.
SplitAxon.item.scatter([order])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
SplitAxon.item.scatter(Item("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SplitAxon.item.scatter([], limit="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SplitAxon.item.scatter([], 50)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# Expectations of what is no collateral, with options of another type.
def expects(ctx: Context) -> None:
    ctx.expect("order.approved")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.expect(approved.create_signal(order))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.expect(approved, key=17)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.expect(approved, timeout=30)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.expect(approved, on_timeout=approved)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Compensations of another payload, another context, too many arguments, none; ones that emit; options that are none.
@split.compensate  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def other_payload(payload: str) -> None: ...


@split.compensate  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def other_local(order: Order, ctx: Context[Any, str]) -> None: ...


@split.compensate  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def takes_axon(order: Order, axon: SplitAxon) -> None: ...


@split.compensate  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def too_many(order: Order, ctx: Context, outputs: list[Signal[Any]], more: int) -> None: ...


@split.compensate  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def too_few() -> None: ...


@split.compensate  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def emits(order: Order) -> Signal[Order]:
    return order_placed.create_signal(order)


@split.compensate  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def generates(order: Order) -> Iterator[Signal[Order]]:
    yield order_placed.create_signal(order)


@split.compensate  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def async_generator(order: Order) -> AsyncIterator[None]:
    yield


@split.compensate(uncertain=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def other_payload_with_options(payload: str) -> None: ...


split.compensate(uncertain="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
split.compensate(retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
split.compensate(on_conflict="fail")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
split.compensate(None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


# Gathers of another payload, of one result, without the failures that are taken; options that are none.
@report.gather(item_done)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def other_results(results: list[Order]) -> None: ...


@report.gather(item_done)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def one_result(result: Item) -> None: ...


@report.gather(item_done, return_failures=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def forgets_failures(results: list[Item]) -> None: ...


@report.gather(item_done)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def takes_failures(results: list[Item | MemberFailure]) -> None: ...


@report.gather(item_done)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def other_axon(results: list[Item], axon: OtherAxon) -> None: ...


@report.gather(item_done)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def returns_results(results: list[Item]) -> int:
    return len(results)


report.gather(item_done, approved)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
report.gather("item.done")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
report.gather(item_done, of="item")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
report.gather(item_done, return_failures="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
report.gather(item_done, limit=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


@report.gather(item_done)
def summarise(results: list[Item]) -> None: ...


@summarise.compensate  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def undoes_one(result: Item) -> None: ...

"""What users write of compensations, expectations, scatters and gathers, as assertions.

Nothing in this file runs; ``test_types.py`` has mypy and pyright read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from tenacity import Retrying, stop_after_attempt

from cnstra import Axon, Context, Dendrite, Expectation, MemberFailure, Scatter, Signal, collateral, neuron
from cnstra.orchestrator.graph import CNS, Compensation, Gathering
from cnstra.orchestrator.graph.network import AnyDendrite


@dataclass(frozen=True)
class Order:
    id: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    order: str
    line: str


order_placed = collateral("order.placed", Order)
approved = collateral("order.approved", Order)
order = Order("17", ("a", "b"))


class SplitAxon(Axon):
    item = collateral("item", Item)
    expired = collateral("order.expired", Order)
    note = collateral("note", str)


class WorkAxon(Axon):
    done = collateral("item.done", Item)


class ReportAxon(Axon):
    ready = collateral("report.ready", int)


splitter = neuron("splitter", SplitAxon, local=int)
worker = neuron("worker", WorkAxon)
report = neuron("report", ReportAxon, local=int)
patient = Retrying(stop=stop_after_attempt(5))


# Scatters: of what fits the collateral, from any iterable.
assert_type(SplitAxon.item.scatter([Item("17", "a")]), Scatter[Item])
assert_type(SplitAxon.item.scatter((Item(order.id, line) for line in order.lines), limit=50), Scatter[Item])
assert_type(SplitAxon.item.scatter([]).payloads, tuple[Item, ...])
assert_type(SplitAxon.item.scatter([]).limit, int | None)


@splitter.dendrite(order_placed)
def split(order: Order, axon: SplitAxon) -> Scatter[Item]:
    return axon.item.scatter(Item(order.id, line) for line in order.lines)


assert_type(split(order, splitter.axon), Scatter[Item])


# Expectations, alone and among others.
@neuron("n", SplitAxon).dendrite(order_placed)
def waits(order: Order, axon: SplitAxon, ctx: Context) -> Expectation:
    return ctx.expect(
        approved, key=f"order-{order.id}", timeout=timedelta(days=3), on_timeout=axon.expired.create_signal(order)
    )


@neuron("n", SplitAxon).dendrite(order_placed)
async def mixes(order: Order, axon: SplitAxon, ctx: Context) -> list[Signal[str] | Scatter[Item] | Expectation]:
    return [axon.note.create_signal("split"), axon.item.scatter([]), ctx.expect(approved)]


@neuron("n", SplitAxon).dendrite(order_placed)
def generates(order: Order, axon: SplitAxon, ctx: Context) -> Iterator[Signal[Any] | Scatter[Any] | Expectation]:
    yield axon.note.create_signal("split")
    yield axon.item.scatter([])
    yield ctx.expect(approved)


neuron("n", SplitAxon).dendrite(order_placed)(lambda order, axon: axon.item.scatter([]))
neuron("n", SplitAxon).dendrite(order_placed)(lambda order, axon, ctx: ctx.expect(approved))
neuron("n", SplitAxon).dendrite(order_placed)(lambda order, axon: [axon.item.scatter([]), axon.item.scatter([])])


# Compensations of one, two and three arguments, sync and async, bare and with options; the function stays itself.
@split.compensate
def undo(order: Order) -> None: ...


assert_type(undo, Callable[[Order], None])
undo(order)


@waits.compensate
def undo_with_context(order: Order, ctx: Context) -> None:
    ctx.get("reservation")


@mixes.compensate(retry=patient, uncertain=True, max_duration=timedelta(seconds=3))
async def undo_with_outputs(order: Order, ctx: Context[Any, Any], outputs: Sequence[Signal[Any]]) -> None: ...


@generates.compensate()
def undo_all(order: Order, ctx: Context, outputs: list[Signal[Any]]) -> None: ...


@neuron("n", SplitAxon, local=int).dendrite(order_placed)
def counts(order: Order) -> None: ...


@counts.compensate(uncertain=True)
async def uncounts(order: Order, ctx: Context[Any, int]) -> None:
    assert_type(ctx.local.get(), int | None)


async def unit_test(ctx: Context) -> None:
    undo_with_context(order, ctx)
    await undo_with_outputs(order, ctx, [])


counts.compensate(lambda order: None)
counts.compensate(lambda order, ctx: ctx.local.delete(), uncertain=True)
counts.compensate()(lambda order, ctx, outputs: outputs.clear())


@neuron("n").dendrite(order_placed, SplitAxon.item)
def hears_two(either: Order | Item) -> None: ...


@hears_two.compensate
def undo_two(either: Order | Item, ctx: Context) -> None: ...


# Gathers: results of the gathered collateral's type, with failures among them where these are taken.
@report.gather(WorkAxon.done)
def summarise(results: list[Item], axon: ReportAxon, ctx: Context[Any, int]) -> Signal[int]:
    return axon.ready.create_signal(len(results))


@neuron("n", ReportAxon).gather(WorkAxon.done, of=SplitAxon.item, return_failures=True, retry=patient)
async def summarise_all(results: list[Item | MemberFailure], axon: ReportAxon) -> Signal[int]:
    assert_type([result.index for result in results if isinstance(result, MemberFailure)], list[int])
    return axon.ready.create_signal(len(results))


@neuron("n").gather(WorkAxon.done, max_duration=timedelta(seconds=3), on_conflict="overwrite")
def forgets(results: Sequence[Item]) -> None: ...


gathered = neuron("n", ReportAxon).gather(WorkAxon.done)(
    lambda results, axon: axon.ready.create_signal(len(results[0].line))
)
assert_type(gathered.collateral.create_signal(Item("17", "a")), Signal[Item])
assert_type(summarise.gathering, Gathering | None)


@summarise.compensate
def unsummarise(results: list[Item], ctx: Context[Any, int]) -> None: ...


@summarise_all.compensate(uncertain=True)
def unsummarise_all(results: list[Item | MemberFailure]) -> None: ...


# What the graph tells of them.
cns = CNS([splitter, worker, report], name="many")
assert_type(cns.network.gathers("item"), tuple[AnyDendrite, ...])
assert_type(cns.network.gathers(SplitAxon.item), tuple[AnyDendrite, ...])
assert_type(cns.network.gathered, frozenset[str])
assert_type(split.compensation, Compensation | None)


def any_dendrite(dendrite: Dendrite[Any, Any, Any, ..., Any]) -> str:
    return dendrite.name


any_dendrite(summarise)
any_dendrite(summarise_all)
any_dendrite(split)

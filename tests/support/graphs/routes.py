"""Graphs of the plainest routes, all of whose handlers succeed: chain is three steps, one after the other; fan deals to many at
once; fork has two branches, each on a queue of its own.
"""

from __future__ import annotations

from typing import Any

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support.handlers import enter, plus_one

# -- chain: three steps, one after the other ---------------------------------------------------------------------------


class FirstAxon(Axon):
    went_on = collateral("chain.first", int)


class SecondAxon(Axon):
    went_on = collateral("chain.second", int)


class ThirdAxon(Axon):
    arrived = collateral("chain.arrived", int)


set_out = collateral("chain.set_out", int)
first = neuron("first", FirstAxon)
second = neuron("second", SecondAxon)
third = neuron("third", ThirdAxon)


def _step(number: int, ctx: Context) -> int:
    enter(ctx)
    ctx[f"step {ctx.activation_id}"] = ctx.version
    ctx.update("steps", plus_one)
    return number + 1


@first.dendrite(set_out)
def begin(number: int, axon: FirstAxon, ctx: Context) -> Signal[int]:
    return axon.went_on.create_signal(_step(number, ctx))


@second.dendrite(FirstAxon.went_on)
def go_on(number: int, axon: SecondAxon, ctx: Context) -> Signal[int]:
    return axon.went_on.create_signal(_step(number, ctx))


@third.dendrite(SecondAxon.went_on)
def arrive(number: int, axon: ThirdAxon, ctx: Context) -> Signal[int]:
    return axon.arrived.create_signal(_step(number, ctx))


chain = CNS([first, second, third], name="chain")


# -- fan: one deals, many add what they were dealt ---------------------------------------------------------------------


class DealAxon(Axon):
    item = collateral("fan.item", int)


class AddAxon(Axon):
    added = collateral("fan.added", int)


deal_out = collateral("fan.deal", int)
dealer = neuron("dealer", DealAxon)
adder = neuron("adder", AddAxon)


@dealer.dendrite(deal_out)
def deal(width: int, axon: DealAxon, ctx: Context) -> list[Signal[int]]:
    enter(ctx)
    return [axon.item.create_signal(number) for number in range(width)]


@adder.dendrite(DealAxon.item)
async def add(number: int, axon: AddAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx.update("sum", lambda total: (total or 0) + number)
    return axon.added.create_signal(number)


fan = CNS([dealer, adder], name="fan")


# -- fork: two branches, each on a queue of its own --------------------------------------------------------------------


class ForkAxon(Axon):
    left = collateral("fork.to_left", int)
    right = collateral("fork.to_right", int)


split = collateral("fork.split", int)
fork_in_two = neuron("fork", ForkAxon, queue="fork")
left = neuron("left", {"out": collateral("fork.left", int)}, queue="left")
right = neuron("right", {"out": collateral("fork.right", int)}, queue="right")


@fork_in_two.dendrite(split)
def part(number: int, axon: ForkAxon, ctx: Context) -> list[Signal[int]]:
    enter(ctx)
    return [axon.left.create_signal(number), axon.right.create_signal(number)]


@left.dendrite(ForkAxon.left)
def go_left(number: int, axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx["left"] = number
    return axon.out.create_signal(number)


@right.dendrite(ForkAxon.right)
def go_right(number: int, axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx["right"] = number
    return axon.out.create_signal(number)


fork = CNS([fork_in_two, left, right], name="fork")

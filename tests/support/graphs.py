"""The graphs of the fault tests. Worker processes import them by name, so each stands at the top of this module.

Every handler notes its call in the ledger first, and passes the point ``call.inside`` after that.
"""

from __future__ import annotations

from typing import Any

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support import ledger
from support.points import points


def enter(ctx: Context, what: str = "", **details: Any) -> None:
    """What every handler does first."""
    ledger.note(ctx, what, **details)
    points.reach("call.inside", ctx.activation_id)


def plus_one(value: int | None) -> int:
    return (value or 0) + 1


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

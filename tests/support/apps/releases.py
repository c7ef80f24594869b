"""One graph in three releases, for tests of deploys: the second has a neuron more, the third has not got it any more.

Handlers note their calls in the ledger that the environment names, as those of ``on_hosts``. An order that is given a gate
stops there in the step that it names, in its first try.
"""

from __future__ import annotations

from typing import Any, TypedDict

from cnstra import CNS, Axon, Context, Neuron, Signal, collateral, neuron
from support.apps import on_hosts  # noqa: F401 - opens the ledger
from support.handlers import enter, plus_one


class Order(TypedDict, total=False):
    """``gate`` is a named pipe, ``at`` the step that stops there."""

    number: int
    gate: str
    at: str


class IntakeAxon(Axon):
    taken = collateral("order.taken", Order)


class PickerAxon(Axon):
    shipped = collateral("order.shipped", int)


class WrappingPickerAxon(Axon):
    picked = collateral("order.picked", Order)


class WrapperAxon(Axon):
    shipped = PickerAxon.shipped


placed = collateral("order.placed", Order)


def _step(name: str, order: Order, ctx: Context) -> None:
    enter(ctx, name)
    if order.get("at") == name and ctx.try_number == 1:
        with open(order["gate"], "rb") as gate:
            gate.read()
    ctx.update("steps", plus_one)


def _intake() -> Neuron[Any]:
    intake = neuron("intake", IntakeAxon)

    @intake.dendrite(placed)
    def take(order: Order, axon: IntakeAxon, ctx: Context) -> Signal[Order]:
        _step("take", order, ctx)
        return axon.taken.create_signal(order)

    return intake


def _picker() -> Neuron[Any]:
    picker = neuron("picker", PickerAxon)

    @picker.dendrite(IntakeAxon.taken)
    def pick(order: Order, axon: PickerAxon, ctx: Context) -> Signal[int]:
        _step("pick", order, ctx)
        return axon.shipped.create_signal(order["number"])

    return picker


def _picker_for_wrapping() -> Neuron[Any]:
    picker = neuron("picker", WrappingPickerAxon)

    @picker.dendrite(IntakeAxon.taken)
    def pick(order: Order, axon: WrappingPickerAxon, ctx: Context) -> Signal[Order]:
        _step("pick", order, ctx)
        return axon.picked.create_signal(order)

    return picker


def _wrapper() -> Neuron[Any]:
    wrapper = neuron("wrapper", WrapperAxon)

    @wrapper.dendrite(WrappingPickerAxon.picked)
    def wrap(order: Order, axon: WrapperAxon, ctx: Context) -> Signal[int]:
        _step("wrap", order, ctx)
        return axon.shipped.create_signal(order["number"])

    return wrapper


first = CNS([_intake(), _picker()], name="orders")
second = CNS([_intake(), _picker_for_wrapping(), _wrapper()], name="orders")
third = CNS([_intake(), _picker()], name="orders")
pinned_first = CNS([_intake(), _picker()], name="pinned-orders", version="1")
pinned_second = CNS([_intake(), _picker_for_wrapping(), _wrapper()], name="pinned-orders", version="2")

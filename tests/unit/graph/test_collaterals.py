"""Collaterals and signals: what they are made of, what they check, and that they stay as they are."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest

from cnstra.orchestrator.errors import GraphError, PayloadError
from cnstra.orchestrator.graph import Collateral, Signal, collateral


@dataclass(frozen=True)
class Order:
    """A payload."""

    id: str
    amount: int


@dataclass(frozen=True)
class Express(Order):
    """A payload that adds something to another."""

    hour: int = 9


placed = collateral("order.placed", Order)
order = Order("17", 100)


def test_a_signal_is_its_collateral_and_its_payload() -> None:
    """The signal carries the collateral object itself and the payload by reference."""
    signal = placed.create_signal(order)
    assert signal.collateral is placed
    assert signal.payload is order
    assert signal == Signal(placed, order)
    assert signal != collateral("order.placed", Order).create_signal(order)


def test_a_collateral_without_a_type_carries_none() -> None:
    """Without a declared type there is no payload, and any other is refused."""
    tick = collateral("tick")
    assert tick.payload_type is None
    assert tick.create_signal().payload is None
    with pytest.raises(PayloadError, match="collateral 'tick' carries None, got int"):
        tick.create_signal(1)  # type: ignore[call-overload]


@pytest.mark.parametrize("payload", [None, "17", {"id": "17", "amount": 100}, Express("17", 100), Order])
def test_the_outer_type_is_checked_when_the_signal_is_made(payload: Any) -> None:
    """Another type, a dict that looks like the type, a subclass, the class itself: each is refused, by name."""
    with pytest.raises(PayloadError) as caught:
        placed.create_signal(payload)
    assert "collateral 'order.placed' carries Order, got " in str(caught.value)


def test_what_is_inside_of_a_payload_is_not_looked_at_when_the_signal_is_made() -> None:
    """Creating a signal is cheap; encoding finds the field of another type, and says where it is."""
    signal = placed.create_signal(Order("17", "much"))  # type: ignore[arg-type]
    with pytest.raises(PayloadError) as caught:
        placed.payload.encode(signal.payload)
    assert "collateral 'order.placed' cannot carry this payload: $.amount must be int, got str" in str(caught.value)


def test_signals_and_collaterals_do_not_change() -> None:
    """Assigning to either raises, so that what was emitted is what was meant."""
    signal = placed.create_signal(order)
    with pytest.raises(AttributeError):
        signal.payload = order  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"collateral\('order.placed', .*Order\) is fixed"):
        placed.name = "other"
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del placed.name
    with pytest.raises(AttributeError):
        placed.anything = 1  # type: ignore[attr-defined]


def test_a_copy_of_a_collateral_is_the_collateral() -> None:
    """Copying data that holds signals does not make channels that no axon knows."""
    signal = placed.create_signal(order)
    assert copy.copy(placed) is placed
    assert copy.deepcopy(signal).collateral is placed
    assert copy.deepcopy(signal).payload == order


def test_a_collateral_knows_where_it_was_made() -> None:
    """Messages about two collaterals of one name can point at both lines."""
    here = collateral("here")
    assert __file__ in here.defined_at
    assert here.defined_at.rpartition(":")[2].isdigit()


def test_representations_are_for_people() -> None:
    """What a debugger shows reads as it was written."""
    assert repr(placed) == "collateral('order.placed', Order)"
    assert repr(collateral("tick")) == "collateral('tick')"
    assert repr(collateral("tick").create_signal()) == "Signal(collateral=collateral('tick'), payload=None)"


@pytest.mark.parametrize("declared", [Ellipsis, 17, "Order", object(), Order("17", 1)])
def test_what_is_no_type_is_refused_when_the_collateral_is_made(declared: Any) -> None:
    """A payload type that means nothing is found at once, with the collateral's name."""
    with pytest.raises(GraphError, match="the payload type of collateral 'bad' cannot be stored"):
        collateral("bad", declared)


def test_the_class_can_be_used_instead_of_the_function() -> None:
    """``collateral`` is nothing more than a typed way to make a Collateral."""
    made: Collateral[Order] = Collateral("order.placed", Order)
    assert made.create_signal(order).collateral is made

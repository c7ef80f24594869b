"""Axons: attributes that are collaterals, and no missing attribute that surprises later."""

from __future__ import annotations

from typing import Any

import pytest

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph import Axon, Collateral, DictAxon, axon_collaterals, collateral, neuron


class StockAxon(Axon):
    """Two collaterals."""

    reserved = collateral("stock.reserved", int)
    sold_out = collateral("stock.sold_out", int)


class WideAxon(StockAxon):
    """Three: one inherited, one replaced, one added."""

    sold_out = collateral("stock.gone", int)
    returned = collateral("stock.returned", int)

    def both(self, amount: int) -> list[Any]:
        """Helpers may stand beside collaterals."""
        return [self.reserved.create_signal(amount), self.returned.create_signal(amount)]


def test_the_attribute_is_the_collateral_itself() -> None:
    """The class, an instance and the neuron's axon give one and the same object."""
    stock = neuron("stock", StockAxon)
    assert StockAxon.reserved is stock.axon.reserved is StockAxon().reserved
    assert isinstance(StockAxon.reserved, Collateral)
    assert isinstance(stock.axon, StockAxon)


def test_an_axon_inherits_replaces_and_adds() -> None:
    """A subclass has its base's collaterals unless it gives the name to another."""
    assert list(axon_collaterals(WideAxon)) == ["reserved", "sold_out", "returned"]
    assert WideAxon.reserved is StockAxon.reserved
    assert axon_collaterals(WideAxon)["sold_out"].name == "stock.gone"
    assert axon_collaterals(StockAxon)["sold_out"].name == "stock.sold_out"
    assert [signal.payload for signal in WideAxon().both(3)] == [3, 3]


def test_axons_can_be_combined() -> None:
    """Two axons make a third by inheritance."""

    class Mail(Axon):
        sent = collateral("mail.sent")

    class Both(StockAxon, Mail):
        pass

    assert set(axon_collaterals(Both)) == {"reserved", "sold_out", "sent"}


def test_a_dict_is_an_axon_too() -> None:
    """Its keys become attributes."""
    made = neuron("n", {"reserved": StockAxon.reserved})
    assert isinstance(made.axon, DictAxon)
    assert made.axon.reserved is StockAxon.reserved
    assert axon_collaterals(made.axon) == {"reserved": StockAxon.reserved}


def test_a_neuron_may_emit_nothing() -> None:
    """Without an axon there are no collaterals, and saying so is no error."""
    assert axon_collaterals(neuron("sink").axon) == {}
    assert axon_collaterals(neuron("sink", {}).axon) == {}
    assert axon_collaterals(neuron("sink", Axon).axon) == {}


def test_a_collateral_may_stand_in_several_axons() -> None:
    """There is no owner: each neuron that has it may emit it."""
    first, second = neuron("a", StockAxon), neuron("b", {"again": StockAxon.reserved})
    assert first.axon.reserved is second.axon.again


def test_a_missing_attribute_says_what_there_is() -> None:
    """A typing error in a handler names the axon and its collaterals."""
    with pytest.raises(AttributeError, match=r"StockAxon has no collateral 'reservd'; it has: reserved, sold_out"):
        _ = StockAxon().reservd  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="it has: none"):
        _ = neuron("n").axon.anything  # type: ignore[attr-defined]


def test_an_axon_is_fixed() -> None:
    """A handler cannot change what its neuron may emit."""
    with pytest.raises(AttributeError, match="is fixed"):
        neuron("n", StockAxon).axon.reserved = StockAxon.sold_out


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"reserved": "stock.reserved"}, "Bad.reserved must be a collateral, got str"),
        ({"reserved": int}, "Bad.reserved must be a collateral, got type"),
        ({"reserved": None}, "Bad.reserved must be a collateral, got NoneType"),
        ({"reserved": (StockAxon.reserved,)}, "is there a comma at the end of the line?"),
        ({"_reserved": StockAxon.reserved}, "must not begin with _"),
        ({"a": collateral("same"), "b": collateral("same")}, "Bad.a and Bad.b are both named 'same'"),
        ({"a": StockAxon.reserved, "b": StockAxon.reserved}, "both named 'stock.reserved'"),
        ({"__annotations__": {"reserved": Collateral[int]}}, "Bad.reserved is annotated and has no value"),
        ({"__annotations__": {"reserved": "Collateral[int]"}}, "Bad.reserved is annotated and has no value"),
    ],
)
def test_what_would_be_a_missing_attribute_later_is_refused_with_the_class(body: dict[str, Any], problem: str) -> None:
    """Each mistake is found when the class is made, and named with its attribute."""
    with pytest.raises(GraphError) as caught:
        type("Bad", (Axon,), body)
    assert problem in str(caught.value)


def test_names_that_clash_over_inheritance_are_refused() -> None:
    """Two attributes with one collateral name are found through bases, too."""
    with pytest.raises(GraphError, match=r"Bad.reserved and Bad.mine are both named 'stock.reserved'"):
        type("Bad", (StockAxon,), {"mine": collateral("stock.reserved", int)})


@pytest.mark.parametrize(
    ("axon", "problem"),
    [
        (StockAxon(), "axon= is an instance of StockAxon; give the class itself"),
        (StockAxon.reserved, "must be a subclass of Axon or a dict"),
        ([StockAxon.reserved], "must be a subclass of Axon or a dict"),
        (int, "must be a subclass of Axon or a dict"),
        ({"a": 1}, "the axon's value for 'a' must be a collateral, got int"),
        ({"a b": StockAxon.reserved}, "'a b' cannot be written as axon.<name>"),
        ({"class": StockAxon.reserved}, "'class' cannot be written as axon.<name>"),
        ({"_a": StockAxon.reserved}, "'_a' cannot be written as axon.<name>"),
        ({1: StockAxon.reserved}, "1 cannot be written as axon.<name>"),
        ({"a": collateral("same"), "b": collateral("same")}, "neuron 'n': DictAxon.a and DictAxon.b are both named"),
    ],
)
def test_what_is_no_axon_is_refused(axon: Any, problem: str) -> None:
    """A neuron names itself when it is given a wrong axon."""
    with pytest.raises(GraphError) as caught:
        neuron("n", axon)
    assert str(caught.value).startswith("neuron 'n': ")
    assert problem in str(caught.value)


def test_an_axon_that_wants_arguments_is_refused() -> None:
    """An axon is nothing but its collaterals; it takes no arguments."""

    class Wants(Axon):
        def __init__(self, store: object) -> None:
            pass

    with pytest.raises(GraphError, match="Wants cannot be made without arguments"):
        neuron("n", Wants)


def test_an_axon_shows_what_it_has() -> None:
    """Its representation is for messages and debuggers."""
    assert repr(StockAxon()) == "StockAxon(reserved, sold_out)"

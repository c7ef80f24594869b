"""What handlers return becomes a list of signals, or an error that names who returned what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cnstra.orchestrator.errors import GraphError, OutputError
from cnstra.orchestrator.graph import Axon, Signal, collateral, neuron, normalise_outputs


class StockAxon(Axon):
    """What stock emits."""

    reserved = collateral("stock.reserved", int)
    sold_out = collateral("stock.sold_out", int)


placed = collateral("order.placed", int)
stock = neuron("stock", StockAxon)
one, two = StockAxon.reserved.create_signal(1), StockAxon.sold_out.create_signal(2)


@stock.dendrite(placed)
def reserve(_order: int) -> None:
    """A handler."""


def generated() -> Iterator[Signal[int]]:
    """Two signals."""
    yield one
    yield two


@pytest.mark.parametrize(
    ("returned", "signals"),
    [
        (None, []),
        (one, [one]),
        ([], []),
        ((one, two), [one, two]),
        ([two, one, one], [two, one, one]),
        (iter([one]), [one]),
    ],
)
def test_nothing_one_or_several_signals_may_be_returned(returned: Any, signals: list[Any]) -> None:
    """The order is kept, and so is a signal that stands twice."""
    assert normalise_outputs(reserve, returned) == signals


def test_a_generator_is_run_to_its_end() -> None:
    """What it yields are the signals; what it raises goes up as it is."""

    def fails() -> Iterator[Signal[int]]:
        yield one
        raise LookupError("no stock")

    assert normalise_outputs(reserve, generated()) == [one, two]
    with pytest.raises(LookupError, match="no stock"):
        normalise_outputs(reserve, fails())


async def coroutine() -> None:
    """Never awaited."""


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (17, "returned a value of type int"),
        ("stock.reserved", "returned a value of type str"),
        (b"x", "returned a value of type bytes"),
        ({"reserved": 1}, "returned a value of type dict"),
        (False, "returned a value of type bool"),
        (StockAxon.reserved, "returned the collateral 'stock.reserved' itself"),
        ([one, 17], "returned a value of type int as item 1"),
        ([one, None], "returned a value of type NoneType as item 1"),
        ([[one]], "returned a value of type list as item 0"),
        ([StockAxon.reserved], "returned the collateral 'stock.reserved' itself as item 0"),
        (placed.create_signal(1), "a signal on 'order.placed', which is not in the neuron's axon"),
        ([one, placed.create_signal(1)], "('stock.reserved', 'stock.sold_out'); add it to the axon"),
        (
            collateral("stock.reserved", int).create_signal(1),
            "a signal on another collateral that is named 'stock.reserved' too, made at",
        ),
    ],
)
def test_what_is_no_signal_of_the_axon_is_refused(returned: Any, problem: str) -> None:
    """The message names the neuron, the dendrite, and what was returned."""
    with pytest.raises(OutputError) as caught:
        normalise_outputs(reserve, returned)
    assert str(caught.value).startswith("neuron 'stock', dendrite reserve on 'order.placed' returned ")
    assert problem in str(caught.value)
    assert isinstance(caught.value, GraphError)


def test_an_awaitable_that_was_not_awaited_is_refused() -> None:
    """A plain function that returns a coroutine is the caller's to await first."""
    forgotten = coroutine()
    with pytest.raises(OutputError, match="returned an awaitable that was not awaited"):
        normalise_outputs(reserve, forgotten)
    forgotten.close()


def test_a_neuron_without_an_axon_may_emit_nothing() -> None:
    """The message says that there is nothing to choose from."""
    sink = neuron("sink").dendrite(placed)(lambda _order: None)
    with pytest.raises(OutputError, match="it has none"):
        normalise_outputs(sink, one)

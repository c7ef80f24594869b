"""What handlers return becomes a list of signals, or an error that names who returned what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cnstra.orchestrator.errors import GraphError, OutputError
from cnstra.orchestrator.graph import Axon, Expectation, Signal, collateral, neuron, normalise_outputs
from cnstra.orchestrator.graph.expectations import make_expectation


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


def expect(wanted: Any, on_timeout: Signal[Any] | None = None) -> Expectation:
    """What ``ctx.expect`` gives."""
    timeout = None if on_timeout is None else timedelta(days=3)
    return make_expectation(wanted, key=None, timeout=timeout, on_timeout=on_timeout)


def test_scatters_and_expectations_stand_alone_or_among_signals() -> None:
    """Each stays in its place; what is awaited need not be in the axon."""
    scatter, waits, silent = StockAxon.reserved.scatter([1, 2]), expect(placed, on_timeout=two), expect(placed)

    assert normalise_outputs(reserve, scatter) == [scatter]
    assert normalise_outputs(reserve, waits) == [waits]
    assert normalise_outputs(reserve, [one, scatter, silent, two, waits]) == [one, scatter, silent, two, waits]
    assert normalise_outputs(reserve, (each for each in (scatter, one))) == [scatter, one]


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (
            placed.scatter([1]),
            "returned a scatter on 'order.placed', which is not in the neuron's axon ('stock.reserved'",
        ),
        ([one, placed.scatter([])], "returned a scatter on 'order.placed', which is not in the neuron's axon"),
        (
            collateral("stock.reserved", int).scatter([1]),
            "a scatter on another collateral that is named 'stock.reserved'",
        ),
        (
            expect(placed, on_timeout=placed.create_signal(1)),
            "returned an expectation of 'order.placed' whose on_timeout= is a signal on 'order.placed', which is not in",
        ),
        (
            [expect(placed, on_timeout=collateral("stock.reserved", int).create_signal(1))],
            "whose on_timeout= is a signal on another collateral that is named 'stock.reserved' too",
        ),
    ],
)
def test_what_a_scatter_or_a_timeout_emits_must_be_in_the_axon(returned: Any, problem: str) -> None:
    """As a signal must; the message says which of them it was."""
    with pytest.raises(OutputError) as caught:
        normalise_outputs(reserve, returned)
    assert str(caught.value).startswith("neuron 'stock', dendrite reserve on 'order.placed' ")
    assert problem in str(caught.value)


def test_what_a_gather_returns_is_told_of_the_gather() -> None:
    """The message calls it what it is."""
    gather = neuron("report", StockAxon).gather(StockAxon.reserved)(lambda results: None)
    assert normalise_outputs(gather, one) == [one]
    with pytest.raises(
        OutputError, match=r"neuron 'report', gather <lambda> on 'stock.reserved' returned a value of type"
    ):
        normalise_outputs(gather, 3)

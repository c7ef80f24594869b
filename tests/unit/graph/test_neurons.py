"""Neurons: their options, their dendrites, and that a refused registration changes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tenacity import AsyncRetrying, Retrying, stop_after_attempt

from cnstra.orchestrator.errors import GraphError, PolicyError
from cnstra.orchestrator.graph import CNS, Axon, collateral, neuron

placed = collateral("order.placed", int)
cancelled = collateral("order.cancelled", str)
patient = Retrying(stop=stop_after_attempt(9))
short = Retrying(stop=stop_after_attempt(2))


class StockAxon(Axon):
    """What stock emits."""

    reserved = collateral("stock.reserved", int)
    sold_out = collateral("stock.sold_out", int)


def nothing(_payload: object) -> None:
    """A handler."""


def test_a_neuron_keeps_its_options() -> None:
    """What was given is there under its name; what was not has the default."""
    made = neuron(
        "n", StockAxon, concurrency=3, queue="bank", retry=patient, max_duration=timedelta(seconds=5), local=int
    )
    assert (made.name, made.concurrency, made.queue, made.retry) == ("n", 3, "bank", patient)
    assert (made.max_duration, made.local) == (timedelta(seconds=5), int)
    assert made.local_payload is not None
    assert made.local_payload.encode(3) == 3
    plain = neuron("n")
    assert (plain.concurrency, plain.queue, plain.retry, plain.max_duration) == (None, "default", None, None)
    assert (plain.local, plain.local_payload) == (None, None)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"concurrency": 0}, "concurrency=0 must be at least 1; None is no limit"),
        ({"concurrency": -1}, "concurrency=-1 must be at least 1"),
        ({"concurrency": True}, "concurrency= must be an int or None, got bool"),
        ({"concurrency": 1.0}, "concurrency= must be an int or None, got float"),
        ({"concurrency": "many"}, "concurrency= must be an int or None, got str"),
        ({"max_duration": 30}, "max_duration= must be a timedelta such as timedelta(seconds=30), got int"),
        ({"max_duration": timedelta(0)}, "must be longer than nothing"),
        ({"max_duration": timedelta(seconds=-1)}, "must be longer than nothing"),
        ({"retry": 3}, "retry= must be a tenacity policy"),
        ({"retry": stop_after_attempt(3)}, "retry= must be a tenacity policy"),
        ({"retry": Retrying}, "got Retrying itself"),
        ({"queue": "two words"}, "queue='two words' is no name that the broker takes"),
        ({"local": "int"}, "the payload type of the local context of neuron 'n' cannot be stored"),
        ({"local": complex}, "complex has no exact JSON form"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options: dict[str, Any], problem: str) -> None:
    """The message names the neuron, the option, and what it must be."""
    with pytest.raises(GraphError) as caught:
        neuron("n", StockAxon, **options)
    assert "neuron 'n'" in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize("option", ["compensate", "priority", "delay", "max_durations"])
def test_an_unknown_option_is_refused(option: str) -> None:
    """Nothing is accepted and then passed over."""
    made = neuron("n")
    with pytest.raises(TypeError, match=option):
        neuron("n", **{option: 1})  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=option):
        made.dendrite(placed, **{option: 1})  # type: ignore[call-overload]


def test_a_policy_that_cannot_be_kept_is_refused_where_it_is_given() -> None:
    """The rules of durable policies hold for neurons, dendrites and graphs, and the message says for which."""
    with pytest.raises(PolicyError, match="neuron 'n'"):
        neuron("n", retry=Retrying(retry_error_callback=lambda state: None))
    with pytest.raises(PolicyError, match=r"neuron 'n', dendrite on 'order.placed'"):
        neuron("n").dendrite(placed, retry=Retrying(retry_error_callback=lambda state: None))
    heard = neuron("n")
    heard.dendrite(placed)(nothing)
    with pytest.raises(PolicyError, match="CNS 'shop'"):
        CNS([heard], name="shop", retry=Retrying(retry_error_callback=lambda state: None))


def test_a_dendrite_takes_its_neurons_policy_unless_it_has_one() -> None:
    """Own options go before the neuron's; without either there is none."""
    made = neuron("n", retry=patient, max_duration=timedelta(seconds=9))
    inherits = made.dendrite(placed)(nothing)
    own = made.dendrite(cancelled, retry=short, max_duration=timedelta(seconds=2))(nothing)
    assert (inherits.retry, inherits.max_duration) == (patient, timedelta(seconds=9))
    assert (own.retry, own.max_duration) == (short, timedelta(seconds=2))
    without = neuron("m").dendrite(placed, retry=AsyncRetrying(stop=stop_after_attempt(1)))(nothing)
    assert isinstance(without.retry, AsyncRetrying)
    assert without.max_duration is None


def test_a_dendrite_has_a_transaction_where_it_says_so() -> None:
    """It is True or False, and nothing that only looks like one; several collaterals share it."""
    made = neuron("n")
    assert made.dendrite(placed, cancelled, transaction=True)(nothing).transaction
    assert made.dendrites["order.cancelled"].transaction
    assert not neuron("m").dendrite(placed)(nothing).transaction
    with pytest.raises(
        GraphError, match=r"neuron 'm', dendrite on 'order\.placed': transaction= must be True or False"
    ):
        neuron("m").dendrite(placed, transaction="yes")  # type: ignore[call-overload]


def test_a_dendrite_is_known_by_neuron_and_collateral() -> None:
    """The neuron lists its dendrites by the name of what they hear, in the order of registration."""
    made = neuron("n")
    second = made.dendrite(cancelled)(nothing)
    first = made.dendrite(placed)(nothing)
    assert list(made.dendrites) == ["order.cancelled", "order.placed"]
    assert made.dendrites["order.placed"] is first
    assert (second.neuron, second.collateral, second.name) == (made, cancelled, "nothing")
    assert repr(first) == "<dendrite nothing of neuron 'n' on 'order.placed'>"
    with pytest.raises(TypeError):
        made.dendrites["x"] = first  # type: ignore[index]


def test_one_handler_may_hear_several_collaterals() -> None:
    """Each gets a dendrite of its own with the same handler; the decorator gives that of the first."""
    made = neuron("n")
    dendrite = made.dendrite(placed, cancelled, retry=short)(nothing)
    assert dendrite is made.dendrites["order.placed"]
    assert made.dendrites["order.cancelled"].handler is dendrite.handler is nothing
    assert made.dendrites["order.cancelled"].retry is short


def test_decorators_can_be_stacked() -> None:
    """A dendrite may be registered again, on another collateral or another neuron; its handler is what counts."""
    one, two = neuron("one"), neuron("two")
    first = one.dendrite(placed)(nothing)
    assert two.dendrite(placed)(one.dendrite(cancelled)(first)).handler is nothing
    assert one.dendrites["order.cancelled"].name == "nothing"


def test_a_second_dendrite_on_a_collateral_is_refused() -> None:
    """A neuron answers to a collateral once, whether the second comes alone or in one call."""
    made = neuron("n")
    made.dendrite(placed)(nothing)
    with pytest.raises(GraphError, match=r"neuron 'n' has two dendrites on 'order.placed': nothing and <lambda>"):
        made.dendrite(placed)(lambda payload: None)
    with pytest.raises(GraphError, match=r"has two dendrites on 'order.placed'"):
        made.dendrite(collateral("order.placed", int))(nothing)
    other = neuron("m")
    with pytest.raises(GraphError, match=r"has two dendrites on 'order.placed'"):
        other.dendrite(placed, placed)(nothing)
    assert not other.dendrites


def test_a_refused_registration_leaves_nothing_behind() -> None:
    """Of several collaterals, none is registered when one is refused."""
    made = neuron("n")
    made.dendrite(cancelled)(nothing)
    with pytest.raises(GraphError):
        made.dendrite(placed, cancelled)(nothing)
    assert list(made.dendrites) == ["order.cancelled"]


@pytest.mark.parametrize("incoming", ["order.placed", StockAxon, 3, None])
def test_what_is_no_collateral_cannot_be_heard(incoming: Any) -> None:
    """A name, an axon or anything else in a collateral's place is refused."""
    with pytest.raises(GraphError, match=r"neuron 'n': dendrite\(\) takes collaterals, got"):
        neuron("n").dendrite(incoming)


def test_a_decorator_without_its_parentheses_is_explained() -> None:
    """``@n.dendrite`` gives the handler where the collateral belongs; the message says so."""
    with pytest.raises(GraphError, match=r"used with parentheses: @n.dendrite\(collateral\)"):
        neuron("n").dendrite(nothing)  # type: ignore[call-overload]
    with pytest.raises(GraphError, match=r"dendrite\(\) needs the collateral"):
        neuron("n").dendrite()  # type: ignore[call-overload]


def test_bind_gives_every_collateral_of_an_axon_a_handler() -> None:
    """By class or by the axon of a neuron; the neuron's own options hold, and the neuron is given back."""
    stock = neuron("stock", StockAxon)
    by_class = neuron("a", retry=short)
    assert by_class.bind(StockAxon, {"sold_out": nothing, "reserved": lambda payload: None}) is by_class
    assert list(by_class.dendrites) == ["stock.reserved", "stock.sold_out"]
    assert by_class.dendrites["stock.sold_out"].handler is nothing
    assert by_class.dendrites["stock.sold_out"].retry is short
    by_axon = neuron("b").bind(stock.axon, {"sold_out": nothing, "reserved": nothing})
    assert len(by_axon.dendrites) == 2
    of_dict = neuron("c", {"reserved": StockAxon.reserved})
    assert list(neuron("d").bind(of_dict.axon, {"reserved": nothing}).dendrites) == ["stock.reserved"]


@pytest.mark.parametrize(
    ("axon", "handlers", "problem"),
    [
        (StockAxon, {"reserved": nothing}, "bind(StockAxon) has no handler for 'sold_out'"),
        (StockAxon, {}, "bind(StockAxon) has no handler for 'reserved', 'sold_out'"),
        (
            StockAxon,
            {"reserved": nothing, "sold_out": nothing, "gone": nothing},
            "has a handler for 'gone', which the axon does not have; it has: reserved, sold_out",
        ),
        (
            StockAxon,
            {"reserved": nothing, "sold_out": None},
            "dendrite on 'stock.sold_out': the handler must be callable",
        ),
        (StockAxon, [nothing, nothing], "bind() takes a dict of attribute name to handler, got list"),
        (Axon, {}, "binds nothing, because that axon has no collaterals"),
        (placed, {"placed": nothing}, "bind() takes an Axon class or another neuron's .axon, got Collateral"),
        ({"placed": placed}, {"placed": nothing}, "bind() takes an Axon class or another neuron's .axon, got dict"),
    ],
)
def test_bind_is_exhaustive(axon: Any, handlers: Any, problem: str) -> None:
    """A missing, unknown or bad handler is refused, and none is registered."""
    made = neuron("n")
    with pytest.raises(GraphError) as caught:
        made.bind(axon, handlers)
    assert "neuron 'n'" in str(caught.value)
    assert problem in str(caught.value)
    assert not made.dendrites


def test_a_neuron_is_fixed() -> None:
    """Its attributes cannot be set after it was made."""
    with pytest.raises(AttributeError, match="is fixed"):
        neuron("n").queue = "other"

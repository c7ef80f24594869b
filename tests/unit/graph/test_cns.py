"""The CNS: the graph as a whole, what it answers, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from tenacity import Retrying, stop_after_attempt

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph import CNS, Axon, Neuron, collateral, neuron


@dataclass
class Order:
    """A payload."""

    id: str


class StockAxon(Axon):
    """What stock emits."""

    reserved = collateral("stock.reserved", Order)


placed = collateral("order.placed", Order)


def nothing(_payload: object) -> None:
    """A handler."""


def stock() -> Neuron[StockAxon]:
    """A neuron that hears ``placed``."""
    made = neuron("stock", StockAxon, queue="warehouse")
    made.dendrite(placed)(nothing)
    return made


def payment() -> Neuron[Axon]:
    """A neuron that hears ``stock.reserved``, and ``placed``."""
    made = neuron("payment", queue="bank")
    made.dendrite(StockAxon.reserved)(nothing)
    made.dendrite(placed)(nothing)
    return made


def test_a_graph_knows_who_hears_what() -> None:
    """Subscribers come in the order of registration; names that nobody knows give nothing."""
    cns = CNS([stock(), payment()], name="shop")
    assert [d.neuron.name for d in cns.subscribers("order.placed")] == ["stock", "payment"]
    assert [d.neuron.name for d in cns.subscribers("stock.reserved")] == ["payment"]
    assert cns.subscribers("unknown") == ()
    assert cns.dendrite("stock", "order.placed") is cns.subscribers("order.placed")[0]
    assert cns.dendrite("stock", "stock.reserved") is None
    assert cns.dendrite("unknown", "order.placed") is None


def test_a_graph_knows_its_parts() -> None:
    """Neurons, collaterals (emitted or heard) and queues, by name."""
    cns = CNS((made for made in [stock(), payment()]), name="shop")
    assert list(cns.neurons) == ["stock", "payment"]
    assert cns.collaterals == {"stock.reserved": StockAxon.reserved, "order.placed": placed}
    assert cns.collateral("order.placed") is placed
    assert cns.collateral("unknown") is None
    assert cns.queues == ("bank", "warehouse")


def test_the_network_answers_as_the_graph_does() -> None:
    """Subscribers by collateral or by name, collaterals, and components of neurons that reach each other."""
    cns = CNS([stock(), payment()])
    assert cns.network.subscribers(placed) == cns.network.subscribers("order.placed") == cns.subscribers("order.placed")
    assert cns.network.collaterals is cns.collaterals
    assert cns.network.strongly_connected_components == (frozenset({"payment"}), frozenset({"stock"}))


def test_a_cycle_is_one_component() -> None:
    """Neurons that start each other stand together."""
    ping, pong = collateral("ping"), collateral("pong")
    one, two = neuron("one", {"pong": pong}), neuron("two", {"ping": ping})
    one.dendrite(ping)(nothing)
    two.dendrite(pong)(nothing)
    assert CNS([one, two]).network.strongly_connected_components == (frozenset({"one", "two"}),)


def test_options_are_kept() -> None:
    """Services, the policy of runs and the context's type are there as they were given."""
    services, policy = object(), Retrying(stop=stop_after_attempt(2))
    cns = CNS([stock()], name="shop", version="7", services=services, retry=policy, context=Order)
    assert (cns.name, cns.version, cns.pinned) == ("shop", "7", True)
    assert (cns.services, cns.retry, cns.context_type) == (services, policy, Order)
    assert cns.context_payload is not None
    assert cns.context_payload.encode(Order("1")) == {"id": "1"}
    plain = CNS([stock()])
    assert (plain.name, plain.pinned, plain.services, plain.retry) == (None, False, None, None)
    assert (plain.context_type, plain.context_payload) == (None, None)


def test_two_collaterals_of_one_name_are_refused() -> None:
    """Equal redefinitions are still two channels; the message says where both stand."""
    other = neuron("other", {"again": collateral("order.placed", Order)})
    with pytest.raises(GraphError) as caught:
        CNS([stock(), other])
    message = str(caught.value)
    assert "two collaterals are named 'order.placed'" in message
    assert "a dendrite of neuron 'stock'" in message
    assert "the axon of neuron 'other' (again)" in message
    assert message.count(__file__) == 2


def test_two_neurons_of_one_name_are_refused() -> None:
    """The message says where both were made."""
    with pytest.raises(GraphError, match=r"CNS 'shop': two neurons are named 'stock'") as caught:
        CNS([stock(), stock()], name="shop")
    assert str(caught.value).count(__file__) == 2
    twice = stock()
    with pytest.raises(GraphError, match="neuron 'stock' stands twice in the list"):
        CNS([twice, twice])


@pytest.mark.parametrize(
    ("neurons", "problem"),
    [
        ([StockAxon], "every member must be a neuron, got type"),
        ([placed], "every member must be a neuron, got Collateral"),
        (neuron("n"), "the first argument must be a list of neurons, got Neuron"),
        ("stock", "the first argument must be a list of neurons, got str"),
        ({"stock": neuron("n")}, "the first argument must be a list of neurons, got dict"),
        (None, "the first argument must be a list of neurons, got NoneType"),
    ],
)
def test_what_is_no_list_of_neurons_is_refused(neurons: Any, problem: str) -> None:
    """The mistake is named."""
    with pytest.raises(GraphError) as caught:
        CNS(neurons)
    assert problem in str(caught.value)


def test_a_durable_graph_has_neurons_and_each_hears_something() -> None:
    """In a graph with a name, a neuron without dendrites is taken for one whose module was not imported."""
    with pytest.raises(GraphError, match="CNS 'shop' has no neurons"):
        CNS([], name="shop")
    with pytest.raises(GraphError, match=r"neuron 'deaf', made at .*, has no dendrites") as caught:
        CNS([stock(), neuron("deaf")], name="shop")
    assert __file__ in str(caught.value)


def test_a_graph_without_a_name_may_be_empty() -> None:
    """In one process nothing is lost by it, as in the engine that the model comes from."""
    assert CNS([]).subscribers("anything") == ()
    assert list(CNS([neuron("deaf")]).neurons) == ["deaf"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"retry": 3}, "CNS 'shop': retry= must be a tenacity policy"),
        ({"context": complex}, "the payload type of the context of CNS 'shop' cannot be stored"),
        ({"version": 7}, "the name of a version must be a string, got int"),
        ({"auto_cleanup_contexts": "no"}, "CNS 'shop': auto_cleanup_contexts= must be True or False, got 'no'"),
    ],
)
def test_a_bad_option_is_refused_and_seals_nothing(options: dict[str, Any], problem: str) -> None:
    """A graph that was refused leaves its neurons open."""
    made = stock()
    with pytest.raises(GraphError) as caught:
        CNS([made], name="shop", **options)
    assert problem in str(caught.value)
    made.dendrite(StockAxon.reserved)(nothing)


@pytest.mark.parametrize("option", ["concurrency", "compensate", "queue"])
def test_an_unknown_option_is_refused(option: str) -> None:
    """Nothing is accepted and then passed over."""
    with pytest.raises(TypeError, match=option):
        CNS([stock()], **{option: True})


def test_a_neuron_of_a_built_graph_takes_no_more_dendrites() -> None:
    """By decorator, by a decorator that was made before, by bind: each is refused, naming the graph and its place."""
    made = stock()
    waiting = made.dendrite(StockAxon.reserved)
    cns = CNS([made], name="shop")
    late = collateral("late")
    for register in (
        lambda: made.dendrite(late),
        lambda: waiting(nothing),
        lambda: made.bind(StockAxon, {"reserved": nothing}),
    ):
        with pytest.raises(GraphError, match=r"neuron 'stock' is part of CNS 'shop', built at .*test_cns.py"):
            register()
    assert list(made.dendrites) == ["order.placed"]
    assert cns.subscribers("stock.reserved") == ()


def test_a_neuron_may_be_part_of_several_graphs() -> None:
    """Being sealed by one graph does not keep it out of the next."""
    made = stock()
    first, second = CNS([made], name="one"), CNS([made, payment()], name="two")
    assert first.neurons["stock"] is second.neurons["stock"]


def test_a_graph_is_fixed() -> None:
    """Neither its attributes nor its mappings can be changed."""
    cns = CNS([stock()], name="shop")
    with pytest.raises(AttributeError, match="is fixed"):
        cns.version = "8"
    for mapping in (cns.neurons, cns.collaterals):
        with pytest.raises(TypeError):
            mapping["x"] = None  # type: ignore[index]

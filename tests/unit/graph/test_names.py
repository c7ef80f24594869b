"""Names are refused where they are given, with what is wrong about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph import CNS, collateral, neuron

GIVES_A_NAME: dict[str, Callable[[Any], Any]] = {
    "collateral": collateral,
    "neuron": neuron,
    "CNS": lambda name: CNS([], name=name).name,
    "version": lambda version: CNS([], version=version).version,
}


@pytest.mark.parametrize("what", ["collateral", "neuron", "CNS", "version"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        ("x" * 201, "has 201 characters"),
        (" stock", "begins or ends with a space"),
        ("stock\n", "begins or ends with a space"),
        ("sto\x00ck", "cannot be printed"),
        ("sto\tck", "cannot be printed"),
        ("\ud800", "cannot be printed"),
        (17, "must be a string, got int"),
        (b"stock", "must be a string, got bytes"),
    ],
)
def test_a_name_that_cannot_be_shown_or_stored_is_refused(what: str, name: Any, problem: str) -> None:
    """Every part of a graph checks its name by the same rules and says which part it is."""
    with pytest.raises(GraphError) as caught:
        GIVES_A_NAME[what](name)
    assert str(caught.value).startswith("the name of ")
    assert what in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["s", "x" * 200, "stock.reserved", "Lager geräumt", "在庫", "a/b:c#1"])
@pytest.mark.parametrize("what", ["collateral", "neuron", "version"])
def test_a_name_that_can_be_shown_is_taken_as_it_is(what: str, name: str) -> None:
    """Spaces inside, other alphabets and punctuation are fine, and nothing about a name is changed."""
    given = GIVES_A_NAME[what](name)
    assert getattr(given, "name", given) == name


@pytest.mark.parametrize("queue", ["default", "bank", "_a", "a.b-c_1", "x" * 200])
def test_queues_that_the_broker_takes_are_taken(queue: str) -> None:
    """What Dramatiq allows as the name of a queue is allowed."""
    assert neuron("n", queue=queue).queue == queue


@pytest.mark.parametrize("queue", ["", "1st", "a b", "a/b", "ä", "bank\n", "x" * 201, "bank.DQ", "bank.XQ", None, 1])
def test_queues_that_the_broker_would_refuse_are_refused(queue: Any) -> None:
    """What Dramatiq would refuse at the first message, or take for a queue of its own, is refused at once."""
    with pytest.raises(GraphError, match=r"neuron 'n': queue="):
        neuron("n", queue=queue)


def test_the_broker_agrees_about_queues() -> None:
    """The rule for queues is the one that Dramatiq has."""
    broker = StubBroker()
    for queue in ("_a", "a.b-c_1"):
        dramatiq.actor(lambda: None, actor_name=queue, queue_name=queue, broker=broker)
    for queue in ("1st", "a b", "a/b", "ä"):
        with pytest.raises(ValueError, match="Queue names"):
            dramatiq.actor(lambda: None, actor_name=f"actor{queue}", queue_name=queue, broker=broker)

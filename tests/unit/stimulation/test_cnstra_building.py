"""Parts of a graph, made and put together as CNStra's factories do: collaterals, neurons, dendrites, bindings."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from cnstra import CNS, Axon, GraphError, PayloadError, collateral, neuron
from support.stimulating import Told, ended_well


@dataclass(frozen=True)
class User:
    id: int
    name: str


@dataclass(frozen=True)
class Order:
    id: str
    amount: int


user_created, order_created = collateral("user.created", User), collateral("order.created", Order)


class Mails(Axon):
    welcome = collateral("mail.welcome", str)
    receipt = collateral("mail.receipt", int)


def test_a_collateral_makes_signals_of_its_payload_type() -> None:
    """The signal has the collateral itself and the payload itself; another type is refused at once."""
    user = User(id=1, name="Ada")

    signal = user_created.create_signal(user)

    assert signal.collateral is user_created
    assert signal.payload is user
    with pytest.raises(PayloadError):
        user_created.create_signal("Ada")  # type: ignore[arg-type]


def test_a_collateral_without_a_type_carries_nothing() -> None:
    """Its signals carry None."""
    assert collateral("ping").create_signal().payload is None


def test_a_neuron_has_its_axon_and_its_dendrites() -> None:
    """One dendrite each collateral that it hears; the neuron goes on to take more until the graph is built."""
    mails = neuron("mails", Mails)
    mails.dendrite(user_created)(lambda user, axon: axon.welcome.create_signal(user.name))
    one = list(mails.dendrites)
    mails.dendrite(order_created)(lambda order, axon: axon.receipt.create_signal(order.amount))

    assert mails.axon.welcome is Mails.welcome
    assert one == ["user.created"]
    assert list(mails.dendrites) == ["user.created", "order.created"]


def test_a_handler_may_hear_several_collaterals_of_different_types() -> None:
    """Beside dendrites on one each; it gets whichever payload came."""
    third = collateral("third", int)
    mails, seen = neuron("mails", Mails), list[Any]()
    mails.dendrite(user_created, order_created)(lambda payload: seen.append(payload))
    mails.dendrite(third)(lambda number: seen.append(number))
    user, order = User(id=1, name="Ada"), Order(id="o", amount=2)

    signals = [user_created.create_signal(user), third.create_signal(3), order_created.create_signal(order)]
    ended_well(CNS([mails]).stimulate(signals))

    assert seen == [user, 3, order]
    assert list(mails.dendrites) == ["user.created", "order.created", "third"]


def test_one_neuron_emits_on_several_collaterals_of_different_types() -> None:
    """Each answer goes out on the collateral that it was made on."""
    mails, told = neuron("mails", Mails), Told()
    mails.dendrite(user_created)(lambda user, axon: axon.welcome.create_signal(f"hello {user.name}"))
    mails.dendrite(order_created)(lambda order, axon: axon.receipt.create_signal(order.amount))
    cns = CNS([mails])

    cns.stimulate(user_created.create_signal(User(id=1, name="Ada")), on_response=told)
    cns.stimulate(order_created.create_signal(Order(id="o", amount=5)), on_response=told)

    assert told.payloads("mail.welcome") == ["hello Ada"]
    assert told.payloads("mail.receipt") == [5]


def test_a_dendrite_can_be_called_without_any_graph() -> None:
    """For tests of a handler alone: payload, axon, and whatever stands for the context."""
    mails = neuron("mails", Mails)

    @mails.dendrite(user_created)
    async def greet(user: User, axon: Mails, ctx: Any) -> Any:
        ctx.seen.append(user.id)
        return axon.welcome.create_signal(f"hello {user.name}")

    stub = SimpleNamespace(seen=[])
    signal = asyncio.run(greet(User(id=7, name="Ada"), mails.axon, stub))

    assert (signal.collateral, signal.payload) == (Mails.welcome, "hello Ada")
    assert stub.seen == [7]


class Orders(Axon):
    created = collateral("orders.created", int)
    cancelled = collateral("orders.cancelled", int)


@pytest.mark.parametrize(
    ("handlers", "problem"),
    [({"created": print}, "'cancelled'"), ({"created": print, "cancelled": print, "paid": print}, "'paid'")],
)
def test_a_binding_that_is_not_exhaustive_is_refused_when_it_is_made(handlers: Any, problem: str) -> None:
    """A collateral that the axon got later on cannot be forgotten, and one that it lost cannot be kept."""
    with pytest.raises(GraphError, match=re.escape(problem)):
        neuron("audits").bind(Orders, handlers)


def test_a_binding_answers_to_every_collateral_of_the_axon() -> None:
    """By class, or by the axon of the neuron that emits them."""
    seen: list[Any] = []
    orders = neuron("orders", Orders)
    by_class = neuron("by class").bind(Orders, {"created": lambda n: seen.append(n), "cancelled": lambda _: None})
    by_axon = neuron("by axon").bind(orders.axon, {"created": lambda n: seen.append(-n), "cancelled": lambda _: None})

    ended_well(CNS([orders, by_class, by_axon]).stimulate(Orders.created.create_signal(3)))

    assert seen == [3, -3]

"""Compensations: how they are registered and called, and which are refused."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from tenacity import Retrying, stop_after_attempt

from cnstra import CNS, Dendrite, GraphError, PolicyError, collateral, neuron

placed, cancelled = collateral("order.placed", Any), collateral("order.cancelled", Any)
short = Retrying(stop=stop_after_attempt(2))


def nothing(_payload: object) -> None:
    """A handler."""


def undo(_payload: object) -> None:
    """A compensation."""


def reserve(**options: Any) -> Dendrite[Any, Any]:
    """A dendrite of a new neuron."""
    return neuron("stock", **options).dendrite(placed)(nothing)


def test_the_decorator_gives_the_function_itself_back() -> None:
    """Bare, with options, and called with both: a unit test calls the function as it was written."""
    bare, with_options, with_none, at_once = reserve(), reserve(), reserve(), reserve()

    assert bare.compensate(undo) is undo
    assert with_options.compensate(uncertain=True)(undo) is undo
    assert with_none.compensate()(undo) is undo
    assert at_once.compensate(undo, uncertain=True) is undo
    for dendrite, uncertain in ((bare, False), (with_options, True), (with_none, False), (at_once, True)):
        made = dendrite.compensation
        assert made is not None
        assert (made.name, made.handler, made.uncertain, made.is_async) == ("undo", undo, uncertain, False)


def test_a_dendrite_without_one_has_none() -> None:
    """And one of another dendrite is not its own."""
    made = neuron("stock")
    first, second = made.dendrite(placed)(nothing), made.dendrite(cancelled)(nothing)
    first.compensate(undo)

    assert first.compensation is not None
    assert second.compensation is None
    assert list(made.compensations) == ["order.placed"]
    with pytest.raises(TypeError):
        made.compensations["order.cancelled"] = first.compensation  # type: ignore[index]


@pytest.mark.parametrize(
    ("handler", "given"),
    [
        (lambda payload: (payload,), ("p",)),
        (lambda payload, ctx: (payload, ctx), ("p", "c")),
        (lambda payload, ctx, outputs: (payload, ctx, outputs), ("p", "c", "o")),
        (functools.partial(lambda first, payload, ctx: (first, payload, ctx), 1), (1, "p", "c")),
    ],
)
def test_it_gets_as_many_of_payload_context_and_outputs_as_it_takes(
    handler: Callable[..., Any], given: tuple[Any, ...]
) -> None:
    """``call`` always takes all three."""
    dendrite = reserve()
    dendrite.compensate(handler)

    assert dendrite.compensation is not None
    assert dendrite.compensation.call("p", "c", "o") == given


def test_a_coroutine_function_is_known_as_one() -> None:
    """Calling it gives the coroutine."""

    async def undo_later(payload: Any, ctx: Any) -> Any:
        return (payload, ctx)

    dendrite = reserve()
    dendrite.compensate(undo_later)
    assert dendrite.compensation is not None
    assert dendrite.compensation.is_async
    coroutine = dendrite.compensation.call("p", "c", "o")
    assert inspect.iscoroutine(coroutine)
    coroutine.close()


def test_options_are_its_own_and_only_the_limit_comes_from_the_dendrite() -> None:
    """The dendrite's policy was made for doing, not for undoing."""
    inherits = reserve(retry=short, max_duration=timedelta(seconds=9))
    inherits.compensate(undo)
    own = reserve(max_duration=timedelta(seconds=9))
    own.compensate(retry=short, max_duration=timedelta(seconds=2), uncertain=True)(undo)

    assert inherits.compensation is not None
    assert own.compensation is not None
    assert (inherits.compensation.retry, inherits.compensation.max_duration) == (None, timedelta(seconds=9))
    assert (own.compensation.retry, own.compensation.max_duration) == (short, timedelta(seconds=2))


def test_it_holds_for_all_dendrites_that_were_made_together() -> None:
    """Whichever of them it was registered on; for those that were made apart it does not hold."""
    made = neuron("stock")
    made.dendrite(placed, cancelled)(nothing)
    apart = made.dendrite(collateral("order.returned", Any))(nothing)
    made.dendrites["order.cancelled"].compensate(undo)

    assert made.dendrites["order.placed"].compensation is made.dendrites["order.cancelled"].compensation is not None
    assert apart.compensation is None


def test_a_neuron_in_two_graphs_is_compensated_in_both() -> None:
    """What was registered before the first one was built is found afterwards."""
    dendrite = reserve()
    dendrite.compensate(undo)
    for name in ("one", "two"):
        found = CNS([dendrite.neuron], name=name).dendrite("stock", "order.placed")
        assert found is not None
        assert found.compensation is not None


def test_a_dendrite_is_undone_in_one_way() -> None:
    """A second one is refused, also on a dendrite that was made together with it, and the first stays."""
    made = neuron("stock")
    first = made.dendrite(cancelled, placed)(nothing)
    made.dendrites["order.placed"].compensate(undo)
    for again in (first, made.dendrites["order.placed"]):
        with pytest.raises(GraphError, match=r"two compensations of its dendrite on 'order\.\w+': undo and <lambda>"):
            again.compensate(lambda payload: None)
    assert first.compensation is not None
    assert first.compensation.handler is undo


def test_a_sealed_neuron_takes_no_compensation() -> None:
    """Neither by a decorator that was made before."""
    dendrite = reserve()
    early = dendrite.compensate(uncertain=True)
    CNS([dendrite.neuron], name="shop")

    for late in (dendrite.compensate, early):
        with pytest.raises(GraphError, match=r"part of CNS 'shop', built at .* and takes no more compensations"):
            late(undo)
    assert dendrite.compensation is None


async def streams(payload: Any) -> AsyncIterator[Any]:
    yield payload


def generates(payload: Any) -> Iterator[Any]:
    yield payload


class GeneratorCallable:
    """An object whose call is a generator."""

    def __call__(self, payload: Any) -> Iterator[Any]:
        yield payload


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (generates, "generates is a generator, and a compensation emits nothing"),
        (functools.partial(generates), "generates is a generator"),
        (GeneratorCallable(), "GeneratorCallable is a generator"),
        (streams, "streams is an async generator; make it an async def without yield"),
        (lambda: None, "takes 0 arguments; it must take (payload), (payload, ctx) or (payload, ctx, outputs)"),
        (lambda a, b, c, d: None, "takes 4 arguments"),
        (lambda payload, ctx=None: None, "has a default for 'ctx'"),
        (Mock(), "takes *args"),
        (max, "max does not tell its parameters"),
        (dict, "the compensation is the class dict"),
        (None, "the compensation must be callable, got NoneType"),
        ("undo", "the compensation must be callable, got str"),
        (reserve(), "nothing is a dendrite, which emits; give a function of its own"),
    ],
)
def test_what_cannot_undo_with_certainty_is_refused(handler: Any, problem: str) -> None:
    """The rules of handlers, and that nothing is emitted. The message names the neuron, the handler, the collateral."""
    dendrite = reserve()
    for register in (dendrite.compensate, dendrite.compensate()):
        with pytest.raises(GraphError) as caught:
            register(handler)
        assert str(caught.value).startswith("neuron 'stock', compensation of nothing on 'order.placed': ")
        assert problem in str(caught.value)
    assert dendrite.compensation is None


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"uncertain": 1}, GraphError, "uncertain= must be True or False, got 1"),
        ({"uncertain": None}, GraphError, "uncertain= must be True or False, got None"),
        ({"retry": 3}, GraphError, "retry= must be a tenacity policy"),
        ({"retry": Retrying(retry_error_callback=lambda state: None)}, PolicyError, "retry_error_callback"),
        ({"max_duration": 30}, GraphError, "max_duration= must be a timedelta"),
        ({"max_duration": timedelta(0)}, GraphError, "longer than nothing"),
        ({"on_conflict": "fail"}, TypeError, "on_conflict"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options: dict[str, Any], error: type[Exception], problem: str) -> None:
    """Where it is given."""
    with pytest.raises(error, match=problem):
        reserve().compensate(**options)


def test_a_gather_may_be_compensated() -> None:
    """As any other dendrite; the payload is its list of results."""
    gather = neuron("report").gather(placed)(nothing)
    gather.compensate(undo)
    assert gather.compensation is not None


def test_within_one_process_nothing_is_compensated() -> None:
    """Neither when a task fails, nor when all of them are done."""
    undone: list[Any] = []
    made = neuron("stock")

    @made.dendrite(placed)
    def fails(payload: Any) -> None:
        if payload == "bad":
            raise LookupError(payload)

    fails.compensate(undone.append)
    stimulation = CNS([made]).stimulate([placed.create_signal("good"), placed.create_signal("bad")])

    assert [str(failure.error) for failure in stimulation.failed_tasks] == ["bad"]
    assert undone == []

"""Handlers: how many arguments each gets, and which callables are refused when they are registered."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph import Dendrite, collateral, neuron

tick = collateral("tick", Any)


def register(handler: Any, **options: Any) -> Dendrite[Any, Any]:
    """A dendrite of a new neuron with this handler."""
    return neuron("n", {"out": collateral("out", Any)}).dendrite(tick, **options)(handler)


class Methods:
    """Handlers that are methods, or objects."""

    def bound(self, payload: Any, axon: Any) -> Any:
        return ("bound", payload, axon)

    @classmethod
    def of_class(cls, payload: Any) -> Any:
        return ("of_class", payload)

    @staticmethod
    def static(payload: Any, axon: Any, ctx: Any) -> Any:
        return ("static", payload, axon, ctx)

    def __call__(self, payload: Any) -> Any:
        return ("called", payload)

    async def asynchronous(self, payload: Any) -> Any:
        return payload


class AsyncCallable:
    """An object whose call is a coroutine."""

    async def __call__(self, payload: Any) -> Any:
        return payload


def three(payload: Any, axon: Any, ctx: Any) -> Any:
    """Takes all."""
    return (payload, axon, ctx)


def keyword(payload: Any, *, retries: int = 3) -> Any:
    """Has an option of its own."""
    return (payload, retries)


def wrapped(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as they should be."""

    @functools.wraps(handler)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return handler(*args, **kwargs)

    return inner


@pytest.mark.parametrize(
    ("handler", "name", "given"),
    [
        (lambda payload: (payload,), "<lambda>", ("p",)),
        (lambda payload, axon: (payload, axon), "<lambda>", ("p", "a")),
        (three, "three", ("p", "a", "c")),
        (keyword, "keyword", ("p", 3)),
        (functools.partial(three, "first"), "three", ("first", "p", "a")),
        (functools.partial(three, ctx="c2"), "three", ("p", "a", "c2")),
        (functools.partial(functools.partial(three), ctx="c2"), "three", ("p", "a", "c2")),
        (Methods().bound, "bound", ("bound", "p", "a")),
        (Methods.of_class, "of_class", ("of_class", "p")),
        (Methods.static, "static", ("static", "p", "a", "c")),
        (Methods(), "Methods", ("called", "p")),
        (wrapped(three), "three", ("p", "a", "c")),
        (wrapped(wrapped(lambda payload: (payload,))), "<lambda>", ("p",)),
        (operator.neg, "neg", None),
    ],
)
def test_a_handler_gets_as_many_arguments_as_it_takes(handler: Any, name: str, given: Any) -> None:
    """Functions, lambdas, methods, partials, callable objects and decorated functions: by position, one to three."""
    dendrite = register(handler)
    assert dendrite.name == name
    assert dendrite.handler is handler
    assert not dendrite.is_async
    if given is not None:
        assert dendrite.call("p", "a", "c") == given


async def coroutine_function(payload: Any, axon: Any) -> Any:
    return (payload, axon)


@pytest.mark.parametrize(
    "handler",
    [
        coroutine_function,
        functools.partial(coroutine_function, axon="a"),
        Methods().asynchronous,
        AsyncCallable(),
    ],
)
def test_a_coroutine_function_is_known_as_one(handler: Any) -> None:
    """Also beneath a partial, a method or a callable object; calling it gives the coroutine."""
    dendrite = register(handler)
    assert dendrite.is_async
    coroutine = dendrite.call("p", "a", "c")
    assert inspect.iscoroutine(coroutine)
    coroutine.close()


def test_a_generator_may_be_a_handler() -> None:
    """Calling it gives the generator; nothing of it has run."""

    def emits(payload: Any) -> Iterator[Any]:
        yield payload

    dendrite = register(emits)
    assert not dendrite.is_async
    assert list(dendrite.call("p", "a", "c")) == ["p"]


async def streams(payload: Any) -> AsyncIterator[Any]:
    yield payload


class AsyncGeneratorCallable:
    """An object whose call is an async generator."""

    async def __call__(self, payload: Any) -> AsyncIterator[Any]:
        yield payload


def unwrapped(*args: Any, **kwargs: Any) -> Any:
    """What a careless decorator gives."""


REFUSED: list[tuple[Any, str]] = [
    (streams, "streams is an async generator"),
    (functools.partial(streams), "streams is an async generator"),
    (AsyncGeneratorCallable(), "AsyncGeneratorCallable is an async generator"),
    (lambda: None, "takes 0 arguments; it must take (payload), (payload, axon) or (payload, axon, ctx)"),
    (lambda a, b, c, d: None, "takes 4 arguments"),
    (lambda payload, axon=None: None, "has a default for 'axon'"),
    (lambda payload=None: None, "has a default for 'payload'"),
    (unwrapped, "unwrapped takes *args, so how many arguments it wants is not known"),
    (Mock(), "takes *args"),
    (print, "print takes *args"),
    (max, "max does not tell its parameters; wrap it in a function"),
    (functools.partial(three, payload="p"), "needs the keyword 'axon', which nobody gives"),
    (Methods, "the handler is the class Methods"),
    (dict, "the handler is the class dict"),
    (None, "the handler must be callable, got NoneType"),
    ("reserve", "the handler must be callable, got str"),
]


@pytest.mark.parametrize(("handler", "problem"), REFUSED)
def test_what_cannot_be_called_with_certainty_is_refused(handler: Any, problem: str) -> None:
    """Doubt about the arguments is an error when the handler is registered, not when its first signal comes."""
    made = neuron("n")
    with pytest.raises(GraphError) as caught:
        made.dendrite(tick)(handler)
    assert str(caught.value).startswith("neuron 'n', dendrite on 'tick': ")
    assert problem in str(caught.value)
    assert not made.dendrites


def test_a_dendrite_is_called_as_its_handler_is() -> None:
    """A unit test calls the handler with whatever it likes: fewer rules hold than for the engine."""
    dendrite = register(keyword)
    assert dendrite("p") == ("p", 3)
    assert dendrite("p", retries=5) == ("p", 5)
    assert dendrite(payload="p") == ("p", 3)


def test_handlers_are_called_with_no_more_than_one_step_between() -> None:
    """A handler that takes all three arguments is called directly, because this runs on every hop."""
    assert register(three).call is three


@pytest.mark.parametrize(
    ("merge", "merged"),
    [
        (lambda mine, theirs: (mine, theirs), ("m", "t")),
        (lambda mine, theirs, base: (mine, theirs, base), ("m", "t", "b")),
        (functools.partial(lambda scale, mine, theirs: (scale, mine, theirs), 2), (2, "m", "t")),
    ],
)
def test_a_merge_function_takes_two_or_three_values(merge: Any, merged: Any) -> None:
    """``Dendrite.merge`` always takes (mine, theirs, base), whatever the function wants."""
    dendrite = register(three, on_conflict=merge)
    assert dendrite.on_conflict is merge
    assert dendrite.merge is not None
    assert dendrite.merge("m", "t", "b") == merged


@pytest.mark.parametrize("policy", ["retry", "overwrite", "fail"])
def test_a_named_policy_has_no_merge_function(policy: Any) -> None:
    """The three policies with names are kept as they are; the first is the default."""
    assert register(three, on_conflict=policy).on_conflict == policy
    assert register(three, on_conflict=policy).merge is None
    assert register(three).on_conflict == "retry"


@pytest.mark.parametrize(
    ("on_conflict", "problem"),
    [
        ("merge", "on_conflict must be 'retry', 'overwrite', 'fail' or a function"),
        (None, "on_conflict must be"),
        (3, "on_conflict must be"),
        (["retry"], "on_conflict must be"),
        (lambda mine: mine, "takes 1 argument; it must take (mine, theirs) or (mine, theirs, base)"),
        (lambda a, b, c, d: a, "takes 4 arguments"),
        (coroutine_function, "must be a plain function"),
        (print, "takes *args"),
    ],
)
def test_a_conflict_policy_that_means_nothing_is_refused(on_conflict: Any, problem: str) -> None:
    """The mistake is found where the option is given."""
    with pytest.raises(GraphError) as caught:
        neuron("n").dendrite(tick, on_conflict=on_conflict)
    assert str(caught.value).startswith("neuron 'n', dendrite on 'tick': ")
    assert problem in str(caught.value)

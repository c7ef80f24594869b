"""Generators that hand out what they want done, and go on with what came of it: once for callers of both colours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar, cast

A = TypeVar("A")
T = TypeVar("T")


def driven(asks: Generator[A, Any, T], answer: Callable[[A], Any]) -> T:
    """Carry a generator to its end: it is given what ``answer`` gives for each thing that it asks, or what that raises."""
    resume: tuple[Callable[[Any], A], Any] = (asks.send, None)
    while True:
        step, given = resume
        try:
            asked = step(given)
        except StopIteration as stop:
            return cast("T", stop.value)
        try:
            resume = (asks.send, answer(asked))
        except BaseException as error:
            resume = (asks.throw, error)


async def driven_async(asks: Generator[A, Any, T], answer: Callable[[A], Awaitable[Any]]) -> T:
    """The same, awaited."""
    resume: tuple[Callable[[Any], A], Any] = (asks.send, None)
    while True:
        step, given = resume
        try:
            asked = step(given)
        except StopIteration as stop:
            return cast("T", stop.value)
        try:
            resume = (asks.send, await answer(asked))
        except BaseException as error:
            resume = (asks.throw, error)

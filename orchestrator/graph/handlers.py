"""What may be a handler, and how it is called.

A handler takes one to three arguments by position: the payload, the axon, the context; a gather's the results instead
of the payload; a compensation the payload, the context, the outputs. How many is found when it is registered, so that a
call needs no inspection. Refused then: anything whose parameters are not known,
parameters that nobody would fill, defaults that an argument would silently replace, async generators,
classes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cnstra.orchestrator.errors import GraphError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_MOST = 3
_HANDLER_FORMS = "(payload), (payload, axon) or (payload, axon, ctx)"
_COMPENSATION_FORMS = "(payload), (payload, ctx) or (payload, ctx, outputs)"
_GATHER_FORMS = "(results), (results, axon) or (results, axon, ctx)"
_MERGE_FORMS = "(mine, theirs) or (mine, theirs, base)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A checked handler: its name, how many arguments it takes, whether it is a coroutine function, and one way to
    call it.
    """

    name: str
    arity: int
    is_async: bool
    call: Callable[[Any, Any, Any], Any]


def inspect_handler(handler: object, where: str) -> Handler:
    """Check a handler for ``where`` (such as ``neuron 'stock', dendrite of 'order.placed'``); raises
    GraphError.
    """
    return _inspect(handler, where, "the handler", forms=_HANDLER_FORMS)


def inspect_gather(handler: object, where: str) -> Handler:
    """Check the handler of a gather, which takes (results), (results, axon) or (results, axon, ctx)."""
    return _inspect(handler, where, "the handler", forms=_GATHER_FORMS)


def inspect_compensation(handler: object, where: str) -> Handler:
    """Check a compensation of (payload), (payload, ctx) or (payload, ctx, outputs); raises GraphError."""
    if inspect.isgeneratorfunction(_code_of(handler)):
        raise GraphError(
            f"{where}: {handler_name(handler)} is a generator, and a compensation emits nothing; make it a plain "
            "function or an async def without yield"
        )
    return _inspect(handler, where, "the compensation", forms=_COMPENSATION_FORMS)


def _inspect(handler: object, where: str, what: str, *, forms: str) -> Handler:
    if not callable(handler):
        raise GraphError(f"{where}: {what} must be callable, got {type(handler).__name__}")
    if isinstance(handler, type):
        raise GraphError(f"{where}: {what} is the class {handler.__name__}; give a function, or an instance")
    name = handler_name(handler)
    code = _code_of(handler)
    if inspect.isasyncgenfunction(code):
        advice = (
            "make it an async def without yield"
            if forms is _COMPENSATION_FORMS
            else "return a list of signals from an async def instead, or use a plain generator"
        )
        raise GraphError(f"{where}: {name} is an async generator; {advice}")
    arity = _arity(handler, f"{where}: {name}", forms=forms)
    return Handler(name=name, arity=arity, is_async=inspect.iscoroutinefunction(code), call=_with_arity(handler, arity))


def inspect_merge(merge: object, where: str) -> Callable[[Any, Any, Any], Any]:
    """Check a merge function of (mine, theirs) or (mine, theirs, base); gives one that takes all three."""
    if not callable(merge):
        raise GraphError(
            f"{where}: on_conflict must be 'retry', 'overwrite', 'fail' or a function (mine, theirs) or "
            f"(mine, theirs, base), got {merge!r}"
        )
    name = handler_name(merge)
    code = _code_of(merge)
    if inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code) or inspect.isgeneratorfunction(code):
        raise GraphError(f"{where}: the merge function {name} must be a plain function; it runs while a hop is settled")
    arity = _arity(merge, f"{where}: the merge function {name}", forms=_MERGE_FORMS)
    if arity < 2:
        raise GraphError(f"{where}: the merge function {name} takes {arity} argument; it must take {_MERGE_FORMS}")
    return merge if arity == 3 else lambda mine, theirs, _base: merge(mine, theirs)


def handler_name(handler: Any) -> str:
    """The name under which a handler is shown: its ``__name__``, that of what it wraps, or its class."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    name = getattr(handler, "__name__", None)
    return name if isinstance(name, str) and name else type(handler).__name__


def _code_of(handler: Any) -> Any:
    """What runs when ``handler`` is called, beneath partials and ``__call__``."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isroutine(handler):
        return handler
    return type(handler).__call__


def _arity(handler: Callable[..., Any], what: str, *, forms: str) -> int:
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        raise GraphError(f"{what} does not tell its parameters; wrap it in a function that takes {forms}") from None
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is inspect.Parameter.empty:
            raise GraphError(f"{what} needs the keyword {parameter.name!r}, which nobody gives; it must take {forms}")
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL and len(positional) < _MOST:
            raise GraphError(
                f"{what} takes *{parameter.name}, so how many arguments it wants is not known; name them, or "
                "decorate the wrapper with functools.wraps"
            )
    for parameter in positional[:_MOST]:
        if parameter.default is not inspect.Parameter.empty:
            raise GraphError(
                f"{what} has a default for {parameter.name!r}, so whether it wants the argument is not "
                "known; remove the default, or make it keyword-only by a * before it"
            )
    required = [parameter for parameter in positional if parameter.default is inspect.Parameter.empty]
    if not 1 <= len(required) <= _MOST:
        raise GraphError(f"{what} takes {len(required)} arguments; it must take {forms}")
    return len(required)


def _with_arity(handler: Callable[..., Any], arity: int) -> Callable[[Any, Any, Any], Any]:
    if arity == 3:
        return handler
    if arity == 2:
        return lambda first, second, _third: handler(first, second)
    return lambda first, _second, _third: handler(first)

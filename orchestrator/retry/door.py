"""The door: which tenacity policies an engine can keep that stores the count and the times of the tries.

Owns: the check of a policy when a graph is built or a run is submitted.
Refuses: everything that could not keep its promise when the tries of one activation are spread over processes
and days, or that would have to be ignored. Functions are welcome here; `data` refuses them where a policy
travels.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator

import tenacity
from tenacity import AsyncRetrying, BaseRetrying, Retrying

from cnstra.orchestrator.errors import PolicyError
from cnstra.orchestrator.retry.names import flat_types
from cnstra.orchestrator.retry.parts import BASES, Kind, shape_of

# Deeper than this, asking would come near Python's own recursion limit.
MAX_DEPTH = 50

_CALLBACKS = ("before", "after", "before_sleep")

# What a subclass may define for itself: none of it takes part in a decision.
_FREE_TO_OVERRIDE = frozenset({"__init__", "__repr__", "__str__", "__getstate__", "__setstate__"})

# All of these sleep for the seconds that they are given, and that is what the database does in their place.
_DEFAULT_SLEEPS = tuple(inspect.signature(of.__init__).parameters["sleep"].default for of in (Retrying, AsyncRetrying))
_PLAIN_SLEEPS = frozenset({("time", "sleep"), ("asyncio.tasks", "sleep")})


def check_policy(policy: object, where: str) -> None:
    """Refuses a policy that cannot be kept.

    Args:
        policy: what the user gave as `retry=`.
        where: what it was given to, as the error's message should begin ("dendrite payment <- reserved").

    Raises:
        PolicyError: naming `where`, the part, and what to do.
    """
    retrying = _retrying(policy, where)
    _check_sleep(retrying, where)
    if retrying.retry_error_callback:
        raise PolicyError(
            f"{where}: retry_error_callback turns a failure into a result, and there is no caller to give it"
            " to; emit the fallback's signal from the handler, or undo with a compensation"
        )
    _check_error_class(retrying.retry_error_cls, where)
    for name in _CALLBACKS:
        callback = getattr(retrying, name)
        if callback is not None:
            _check_function(callback, f"{where}: {name}")
    for role in BASES:
        if role == "wait" and is_no_wait(retrying.wait):
            continue
        _check_part(getattr(retrying, role), role, f"{where}: {role}", depth=0)


def is_no_wait(wait: object) -> bool:
    """Whether it is one of the values, None and 0, that tenacity takes for no wait at all."""
    return wait is None or wait == 0


def _retrying(policy: object, where: str) -> BaseRetrying:
    if not isinstance(policy, Retrying | AsyncRetrying):
        raise PolicyError(
            f"{where}: a retry policy is a tenacity Retrying(...) or AsyncRetrying(...), not {_describe(policy)}"
        )
    for overridden in _overridden(type(policy)):
        raise PolicyError(
            f"{where}: {type(policy).__name__} overrides {overridden} of tenacity, which is never called:"
            " only its stop, wait, retry and callbacks are asked; put the change into one of those"
        )
    return policy


def _overridden(policy_type: type[BaseRetrying]) -> Iterator[str]:
    own = (Retrying, AsyncRetrying, BaseRetrying)
    methods = {
        name
        for base in own
        for name, member in vars(base).items()
        if inspect.isfunction(member) or isinstance(member, property)
    }
    for subclass in policy_type.__mro__:
        if subclass in own:
            return
        yield from sorted((vars(subclass).keys() & methods) - _FREE_TO_OVERRIDE)


def _check_sleep(policy: BaseRetrying, where: str) -> None:
    named = (getattr(policy.sleep, "__module__", None), getattr(policy.sleep, "__qualname__", None))
    if policy.sleep not in _DEFAULT_SLEEPS and named not in _PLAIN_SLEEPS:
        raise PolicyError(
            f"{where}: sleep is {_describe(policy.sleep)}, and nothing sleeps here: the next try's time is"
            " stored in the database; leave sleep out, and shape the time with wait"
        )


def _check_error_class(error_class: object, where: str) -> None:
    if not isinstance(error_class, type) or not issubclass(error_class, Exception):
        raise PolicyError(
            f"{where}: retry_error_cls is {_describe(error_class)}, not an exception class; a try that has"
            " failed for good is recorded with it"
        )


def _check_part(part: object, role: str, at: str, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise PolicyError(f"{at}: nested deeper than {MAX_DEPTH} strategies; give them to one {role}_ side by side")
    for other, base in BASES.items():
        if other != role and isinstance(part, base):
            raise PolicyError(f"{at} is {_describe(part)}, which is a strategy for {other}; give it as {other}=")
    if isinstance(part, tenacity.stop_when_event_set):
        raise PolicyError(
            f"{at}: the event of stop_when_event_set lives in one process, and the next try may run in"
            " another; use run.cancel() to end a run from outside"
        )
    shape = shape_of(part)
    if shape is None:
        _check_function(part, at)
        return
    for parameter in shape.parameters:
        inner = f"{at}.{parameter.name}"
        value = parameter.read(part)
        match parameter.kind:
            case Kind.PARTS:
                _check_parts(value, role, shape.name, inner, depth=depth + 1)
            case Kind.NUMBER | Kind.SECONDS:
                number(value, inner)
            case Kind.TYPES:
                _check_types(value, shape.name, inner)
            case Kind.TEXT | Kind.PATTERN:
                pass  # tenacity's own constructor has refused what is neither


def _check_parts(parts: object, role: str, name: str, at: str, *, depth: int) -> None:
    if not isinstance(parts, tuple | list):
        raise PolicyError(f"{at} is {_describe(parts)}, not the strategies that {name} combines")
    if name == "wait_chain" and not parts:
        raise PolicyError(f"{at}: a wait_chain without a strategy can answer nothing; give it at least one")
    for index, part in enumerate(parts):
        _check_part(part, role, f"{at}[{index}]", depth=depth)


def number(value: object, at: str) -> float:
    """The number that a parameter holds; infinity is one, NaN is not.

    No timedelta is: where tenacity takes one, it keeps its seconds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise PolicyError(f"{at} is {_describe(value)}, not a number")
    return value


def _check_types(types: object, name: str, at: str) -> None:
    try:
        isinstance(None, types)  # type: ignore[arg-type]
    except TypeError as error:
        raise PolicyError(f"{at} is {_describe(types)}, not an exception type or a tuple of them") from error
    if name != "retry_if_exception_type":
        return
    for found in flat_types(types):
        if isinstance(found, type) and issubclass(found, BaseException) and not issubclass(found, Exception):
            raise PolicyError(
                f"{at}: {found.__qualname__} is no Exception but an interrupt of the worker, and no policy is"
                " asked about one; name types of Exception"
            )


def _check_function(function: object, at: str) -> None:
    """A function, or one of tenacity's strategies that hold one: callable, made, and not async."""
    if isinstance(function, type) and issubclass(function, tuple(BASES.values())):
        raise PolicyError(f"{at} is the class {function.__name__}; call it: {function.__name__}(...)")
    if not callable(function):
        raise PolicyError(f"{at} is {_describe(function)}, not a strategy of tenacity or a function of its state")
    for asked in (function, getattr(function, "predicate", None)):
        if asked is not None and _is_async(asked):
            raise PolicyError(
                f"{at}: {_describe(asked)} is async, and a policy is asked without an event loop; make it a"
                " plain function, and await in the handler"
            )


def _is_async(call: Callable[..., object]) -> bool:
    while isinstance(call, functools.partial):
        call = call.func
    called = (call, type(call).__call__)
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in called)


def _describe(value: object) -> str:
    if isinstance(value, type) or inspect.isroutine(value):
        return f"{getattr(value, '__module__', None) or 'a built-in'}.{value.__qualname__}"
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return f"a {type(value).__name__}"

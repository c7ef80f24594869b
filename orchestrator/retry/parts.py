"""Tenacity's own strategies, in one table: their names, and where each release keeps their parameters.

Owns: which strategies are known by name, how a parameter is read from one, and how one is made again.
Tenacity 9.1 and 9.2 differ in both; that difference lives here and nowhere else.
Refuses: nothing. A strategy that is not in the table, one that holds a function say, is simply not found;
what that means is decided by who asks (`door` admits it, `data` does not).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import tenacity
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

BASES: dict[str, type] = {"stop": stop_base, "wait": wait_base, "retry": retry_base}


class Kind(Enum):
    """What a parameter holds."""

    NUMBER = "number"
    SECONDS = "seconds"
    PARTS = "strategies"
    TYPES = "exception types"
    TEXT = "text"
    PATTERN = "pattern"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter: the name that the constructor and the data have for it, and how to read it."""

    name: str
    kind: Kind
    read: Callable[[object], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One of tenacity's strategies: its public name, its parameters, and what makes one of them."""

    name: str
    parameters: tuple[Parameter, ...]
    make: Callable[..., object]

    @property
    def role(self) -> str:
        """Where in a policy it may stand: stop, wait or retry."""
        return self.name.partition("_")[0]


def shape_of(part: object) -> Shape | None:
    """The shape of this strategy, or None when it is not one of tenacity's own (a subclass is the user's)."""
    return _BY_CLASS.get(type(part))


def shape_named(name: str) -> Shape | None:
    """The shape that has this public name, or None."""
    return _BY_NAME.get(name)


def _attribute(*names: str, default: object = None) -> Callable[[object], object]:
    """Reads the first of these attributes that the installed tenacity keeps."""

    def read(part: object) -> object:
        return next((getattr(part, name) for name in names if hasattr(part, name)), default)

    return read


def _of(name: str, kind: Kind, *attributes: str, default: object = None) -> Parameter:
    return Parameter(name=name, kind=kind, read=_attribute(*(attributes or (name,)), default=default))


def _message(part: object) -> object:
    return vars(part)["message"] if "message" in vars(part) else _closed_over(part).get("message")


def _pattern(part: object) -> object:
    return vars(part)["match"] if "match" in vars(part) else _closed_over(part).get("prog")


def _closed_over(part: object) -> dict[str, object]:
    """The variables that the predicate closes over: where tenacity 9.1 keeps a message or a pattern."""
    variables = _free_variables(getattr(part, "predicate", None))
    if "if_predicate" in variables:  # retry_if_not_exception_message wraps the other's predicate
        variables = _free_variables(variables["if_predicate"])
    return variables


def _free_variables(function: object) -> dict[str, object]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = getattr(function, "__closure__", None) or ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}


_JITTER_HAS_MULTIPLIER = "multiplier" in inspect.signature(tenacity.wait_exponential_jitter).parameters


def _make_jitter(*, multiplier: float, min: float, **rest: float) -> object:
    """9.1 calls the multiplier `initial`, which 9.2 deprecates, and knows no `min`."""
    if _JITTER_HAS_MULTIPLIER:
        return tenacity.wait_exponential_jitter(multiplier=multiplier, min=min, **rest)
    if min:
        raise ValueError("wait_exponential_jitter(min=) needs tenacity 9.2")
    return tenacity.wait_exponential_jitter(initial=multiplier, **rest)


def _splat(make: type) -> Callable[..., object]:
    """A combination takes its parts one by one."""

    def made(*, parts: tuple[object, ...]) -> object:
        return make(*parts)

    return made


def _singleton(part: object) -> Callable[[], object]:
    return lambda: part


def _shape(of: type, *parameters: Parameter, make: Callable[..., object] | None = None) -> tuple[type, Shape]:
    return of, Shape(name=of.__name__.lstrip("_"), parameters=parameters, make=make or of)


def _combination(of: type, attribute: str) -> tuple[type, Shape]:
    return _shape(of, _of("parts", Kind.PARTS, attribute), make=_splat(of))


def _by_type(of: type, attribute: str = "exception_types") -> tuple[type, Shape]:
    return _shape(of, _of("exception_types", Kind.TYPES, attribute))


def _by_message(of: type) -> tuple[type, Shape]:
    message = Parameter(name="message", kind=Kind.TEXT, read=_message)
    match = Parameter(name="match", kind=Kind.PATTERN, read=_pattern)
    return _shape(of, message, match)


_EXPONENTIAL = (
    _of("multiplier", Kind.NUMBER),
    _of("max", Kind.SECONDS),
    _of("exp_base", Kind.NUMBER),
    _of("min", Kind.SECONDS),
)

_JITTER = (
    _of("multiplier", Kind.NUMBER, "multiplier", "initial"),
    _of("max", Kind.SECONDS),
    _of("exp_base", Kind.NUMBER),
    _of("jitter", Kind.SECONDS),
    _of("min", Kind.SECONDS, default=0.0),
)

_BY_CLASS: dict[type, Shape] = dict(
    (
        _shape(type(tenacity.stop_never), make=_singleton(tenacity.stop_never)),
        _shape(tenacity.stop_after_attempt, _of("max_attempt_number", Kind.NUMBER)),
        _shape(tenacity.stop_after_delay, _of("max_delay", Kind.SECONDS)),
        _shape(tenacity.stop_before_delay, _of("max_delay", Kind.SECONDS)),
        _combination(tenacity.stop_any, "stops"),
        _combination(tenacity.stop_all, "stops"),
        _shape(tenacity.wait_none),
        _shape(tenacity.wait_fixed, _of("wait", Kind.SECONDS, "wait_fixed")),
        _shape(
            tenacity.wait_random,
            _of("min", Kind.SECONDS, "wait_random_min"),
            _of("max", Kind.SECONDS, "wait_random_max"),
        ),
        _shape(
            tenacity.wait_incrementing,
            _of("start", Kind.SECONDS),
            _of("increment", Kind.SECONDS),
            _of("max", Kind.SECONDS),
        ),
        _shape(tenacity.wait_exponential, *_EXPONENTIAL),
        _shape(tenacity.wait_random_exponential, *_EXPONENTIAL),
        _shape(tenacity.wait_exponential_jitter, *_JITTER, make=_make_jitter),
        _combination(tenacity.wait_combine, "wait_funcs"),
        _combination(tenacity.wait_chain, "strategies"),
        _shape(type(tenacity.retry_never), make=_singleton(tenacity.retry_never)),
        _shape(type(tenacity.retry_always), make=_singleton(tenacity.retry_always)),
        _by_type(tenacity.retry_if_exception_type),
        _by_type(tenacity.retry_if_not_exception_type),
        _by_type(tenacity.retry_unless_exception_type),
        _by_type(tenacity.retry_if_exception_cause_type, "exception_cause_types"),
        _by_message(tenacity.retry_if_exception_message),
        _by_message(tenacity.retry_if_not_exception_message),
        _combination(tenacity.retry_any, "retries"),
        _combination(tenacity.retry_all, "retries"),
    )
)

SHAPES: tuple[Shape, ...] = tuple(_BY_CLASS.values())

_BY_NAME: dict[str, Shape] = {shape.name: shape for shape in SHAPES}

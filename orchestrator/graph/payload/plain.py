"""Values that JSON knows by itself: None, bool, int, float, str, and whatever is built of nothing else.

Refused, because Postgres' jsonb or another JSON reader would not give back the same: NaN and the infinities,
U+0000, lone surrogates, keys that are not strings, and integers of thousands of digits.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from cnstra.orchestrator.graph.payload.coder import (
    ALL_KINDS,
    BOOLEAN,
    INTEGER,
    NULL,
    NUMBER,
    STRING,
    Misfit,
    key_step,
    kind_of,
    type_name,
)

# Python itself refuses to write integers of more than 4,300 digits as text; this stays below.
_LARGEST_INT_BITS = 14_000


def text(value: str) -> str:
    """An exact ``str`` that Postgres can hold, of a ``str`` or a subclass."""
    if "\x00" in value:
        raise Misfit("holds U+0000 (NUL), which Postgres cannot store in text; remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Misfit(
                f"holds the lone surrogate U+{ord(value[error.start]):04X}, which is no text; remove it"
            ) from None
    return str.__str__(value)


def integer(value: int) -> int:
    """An exact ``int`` that can be written in JSON, of an ``int`` or a subclass."""
    exact = int.__int__(value)
    if exact.bit_length() > _LARGEST_INT_BITS:
        raise Misfit(f"is an integer of {exact.bit_length()} bits; at most {_LARGEST_INT_BITS} can be stored")
    return exact


def finite(value: float) -> float:
    """An exact finite ``float``."""
    if not isfinite(value):
        raise Misfit(f"is {float(value)!r}, which JSON does not know; use None or a string for it")
    return float.__float__(value)


def exact_json(value: Any) -> Any:
    """A copy of a value that is exactly JSON's, checked to the last leaf; raises Misfit with the path."""
    kind = type(value)
    if kind is str:
        return text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return integer(value)
    if kind is float:
        return finite(value)
    if kind is dict:
        return _exact_dict(value)
    if kind is list:
        return _exact_list(value)
    raise Misfit(
        f"is {type_name(value)}, which is not exactly JSON's (None, bool, int, float, str, list, dict with "
        "str keys); convert it, or declare its type"
    )


def _exact_list(value: list[Any]) -> list[Any]:
    out: list[Any] = []
    try:
        for item in value:
            out.append(exact_json(item))  # noqa: PERF401 - len(out) is the index that failed
    except Misfit as misfit:
        raise misfit.within(f"[{len(out)}]") from None
    return out


def _exact_dict(value: dict[Any, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, item in value.items():
        name = object_key(key)
        try:
            out[name] = exact_json(item)
        except Misfit as misfit:
            raise misfit.within(key_step(name)) from None
    return out


def object_key(key: Any) -> str:
    """The key of a JSON object: a string, or Misfit."""
    if not isinstance(key, str):
        raise Misfit(f"has a key of type {type_name(key)}; JSON's keys are strings: convert it to str")
    try:
        return text(key)
    except Misfit as misfit:
        raise Misfit(f"has a key that {misfit.problem}") from None


class Anything:
    """``Any`` and ``object``: whatever is exactly JSON's."""

    expected = "Any"
    exact_class = None
    kinds = ALL_KINDS

    def fits(self, _value: Any, /) -> bool:
        return True

    def encode(self, value: Any) -> Any:
        return exact_json(value)

    def decode(self, value: Any) -> Any:
        return value

    def describe(self, _seen: set[int], /) -> str:
        return "any"


class Nothing:
    """``None``."""

    expected = "None"
    exact_class = type(None)
    kinds = frozenset({NULL})

    def fits(self, value: Any, /) -> bool:
        return value is None

    def encode(self, value: Any) -> Any:
        if value is not None:
            raise Misfit(f"must be None, got {type_name(value)}")
        return None

    def decode(self, value: Any) -> Any:
        if value is not None:
            raise Misfit(f"must be null, got {kind_of(value)}")
        return None

    def describe(self, _seen: set[int], /) -> str:
        return "none"


class Boolean:
    """``bool``."""

    expected = "bool"
    exact_class = bool
    kinds = frozenset({BOOLEAN})

    def fits(self, value: Any, /) -> bool:
        return value is True or value is False

    def encode(self, value: Any) -> Any:
        if value is True or value is False:
            return value
        raise Misfit(f"must be bool, got {type_name(value)}")

    def decode(self, value: Any) -> Any:
        if value is True or value is False:
            return value
        raise Misfit(f"must be true or false, got {kind_of(value)}")

    def describe(self, _seen: set[int], /) -> str:
        return "bool"


class Integer:
    """``int`` of any size that can be written; a bool is none."""

    expected = "int"
    exact_class = int
    kinds = frozenset({INTEGER})

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def encode(self, value: Any) -> Any:
        if not self.fits(value):
            raise Misfit(f"must be int, got {type_name(value)}")
        return integer(value)

    def decode(self, value: Any) -> Any:
        if type(value) is not int:
            raise Misfit(f"must be an integer, got {kind_of(value)}")
        return value

    def describe(self, _seen: set[int], /) -> str:
        return "int"


class Float:
    """``float``; an int that a float can hold exactly is taken, as type checkers do, and comes back as a
    float.
    """

    expected = "float"
    exact_class = float
    kinds = frozenset({NUMBER})

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, (float, int)) and not isinstance(value, bool)

    def encode(self, value: Any) -> Any:
        if isinstance(value, float):
            return finite(value)
        if not self.fits(value):
            raise Misfit(f"must be float, got {type_name(value)}")
        exact = self._from_int(int.__int__(value))
        if exact != value:
            raise Misfit("is an int that no float holds exactly; declare int, or convert it with float()")
        return exact

    def decode(self, value: Any) -> Any:
        if type(value) is float:
            return finite(value)
        if type(value) is int:
            return self._from_int(value)
        raise Misfit(f"must be a number, got {kind_of(value)}")

    def _from_int(self, value: int) -> float:
        try:
            return float(value)
        except OverflowError:
            raise Misfit("is a number too large for a float") from None

    def describe(self, _seen: set[int], /) -> str:
        return "float"


class Text:
    """``str``; members of a str enum are taken, as type checkers do, and come back as plain strings."""

    expected = "str"
    exact_class = str
    kinds = frozenset({STRING})

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, str)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise Misfit(f"must be str, got {type_name(value)}")
        return text(value)

    def decode(self, value: Any) -> Any:
        if type(value) is not str:
            raise Misfit(f"must be a string, got {kind_of(value)}")
        return value

    def describe(self, _seen: set[int], /) -> str:
        return "str"

"""Types with a finite set of values: enums and literals.

An enum is written by value when all its values are JSON scalars, else by the names of its members. ``FINITE``
sets can stand beside each other in a union when no JSON value belongs to two of them.
"""

from __future__ import annotations

from enum import Enum, Flag
from itertools import combinations
from math import isfinite
from typing import Any

from cnstra.orchestrator.graph.payload.coder import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    STRING,
    Misfit,
    Unsupported,
    class_name,
    kind_of,
    show,
    type_name,
)
from cnstra.orchestrator.graph.payload.plain import text

_NUMBERS = frozenset({INTEGER, NUMBER})


def _same_scalar(json: Any, option: Any) -> bool:
    """Whether two JSON scalars are one; jsonb may give an integral float back as an integer, never a bool as
    one.
    """
    ours, theirs = kind_of(json), kind_of(option)
    return json == option and (ours == theirs or {ours, theirs} <= _NUMBERS)


class FiniteSet:
    """A fixed list of (value, its JSON); base of enums and literals."""

    expected: str

    def __init__(self, options: list[tuple[Any, Any]], expected: str) -> None:
        self.expected = expected
        self.options = options
        self.kinds = frozenset(kind_of(json) for _, json in options)

    def recognises(self, json: Any) -> bool:
        """Whether ``json`` is one of the set's forms."""
        return any(_same_scalar(json, form) for _, form in self.options)

    def meets(self, other: FiniteSet) -> bool:
        """Whether some JSON value belongs to both sets."""
        return any(self.recognises(form) for _, form in other.options)

    def decode(self, value: Any) -> Any:
        for option, form in self.options:
            if _same_scalar(value, form):
                return option
        raise Misfit(f"must be one of {self._forms()}, got {show(value)}")

    def _forms(self) -> str:
        return ", ".join(repr(form) for _, form in self.options)


class LiteralSet(FiniteSet):
    """``Literal[...]`` of None, bools, ints, strings and members of enums."""

    exact_class = None

    def __init__(self, options: list[tuple[Any, Any]]) -> None:
        super().__init__(options, f"Literal[{', '.join(repr(option) for option, _ in options)}]")

    def fits(self, value: Any, /) -> bool:
        return any(type(value) is type(option) and value == option for option, _ in self.options)

    def encode(self, value: Any) -> Any:
        for option, form in self.options:
            if type(value) is type(option) and value == option:
                return form
        raise Misfit(f"must be one of {self._forms()}, got {show(value)}")

    def describe(self, _seen: set[int], /) -> str:
        return f"literal({','.join(sorted(repr(form) for _, form in self.options))})"


class EnumSet(FiniteSet):
    """A subclass of ``Enum``."""

    def __init__(self, cls: type[Enum]) -> None:
        members = list(cls.__members__.values())
        by_value = all(_is_scalar(member.value) for member in members)
        self.cls = self.exact_class = cls
        self._forms_of = {member.name: member.value if by_value else member.name for member in members}
        super().__init__([(member, self._forms_of[member.name]) for member in members], cls.__name__)

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, self.cls)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Misfit(f"must be {class_name(self.cls)}, got {type_name(value)}")
        return self._forms_of[value.name]

    def describe(self, _seen: set[int], /) -> str:
        return f"enum {self.cls.__qualname__}({','.join(sorted(repr(form) for _, form in self.options))})"


class FlagSet:
    """A subclass of ``Flag``: its members combine, so it is written as the integer."""

    kinds = frozenset({INTEGER})

    def __init__(self, cls: type[Flag]) -> None:
        self.cls = self.exact_class = cls
        self.expected = cls.__name__

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, self.cls)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Misfit(f"must be {class_name(self.cls)}, got {type_name(value)}")
        return int(value.value)

    def decode(self, value: Any) -> Any:
        if type(value) is not int:
            raise Misfit(f"must be an integer, got {kind_of(value)}")
        try:
            found = self.cls(value)
        except ValueError:
            found = None
        if found is None or found.value != value:  # Python 3.11.2 drops bits that it does not know
            raise Misfit(f"must be a combination of {self.expected}, got {value}")
        return found

    def describe(self, _seen: set[int], /) -> str:
        return f"flag {self.cls.__qualname__}"


def literal_set(options: tuple[Any, ...]) -> LiteralSet:
    """The coder of ``Literal[options]``."""
    forms = [_literal_form(option) for option in options]
    if any(_same_scalar(one, other) for one, other in combinations(forms, 2)):
        raise Unsupported(f"two options of Literal{list(options)!r} are the same in JSON; keep one of them")
    return LiteralSet(list(zip(options, forms, strict=True)))


def enum_set(cls: type[Enum]) -> EnumSet | FlagSet:
    """The coder of an enum class."""
    if issubclass(cls, Flag):
        return FlagSet(cls)
    if not cls.__members__:
        raise Unsupported(f"the enum {class_name(cls)} has no members, so no value can be of it")
    return EnumSet(cls)


def _literal_form(option: Any) -> Any:
    if isinstance(option, Enum):
        return EnumSet(type(option)).encode(option)
    if not _is_scalar(option):
        raise Unsupported(f"Literal[{option!r}] cannot be told apart in JSON; use str, int, bool, None or enum members")
    return option


def _is_scalar(value: Any) -> bool:
    if type(value) is str:
        try:
            return text(value) == value
        except Misfit:
            return False
    if type(value) is float:
        return isfinite(value)
    return value is None or kind_of(value) in (BOOLEAN, INTEGER, STRING)

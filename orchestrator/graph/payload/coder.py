"""The seam between a declared type and its JSON: one ``Coder`` for each node of a type.

A coder is strict on the way out, because a value that does not fit its declared type would come back as
something else in another process, and lenient towards unknown keys on the way in, because the JSON may have
been written by a newer release. It never repairs a value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

NULL, BOOLEAN, INTEGER, NUMBER, STRING, ARRAY, OBJECT = (
    "null",
    "boolean",
    "integer",
    "number",
    "string",
    "array",
    "object",
)
ALL_KINDS = frozenset({NULL, BOOLEAN, INTEGER, NUMBER, STRING, ARRAY, OBJECT})
_KIND_OF = {
    type(None): NULL,
    bool: BOOLEAN,
    int: INTEGER,
    float: NUMBER,
    str: STRING,
    list: ARRAY,
    dict: OBJECT,
}


class Misfit(Exception):
    """A value that does not fit; the containers around it add their step of the path while it rises."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = ""

    def within(self, step: str) -> Misfit:
        """Put one step, such as ``.items`` or ``[3]``, before the path so far."""
        self.path = step + self.path
        return self


class Unsupported(Exception):
    """A declared type that has no exact JSON form; found while its coder is built."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = ""

    def within(self, step: str) -> Unsupported:
        """Put one step, such as ``Order.items``, before the path so far."""
        self.path = f"{step}: {self.path}" if self.path else step
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What tells the JSON object of one record from that of another."""

    required: frozenset[str]
    known: frozenset[str]
    constants: Mapping[str, frozenset[Any]] = field(default_factory=dict)


class Coder(Protocol):
    """One node of a declared type."""

    @property
    def expected(self) -> str:
        """The type as a message names it."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of JSON values that ``encode`` can give."""

    @property
    def exact_class(self) -> type | None:
        """A class whose own instances all fit from outside, if there is one."""

    def fits(self, value: Any, /) -> bool:
        """Whether the outer type of ``value`` is the declared one; does not look inside."""

    def encode(self, value: Any) -> Any:
        """The exact JSON of ``value``, all of it checked, sharing nothing mutable with it; raises Misfit."""

    def decode(self, value: Any) -> Any:
        """The value that ``encode`` was given, from its JSON; raises Misfit."""

    def describe(self, seen: set[int], /) -> str:
        """The type's structure as a stable text; ``seen`` holds the ids of the records described so far."""


def kind_of(value: object) -> str:
    """The JSON kind of an exact JSON value, or the Python type of any other, for messages and dispatch."""
    return _KIND_OF.get(type(value), type(value).__name__)


def key_step(key: str) -> str:
    """One path step into an object: ``.name``, or ``["odd name"]``."""
    return f".{key}" if key.isidentifier() else f"[{json.dumps(key[:60])}]"


def type_name(value: object) -> str:
    """How a message names the type of a value: with its module, unless it is a builtin."""
    return class_name(type(value))


def class_name(cls: type) -> str:
    """How a message names a class: qualified by its module, unless it is a builtin."""
    if cls is type(None):
        return "None"
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def show(value: object) -> str:
    """A short form of a scalar that could not be read, for messages; of anything else the type."""
    if type(value) is str:
        return repr(value if len(value) <= 60 else f"{value[:57]}…")
    if value is None or type(value) in (bool, float) or (type(value) is int and value.bit_length() <= 64):
        return repr(value)
    return type_name(value)

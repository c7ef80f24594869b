"""Exactly JSON: what a durable value may be, and its text form.

A value that is stored must come back equal, whichever store kept it. So nothing is coerced on the way: a tuple would come
back as a list, an integer key as a string, NaN not at all. Whatever is not exactly JSON is refused here, naming the path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import NoneType
from typing import Any, Final

from cnstra.orchestrator.errors import CnstraError

MAX_VALUE_BYTES = 4 * 1024 * 1024
"""The largest text of one payload or one context value, in bytes of UTF-8."""

# Python itself refuses to write integers of more than 4,300 digits as text; this stays below.
_LARGEST_INT_BITS = 14_000

SEALED: Final = "$sealed"
"""The key beneath which a sealed value stands, as text, in the place of the value. No other value has such a key."""

_ATOMS = frozenset({str, int, bool, NoneType})


class _NotJsonError(Exception):
    """Carries the problem up, while every level it passes adds its step to the path."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps: list[str] = []


def _walk(value: Any) -> None:
    kind = type(value)
    if kind in _ATOMS:
        if kind is str:
            if "\0" in value or not value.isascii():
                _check_text(value)
        elif kind is int and value.bit_length() > _LARGEST_INT_BITS:
            raise _NotJsonError(
                f"is an integer of {value.bit_length():,} bits; at most {_LARGEST_INT_BITS:,} can be stored"
            )
        return
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise _NotJsonError(f"has a key {key!r} of type {type(key).__name__}; JSON's keys are str")
            try:
                if "\0" in key or not key.isascii():
                    _check_text(key)
                _walk(item)
            except _NotJsonError as bad:
                bad.steps.append(f".{key}" if key.isidentifier() else f"[{key!r}]")
                raise
        return
    if kind is list:
        for index, item in enumerate(value):
            try:
                _walk(item)
            except _NotJsonError as bad:
                bad.steps.append(f"[{index}]")
                raise
        return
    if kind is float:
        if not math.isfinite(value):
            raise _NotJsonError(f"is {value!r}; JSON has no NaN and no infinity")
        return
    raise _NotJsonError(
        f"is a {kind.__module__}.{kind.__qualname__}, which is not exactly JSON; "
        "convert it to str, int, float, bool, None, list or dict"
    )


def _walk_reserved(value: Any) -> None:
    """Refuse what could be taken for a sealed value when it is read again."""
    if isinstance(value, dict):
        if SEALED in value:
            raise _NotJsonError(f"has a key {SEALED!r}, which only sealed values have; call it something else")
        for key, item in value.items():
            try:
                _walk_reserved(item)
            except _NotJsonError as bad:
                bad.steps.append(f".{key}" if key.isidentifier() else f"[{key!r}]")
                raise
    elif isinstance(value, list):
        for index, item in enumerate(value):
            try:
                _walk_reserved(item)
            except _NotJsonError as bad:
                bad.steps.append(f"[{index}]")
                raise


def _check_text(text: str) -> None:
    """The rest of the check; nearly every text is ASCII, and spared the call."""
    if "\0" in text:
        raise _NotJsonError("holds the character U+0000, which Postgres cannot store in text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _NotJsonError(f"holds a lone surrogate at position {error.start}; it is not valid text") from None


Where = str | Callable[[], str]
"""What names a value in an error's message; a function of what would be put together for nothing, most of the time."""

# ``json.dumps`` makes an encoder anew for every value, unless it is its own default.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def check(value: Any, *, where: Where, error: Callable[[str], CnstraError]) -> None:
    """Refuse a value that is not exactly JSON, naming the path (``$.a[3]``); its size is not looked at.

    ``where`` names the value in the error's message, ``error`` makes the error.
    """
    _checked_by(_walk, value, where, error)


def _checked_by(walk: Callable[[Any], None], value: Any, where: Where, error: Callable[[str], CnstraError]) -> None:
    try:
        walk(value)
    except _NotJsonError as bad:
        path = "$" + "".join(reversed(bad.steps))
        raise error(f"{_said(where)}: {path} {bad.problem}") from None
    except RecursionError:
        raise error(f"{_said(where)}: is nested too deeply, or contains itself; flatten it") from None


def dump(value: Any, *, where: Where, error: Callable[[str], CnstraError]) -> str:
    """The JSON text of a value that is exactly JSON.

    ``where`` names the value in the error's message, ``error`` makes the error.

    Raises whatever ``error`` makes: for a value that is not exactly JSON, naming the path (``$.a[3]``), and for a text
    above ``MAX_VALUE_BYTES``.
    """
    _checked_by(_walk, value, where, error)
    text = str(value) if type(value) is int else _encode(value)
    if "$" in text and SEALED in text:  # one character is found many times faster
        _checked_by(_walk_reserved, value, where, error)
    if len(text) * 4 > MAX_VALUE_BYTES:
        check_size(text, where=where, error=error)
    return text


def dump_again(value: Any) -> str:
    """The JSON text of a value that came from one."""
    return _encode(value)


def check_size(text: str, *, where: Where, error: Callable[[str], CnstraError]) -> None:
    """Refuse a JSON text above ``MAX_VALUE_BYTES``."""
    size = len(text)
    if size * 4 > MAX_VALUE_BYTES and (size := len(text.encode())) > MAX_VALUE_BYTES:
        raise error(
            f"{_said(where)}: is {size:,} bytes of JSON, above the limit of {MAX_VALUE_BYTES:,}; "
            "store it elsewhere and pass a reference to it"
        )


def _said(where: Where) -> str:
    return where if isinstance(where, str) else where()


_read = json.JSONDecoder().raw_decode


def load(text: str | bytes) -> Any:
    """The value of a JSON text; every call makes a new one. Raises ``ValueError`` for what is none.

    It is ``json.loads``, without the search for blanks around the value, which takes longer than to read a small one.
    """
    if type(text) is str:
        try:
            value, end = _read(text)
        except ValueError:  # there are blanks before it, or it is no value: that is said below
            pass
        else:
            if end == len(text):
                return value
    return json.loads(text)

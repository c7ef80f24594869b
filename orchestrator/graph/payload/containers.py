"""Lists, sets, tuples and dicts of declared items.

Keys of JSON objects are strings, so ``dict[K, V]`` is taken for those K that become a string and come back
from it; sets are written sorted, so that equal payloads have equal JSON on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cnstra.orchestrator.graph.payload.coder import (
    ARRAY,
    INTEGER,
    OBJECT,
    STRING,
    Coder,
    Misfit,
    Unsupported,
    key_step,
    kind_of,
    show,
    type_name,
)


def _encode_items(items: Iterable[Any], encode: Callable[[Any], Any]) -> list[Any]:
    out: list[Any] = []
    try:
        for item in items:
            out.append(encode(item))  # noqa: PERF401 - len(out) is the index that failed
    except Misfit as misfit:
        raise misfit.within(f"[{len(out)}]") from None
    return out


def _array(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Misfit(f"must be an array, got {kind_of(value)}")
    return value


class Sequence:
    """``list[T]`` and ``tuple[T, ...]``."""

    kinds = frozenset({ARRAY})

    def __init__(self, cls: type, item: Coder) -> None:
        self.cls: Any = cls
        self.exact_class = cls
        self.item = item
        self.expected = f"list[{item.expected}]" if cls is list else f"tuple[{item.expected}, ...]"

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, self.cls)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Misfit(f"must be {self.expected}, got {type_name(value)}")
        return _encode_items(value, self.item.encode)

    def decode(self, value: Any) -> Any:
        items = _encode_items(_array(value), self.item.decode)
        return items if self.cls is list else tuple(items)

    def describe(self, seen: set[int], /) -> str:
        return f"{self.cls.__name__}[{self.item.describe(seen)}]"


class Unordered:
    """``set[T]`` and ``frozenset[T]``."""

    kinds = frozenset({ARRAY})

    def __init__(self, cls: type, item: Coder) -> None:
        self.cls: Any = cls
        self.exact_class = cls
        self.item = item
        self.expected = f"{cls.__name__}[{item.expected}]"

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, self.cls)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Misfit(f"must be {self.expected}, got {type_name(value)}")
        out = []
        for item in value:
            try:
                out.append(self.item.encode(item))
            except Misfit as misfit:
                raise misfit.within("[*]") from None
        try:
            return sorted(out)
        except TypeError:
            return sorted(out, key=repr)

    def decode(self, value: Any) -> Any:
        items = _encode_items(_array(value), self.item.decode)
        try:
            return self.cls(items)
        except TypeError as error:
            raise Misfit(f"cannot be a {self.cls.__name__}: {error}") from None

    def describe(self, seen: set[int], /) -> str:
        return f"{self.cls.__name__}[{self.item.describe(seen)}]"


class FixedTuple:
    """``tuple[A, B, C]``."""

    kinds = frozenset({ARRAY})
    exact_class = tuple

    def __init__(self, items: tuple[Coder, ...]) -> None:
        self.items = items
        self.expected = f"tuple[{', '.join(item.expected for item in items) or '()'}]"

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, tuple)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, tuple):
            raise Misfit(f"must be {self.expected}, got {type_name(value)}")
        return self._each(value, [item.encode for item in self.items])

    def decode(self, value: Any) -> Any:
        return tuple(self._each(_array(value), [item.decode for item in self.items]))

    def _each(self, values: Any, calls: list[Callable[[Any], Any]]) -> list[Any]:
        if len(values) != len(calls):
            raise Misfit(f"must have {len(calls)} items ({self.expected}), got {len(values)}")
        out: list[Any] = []
        try:
            for value, call in zip(values, calls, strict=True):
                out.append(call(value))
        except Misfit as misfit:
            raise misfit.within(f"[{len(out)}]") from None
        return out

    def describe(self, seen: set[int], /) -> str:
        return f"tuple({','.join(item.describe(seen) for item in self.items)})"


class Keyed:
    """``dict[K, V]``."""

    kinds = frozenset({OBJECT})
    exact_class = dict

    def __init__(self, key: Coder, item: Coder) -> None:
        if not (key.kinds == {STRING} or key.expected == "int"):
            raise Unsupported(
                f"dict[{key.expected}, …]: JSON's keys are strings, and {key.expected} does not come back "
                "from one; use keys of str, int, an enum of strings, UUID, date, datetime, Decimal, or a "
                "list of pairs"
            )
        self.key = key
        self.item = item
        self.expected = f"dict[{key.expected}, {item.expected}]"

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, dict)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise Misfit(f"must be {self.expected}, got {type_name(value)}")
        out: dict[str, Any] = {}
        for key, item in value.items():
            name = self._encode_key(key)
            if name in out:
                raise Misfit(f"has two keys that are both {name!r} in JSON")
            try:
                out[name] = self.item.encode(item)
            except Misfit as misfit:
                raise misfit.within(key_step(name)) from None
        return out

    def decode(self, value: Any) -> Any:
        if type(value) is not dict:
            raise Misfit(f"must be an object, got {kind_of(value)}")
        out = {}
        for name, item in value.items():
            key = self._decode_key(name)
            try:
                out[key] = self.item.decode(item)
            except Misfit as misfit:
                raise misfit.within(key_step(name)) from None
        return out

    def _encode_key(self, key: Any) -> str:
        try:
            return str(self.key.encode(key))
        except Misfit as misfit:
            raise Misfit(f"has a key that {misfit.problem}") from None

    def _decode_key(self, name: str) -> Any:
        if INTEGER not in self.key.kinds:
            try:
                return self.key.decode(name)
            except Misfit as misfit:
                raise Misfit(f"has a key that {misfit.problem}") from None
        try:
            return int(name)
        except ValueError:
            raise Misfit(f"has a key that must be an integer, got {show(name)}") from None

    def describe(self, seen: set[int], /) -> str:
        return f"dict[{self.key.describe(seen)},{self.item.describe(seen)}]"

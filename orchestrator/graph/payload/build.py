"""From a declared type to its coder, or to a refusal that names the part which has no exact JSON form."""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, ForwardRef, Literal, NotRequired, Required, get_args, get_origin
from typing import Union as TypingUnion
from uuid import UUID

import msgspec
from typing_extensions import ReadOnly, TypeAliasType, TypeVar, is_typeddict

from cnstra.orchestrator.graph.payload.coder import Coder, Misfit, Unsupported, class_name
from cnstra.orchestrator.graph.payload.containers import FixedTuple, Keyed, Sequence, Unordered
from cnstra.orchestrator.graph.payload.fields import FieldSource, is_record, record_source, typed_dict_source
from cnstra.orchestrator.graph.payload.finite import enum_set, literal_set
from cnstra.orchestrator.graph.payload.generics import substitute
from cnstra.orchestrator.graph.payload.models import Model, is_pydantic
from cnstra.orchestrator.graph.payload.plain import Anything, Boolean, Float, Integer, Nothing, Text
from cnstra.orchestrator.graph.payload.records import Field, Record, TypedKeys
from cnstra.orchestrator.graph.payload.texts import BYTES, DATE, DATETIME, DECIMAL, TIMEDELTA, UUID_TEXT
from cnstra.orchestrator.graph.payload.unions import Union

SUPPORTED = (
    "None, bool, int, float, str, list, dict, set, tuple, dataclasses, TypedDict, NamedTuple, enums, "
    "datetime, date, timedelta, UUID, Decimal, bytes, msgspec.Struct, attrs classes, pydantic models, and "
    "unions of them"
)
_LEAVES: dict[Any, Coder] = {
    None: Nothing(),
    NoneType: Nothing(),
    Any: Anything(),
    object: Anything(),
    bool: Boolean(),
    int: Integer(),
    float: Float(),
    str: Text(),
    datetime: DATETIME,
    date: DATE,
    timedelta: TIMEDELTA,
    UUID: UUID_TEXT,
    Decimal: DECIMAL,
    bytes: BYTES,
}
_ABSTRACT = {
    collections.abc.Sequence: "list[T] or tuple[T, ...]",
    collections.abc.MutableSequence: "list[T]",
    collections.abc.Iterable: "list[T]",
    collections.abc.Collection: "list[T]",
    collections.abc.Mapping: "dict[str, T]",
    collections.abc.MutableMapping: "dict[str, T]",
    collections.abc.Set: "set[T] or frozenset[T]",
    collections.abc.MutableSet: "set[T]",
}
# typing's own class of ``type X = ...`` statements, and the backport's.
_ALIASES = tuple({TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType)})
_TRANSPARENT = (Required, NotRequired, ReadOnly, Final)


def build_coder(declared: Any) -> Coder:
    """The coder of a declared type; raises Unsupported."""
    builder = _Builder()
    coder = builder.coder(declared)
    for check in builder.checks:
        check()
    return coder


def coder_of(coder: Coder, key: str) -> Coder | None:
    """The coder of one key of a type that is an object; None where the type does not say what is there."""
    while isinstance(coder, _Constrained | _Later):
        coder = coder.inner if isinstance(coder, _Constrained) else coder.found
    if isinstance(coder, Keyed):
        return coder.item
    return coder.coder_of(key) if isinstance(coder, Record | TypedKeys) else None


class _Builder:
    """Builds one type; remembers what it has built, so that a type may name itself."""

    def __init__(self) -> None:
        self._known: dict[Any, Coder] = {}
        self.checks: list[Callable[[], None]] = []

    def coder(self, declared: Any) -> Coder:
        declared = substitute(declared, {}) if isinstance(declared, TypeVar) else declared
        try:
            leaf = _LEAVES.get(declared) or self._known.get(declared)
        except TypeError:
            raise Unsupported(f"{declared!r} is no type") from None
        return leaf or self._compound(declared)

    def _compound(self, declared: Any) -> Coder:
        if isinstance(declared, (str, ForwardRef)):
            raise Unsupported(f"{declared!r} is a name in quotes; give the type itself")
        if hasattr(declared, "__supertype__"):  # NewType
            return self.coder(declared.__supertype__)
        origin = get_origin(declared)
        if isinstance(origin or declared, _ALIASES):
            return self._alias(declared, origin or declared)
        if origin is None:
            return self._plain_class(declared)
        return self._parametrised(declared, origin, get_args(declared))

    def _alias(self, declared: Any, alias: Any) -> Coder:
        """``type Alias[T] = ...``; it may stand inside of itself."""
        later = _Later(str(alias))
        self._known[declared] = later
        value = alias.__value__
        if get_args(declared):
            value = substitute(value, dict(zip(alias.__type_params__, get_args(declared), strict=False)))
        later.target = self.coder(value)
        self._known[declared] = later.target
        return later.target

    def _parametrised(self, declared: Any, origin: Any, arguments: tuple[Any, ...]) -> Coder:
        if origin is Annotated:
            return self._annotated(declared, arguments[0], declared.__metadata__)
        if origin in _TRANSPARENT:
            return self.coder(arguments[0])
        if origin is TypingUnion or origin is UnionType:
            return self._union(arguments)
        if origin is Literal:
            return literal_set(arguments)
        if origin is tuple:
            return self._tuple(arguments)
        if origin in (list, set, frozenset, dict):
            return self._container(origin, arguments)
        if isinstance(origin, type):
            return self._plain_class(declared, origin, arguments)
        raise Unsupported(f"{declared!r} has no exact JSON form; declare one of: {SUPPORTED}")

    def _annotated(self, declared: Any, inner: Any, metadata: tuple[Any, ...]) -> Coder:
        coder = self.coder(inner)
        if not any(isinstance(item, msgspec.Meta) for item in metadata):
            return coder
        return _Constrained(coder, declared)

    def _union(self, arguments: tuple[Any, ...]) -> Coder:
        if set(arguments) <= {Any, object, None, NoneType}:
            return _LEAVES[Any]
        union = Union(tuple(self.coder(argument) for argument in arguments))
        self.checks.append(union.prepare)
        return union

    def _tuple(self, arguments: tuple[Any, ...]) -> Coder:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return Sequence(tuple, self.coder(arguments[0]))
        return FixedTuple(tuple(self.coder(argument) for argument in arguments))

    def _container(self, origin: type, arguments: tuple[Any, ...]) -> Coder:
        if origin is dict:
            key, item = arguments
            return Keyed(self.coder(key), self.coder(item))
        (item,) = arguments
        return Sequence(list, self.coder(item)) if origin is list else Unordered(origin, self.coder(item))

    def _plain_class(self, declared: Any, cls: Any = None, arguments: tuple[Any, ...] = ()) -> Coder:
        cls = cls or declared
        if cls in (list, set, frozenset, tuple, dict):
            return self._bare(cls)
        if cls in _ABSTRACT:
            raise Unsupported(f"{cls.__name__} does not say what it comes back as; declare {_ABSTRACT[cls]}")
        if not isinstance(cls, type):
            raise Unsupported(f"{declared!r} is no type that can be stored; declare one of: {SUPPORTED}")
        if issubclass(cls, Enum):
            return enum_set(cls)
        if is_pydantic(cls):
            return Model(declared, cls)
        if is_typeddict(cls):
            return self._with_fields(declared, TypedKeys(cls.__name__), typed_dict_source(cls, arguments))
        if is_record(cls):
            source = record_source(cls, arguments)
            record = Record(cls, cls.__name__, tag=source.tag, as_array=source.as_array)
            return self._with_fields(declared, record, source)
        raise Unsupported(f"{class_name(cls)} has no exact JSON form; declare one of: {SUPPORTED}")

    def _bare(self, cls: type) -> Coder:
        anything = _LEAVES[Any]
        if cls is dict:
            return Keyed(_LEAVES[str], anything)
        return Sequence(cls, anything) if cls in (list, tuple) else Unordered(cls, anything)

    def _with_fields(self, declared: Any, record: Record | TypedKeys, source: FieldSource) -> Coder:
        self._known[declared] = record
        fields = []
        for item in source.fields:
            try:
                coder = self.coder(item.declared)
            except Unsupported as unsupported:
                raise unsupported.within(f"{source.name}.{item.attribute}") from None
            fields.append(
                Field(
                    key=item.key,
                    attribute=item.attribute,
                    argument=item.argument,
                    required=item.required,
                    coder=coder,
                )
            )
        record.prepare(tuple(fields))
        return record


class _Later:
    """An alias that stands inside of itself, before its own coder exists."""

    def __init__(self, expected: str) -> None:
        self.expected = expected
        self.target: Coder | None = None
        self.exact_class = None

    @property
    def kinds(self) -> frozenset[str]:
        raise Unsupported(f"{self.expected} is nothing but itself")

    def fits(self, value: Any, /) -> bool:
        return self.found.fits(value)

    def encode(self, value: Any) -> Any:
        return self.found.encode(value)

    def decode(self, value: Any) -> Any:
        return self.found.decode(value)

    def describe(self, seen: set[int], /) -> str:
        if id(self) in seen:
            return f"alias {self.expected}"
        seen.add(id(self))
        return self.found.describe(seen)

    @property
    def found(self) -> Coder:
        assert self.target is not None
        return self.target


class _Constrained:
    """``Annotated[T, msgspec.Meta(...)]``: the type's own coder, and msgspec's constraints on its JSON."""

    def __init__(self, inner: Coder, declared: Any) -> None:
        self.inner = inner
        self.declared = declared
        self.expected = inner.expected
        self.kinds = inner.kinds
        self.exact_class = inner.exact_class
        self.profile = getattr(inner, "profile", None)
        try:
            msgspec.json.Decoder(declared)
        except (TypeError, ValueError) as error:
            raise Unsupported(f"msgspec cannot hold the constraints of {declared!r}: {error}") from None

    def fits(self, value: Any, /) -> bool:
        return self.inner.fits(value)

    def encode(self, value: Any) -> Any:
        return self._constrained(self.inner.encode(value))

    def decode(self, value: Any) -> Any:
        return self.inner.decode(self._constrained(value))

    def _constrained(self, value: Any) -> Any:
        try:
            msgspec.convert(value, self.declared)
        except msgspec.ValidationError as error:
            raise Misfit(f"breaks a declared constraint: {error}") from None
        return value

    def describe(self, seen: set[int], /) -> str:
        return self.inner.describe(seen)

"""Which fields a record class has, asked of each family of classes in its own way.

Refused: dataclasses with an ``InitVar``, because what was passed for it is not kept and the class cannot be
made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, Required, get_args, get_origin

import msgspec
from typing_extensions import ReadOnly

from cnstra.orchestrator.graph.payload.coder import Unsupported, class_name
from cnstra.orchestrator.graph.payload.generics import field_types


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredField:
    """A field before its coder exists; ``argument`` is None when the constructor does not take it."""

    key: str
    attribute: str
    argument: str | None
    required: bool
    declared: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSource:
    """The fields of one record class, the constants that stand beside them, and whether it is an array in
    JSON.
    """

    name: str
    fields: tuple[DeclaredField, ...]
    tag: Mapping[str, Any] = field(default_factory=dict)
    as_array: bool = False


def is_record(cls: type) -> bool:
    """Whether ``cls`` is a dataclass, an attrs class, a NamedTuple or a msgspec.Struct."""
    return (
        dataclasses.is_dataclass(cls)
        or issubclass(cls, msgspec.Struct)
        or hasattr(cls, "__attrs_attrs__")
        or _is_named_tuple(cls)
    )


def record_source(cls: type, arguments: tuple[Any, ...]) -> FieldSource:
    """The fields of a record class parametrised with ``arguments``."""
    types = field_types(cls, arguments)
    if issubclass(cls, msgspec.Struct):
        return _struct_source(cls, types)
    if _is_named_tuple(cls):
        fields = _named_tuple_fields(cls, types)
    elif dataclasses.is_dataclass(cls):
        fields = _dataclass_fields(cls, types)
    else:
        fields = _attrs_fields(cls, types)
    return FieldSource(name=cls.__name__, fields=tuple(fields))


def typed_dict_source(cls: Any, arguments: tuple[Any, ...]) -> FieldSource:
    """The keys of a TypedDict parametrised with ``arguments``."""
    types = field_types(cls, arguments)
    return FieldSource(
        name=cls.__name__,
        fields=tuple(
            DeclaredField(
                key=name,
                attribute=name,
                argument=name,
                required=_is_required(cls, name, types[name]),
                declared=types[name],
            )
            for name in (*sorted(cls.__required_keys__), *sorted(cls.__optional_keys__))
        ),
    )


def _is_required(cls: Any, name: str, declared: Any) -> bool:
    # __required_keys__ does not see marks inside of annotations that are kept as text.
    while (origin := get_origin(declared)) in (Required, NotRequired, ReadOnly, Annotated):
        if origin in (Required, NotRequired):
            return origin is Required
        declared = get_args(declared)[0]
    return name in cls.__required_keys__


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")


def _named_tuple_fields(cls: Any, types: Mapping[str, Any]) -> Iterator[DeclaredField]:
    for name in cls._fields:
        yield DeclaredField(
            key=name,
            attribute=name,
            argument=name,
            required=name not in cls._field_defaults,
            declared=types.get(name, Any),
        )


def _dataclass_fields(cls: Any, types: Mapping[str, Any]) -> Iterator[DeclaredField]:
    for name, declared in types.items():
        if isinstance(declared, dataclasses.InitVar) or declared is dataclasses.InitVar:
            raise Unsupported(
                f"{class_name(cls)} has the InitVar {name!r}, whose value is not kept, so it cannot be made "
                "again from what is stored; make it a field"
            )
    missing = dataclasses.MISSING
    for item in dataclasses.fields(cls):
        yield DeclaredField(
            key=item.name,
            attribute=item.name,
            argument=item.name if item.init else None,
            required=item.init and item.default is missing and item.default_factory is missing,
            declared=types.get(item.name, item.type),
        )


def _attrs_fields(cls: Any, types: Mapping[str, Any]) -> Iterator[DeclaredField]:
    import attr

    for item in attr.fields(cls):
        yield DeclaredField(
            key=item.name,
            attribute=item.name,
            argument=item.alias if item.init else None,
            required=item.init and item.default is attr.NOTHING,
            declared=types.get(item.name, Any if item.type is None else item.type),
        )


def _struct_source(cls: Any, types: Mapping[str, Any]) -> FieldSource:
    config = cls.__struct_config__
    tag = {} if config.tag is None else {config.tag_field: config.tag}
    return FieldSource(
        name=cls.__name__,
        tag=tag,
        as_array=config.array_like,
        fields=tuple(
            DeclaredField(
                key=item.encode_name,
                attribute=item.name,
                argument=item.name,
                required=item.required,
                declared=types[item.name],
            )
            for item in msgspec.structs.fields(cls)
        ),
    )

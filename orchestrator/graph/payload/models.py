"""Pydantic models: pydantic itself writes and validates them.

Nothing here imports pydantic before a model is met, so it stays optional. A model is written by the names of
its fields (aliases are taken on the way in, too), and only if reading it back gives an equal one: secrets,
excluded fields and one-way serializers are refused instead of lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, Literal, get_args, get_origin

from cnstra.orchestrator.graph.payload.coder import (
    ALL_KINDS,
    OBJECT,
    Misfit,
    Profile,
    Unsupported,
    class_name,
    key_step,
    type_name,
)
from cnstra.orchestrator.graph.payload.plain import exact_json

_OLDEST = (2, 11)


def is_pydantic(cls: Any) -> bool:
    """Whether ``cls`` is a pydantic model or a pydantic dataclass."""
    return isinstance(cls, type) and "__pydantic_validator__" in dir(cls) and "__pydantic_fields__" in dir(cls)


class Model:
    """One pydantic model class, or a parametrised pydantic dataclass."""

    def __init__(self, declared: Any, cls: type) -> None:
        self.cls = self.exact_class = cls
        self.expected = cls.__name__
        self._adapter = _adapter(declared, cls)
        plain_object = not getattr(cls, "__pydantic_root_model__", False) and not _has_own_form(cls)
        self.kinds = frozenset({OBJECT}) if plain_object else ALL_KINDS
        self.profile = _profile(cls) if plain_object else None

    def fits(self, value: Any, /) -> bool:
        return type(value) is self.cls

    def encode(self, value: Any) -> Any:
        if type(value) is not self.cls:
            subclass = " (a subclass, which would come back as its base)" if isinstance(value, self.cls) else ""
            raise Misfit(f"must be {class_name(self.cls)}, got {type_name(value)}{subclass}")
        try:
            written = self._adapter.dump_python(value, mode="json", by_alias=False, round_trip=True, warnings="error")
        except Exception as error:
            raise Misfit(f"cannot be written by pydantic: {_one_line(error)}") from error
        written = exact_json(written)
        _refuse_naive(value)
        back = self.decode(written)
        if value != back and not _same(value, back):
            raise Misfit(
                f"is a {self.expected} that pydantic does not read back as it was written; a secret, an "
                "excluded field or a serializer of its own loses something"
            )
        return written

    def decode(self, value: Any) -> Any:
        try:
            # JSON mode, so that strict models take dates and bytes from their JSON form.
            return self._adapter.validate_json(json.dumps(value), by_alias=True, by_name=True)
        except Exception as error:
            raise Misfit(f"is refused by pydantic: {_one_line(error)}") from error

    def describe(self, seen: set[int], /) -> str:
        return _describe(self.cls, seen)


def _describe(cls: Any, seen: set[int]) -> str:
    name = f"model {cls.__name__}"
    if id(cls) in seen:
        return name
    seen.add(id(cls))
    described = [
        f"{field}{'' if item.is_required() else '?'}:{_describe_annotation(item.annotation, seen)}"
        for field, item in _fields(cls).items()
    ]
    return f"{name}{{{','.join(sorted(described))}}}"


def _describe_annotation(annotation: Any, seen: set[int]) -> str:
    if is_pydantic(annotation):
        return _describe(annotation, seen)
    inner = [_describe_annotation(argument, seen) for argument in get_args(annotation)]
    outer = get_origin(annotation) if inner else annotation
    name = class_name(outer) if isinstance(outer, type) else repr(outer)
    return f"{name}[{','.join(inner)}]" if inner else name


def _adapter(declared: Any, cls: type) -> Any:
    import pydantic

    if tuple(int(part) for part in pydantic.VERSION.split(".")[:2]) < _OLDEST:
        raise Unsupported(
            f"{class_name(cls)} needs pydantic {_OLDEST[0]}.{_OLDEST[1]} or newer, here is "
            f"{pydantic.VERSION}; upgrade it"
        )
    try:
        return pydantic.TypeAdapter(declared)
    except Exception as error:
        raise Unsupported(f"pydantic cannot build {class_name(cls)}: {_one_line(error)}") from error


def _fields(cls: Any) -> Mapping[str, Any]:
    return cls.__pydantic_fields__  # type: ignore[no-any-return]


def _has_own_form(cls: Any) -> bool:
    decorators = getattr(cls, "__pydantic_decorators__", None)
    return bool(decorators is not None and decorators.model_serializers)


def _profile(cls: Any) -> Profile | None:
    if (getattr(cls, "model_config", None) or {}).get("extra") == "allow":
        return None
    declared = _fields(cls)
    constants = {name: _literals(item.annotation) for name, item in declared.items()}
    return Profile(
        required=frozenset(name for name, item in declared.items() if item.is_required()),
        known=frozenset(declared),
        constants={name: forms for name, forms in constants.items() if forms},
    )


def _literals(annotation: Any) -> frozenset[Any]:
    if get_origin(annotation) is not Literal:
        return frozenset()
    forms = get_args(annotation)
    return frozenset(forms) if all(isinstance(form, (str, int)) for form in forms) else frozenset()


def _parts(value: Any) -> dict[str, Any] | None:
    """What a model, a dataclass or a container holds, by path step; None for a leaf."""
    if isinstance(value, dict):
        return {key_step(str(key)): item for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return {f"[{index}]": item for index, item in enumerate(value)}
    if is_dataclass(value):
        return {key_step(item.name): getattr(value, item.name, None) for item in fields(value)}
    if is_pydantic(type(value)):
        own = (value.__dict__, value.__pydantic_extra__, value.__pydantic_private__)
        return {key_step(name): item for part in own for name, item in (part or {}).items()}
    return None


def _refuse_naive(value: Any) -> None:
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise Misfit("is a datetime without a time zone; make it aware, for example by pydantic's AwareDatetime")
    for step, item in (_parts(value) or {}).items():
        try:
            _refuse_naive(item)
        except Misfit as misfit:
            raise misfit.within(step) from None


def _same(one: Any, other: Any) -> bool:
    """Equality, but for a zone and its offset: in the hour that clocks show twice, Python calls them unequal."""
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one.utcoffset() == other.utcoffset() and _clock(one) == _clock(other)
    mine, theirs = _parts(one), _parts(other)
    if mine is None or theirs is None:
        return bool(one == other)
    return (
        type(one) is type(other)
        and mine.keys() == theirs.keys()
        and all(_same(item, theirs[step]) for step, item in mine.items())
    )


def _clock(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None, fold=0)


def _one_line(error: Exception) -> str:
    """Pydantic's own account without the values, which may be secret, and without its links."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        parts = [
            f"{'.'.join(map(str, item['loc'])) or '$'}: {item['msg']}"
            for item in errors(include_url=False, include_input=False)
        ]
        return "; ".join(parts)
    return " ".join(str(error).split())

"""Types with named fields: dataclasses, attrs classes, NamedTuples, msgspec Structs, TypedDicts.

All become JSON objects. The exact class is asked for on the way out: what a subclass adds would be lost. On
the way in the constructor runs, so validation does too; keys that nobody knows are passed over, because a
newer release may have written them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnstra.orchestrator.graph.payload.coder import (
    ARRAY,
    OBJECT,
    Coder,
    Misfit,
    Profile,
    class_name,
    key_step,
    kind_of,
    type_name,
)
from cnstra.orchestrator.graph.payload.finite import FiniteSet
from cnstra.orchestrator.graph.payload.plain import object_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field: its key in JSON, its attribute, its constructor argument (None: set after it), its coder."""

    key: str
    attribute: str
    argument: str | None
    required: bool
    coder: Coder


def profile_of(written: tuple[Field, ...], known: tuple[Field, ...], tag: Mapping[str, Any]) -> Profile:
    """What tells a record from others: the fields that it always writes, those that it knows, its constant
    tag.
    """
    constants = {
        item.key: frozenset(form for _, form in item.coder.options)
        for item in written
        if isinstance(item.coder, FiniteSet)
    }
    constants.update({key: frozenset({value}) for key, value in tag.items()})
    return Profile(
        required=frozenset(item.key for item in known if item.required),
        known=frozenset(item.key for item in known) | frozenset(tag),
        constants=constants,
    )


class Record:
    """A class with named fields; ``prepare`` completes it, so that its fields may be of its own type."""

    def __init__(self, cls: type, expected: str, *, tag: Mapping[str, Any], as_array: bool = False) -> None:
        self.cls = cls
        self.exact_class = cls
        self.expected = expected
        self.kinds = frozenset({ARRAY if as_array else OBJECT})
        self.fields: tuple[Field, ...] = ()
        self.profile: Profile | None = None
        self._tag = dict(tag)
        self._as_array = as_array
        self._encoders: tuple[tuple[str, str, Any], ...] = ()

    def prepare(self, fields: tuple[Field, ...]) -> None:
        """Give the record its fields, once their coders exist."""
        self.fields = fields
        self.profile = None if self._as_array else profile_of(fields, fields, self._tag)
        self._encoders = tuple((item.key, item.attribute, item.coder.encode) for item in fields)

    def fits(self, value: Any, /) -> bool:
        return type(value) is self.cls

    def encode(self, value: Any) -> Any:
        if type(value) is not self.cls:
            raise Misfit(self._other_class(value))
        out = dict(self._tag)
        for key, attribute, encode in self._encoders:
            try:
                out[key] = encode(getattr(value, attribute))
            except Misfit as misfit:
                raise misfit.within(key_step(attribute)) from None
            except AttributeError:
                raise Misfit(f"has no value for {attribute!r}") from None
        return list(out.values()) if self._as_array else out

    def decode(self, value: Any) -> Any:
        given = self._object(value)
        arguments: dict[str, Any] = {}
        later: dict[str, Any] = {}
        for item in self.fields:
            if item.key not in given:
                if item.required:
                    raise Misfit(f"has no key {item.key!r}, which {self.expected} needs")
                continue
            try:
                decoded = item.coder.decode(given[item.key])
            except Misfit as misfit:
                raise misfit.within(key_step(item.key)) from None
            if item.argument is None:
                later[item.attribute] = decoded
            else:
                arguments[item.argument] = decoded
        return self._construct(arguments, later)

    def coder_of(self, key: str) -> Coder | None:
        """The coder of one key of its object; None where it has no such key."""
        return next((item.coder for item in self.fields if item.key == key and not self._as_array), None)

    def _object(self, value: Any) -> Mapping[str, Any]:
        if self._as_array:
            if type(value) is not list:
                raise Misfit(f"must be an array of {self.expected}'s fields, got {kind_of(value)}")
            value = dict(zip((*self._tag, *(item.key for item in self.fields)), value, strict=False))
        elif type(value) is not dict:
            raise Misfit(f"must be an object with {self.expected}'s fields, got {kind_of(value)}")
        for key, constant in self._tag.items():
            if value.get(key) != constant:
                raise Misfit(f"must have {key!r}: {constant!r}, as {self.expected} has")
        return value  # type: ignore[no-any-return]

    def _construct(self, arguments: dict[str, Any], later: dict[str, Any]) -> Any:
        try:
            made = self.cls(**arguments)
        except Exception as error:
            raise Misfit(f"was refused by {self.expected}: {type(error).__name__}: {error}") from error
        for name, value in later.items():
            object.__setattr__(made, name, value)
        return made

    def _other_class(self, value: Any) -> str:
        if isinstance(value, self.cls):
            return (
                f"must be exactly {class_name(self.cls)}, got its subclass {type_name(value)}, which would "
                f"come back as {self.expected}; declare the subclass"
            )
        return f"must be {class_name(self.cls)}, got {type_name(value)}"

    def describe(self, seen: set[int], /) -> str:
        name = f"record {self.expected}"
        if id(self) in seen:
            return name
        seen.add(id(self))
        tag = [f"{key}={value!r}" for key, value in self._tag.items()]
        fields = [f"{f.key}{'' if f.required else '?'}:{f.coder.describe(seen)}" for f in self.fields]
        return f"{name}{{{','.join(tag + sorted(fields))}}}"


class TypedKeys:
    """A ``TypedDict``."""

    kinds = frozenset({OBJECT})
    exact_class = dict

    def __init__(self, expected: str) -> None:
        self.expected = expected
        self.fields: dict[str, Field] = {}
        self.profile: Profile | None = None

    def prepare(self, fields: tuple[Field, ...]) -> None:
        """Give the TypedDict its keys, once their coders exist."""
        self.fields = {item.key: item for item in fields}
        self.profile = profile_of(tuple(item for item in fields if item.required), fields, {})

    def fits(self, value: Any, /) -> bool:
        return isinstance(value, dict)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise Misfit(f"must be a dict with {self.expected}'s keys, got {type_name(value)}")
        out: dict[str, Any] = {}
        for given, item in value.items():
            key = object_key(given)
            if key not in self.fields:
                raise Misfit(f"has the key {key!r}, which {self.expected} does not have")
            try:
                out[key] = self.fields[key].coder.encode(item)
            except Misfit as misfit:
                raise misfit.within(key_step(key)) from None
        self._complete(out)
        return out

    def decode(self, value: Any) -> Any:
        if type(value) is not dict:
            raise Misfit(f"must be an object with {self.expected}'s keys, got {kind_of(value)}")
        out = {}
        for key, item in value.items():
            if key in self.fields:
                try:
                    out[key] = self.fields[key].coder.decode(item)
                except Misfit as misfit:
                    raise misfit.within(key_step(key)) from None
        self._complete(out)
        return out

    def coder_of(self, key: str) -> Coder | None:
        """The coder of one key; None where it has no such key."""
        return self.fields[key].coder if key in self.fields else None

    def _complete(self, out: Mapping[str, Any]) -> None:
        for item in self.fields.values():
            if item.required and item.key not in out:
                raise Misfit(f"has no key {item.key!r}, which {self.expected} needs")

    def describe(self, seen: set[int], /) -> str:
        name = f"keys {self.expected}"
        if id(self) in seen:
            return name
        seen.add(id(self))
        fields = [f"{f.key}{'' if f.required else '?'}:{f.coder.describe(seen)}" for f in self.fields.values()]
        return f"{name}{{{','.join(sorted(fields))}}}"

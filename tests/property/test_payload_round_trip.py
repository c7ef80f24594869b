"""Payloads keep their promise for every declared type and every value that hypothesis can think of.

Whatever ``encode`` accepts is exactly JSON, survives jsonb, and comes back equal and of the declared type. Whatever
would not is refused, by an error and never by a change.
"""

from __future__ import annotations

import dataclasses
import json
import keyword
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cnstra.orchestrator.errors import GraphError, PayloadError
from cnstra.orchestrator.graph.payload import PayloadType, exact_json


class Colour(Enum):
    """Values that are JSON scalars."""

    RED = "red"
    ONE = 1
    HALF = 0.5
    NONE = None


class Shape(Enum):
    """Values that JSON does not know."""

    DOT = (0,)
    LINE = (0, 1)


class Size(IntEnum):
    """Members that are integers, too."""

    SMALL = 1
    LARGE = 2


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: float = 0.5


class Keys(TypedDict, total=False):
    """A dict with declared keys."""

    count: int
    note: str


class Packed(msgspec.Struct, frozen=True, rename="camel", tag="packed"):
    """A struct with a tag and other names in JSON."""

    item_count: int
    item_name: str = ""


@attrs.frozen
class Parcel:
    """An attrs class with a private field."""

    weight: Decimal
    _seal: bytes = b""


class Model(pydantic.BaseModel):
    """A pydantic model with an alias."""

    model_config = pydantic.ConfigDict(frozen=True)
    amount: int
    due: pydantic.AwareDatetime | None = None
    label: str = pydantic.Field("", alias="Label")


# The first example builds classes and imports libraries, on machines of any load: time says nothing here.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

Typed = tuple[Any, st.SearchStrategy[Any]]
"""A declared type, and values of it."""

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers() | st.integers(-(2**200), 2**200)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(timezones=OFFSETS)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)

KEYS: list[Typed] = [
    (str, TEXT),
    (int, INTEGERS),
    (UUID, st.uuids()),
    (date, st.dates()),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
]
HASHABLE_LEAVES: list[Typed] = [
    *KEYS,
    (bool, st.booleans()),
    (float, FLOATS),
    (datetime, MOMENTS),
    (timedelta, st.timedeltas()),
    (Decimal, DECIMALS),
    (bytes, st.binary(max_size=8)),
    (Colour, st.sampled_from(Colour)),
    (Shape, st.sampled_from(Shape)),
    (Size, st.sampled_from(Size)),
    (Literal[1, "x", None, True], st.sampled_from([1, "x", None, True])),
    (Point, st.builds(Point, INTEGERS, FLOATS)),
    (Packed, st.builds(Packed, INTEGERS, TEXT)),
    (Parcel, st.builds(Parcel, DECIMALS, st.binary(max_size=4))),
    (Model, st.builds(Model, amount=INTEGERS, due=st.none() | MOMENTS, Label=TEXT)),
]
NONE: Typed = (None, st.none())
KEYED: Typed = (Keys, st.fixed_dictionaries({}, optional={"count": INTEGERS, "note": TEXT}))
LEAVES: list[Typed] = [
    *HASHABLE_LEAVES,
    NONE,
    KEYED,
    (Any, JSON_VALUES),
    (object, JSON_VALUES),
    (dict, st.dictionaries(TEXT, JSON_VALUES, max_size=2)),
]
HAVE_NONE = (None, Any, object, Colour, Literal[1, "x", None, True])
NAMES = st.text("abcxyz", min_size=1, max_size=3).filter(lambda name: not keyword.iskeyword(name))


def _dataclass_of(fields: dict[str, Typed]) -> Typed:
    made = dataclasses.make_dataclass("Made", [(name, declared) for name, (declared, _) in fields.items()])
    values = {name: strategy for name, (_, strategy) in fields.items()}
    return made, st.fixed_dictionaries(values).map(lambda given: made(**given))


def _tuple_of(items: list[Typed]) -> Typed:
    declared = tuple[tuple(declared for declared, _ in items)]
    return declared, st.tuples(*(strategy for _, strategy in items))


def _nested(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.one_of(
        inner.map(lambda t: (list[t[0]], st.lists(t[1], max_size=3))),
        inner.map(lambda t: (tuple[t[0], ...], st.lists(t[1], max_size=3).map(tuple))),
        st.lists(inner, min_size=1, max_size=3).map(_tuple_of),
        st.tuples(st.sampled_from(KEYS), inner).map(
            lambda t: (dict[t[0][0], t[1][0]], st.dictionaries(t[0][1], t[1][1], max_size=3))
        ),
        st.sampled_from(HASHABLE_LEAVES).map(lambda t: (set[t[0]], st.sets(t[1], max_size=3))),
        st.sampled_from(HASHABLE_LEAVES).map(lambda t: (frozenset[t[0]], st.frozensets(t[1], max_size=3))),
        st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(_dataclass_of),
        inner.filter(lambda t: t[0] not in HAVE_NONE).map(lambda t: (t[0] | None, st.none() | t[1])),
    )


TYPES = st.recursive(st.sampled_from(LEAVES), _nested, max_leaves=4)
FULLY_TYPED = st.recursive(st.sampled_from(HASHABLE_LEAVES), _nested, max_leaves=4)
OBJECTS = st.sampled_from([NONE, KEYED])


@st.composite
def typed_values(draw: st.DrawFn, types: st.SearchStrategy[Typed] = TYPES) -> tuple[Any, Any]:
    """A declared type and a value of it."""
    declared, values = draw(types)
    return declared, draw(values)


def outcome(call: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
    """What a call gave, or the message of its refusal. Any other error goes up."""
    try:
        return call(*arguments), None
    except (GraphError, PayloadError) as refusal:
        return None, str(refusal)


def through_jsonb(value: Any) -> Any:
    """What Postgres' jsonb gives back: keys in another order, no negative zero, large whole floats as integers."""
    if isinstance(value, dict):
        return {key: through_jsonb(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
    if isinstance(value, list):
        return [through_jsonb(item) for item in value]
    if isinstance(value, float):
        return int(Decimal(repr(value))) if value.is_integer() and abs(value) >= 1e16 else value + 0.0
    return value


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down (moments and Decimals by value)."""
    if type(one) is not type(other) and not (isinstance(one, datetime) and isinstance(other, datetime)):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    return bool(one == other)


def is_exact_json(value: Any) -> bool:
    """An independent judge of what is exactly JSON."""
    if type(value) is list:
        return all(map(is_exact_json, value))
    if type(value) is dict:
        return all(type(key) is str and "\x00" not in key for key in value) and all(map(is_exact_json, value.values()))
    return value is None or type(value) in (bool, int, float, str)


@settings(CALM)
@given(typed_values())
def test_what_is_accepted_is_json_and_comes_back(typed: tuple[Any, Any]) -> None:
    """A value of its declared type becomes exact JSON, and comes back from JSON text equal, with the same types."""
    declared, value = typed
    payload = PayloadType(declared, "collateral 'x'")
    payload.check(value)
    encoded = payload.encode(value)
    assert is_exact_json(encoded)
    assert same(payload.decode(json.loads(json.dumps(encoded, allow_nan=False))), value)


@settings(CALM)
@given(typed_values(FULLY_TYPED))
def test_jsonb_changes_nothing_that_a_declared_type_sees(typed: tuple[Any, Any]) -> None:
    """What jsonb normalises (order of keys, form of numbers) does not reach a value of a declared type."""
    declared, value = typed
    payload = PayloadType(declared, "collateral 'x'")
    assert same(payload.decode(through_jsonb(payload.encode(value))), value)


@settings(CALM)
@given(typed_values())
def test_the_same_value_has_the_same_json(typed: tuple[Any, Any]) -> None:
    """Encoding twice gives equal JSON that shares nothing mutable, so that payloads can be compared and kept."""
    declared, value = typed
    payload = PayloadType(declared, "collateral 'x'")
    first, second = payload.encode(value), payload.encode(value)
    assert first == second
    assert first is not second or not isinstance(first, (list, dict))


@settings(CALM)
@given(typed_values(), typed_values())
def test_a_value_of_another_type_is_refused_or_comes_back_equal(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    """No value, of whatever type, goes through a declared type and comes back as something else."""
    payload = PayloadType(one[0], "collateral 'x'")
    encoded, refusal = outcome(payload.encode, other[1])
    if refusal is not None:
        assert "collateral 'x' cannot carry this payload: $" in refusal
        return
    assert payload.decode(json.loads(json.dumps(encoded, allow_nan=False))) == other[1]


@settings(CALM, max_examples=300)
@given(typed_values(FULLY_TYPED | OBJECTS), typed_values(FULLY_TYPED | OBJECTS), st.booleans())
def test_a_union_is_refused_or_gives_back_the_right_member(
    one: tuple[Any, Any], other: tuple[Any, Any], first: bool
) -> None:
    """Of two types that may stand in a union, no value of one is ever read as the other."""
    assume((one[0], other[0]) != (None, None))
    declared = one[0] | other[0] if one[0] is not None else other[0] | None
    payload, refusal = outcome(PayloadType, declared, "collateral 'x'")
    if refusal is not None:
        assert "look alike in JSON" in refusal
        return
    value = one[1] if first else other[1]
    payload.check(value)
    encoded, refusal = outcome(payload.encode, value)
    if refusal is not None:
        assert "would be read back as an int" in refusal
        return
    decoded = payload.decode(through_jsonb(encoded))
    assert decoded == value
    assert isinstance(value, (int, float)) or type(decoded) is type(value)


@settings(CALM)
@given(TYPES, JSON_VALUES)
def test_any_json_is_read_as_the_declared_type_or_refused(typed: Typed, given_json: Any) -> None:
    """JSON from outside, such as a command line's, gives a value that fits, or a PayloadError, nothing else."""
    payload = PayloadType(typed[0], "collateral 'x'")
    value, refusal = outcome(payload.decode, given_json)
    if refusal is not None:
        assert "collateral 'x' cannot read this JSON" in refusal
        return
    payload.check(value)
    assert same(payload.decode(payload.encode(value)), value)


POISONS: list[tuple[Callable[[], Any], str]] = [
    (lambda: float("nan"), "nan"),
    (lambda: float("-inf"), "inf"),
    (lambda: "a\x00b", "NUL"),
    (lambda: "\ud800", "surrogate"),
    (lambda: {1: 2}, "key of type int"),
    (lambda: {"k\x00": 1}, "NUL"),
    (lambda: {1, 2}, "set"),
    (lambda: (1, 2), "tuple"),
    (lambda: object(), "object"),
    (lambda: b"x", "bytes"),
    (lambda: Size.SMALL, "Size"),
    (lambda: 10**5000, "bits"),
]


@settings(CALM)
@given(st.lists(st.integers(0, 3) | st.sampled_from(["plain", "odd key"]), max_size=5), st.sampled_from(POISONS))
def test_whatever_is_not_json_is_found_at_its_path(
    steps: list[int | str], poison: tuple[Callable[[], Any], str]
) -> None:
    """One bad leaf, however deep in untyped data, is refused by a message with its path and its problem."""
    make, problem = poison
    value: Any = make()
    path = ""
    for step in reversed(steps):
        if isinstance(step, int):
            value, path = [None] * step + [value], f"[{step}]{path}"
        else:
            value, path = {"other": 1, step: value}, (f".{step}" if step == "plain" else f'["{step}"]') + path
    with pytest.raises(PayloadError) as caught:
        PayloadType(Any, "collateral 'x'").encode(value)
    assert f"${path} " in str(caught.value)
    assert problem in str(caught.value)


@settings(CALM)
@given(JSON_VALUES)
def test_exact_json_is_copied_unchanged(value: Any) -> None:
    """Data that is JSON already is equal after encoding, with the same types."""
    assert same(exact_json(value), value)

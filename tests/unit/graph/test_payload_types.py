"""Payload types, one by one: the JSON that each makes, and what each refuses.

That whatever is accepted comes back equal is shown for all of them at once by the property tests; here stand the
forms, which SQL and command lines see, and the refusals with their messages.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import TypeAliasType

from cnstra.orchestrator.errors import GraphError, PayloadError
from cnstra.orchestrator.graph.payload import PayloadType

T = TypeVar("T")
NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001 - it is what must be refused


class Status(enum.StrEnum):
    NEW = "new"
    PAID = "paid"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Corner(enum.Enum):
    START = (0, 0)
    END = (9, 9)


class Mixed(enum.Enum):
    NOTHING = None
    WORD = "word"
    ONE = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    due: datetime | None = None


@dataclasses.dataclass(frozen=True)
class Order:
    id: str
    lines: list[Line] = dataclasses.field(default_factory=list)
    parent: Order | None = None


@dataclasses.dataclass
class Total:
    net: int
    gross: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    a: int
    anything: object = None


@dataclasses.dataclass
class Positive:
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("negative")


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    items: list[T]


@dataclasses.dataclass
class LabelledBox(Box[int], Generic[T]):
    label: T


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Row(TypedDict):
    id: int
    note: NotRequired[str]


class Page(TypedDict, Generic[T]):
    items: list[T]


class NumberedPage(Page[int]):
    number: int


class Struct(msgspec.Struct, rename="camel", tag="s", tag_field="kind"):
    item_count: int
    note: str = ""


class Compact(msgspec.Struct, array_like=True):
    a: int
    b: str = "b"


@attrs.define
class Attrs:
    weight: float
    _hidden: int = 0
    later: str = attrs.field(init=False, default="set")


class Address(pydantic.BaseModel):
    street: str
    zip_code: str = pydantic.Field(alias="zipCode")


class Customer(pydantic.BaseModel):
    name: str
    born: date | None = None
    address: Address | None = None


@pydantic.dataclasses.dataclass
class PydanticDataclass:
    amount: int


UserId = NewType("UserId", int)
Count = TypeAliasType("Count", int)
Pairs = TypeAliasType("Pairs", dict[str, list[T]], type_params=(T,))


def payload(declared: Any) -> PayloadType:
    """A payload type as a collateral would make it."""
    return PayloadType(declared, "collateral 'x'")


def named(cases: Sequence[tuple[Any, ...]]) -> list[str]:
    """Ids of test cases that are the same in every process."""
    return [f"{index}-{getattr(case[0], '__name__', case[0])}" for index, case in enumerate(cases)]


FORMS: list[tuple[Any, Any, Any]] = [
    (None, None, None),
    (bool, True, True),
    (int, 2**70, 2**70),
    (int, Level.HIGH, 2),
    (float, 1, 1.0),
    (float, -0.5, -0.5),
    (str, "größer 在庫 🙂", "größer 在庫 🙂"),
    (str, Status.PAID, "paid"),
    (bytes, b"\x00\xff", "AP8="),
    (UUID, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Decimal, Decimal("1.50"), "1.50"),
    (date, date(2024, 2, 29), "2024-02-29"),
    (datetime, datetime(2024, 2, 29, 12, tzinfo=UTC), "2024-02-29T12:00:00+00:00"),
    (timedelta, timedelta(days=2, seconds=3, microseconds=4), "P2DT3.000004S"),
    (timedelta, -timedelta(microseconds=1), "P-1DT86399.999999S"),
    (Status, Status.NEW, "new"),
    (Level, Level.LOW, 1),
    (Corner, Corner.END, "END"),
    (Mixed, Mixed.NOTHING, None),
    (Mixed, Mixed.ONE, 1),
    (Rights, Rights.READ | Rights.WRITE, 3),
    (Literal["a", 1], "a", "a"),
    (Literal[Status.NEW], Status.NEW, "new"),
    (Any, {"a": [1, None, True, 0.5, "x"]}, {"a": [1, None, True, 0.5, "x"]}),
    (dict, {"a": 1}, {"a": 1}),
    (list, [1, "a"], [1, "a"]),
    (tuple, (1, "a"), [1, "a"]),
    (set, {1}, [1]),
    (list[date], [date(2024, 1, 1)], ["2024-01-01"]),
    (tuple[int, ...], (1, 2), [1, 2]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (tuple[()], (), []),
    (set[int], {3, 1, 2}, [1, 2, 3]),
    (frozenset[str], frozenset("ba"), ["a", "b"]),
    (dict[int, int], {-1: 2}, {"-1": 2}),
    (dict[Status, int], {Status.PAID: 1}, {"paid": 1}),
    (dict[UUID, bool], {UUID(int=1): True}, {"00000000-0000-0000-0000-000000000001": True}),
    (dict[date, int], {date(2024, 1, 1): 1}, {"2024-01-01": 1}),
    (int | None, None, None),
    (Optional[int], 3, 3),  # noqa: UP045
    (int | str | list[int], "a", "a"),
    (int | float, 1, 1),
    (int | float, 1.0, 1.0),
    (Line, Line("a", Decimal(1)), {"sku": "a", "price": "1", "due": None}),
    (Order, Order("1", [], Order("0")), {"id": "1", "lines": [], "parent": {"id": "0", "lines": [], "parent": None}}),
    (Slotted, Slotted(a=1, anything=[1]), {"a": 1, "anything": [1]}),
    (Box[int], Box(1, [2]), {"item": 1, "items": [2]}),
    (Box, Box("a", [None]), {"item": "a", "items": [None]}),
    (LabelledBox[str], LabelledBox(1, [2], "l"), {"item": 1, "items": [2], "label": "l"}),
    (Pair, Pair(1), {"left": 1, "right": "r"}),
    (Row, {"id": 1}, {"id": 1}),
    (Row, {"id": 1, "note": "n"}, {"id": 1, "note": "n"}),
    (Page[date], {"items": [date(2024, 1, 1)]}, {"items": ["2024-01-01"]}),
    (NumberedPage, {"items": [1], "number": 2}, {"items": [1], "number": 2}),
    (Struct, Struct(2), {"kind": "s", "itemCount": 2, "note": ""}),
    (Compact, Compact(1), [1, "b"]),
    (Attrs, Attrs(1.5, 2), {"weight": 1.5, "_hidden": 2, "later": "set"}),
    (
        Customer,
        Customer(name="A", born=date(2000, 1, 1), address=Address(street="S", zipCode="1")),
        {"name": "A", "born": "2000-01-01", "address": {"street": "S", "zip_code": "1"}},
    ),
    (list[Customer], [Customer(name="A")], [{"name": "A", "born": None, "address": None}]),
    (Box[Customer], Box(Customer(name="A"), []), {"item": {"name": "A", "born": None, "address": None}, "items": []}),
    (PydanticDataclass, PydanticDataclass(3), {"amount": 3}),
    (UserId, 3, 3),
    (Annotated[int, "a comment"], 3, 3),
    (Annotated[int, msgspec.Meta(gt=0)], 3, 3),
    (Count, 1, 1),
    (Pairs[int], {"a": [1]}, {"a": [1]}),
]


@pytest.mark.parametrize(("declared", "value", "form"), FORMS, ids=named(FORMS))
def test_a_payload_has_this_json_and_comes_back(declared: Any, value: Any, form: Any) -> None:
    """The JSON form is part of the contract, because SQL and command lines read and write it."""
    encoded = payload(declared).encode(value)
    assert encoded == form
    assert json.dumps(encoded) == json.dumps(form), "True and 1, 1 and 1.0 are equal, but not the same JSON"
    assert payload(declared).decode(json.loads(json.dumps(encoded))) == value


def test_a_value_comes_back_as_its_declared_type() -> None:
    """A subclass of a scalar is taken where the type is declared, and comes back as the declared one."""
    assert type(payload(str).decode(payload(str).encode(Status.PAID))) is str
    assert type(payload(int).decode(payload(int).encode(Level.LOW))) is int
    assert type(payload(float).decode(payload(float).encode(1))) is float
    assert type(payload(Level).decode(1)) is Level


REFUSED: list[tuple[Any, Any, str, str]] = [
    (None, 0, "$", "must be None, got int"),
    (bool, 1, "$", "must be bool, got int"),
    (int, True, "$", "must be int, got bool"),
    (int, 1.0, "$", "must be int, got float"),
    (int, 10**5000, "$", "is an integer of 16610 bits"),
    (float, True, "$", "must be float, got bool"),
    (float, float("nan"), "$", "is nan, which JSON does not know"),
    (float, float("inf"), "$", "is inf, which JSON does not know"),
    (float, 2**53 + 1, "$", "is an int that no float holds exactly"),
    (float, 10**400, "$", "is a number too large for a float"),
    (str, b"x", "$", "must be str, got bytes"),
    (str, "a\x00b", "$", "holds U+0000 (NUL)"),
    (str, "a\ud800", "$", "holds the lone surrogate U+D800"),
    (bytes, "x", "$", "must be bytes, got str"),
    (UUID, "00000000-0000-0000-0000-000000000001", "$", "must be UUID, got str"),
    (Decimal, 1.5, "$", "must be Decimal, got float"),
    (Decimal, Decimal("NaN"), "$", "is Decimal('NaN'), which is no number"),
    (date, datetime(2024, 1, 1, tzinfo=UTC), "$", "must be date, got datetime.datetime"),
    (date, "2024-01-01", "$", "must be date, got str"),
    (datetime, NAIVE, "$", "is a datetime without a time zone"),
    (datetime, date(2024, 1, 1), "$", "must be datetime, got datetime.date"),
    (timedelta, 3, "$", "must be timedelta, got int"),
    (Status, "paid", "$", "Status, got str"),
    (Corner, (0, 0), "$", "Corner, got tuple"),
    (Literal["a", 1], True, "$", "must be one of 'a', 1, got True"),
    (Literal["a"], Status.NEW, "$", "must be one of 'a'"),
    (Any, {"a": (1,)}, "$.a", "is tuple, which is not exactly JSON's"),
    (Any, Status.NEW, "$", "Status, which is not exactly JSON's"),
    (object, [set()], "$[0]", "is set, which is not exactly JSON's"),
    (Any, {1: 2}, "$", "has a key of type int"),
    (dict, {"a\x00": 2}, "$", "has a key that holds U+0000"),
    (list[int], (1,), "$", "must be list[int], got tuple"),
    (tuple[int, ...], [1], "$", "must be tuple[int, ...], got list"),
    (tuple[int, str], (1,), "$", "must have 2 items"),
    (tuple[int, str], (1, 2), "$[1]", "must be str, got int"),
    (set[int], {1, "a"}, "$[*]", "must be int, got str"),
    (set[int], [1], "$", "must be set[int], got list"),
    (dict[int, int], {"1": 1}, "$", "has a key that must be int, got str"),
    (dict[str, int], {"odd key": "x"}, '$["odd key"]', "must be int, got str"),
    (int | None, "x", "$", "must be int | None, got str"),
    (int | float, 1e23, "$", "is the float 1e+23, which would be read back as an int"),
    (Order, Order("1", [Line("a", Decimal(1)), Line("b", 1.5)]), "$.lines[1].price", "must be Decimal, got float"),
    (Order, Order("1", [{"sku": "a"}]), "$.lines[0]", "Line, got dict"),
    (Order, Order("1", parent=Order(7)), "$.parent.id", "must be str, got int"),
    (Slotted, Slotted(a=1, anything={1}), "$.anything", "is set, which is not exactly JSON's"),
    (Box[int], Box("a", []), "$.item", "must be int, got str"),
    (LabelledBox[str], LabelledBox(1, ["a"], "l"), "$.items[0]", "must be int, got str"),
    (Pair, (1, "r"), "$", "Pair, got tuple"),
    (Row, {"note": "n"}, "$", "has no key 'id', which Row needs"),
    (Row, {"id": 1, "nope": 2}, "$", "has the key 'nope', which Row does not have"),
    (Row, {"id": 1, "note": 2}, "$.note", "must be str, got int"),
    (NumberedPage, {"items": ["a"], "number": 2}, "$.items[0]", "must be int, got str"),
    (Struct, Struct("x"), "$.item_count", "must be int, got str"),
    (Attrs, Attrs("x"), "$.weight", "must be float, got str"),
    (Annotated[int, msgspec.Meta(gt=0)], 0, "$", "breaks a declared constraint"),
    (Customer, Customer.model_construct(name=3), "$", "cannot be written by pydantic"),
    (list[Customer], [{"name": "A"}], "$[0]", "Customer, got dict"),
    (Pairs[int], {"a": ["b"]}, "$.a[0]", "must be int, got str"),
]


@pytest.mark.parametrize(("declared", "value", "path", "problem"), REFUSED, ids=named(REFUSED))
def test_what_does_not_fit_is_refused_with_its_path(declared: Any, value: Any, path: str, problem: str) -> None:
    """All of a payload is checked against its declared type; the message says who, where and what."""
    with pytest.raises(PayloadError) as caught:
        payload(declared).encode(value)
    assert str(caught.value).startswith(f"collateral 'x' cannot carry this payload: {path} ")
    assert problem in str(caught.value)


UNREADABLE: list[tuple[Any, Any, str, str]] = [
    (int, "1", "$", "must be an integer, got string"),
    (int, 1.0, "$", "must be an integer, got number"),
    (int, True, "$", "must be an integer, got boolean"),
    (bool, 1, "$", "must be true or false, got integer"),
    (str, None, "$", "must be a string, got null"),
    (None, "x", "$", "must be null, got string"),
    (datetime, "2024-01-01T00:00:00", "$", "with its offset from UTC"),
    (datetime, "yesterday", "$", "'yesterday'"),
    (date, "2024-02-30", "$", "must be an ISO 8601 date"),
    (timedelta, "1 day", "$", "must be an ISO 8601 duration"),
    (timedelta, "P", "$", "must be an ISO 8601 duration"),
    (timedelta, "P9999999999D", "$", "must be an ISO 8601 duration"),
    (UUID, "x", "$", "must be a UUID"),
    (Decimal, "one", "$", "must be a decimal number"),
    (Decimal, "NaN", "$", "must be a decimal number"),
    (bytes, "a", "$", "must be base64"),
    (Status, "lost", "$", "must be one of 'new', 'paid', got 'lost'"),
    (Level, True, "$", "must be one of 1, 2, got True"),
    (Rights, 8, "$", "must be a combination of Rights"),
    (list[int], {"a": 1}, "$", "must be an array, got object"),
    (tuple[int, int], [1], "$", "must have 2 items"),
    (set[Any], [[1]], "$", "cannot be a set"),
    (dict[int, int], {"a": 1}, "$", "has a key that must be an integer"),
    (dict[UUID, int], {"a": 1}, "$", "has a key that must be a UUID"),
    (Order, {"lines": []}, "$", "has no key 'id', which Order needs"),
    (Order, {"id": "1", "lines": [{"sku": "a", "price": 1}]}, "$.lines[0].price", "must be a decimal number"),
    (Positive, {"value": -1}, "$", "was refused by Positive: ValueError: negative"),
    (Struct, {"kind": "other", "itemCount": 1}, "$", "must have 'kind': 's'"),
    (Compact, {"a": 1}, "$", "must be an array of Compact's fields"),
    (Row, {}, "$", "has no key 'id'"),
    (Customer, {"born": "2000-01-01"}, "$", "is refused by pydantic: name: Field required"),
    (int | list[int], "a", "$", "must be int | list[int], got string"),
]


@pytest.mark.parametrize(("declared", "given", "path", "problem"), UNREADABLE, ids=named(UNREADABLE))
def test_json_of_another_shape_is_refused(declared: Any, given: Any, path: str, problem: str) -> None:
    """JSON from a command line, or of an older release, that does not give the declared type is refused."""
    with pytest.raises(PayloadError) as caught:
        payload(declared).decode(given)
    assert f"collateral 'x' cannot read this JSON as {payload(declared).expected}: {path} " in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "given", "value"),
    [
        (timedelta, "PT1H30M", timedelta(minutes=90)),
        (timedelta, "-P1W", timedelta(weeks=-1)),
        (timedelta, "P1DT0.5S", timedelta(days=1, milliseconds=500)),
        (datetime, "2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
        (float, 3, 3.0),
        (Order, {"id": "1", "written_by_a_newer_release": True}, Order("1")),
        (Row, {"id": 1, "written_by_a_newer_release": True}, {"id": 1}),
        (Compact, [1], Compact(1)),
        (Address, {"street": "S", "zipCode": "1"}, Address(street="S", zipCode="1")),
        (Level, 1.0, Level.LOW),
    ],
)
def test_json_that_people_and_newer_releases_write_is_read(declared: Any, given: Any, value: Any) -> None:
    """Usual forms of durations and moments, left-out defaults, keys that nobody knows, aliases: all are read."""
    assert payload(declared).decode(given) == value


def test_fields_that_the_constructor_does_not_take_are_kept() -> None:
    """What was computed or changed after construction is stored and set again."""
    total = Total(10)
    total.gross = 12
    assert payload(Total).decode(payload(Total).encode(total)) == total
    attributes = Attrs(1.0)
    attributes.later = "changed"
    assert payload(Attrs).decode(payload(Attrs).encode(attributes)) == attributes


def test_a_moment_keeps_its_instant_and_its_offset() -> None:
    """A zone becomes its offset at that moment, also in the hour that a clock shows twice."""
    berlin = ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        moment = datetime(2020, 10, 25, 2, 30, fold=fold, tzinfo=berlin)
        back = payload(datetime).decode(payload(datetime).encode(moment))
        assert back.astimezone(UTC) == moment.astimezone(UTC)
        assert back.utcoffset() == moment.utcoffset()


def test_a_subclass_is_refused_where_its_base_is_declared() -> None:
    """What a subclass adds would be lost on the way."""

    @dataclasses.dataclass(frozen=True)
    class Gift(Line):
        card: str = ""

    with pytest.raises(PayloadError, match=r"got its subclass .*Gift, which would come back as Line"):
        payload(Line).encode(Gift("a", Decimal(1)))


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr


class Excluding(pydantic.BaseModel):
    shown: int
    hidden: int = pydantic.Field(default=0, exclude=True)


class Naive(pydantic.BaseModel):
    at: list[datetime]


class Zoned(pydantic.BaseModel):
    at: datetime


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    at: date
    raw: bytes
    seen: set[int]

    @pydantic.computed_field
    @property
    def count(self) -> int:
        return len(self.seen)


@pytest.mark.parametrize(
    ("declared", "value", "problem"),
    [
        (Secret, Secret(password="x"), "does not read back as it was written"),
        (Naive, Naive(at=[NAIVE]), "$.at[0] is a datetime without a time zone"),
        (Any, Customer(name="A"), "Customer, which is not exactly JSON's"),
    ],
    ids=["a secret", "a naive datetime", "an undeclared model"],
)
def test_pydantic_models_that_would_lose_something_are_refused(declared: Any, value: Any, problem: str) -> None:
    """What pydantic masks or leaves open is refused rather than stored."""
    with pytest.raises(PayloadError) as caught:
        payload(declared).encode(value)
    assert problem in str(caught.value)


def test_an_excluded_field_that_was_set_is_not_lost_in_silence() -> None:
    """A field that pydantic leaves out is fine while a default stands in it, and refused otherwise."""
    assert payload(Excluding).decode(payload(Excluding).encode(Excluding(shown=1))) == Excluding(shown=1)
    with pytest.raises(PayloadError, match="does not read back"):
        payload(Excluding).encode(Excluding(shown=1, hidden=2))


def test_strict_models_and_zones_come_back() -> None:
    """Strict models take their own JSON; computed fields stay out; a zone in its doubled hour is no difference."""
    strict = Strict(at=date(2024, 1, 1), raw=b"x", seen={1, 2})
    assert payload(Strict).decode(payload(Strict).encode(strict)) == strict
    zoned = Zoned(at=datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")))
    back = payload(Zoned).decode(payload(Zoned).encode(zoned))
    assert back.at.astimezone(UTC) == zoned.at.astimezone(UTC)


def test_pydantics_messages_hold_no_values() -> None:
    """A refusal goes into logs and tables; a payload's content does not."""
    with pytest.raises(PayloadError) as caught:
        payload(Customer).decode({"name": ["do-not-log-me"]})
    assert "name: Input should be a valid string" in str(caught.value)
    assert "do-not-log-me" not in str(caught.value)


@dataclasses.dataclass
class Cat:
    kind: Literal["cat"]
    name: str


@dataclasses.dataclass
class Dog:
    kind: Literal["dog"]
    name: str


@dataclasses.dataclass
class Named:
    name: str


@dataclasses.dataclass
class Renamed:
    name: str


@dataclasses.dataclass
class NamedLong:
    name: str
    long: str


class CatModel(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"


class TaggedDog(msgspec.Struct, tag="dog", tag_field="kind"):
    name: str


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        (Cat | Dog, [Cat("cat", "a"), Dog("dog", "a")]),
        (Cat | TaggedDog | None, [Cat("cat", "a"), TaggedDog("a"), None]),
        (CatModel | Dog, [CatModel(), Dog("dog", "a")]),
        (Named | NamedLong, [Named("a"), NamedLong("a", "b")]),
        (list[Named | NamedLong], [[Named("a"), NamedLong("a", "b")]]),
        (Status | Literal["other"], [Status.NEW, "other"]),
        (Level | float, [Level.LOW, 1.5, 1e22]),
        (int | str | bool | None | list[int] | dict[str, int], [1, "a", True, None, [1], {"a": 1}]),
    ],
)
def test_a_union_gives_back_the_member_that_was_put_in(declared: Any, values: list[Any]) -> None:
    """Members that their JSON tells apart, by kind, by a tag or by a key, may stand in one union."""
    for value in values:
        back = payload(declared).decode(json.loads(json.dumps(payload(declared).encode(value))))
        assert back == value
        assert type(back) is type(value)


def test_a_record_that_could_be_either_member_is_refused() -> None:
    """JSON without the tag that tells two members apart is not guessed at."""
    with pytest.raises(PayloadError, match=r"must be Cat \| Dog|has no key"):
        payload(Cat | Dog).decode({"name": "a"})
    with pytest.raises(PayloadError):
        payload(Cat | Dog).decode({"kind": "bird", "name": "a"})


UNSUPPORTED: list[tuple[Any, str]] = [
    (str | datetime, "str and datetime look alike in JSON"),
    (UUID | date, "UUID and date look alike in JSON"),
    (list[int] | set[int], "look alike in JSON"),
    (Named | Renamed, "Named and Renamed look alike in JSON"),
    (Named | dict[str, int], "look alike in JSON"),
    (Any | int, "look alike in JSON"),
    (Mixed | None, "look alike in JSON"),
    (Literal["new"] | Status, "look alike in JSON"),
    (Literal["new", Status.NEW], "are the same in JSON"),
    (Literal[b"a"], "cannot be told apart in JSON"),
    (dict[bool, int], "dict[bool, …]: JSON's keys are strings"),
    (dict[float, int], "dict[float, …]: JSON's keys are strings"),
    (dict[tuple[int, int], int], "JSON's keys are strings"),
    (dict[int | str, int], "JSON's keys are strings"),
    (Sequence[int], "declare list[T] or tuple[T, ...]"),
    (Mapping[str, int], "declare dict[str, T]"),
    (complex, "complex has no exact JSON form"),
    (bytearray, "bytearray has no exact JSON form"),
    (Exception, "Exception has no exact JSON form"),
    (type, "type has no exact JSON form"),
    (type[int], "has no exact JSON form"),
    (list["Order"], "is a name in quotes"),
    ("Order", "is a name in quotes"),
    (enum.Enum("Empty", {}), "has no members"),
]


@pytest.mark.parametrize(("declared", "problem"), UNSUPPORTED, ids=named(UNSUPPORTED))
def test_a_type_without_an_exact_json_form_is_refused_when_it_is_declared(declared: Any, problem: str) -> None:
    """What could not come back is found when the collateral is made, not at its first signal."""
    with pytest.raises(GraphError) as caught:
        payload(declared)
    assert str(caught.value).startswith("the payload type of collateral 'x' cannot be stored")
    assert problem in str(caught.value)


@dataclasses.dataclass
class Deep:
    orders: list[dict[str, Open]]


@dataclasses.dataclass
class Open:
    stream: complex


@dataclasses.dataclass
class WithInitVar:
    seed: dataclasses.InitVar[int]


@dataclasses.dataclass
class Unresolved:
    later: Missing  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        (Deep, "at Deep.orders: Open.stream: complex has no exact JSON form"),
        (WithInitVar, "the InitVar 'seed'"),
        (Unresolved, "name 'Missing' is not defined"),
    ],
)
def test_a_refused_type_is_found_however_deep_it_stands(declared: Any, problem: str) -> None:
    """The message walks down to the field that cannot be stored."""
    with pytest.raises(GraphError) as caught:
        payload(declared)
    assert problem in str(caught.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    """A cycle ends in a message, not in a dead worker."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(PayloadError, match="nested too deeply, or holds itself"):
        payload(Any).encode(loop)
    with pytest.raises(PayloadError, match="nested too deeply, or holds itself"):
        payload(list).encode(loop)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is Python 3.12's")
def test_an_alias_may_stand_inside_of_itself() -> None:
    """A recursive ``type`` statement is a payload type like any other."""
    scope: dict[str, Any] = {}
    exec("type Tree = int | list[Tree]; type Loop = Loop | int", scope)
    assert payload(scope["Tree"]).decode(payload(scope["Tree"]).encode([1, [2]])) == [1, [2]]
    with pytest.raises(PayloadError, match=r"\$\[1\]\[0\] must be int \| list\[Tree\], got str"):
        payload(scope["Tree"]).encode([1, ["a"]])
    with pytest.raises(GraphError, match="Loop is nothing but itself"):
        payload(scope["Loop"])


def test_encoding_shares_nothing_with_the_payload() -> None:
    """What a handler changes after it returned does not change what is stored."""
    inner: list[int] = [1]
    encoded = payload(dict).encode({"a": inner})
    inner.append(2)
    assert encoded == {"a": [1]}


def test_nothing_here_needs_pydantic_or_attrs() -> None:
    """Both stay optional: the graph does not import them by itself."""
    code = (
        "import sys, dataclasses; from cnstra.orchestrator.graph import collateral; "
        "collateral('x', dataclasses.make_dataclass('D', [('a', int)])); "
        "print([name for name in ('pydantic', 'attr', 'attrs') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

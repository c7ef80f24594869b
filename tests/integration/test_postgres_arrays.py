"""Arrays of parameters reach Postgres as what they are, element by element, however their text is quoted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnstra.servers import HeldServers
from cnstra.stores.postgres.arrays import array_of, texts_of


class Colour(StrEnum):
    RED = 'red, or \\ "nearly"'


MOMENT = datetime(2026, 11, 29, 8, 15, 0, 123_456, tzinfo=UTC)
SAMPLES: dict[str, tuple[str, list[Any]]] = {
    "texts": ("text", ["", "a", "NULL", "null", 'a "b"', "a\\b", "{a,b}", " a ", "a\nb\t", "ü€😀", None]),
    "texts with nothing to quote": ("text", ["", "a", "NULL", "null", "{a,b}", " a ", "a\nb\t", "ü€😀"]),
    "texts with as many quotes as lie between them": ("text", ['"', "a", '"']),
    "texts that look like several": ("text", ['a","b', "c"]),
    "one text": ("text", ['"a"']),
    "texts of an enumeration": ("text", [Colour.RED, None]),
    "truth values": ("boolean", [True, False, None]),
    "integers": ("bigint", [0, -1, 2**63 - 1, -(2**63), None]),
    "numbers": ("float8", [0.0, -0.5, 1e300, 1e-300, float("inf"), -float("inf"), None]),
    "ids": ("uuid", [UUID(int=0), UUID("01a224e5-6871-70e1-9d98-09e227885bd1"), None]),
    "moments": ("timestamptz", [MOMENT, MOMENT, MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))), None]),
    "lengths of time": (
        "interval",
        [timedelta(0), timedelta(days=-3, microseconds=7), timedelta(days=36_525), timedelta(microseconds=1), None],
    ),
    "nothing but null": ("int", [None, None]),
    "nothing": ("int", []),
}


@pytest.fixture(scope="module")
def connection(servers: HeldServers) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        yield connection


def there_and_back(connection: psycopg.Connection[Any], kind: str, elements: list[Any]) -> list[Any]:
    """What Postgres has of an array, element by element, in its order."""
    query = f"select e from unnest(%(elements)s::{kind}[]) with ordinality u (e, n) order by n"
    rows = connection.execute(query.encode(), texts_of({"elements": elements})).fetchall()
    return [element for (element,) in rows]


@pytest.mark.parametrize(("kind", "elements"), SAMPLES.values(), ids=SAMPLES)
def test_elements_come_back_as_they_went(connection: psycopg.Connection[Any], kind: str, elements: list[Any]) -> None:
    """Of each kind that a statement takes."""
    assert there_and_back(connection, kind, elements) == elements


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(elements=st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_so_does_any_text(connection: psycopg.Connection[Any], elements: list[Any]) -> None:
    """However much of it is quotes and braces."""
    assert there_and_back(connection, "text", elements) == elements


def test_text_that_postgres_cannot_hold_is_refused_before_it_is_sent() -> None:
    """It would be cut off at that character, and stored."""
    for texts in (["fine", "a\0b"], ["fine", None, "a\0b"]):
        with pytest.raises(psycopg.DataError, match="null character"):
            array_of(texts)


def test_another_kind_is_no_parameter() -> None:
    """A statement that grew one has to say how it is written."""
    with pytest.raises(TypeError, match="bytes"):
        array_of([b"data"])


def test_what_is_no_list_stays_as_it_is() -> None:
    """Its adapter writes it."""
    assert texts_of({"now": MOMENT, "name": "x", "ids": [1, 2]}) == {"now": MOMENT, "name": "x", "ids": "{1, 2}"}

"""The store's SQL, as it is given to Postgres: by numbers, however long a statement is."""

from __future__ import annotations

import pytest

from cnstra.stores.postgres.arrays import texts_by
from cnstra.stores.postgres.statements import numbered, statements


def test_a_parameter_has_one_number_wherever_it_stands() -> None:
    text, names = numbered("select %(b)s::int + %(a)s::int where %(b)s::int > 0")

    assert text == b"select $1::int + $2::int where $1::int > 0"
    assert names == ("b", "a")


def test_what_stands_twice_to_be_a_percent_sign_is_one() -> None:
    assert numbered("select 7 %% %(a)s::int, '100 %%'") == (b"select 7 % $1::int, '100 %'", ("a",))


@pytest.mark.parametrize("name", sorted(statements()))
def test_no_statement_has_a_percent_sign_that_is_left(name: str) -> None:
    """psycopg would refuse it; numbered, it would be an operator that nobody meant."""
    text, names = numbered(statements()[name])

    assert b"%(" not in text
    assert all(f"${number}".encode() in text for number in range(1, len(names) + 1))


def test_parameters_come_in_the_order_of_their_numbers_with_lists_as_arrays() -> None:
    assert texts_by(("b", "a"), {"a": [1, 2], "b": "x", "of another": 3}) == ["x", "{1, 2}"]


def test_a_parameter_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="'b'"):
        texts_by(("a", "b"), {"a": 1})

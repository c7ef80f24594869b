"""What commands print is exact in JSON, and short in text."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from cnstra.cli import printing

NOON = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))


def test_json_is_one_line_with_times_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that a column of the views can hold has a form."""
    run_id = UUID("0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10")

    printing.say_json({"at": NOON, "id": run_id, "age": timedelta(seconds=1.5), "n": Decimal("1.10"), "é": "a\nb"})

    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "at": "2026-01-31T11:00:00.250000+00:00", "id": str(run_id), "age": 1.5, "n": "1.10", "é": "a\nb",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0042, "0.0042 s"),
        (3.14159, "3.14 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
        (-1, "0 s"),
    ],
)
def test_a_duration_is_told_in_at_most_two_units(seconds: float, text: str) -> None:
    """More would not help anybody who is in a hurry."""
    assert printing.duration(seconds) == text


def test_a_table_is_as_wide_as_it_needs_to_be() -> None:
    """One line a row, whatever is in a cell."""
    text = printing.table(("a", "long name"), [(1, "x\ny"), (None, {"k": [1]}), (NOON, "z" * 200)])

    lines = text.splitlines()
    assert lines[0] == "a                     long name"
    assert lines[1] == "1                     x y"
    assert lines[2] == '                      {"k":[1]}'
    assert lines[3] == f"2026-01-31 11:00:00Z  {'z' * 79}…"


def test_a_time_is_told_in_utc_and_to_the_second() -> None:
    """As everything else that compares machines."""
    assert printing.when(NOON) == "2026-01-31 11:00:00Z"
    assert printing.when(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01 00:00:00Z"
    assert printing.when(None) == ""

"""What may be said after ``--since``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer

from cnstra.cli.ages import moment as moment_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("1.5h", NOW - timedelta(hours=1, minutes=30)),
        ("7d", NOW - timedelta(days=7)),
        (" 2w ", NOW - timedelta(weeks=2)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00+01:00", datetime(2026, 1, 31, 11, tzinfo=UTC)),
    ],
)
def test_a_length_of_time_or_a_date_is_understood(text: str, moment: datetime) -> None:
    """A date without a zone is UTC, as everything that is printed."""
    assert moment_of(text, NOW) == moment


@pytest.mark.parametrize("text", ["yesterday", "", "1", "-1h", "1y", "2026-13-01", "99999999999999w"])
def test_anything_else_is_refused(text: str) -> None:
    """And not taken for something near it."""
    with pytest.raises(typer.BadParameter, match="is no time such as 1h or 2026-01-31"):
        moment_of(text, NOW)

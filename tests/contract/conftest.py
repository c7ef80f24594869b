"""The worlds in which the suite of the store port runs: every test once over each adapter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.worlds import MemoryWorld, PostgresWorld, World


@pytest.fixture(params=["memory", "memory, sealed", "postgres"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A store without runs, and a clock that stands still until the test moves it."""
    if request.param != "postgres":
        yield MemoryWorld(sealed="sealed" in request.param)
        return
    postgres = PostgresWorld(request.getfixturevalue("database_url"))
    yield postgres
    postgres.close()

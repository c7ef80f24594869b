"""Servers and a client for runs whose data is sealed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnstra import Orchestrator
from support.sealed import client_of, small


@pytest.fixture
def urls(database_url: str, broker_url: str) -> tuple[str, str]:
    return database_url, broker_url


@pytest.fixture
def client(urls: tuple[str, str]) -> Iterator[Orchestrator]:
    """With the key, and without workers."""
    with client_of(small, urls) as found:
        yield found

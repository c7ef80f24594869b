"""Servers that a storm may stop, kill and flush, and a stage on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnstra.servers import HeldServers
from cnstra.stores.postgres import migrate
from support.stage import Stage, on_stage


@pytest.fixture
def stormy_stage(own_servers: HeldServers, tmp_path: Path) -> Iterator[Stage]:
    """A stage on servers of the test's own."""
    migrate(own_servers.database_url)
    with on_stage(own_servers.database_url, own_servers.broker_url, tmp_path) as stage:
        yield stage

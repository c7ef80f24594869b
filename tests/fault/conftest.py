"""A stage for each fault test; servers of their own for those that stop servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnstra.servers import HeldServers, hold
from support.brokers import fresh_broker
from support.databases import fresh_database
from support.folders import temporary_home
from support.stage import Stage, on_stage


@pytest.fixture
def stage(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A database and a broker of the test's own, on the session's servers."""
    with on_stage(database_url, broker_url, tmp_path) as stage:
        if os.environ.get("CNSTRA_TESTS_CONTEXTS") == "elsewhere":  # the whole suite can be run so
            stage.contexts_url = broker_url
        yield stage


@pytest.fixture(scope="module")
def doomed_servers(no_servers_given: None) -> Iterator[HeldServers]:
    """Servers that the tests of one module stop, kill and flush."""
    with temporary_home() as home, hold(home, durable=False) as held:
        yield held


@pytest.fixture
def doomed_stage(doomed_servers: HeldServers, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose servers may be stopped, killed and flushed."""
    from cnstra.stores.postgres import migrate

    with (
        fresh_database(doomed_servers.database_url) as database_url,
        fresh_broker(doomed_servers.broker_url, tmp_path) as broker_url,
        on_stage(database_url, broker_url, tmp_path) as stage,
    ):
        migrate(database_url)
        yield stage

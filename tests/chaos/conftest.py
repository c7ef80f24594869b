"""Servers that a storm may stop, kill and flush, and a stage on them; the seed of all storms."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnstra.servers import HeldServers
from cnstra.stores.postgres import migrate
from support.brokers import Broker, RabbitMQBroker, RedisBroker, kind_of_broker
from support.stage import Stage, on_stage


@pytest.fixture
def stormy_stage(request: pytest.FixtureRequest, own_servers: HeldServers, tmp_path: Path) -> Iterator[Stage]:
    """A stage on servers of the test's own."""
    migrate(own_servers.database_url)
    broker: Broker = RedisBroker(own_servers.broker_url, own_servers)
    if kind_of_broker() == "rabbitmq":
        broker = RabbitMQBroker(request.getfixturevalue("rabbitmq_node"))
    with on_stage(own_servers.database_url, broker, tmp_path, own_servers.broker_url) as stage:
        yield stage


@pytest.fixture(scope="session")
def chaos_seed() -> int:
    """The first storm's seed."""
    given = os.environ.get("CNSTRA_CHAOS_SEED")
    return int(given) if given else random.SystemRandom().randrange(1_000_000)

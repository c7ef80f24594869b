"""Servers that a storm may stop, kill and flush, and a stage on them."""

from __future__ import annotations

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

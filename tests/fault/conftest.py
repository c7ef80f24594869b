"""A stage for each fault test; servers of their own for those that stop servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cnstra.servers import HeldServers, hold
from support.brokers import Broker, Kind, RabbitMQBroker, RedisBroker, fresh_broker, kind_of_broker
from support.databases import fresh_database
from support.folders import temporary_home
from support.least_privilege import users_of
from support.stage import Stage, on_stage


@pytest.fixture
def broker_kind() -> Kind:
    """What the doorbells go through; a module may say otherwise."""
    return kind_of_broker()


@pytest.fixture
def broker(request: pytest.FixtureRequest, broker_kind: Kind, broker_url: str) -> Broker:
    """A broker of the test's own, on the session's servers."""
    if broker_kind == "rabbitmq":
        return RabbitMQBroker(request.getfixturevalue("rabbitmq_node"))
    return RedisBroker(broker_url)


@pytest.fixture
def stage(database_url: str, broker: Broker, broker_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A database and a broker of the test's own, on the session's servers."""
    with ExitStack() as stack:
        users = None
        if os.environ.get("CNSTRA_TESTS_ROLES") == "least":  # the whole suite can be run so
            users = stack.enter_context(users_of(database_url))
        stage = stack.enter_context(on_stage(database_url, broker, tmp_path, broker_url))
        if users is not None:
            stage.workers_url, stage.clients_url = users.worker, users.client
        if os.environ.get("CNSTRA_TESTS_CONTEXTS") == "elsewhere":  # so, too
            stage.contexts_url = broker_url
        yield stage


@pytest.fixture(scope="module")
def doomed_servers(no_servers_given: None) -> Iterator[HeldServers]:
    """Servers that the tests of one module stop, kill and flush."""
    with temporary_home() as home, hold(home, durable=False) as held:
        yield held


@pytest.fixture
def doomed_stage(
    request: pytest.FixtureRequest, broker_kind: Kind, doomed_servers: HeldServers, tmp_path: Path
) -> Iterator[Stage]:
    """A stage whose servers may be stopped, killed and flushed."""
    from cnstra.stores.postgres import migrate

    with (
        fresh_database(doomed_servers.database_url) as database_url,
        fresh_broker(doomed_servers.broker_url, tmp_path) as redis_url,
    ):
        broker: Broker = RedisBroker(redis_url, doomed_servers)
        if broker_kind == "rabbitmq":
            broker = RabbitMQBroker(request.getfixturevalue("rabbitmq_node"))
        migrate(database_url)
        with on_stage(database_url, broker, tmp_path, redis_url) as stage:
            yield stage

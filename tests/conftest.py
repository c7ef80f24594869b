"""Servers for the tests: those of the test kit, one set for a whole session, and what a single test takes of it.

The shorter names are the project's own. What ``CNSTRA_DATABASE_URL`` and ``CNSTRA_BROKER_URL`` name is used in their place;
each test makes and drops databases there, and touches no other.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnstra.servers import HeldServers, hold
from cnstra.testing.fresh import fresh_database
from cnstra.testing.homes import temporary_home
from support import seals
from support.brokers import Kind, kind_of_broker
from support.hosts import Network, servers_on, why_not
from support.hosts.outpost import Outpost, outpost_on
from support.partitions import partition
from support.pgbouncer import PgBouncer, running_pgbouncer, through
from support.rabbitmq_server import RabbitMQ, running_rabbitmq

pytest_plugins = ["cnstra.testing.fixtures"]


def _is_pooled() -> bool:
    return os.environ.get("CNSTRA_TESTS_POOLER") == "pgbouncer"


def _is_partitioned() -> bool:
    return os.environ.get("CNSTRA_TESTS_SCHEMA") == "partitioned"


_CANNOT = (
    ("beneath_the_seal", seals.is_wanted, "CNSTRA_TESTS_CODEC=sealed: it looks beneath the seal"),
    # The pooler's URL is for the product alone, and the pooler knows one user, who may not tell it of others.
    (
        "past_the_pooler",
        _is_pooled,
        "CNSTRA_TESTS_POOLER=pgbouncer: it connects by another program, as another user, or by another pooler",
    ),
    # What looks for work looks into each partition, so the pages and rows that it reads are others.
    ("in_one_piece", _is_partitioned, "CNSTRA_TESTS_SCHEMA=partitioned: it counts what is read of tables in one piece"),
)


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So it is in the background of a script, and what a test starts would inherit it, and not be interrupted by it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Much of the suite can be run in other ways; some tests cannot, and say so by a mark. Before any fixture is made."""
    for mark, wanted, why in _CANNOT:
        if wanted() and item.get_closest_marker(mark):
            pytest.skip(why)


@pytest.fixture(scope="session")
def servers(cnstra_servers: HeldServers) -> HeldServers:
    """The session's servers, for tests that neither restart them nor empty the whole broker."""
    return cnstra_servers


@pytest.fixture(scope="module")
def no_servers_given() -> Iterator[None]:
    """Servers of the user's own are left alone by this module, which starts what it needs."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("CNSTRA_DATABASE_URL", raising=False)
        environment.delenv("CNSTRA_BROKER_URL", raising=False)
        yield


@pytest.fixture
def own_servers(no_servers_given: None) -> Iterator[HeldServers]:
    """Servers for this test alone, to be stopped, killed and flushed; an empty database without a schema."""
    with temporary_home() as home, hold(home, durable=False) as held:
        yield held


@pytest.fixture(scope="session")
def cnstra_template_url(cnstra_template_url: str) -> str:
    if _is_partitioned():  # all tests can be run so
        partition(cnstra_template_url)
    return cnstra_template_url


@pytest.fixture(scope="session")
def template_url(cnstra_template_url: str) -> str:
    """A database with the schema, to copy; each process of the session has its own."""
    return cnstra_template_url


@pytest.fixture
def empty_database_url(servers: HeldServers) -> Iterator[str]:
    """A new database without a schema."""
    with fresh_database(servers.database_url) as url:
        yield url


@pytest.fixture(scope="session")
def pgbouncer(servers: HeldServers) -> Iterator[PgBouncer]:
    """One in front of the session's Postgres; each process of the session has its own."""
    with running_pgbouncer(servers.database_url) as pooler:
        yield pooler


@pytest.fixture
def database_url(request: pytest.FixtureRequest, cnstra_database_url: str) -> str:
    """A new database with the schema."""
    if _is_pooled():  # much of the tests can be run so
        pooler, patch = map(request.getfixturevalue, ("pgbouncer", "monkeypatch"))
        return through(pooler, cnstra_database_url, patch)
    return cnstra_database_url


@pytest.fixture
def broker_url(cnstra_broker_url: str) -> str:
    """An empty database of the broker, which no other test uses meanwhile."""
    return cnstra_broker_url


@pytest.fixture(scope="session")
def rabbitmq_node() -> Iterator[RabbitMQ]:
    """A RabbitMQ for all tests of this process, one after another."""
    with running_rabbitmq() as node:
        yield node


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A network for hosts of the module's tests."""
    missing = why_not()
    if missing is not None:
        pytest.skip(missing)
    with Network() as network:
        yield network


@pytest.fixture(scope="module")
def servers_for_hosts(no_servers_given: None, network: Network) -> Iterator[HeldServers]:
    """Servers that the hosts of this network reach."""
    with servers_on(network.address) as held:
        yield held


@pytest.fixture(scope="module")
def rabbitmq_for_hosts(network: Network) -> Iterator[RabbitMQ]:
    """A RabbitMQ that they reach."""
    with running_rabbitmq(network.address) as node:
        yield node


@pytest.fixture
def broker_of_hosts() -> Kind:
    """What their doorbells go through; a test may say otherwise."""
    return kind_of_broker()


@pytest.fixture
def outpost(
    request: pytest.FixtureRequest,
    network: Network,
    servers_for_hosts: HeldServers,
    broker_of_hosts: Kind,
    tmp_path: Path,
) -> Iterator[Outpost]:
    """Hosts of the test's own, an empty database with the schema, an empty broker."""
    node = request.getfixturevalue("rabbitmq_for_hosts") if broker_of_hosts == "rabbitmq" else None
    with outpost_on(network, servers_for_hosts, tmp_path, node) as outpost:
        yield outpost

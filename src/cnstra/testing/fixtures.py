"""pytest fixtures for tests on real servers. They are there for who asks, in the ``conftest.py`` at the top of the tests::

    pytest_plugins = ["cnstra.testing.fixtures"]

Servers start when the first test asks for something on them: a private Postgres and a private Valkey, which all processes of a
session share, and which end with it. What ``CNSTRA_DATABASE_URL`` and ``CNSTRA_BROKER_URL`` name is used in their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from typing_extensions import Unpack

from cnstra.client import Orchestrator
from cnstra.orchestrator.codecs import Codec
from cnstra.orchestrator.stimulation import CNS
from cnstra.servers import HeldServers, hold
from cnstra.testing import fresh, homes
from cnstra.testing.services import OWN, with_services
from cnstra.testing.serving import WorkerOptions, serving

_home = pytest.StashKey[Path]()
_HOME = "cnstra_home"


def pytest_configure(config: pytest.Config) -> None:
    """Make the session's folder once, in the process that the user started."""
    given = getattr(config, "workerinput", None)
    config.stash[_home] = Path(given[_HOME]) if given else homes.new_home()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell the processes of pytest-xdist where it is: they share the servers."""
    node.workerinput[_HOME] = str(node.config.stash[_home])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind: by now, nobody holds the servers any more."""
    if _home in config.stash and not hasattr(config, "workerinput"):
        homes.remove_home(config.stash[_home])


@pytest.fixture(scope="session")
def cnstra_servers(pytestconfig: pytest.Config) -> Iterator[HeldServers]:
    """The session's servers: ``database_url``, ``broker_url``. Shared by all tests: take a database of your own."""
    with hold(pytestconfig.stash[_home], durable=False) as held:
        yield held


@pytest.fixture(scope="session")
def cnstra_template_url(cnstra_servers: HeldServers) -> Iterator[str]:
    """A database with the schema, to copy; each process of the session has its own."""
    from cnstra.stores.postgres import migrate

    with fresh.fresh_database(cnstra_servers.database_url) as url:
        migrate(url)
        yield url


@pytest.fixture
def cnstra_database_url(cnstra_servers: HeldServers, cnstra_template_url: str) -> Iterator[str]:
    """The URL of a new database with the schema; it is dropped after the test."""
    with fresh.fresh_database(cnstra_servers.database_url, template=cnstra_template_url) as url:
        yield url


@pytest.fixture
def cnstra_broker_url(cnstra_servers: HeldServers, pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of an empty database of the broker, which no other test uses meanwhile."""
    with fresh.fresh_broker(cnstra_servers.broker_url, pytestconfig.stash[_home]) as url:
        yield url


class OpenOrchestrator(Protocol):
    """Opens a client of a graph on the servers of the test; it is closed when the test ends. ``codec`` is what seals its data."""

    def __call__(self, cns: CNS | None = None, *, codec: Codec | None = None) -> Orchestrator: ...


@pytest.fixture
def cnstra_orchestrator(cnstra_database_url: str, cnstra_broker_url: str) -> Iterator[OpenOrchestrator]:
    """Makes clients: ``cnstra_orchestrator(cns)``."""
    with ExitStack() as stack:

        def open_one(cns: CNS | None = None, *, codec: Codec | None = None) -> Orchestrator:
            client = Orchestrator(cns, database=cnstra_database_url, broker=cnstra_broker_url, codec=codec)
            return stack.enter_context(client)

        yield open_one


class StartWorker(Protocol):
    """Starts a worker of a graph in this process, on the servers of the test; it drains when the test ends, or when what this
    gives is called. ``services`` take the place of the graph's own, ``codec`` is what seals the data of runs.
    """

    def __call__(
        self, cns: CNS, *, services: Any = OWN, codec: Codec | None = None, **options: Unpack[WorkerOptions]
    ) -> StopWorker: ...


class StopWorker(Protocol):
    """Ends a worker before the test ends. May be called twice."""

    def __call__(self) -> None: ...


@pytest.fixture
def cnstra_worker(cnstra_database_url: str, cnstra_broker_url: str) -> Iterator[StartWorker]:
    """Starts workers: ``cnstra_worker(cns, threads=2)``; see ``WorkerOptions``."""
    with ExitStack() as stack:

        def start(
            cns: CNS, *, services: Any = OWN, codec: Codec | None = None, **options: Unpack[WorkerOptions]
        ) -> StopWorker:
            worker = stack.enter_context(ExitStack())  # its close may be called early, and does nothing the second time
            graph = with_services(cns, services)
            worker.enter_context(serving(graph, cnstra_database_url, cnstra_broker_url, codec=codec, **options))
            return worker.close

        yield start

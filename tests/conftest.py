"""Servers for the tests: one set for a whole session, shared by all of its processes, and what a single test
takes of it.

They start when the first test asks for them, so that a run of unit tests starts none. What
``CNSTRA_DATABASE_URL`` and ``CNSTRA_BROKER_URL`` name is used in their place; each test makes and drops
databases there, and touches no other.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnstra.servers import HeldServers, hold
from support.brokers import fresh_broker
from support.databases import fresh_database
from support.folders import new_home, remove_home, temporary_home

_HOME = "CNSTRA_TESTS_HOME"
_own_home = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the session's home once, in the process that the user started; the others inherit its name."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So it is in the background of a script, and what a test starts would inherit it, and not be interrupted by it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.stash[_own_home] = new_home()
        os.environ[_HOME] = str(config.stash[_own_home])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind: by now, nobody holds the servers any more."""
    if _own_home in config.stash:
        remove_home(config.stash[_own_home])


@pytest.fixture(scope="session")
def servers() -> Iterator[HeldServers]:
    """The session's servers, for tests that neither restart them nor empty the whole broker."""
    with hold(Path(os.environ[_HOME]), durable=False) as held:
        yield held


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
def template_url(servers: HeldServers) -> Iterator[str]:
    """A database with the schema, to copy; each process of the session has its own."""
    from cnstra.stores.postgres import migrate

    with fresh_database(servers.database_url) as url:
        migrate(url)
        yield url


@pytest.fixture
def empty_database_url(servers: HeldServers) -> Iterator[str]:
    """A new database without a schema."""
    with fresh_database(servers.database_url) as url:
        yield url


@pytest.fixture
def database_url(servers: HeldServers, template_url: str) -> Iterator[str]:
    """A new database with the schema."""
    with fresh_database(servers.database_url, template=template_url) as url:
        yield url


@pytest.fixture
def broker_url(servers: HeldServers) -> Iterator[str]:
    """An empty database of the broker, which no other test uses meanwhile."""
    with fresh_broker(servers.broker_url, Path(os.environ[_HOME])) as url:
        yield url

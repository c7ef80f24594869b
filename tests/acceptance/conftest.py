"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from cnstra import Orchestrator
from support.apps.sagas import cns
from support.commands import Servers, WorkerCommand
from support.gates import Gate


@pytest.fixture
def both(database_url: str, broker_url: str) -> Servers:
    """A new database with the schema, and an empty broker."""
    return Servers(database_url=database_url, broker_url=broker_url)


class StartWorker(Protocol):
    """Starts ``cnstra worker`` with these arguments; it is killed, at the latest, when the test ends."""

    def __call__(
        self, *arguments: str, servers: Servers | None = None, environment: Mapping[str, str] | None = None
    ) -> WorkerCommand: ...


@pytest.fixture
def start_worker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartWorker]:
    """Workers on the servers of the test, unless others are given."""
    with ExitStack() as stack:

        def start(
            *arguments: str, servers: Servers | None = None, environment: Mapping[str, str] | None = None
        ) -> WorkerCommand:
            where = servers or request.getfixturevalue("both")
            number = len(list(tmp_path.glob("worker-*.log"))) + 1
            log = tmp_path / f"worker-{number}.log"
            return stack.enter_context(WorkerCommand(log, *arguments, servers=where, environment=environment))

        yield start


@pytest.fixture
def client(both: Servers) -> Iterator[Orchestrator]:
    """A client of the graph ``sagas``."""
    with Orchestrator(cns, database=both.database_url, broker=both.broker_url) as orchestrator:
        yield orchestrator


@pytest.fixture
def make_gate(tmp_path: Path) -> Callable[[], Gate]:
    """Makes gates at which handlers stop."""

    def make() -> Gate:
        return Gate(tmp_path / f"gate-{len(list(tmp_path.glob('gate-*')))}")

    return make

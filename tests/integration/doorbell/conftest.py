"""The brokers under test, and the means to wait for what they show.

The same suite goes over all of them: ``server`` is each in turn. What only one of them has is asked of it by its name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import pytest

from cnstra.workers.doorbell import DramatiqBell, DramatiqListener
from support.rabbitmq_server import RabbitMQ
from support.valkey_server import Valkey

PATIENCE = 30.0  # seconds after which a test that waits has failed; no test asserts how long anything takes


class Answers:
    """An ``on_ring`` that notes what it was called with."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[tuple[str, tuple[tuple[UUID, int], ...]]] = SimpleQueue()

    def __call__(self, queue: str, activations: tuple[tuple[UUID, int], ...]) -> None:
        self.heard.put((queue, activations))

    def next(self) -> tuple[str, tuple[tuple[UUID, int], ...]]:
        """The next call's arguments; waits for it."""
        return self.heard.get(timeout=PATIENCE)


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A running server of the test's own."""
    server = Valkey()
    server.start()
    yield server
    server.end()


@pytest.fixture
def rabbitmq(rabbitmq_node: RabbitMQ) -> RabbitMQ:
    """The process's node, which runs, and has none of the queues of other tests. It may be killed.

    The queues are there before anybody listens: what is rung while several make one at the same moment may be lost (3.10.8).
    """
    rabbitmq_node.begin()
    for queue in ("default", "other", "a", "b"):
        rabbitmq_node.declare(queue)
    return rabbitmq_node


@pytest.fixture(params=["valkey", "rabbitmq"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each broker."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def bell(server: Any) -> Iterator[DramatiqBell]:
    """A bell at the server, with the default bounds."""
    bell = DramatiqBell(server.url)
    yield bell
    bell.close()


@pytest.fixture
def listen(server: Any) -> Iterator[Callable[..., DramatiqListener]]:
    """Start listeners that wait an hour in one command, unless told otherwise; stopped at the end."""
    with ExitStack() as stack:

        def start(on_ring: Any, *queues: str, wait: float = 3600.0, threads: int = 1) -> DramatiqListener:
            listener = DramatiqListener(server.url, queues or ["default"], on_ring, wait=wait, threads=threads)
            stack.callback(listener.stop, timeout=1.0)
            listener.start()
            return listener

        yield start


@pytest.fixture
def answers() -> Answers:
    """An ``on_ring`` that notes its calls."""
    return Answers()


@pytest.fixture
def ends() -> Callable[[Callable[[], object]], None]:
    """Call something that must return; a test of it fails instead of hanging."""

    def call(action: Callable[[], object]) -> None:
        thread = threading.Thread(target=action, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the call did not return"

    return call

"""The broker of a stage, whichever it is, and what can happen to it.

Fault tests go over Redis; with ``CNSTRA_TESTS_BROKER=rabbitmq`` all of them go over RabbitMQ. A test that must not find its
broker touched by others takes servers of its own (the fixture ``own_servers``): what happens here happens to a whole server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, Protocol

import redis

from cnstra.servers import HeldServers
from cnstra.testing.fresh import fresh_broker
from support.rabbitmq_server import RabbitMQ

__all__ = ["Broker", "Kind", "RabbitMQBroker", "RedisBroker", "fresh_broker", "kind_of_broker"]

Kind = Literal["redis", "rabbitmq"]


def kind_of_broker() -> Kind:
    """The one that this session goes over, where a test does not name one."""
    given = os.environ.get("CNSTRA_TESTS_BROKER", "redis")
    if given not in ("redis", "rabbitmq"):
        raise ValueError(f"CNSTRA_TESTS_BROKER={given}: it is redis or rabbitmq")
    return "rabbitmq" if given == "rabbitmq" else "redis"


class Broker(Protocol):
    """A broker that is a test's own."""

    url: str

    def forget(self, doors: Iterable[str]) -> None:
        """Lose all doorbells; some servers have to be told whose."""
        ...

    def stop(self) -> None:
        """Be gone at once."""
        ...

    def start(self) -> None:
        """Be there again."""
        ...


class RedisBroker:
    """One of a pair of servers; without them it is not to be stopped."""

    def __init__(self, url: str, servers: HeldServers | None = None) -> None:
        self.url = url
        self._servers = servers

    def forget(self, doors: Iterable[str]) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def stop(self) -> None:
        assert self._servers is not None, "it is others' broker, too"
        self._servers.stop_valkey("immediate")

    def start(self) -> None:
        assert self._servers is not None
        self._servers.start_valkey()


class RabbitMQBroker:
    """The process's node, for one test."""

    def __init__(self, node: RabbitMQ) -> None:
        node.begin()
        self.url = node.url
        self._node = node

    def forget(self, doors: Iterable[str]) -> None:
        self._node.forget(*doors)

    def stop(self) -> None:
        self._node.kill()

    def start(self) -> None:
        self._node.start()

"""What a broker of doorbells is to the bell and to the listener, whatever server it is.

Owns what all of them share with Dramatiq: queues without delay queues, and consumers of one kind. How a doorbell is stored
and handed over is the business of one module a kind of server.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dramatiq import Broker, Consumer, Middleware

from cnstra.workers.doorbell.consumer import DoorbellConsumer, Source

OUTSTANDING = 64
"""Doorbells that may wait in a queue, unless told otherwise. More are not kept: who answers one drains more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a Redis, or one of its kin, keeps its data. ``eviction`` and ``append_only`` are None where it does not say.

    ``memory_limit`` is in bytes, 0 for none; ``snapshots`` says whether any was ever taken or is pending.
    """

    memory_limit: int
    eviction: str | None
    append_only: bool | None
    snapshots: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    """What a broker says of itself. ``keeping`` is None for one that keeps its queues on disk anyway."""

    kind: str
    version: str
    keeping: Keeping | None = None


class Doorbells(Broker, ABC):
    """A Dramatiq broker of doorbells: queues that hold a bounded number of messages, and may lose them.

    Connects when first used; a forked child gets connections of its own. Safe for threads. It is never
    Dramatiq's global broker, and has no delay queues: timers live in Postgres. Messages come in by ``push``.

    Args:
        wait: seconds that a source may wait for a doorbell.
        outstanding: how many doorbells may wait in a queue.
        middleware: the only middleware there is.
    """

    def __init__(self, *, wait: float, outstanding: int, middleware: Sequence[Middleware]) -> None:
        super().__init__(middleware=list(middleware))
        self.wait = wait
        self.outstanding = outstanding
        self.stopping = threading.Event()

    def prepare(self) -> None:
        """Something is to be pushed soon: do of it what can be done before. Never raises."""

    @abstractmethod
    def push(self, messages: Mapping[str, Sequence[bytes]]) -> bool:
        """Append messages, by queue; a queue keeps no more than ``outstanding``. Whether the server has said that it did; where
        nobody waits for that, a later call may raise for this one.

        Raises:
            BrokerAway: the server could not be reached, did not answer in time, or refused.
        """

    @abstractmethod
    def qsize(self, queue: str) -> int:
        """How many doorbells wait in a queue, not counting those in workers' hands. Raises as ``push`` does."""

    @abstractmethod
    def facts(self) -> BrokerFacts:
        """What the server is, and how it keeps its data. Raises as ``push`` does."""

    @abstractmethod
    def source(self, queue: str, slots: int) -> Source:
        """Where the doorbells of a queue come from, for one consumer; at most ``slots`` of them are unanswered."""

    @abstractmethod
    def hush(self) -> None:
        """Let all consumers give up, for good: also those that wait."""

    # What Dramatiq asks.

    def declare_queue(self, queue_name: str) -> None:
        """Know a queue; without the delay queue, and its consumer, that Dramatiq's own brokers give each."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> Consumer:  # noqa: ARG002
        """A consumer of at most ``prefetch`` unanswered doorbells. It waits for ``wait``."""
        return DoorbellConsumer(self.source(queue_name, prefetch), queue_name, self.stopping)

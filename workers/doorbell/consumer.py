"""Consumes: waits for the doorbells of one queue, and hands out those that are in order.

Owns the patience with a broker that is away and with messages that are none. Knows nothing of how a queue is
stored: that is its ``Source``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dramatiq import Consumer, Message, MessageProxy

from cnstra.orchestrator.errors import BrokerAway
from cnstra.workers.doorbell.messages import NotADoorbell, unpack
from cnstra.workers.doorbell.outage import Outage

_log = logging.getLogger("cnstra.listener")

_RECONNECT_AFTER = 0.5
"""Seconds between two attempts to reach a broker that is away."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """What a queue handed over: the bytes, and what its source tells it by."""

    body: bytes
    tag: Any = None


class Source(Protocol):
    """Where one consumer's doorbells come from. It hands out so many at most that nobody has answered."""

    def take(self) -> Delivery | None:
        """The next message; None when none came for a while, or all shall stop. Raises ``BrokerAway``, and nothing else."""
        ...

    def answered(self, delivery: Delivery) -> None:
        """This one was answered, or was none: it does not come again. Never raises; called in any thread."""
        ...

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return messages to the front of the queue, for others. Raises ``BrokerAway``, and nothing else."""
        ...

    def close(self) -> None:
        """Hand out nothing any more. Never raises."""
        ...


class DoorbellConsumer(Consumer):
    """Waits for a doorbell as long as its source has one to spare.

    ``__next__`` never raises: Dramatiq would log a traceback and sleep for three seconds. It reports an
    outage once, and tries again after half a second. A first failure is a connection that was cut: no news.
    """

    def __init__(self, source: Source, queue: str, stopping: threading.Event) -> None:
        self._source = source
        self._queue = queue
        self._stopping = stopping
        self._failures = 0
        self._outage = Outage(
            _log,
            who=f"Listening on queue {queue!r}",
            meanwhile="Until it does, only sweeps find the work of this queue.",
        )

    def __next__(self) -> MessageProxy | None:
        try:
            delivery = self._source.take()
        except BrokerAway as error:
            self._failures += 1
            if self._failures > 1:
                self._outage.began(error)
                self._stopping.wait(_RECONNECT_AFTER)
            return None
        self._failures = 0
        self._outage.ended()
        if delivery is None:
            return None
        try:
            return _Doorbell(unpack(delivery.body, self._queue), delivery)
        except NotADoorbell as reason:
            _log.warning("Dropped a message of %d bytes from queue %r: %s.", len(delivery.body), self._queue, reason)
            self._source.answered(delivery)
            return None

    def ack(self, message: MessageProxy) -> None:
        """The doorbell was answered."""
        if isinstance(message, _Doorbell):
            self._source.answered(message.delivery)

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put back, when the worker stops, what was taken and not answered. If that fails, a sweep helps."""
        deliveries = [message.delivery for message in messages if isinstance(message, _Doorbell)]
        if deliveries:
            try:
                self._source.put_back(deliveries)
            except BrokerAway as error:
                _log.info("Queue %r loses %d doorbells at shutdown: %s", self._queue, len(deliveries), error)

    def close(self) -> None:
        """Take nothing any more."""
        self._source.close()


class _Doorbell(MessageProxy):
    """A message with what it came as, to be answered or put back."""

    def __init__(self, message: Message[Any], delivery: Delivery) -> None:
        super().__init__(message)
        self.delivery = delivery

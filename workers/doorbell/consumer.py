"""Consumes: waits for the doorbells of one queue, and hands out those that are in order.

Owns the patience with a broker that is away and with messages that are none. Knows nothing of how a queue is
stored: that is its ``Source``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from dramatiq import Consumer, Message, MessageProxy

from cnstra.orchestrator.errors import BrokerAway
from cnstra.workers.doorbell.messages import NotADoorbell, unpack
from cnstra.workers.doorbell.outage import Outage

_log = logging.getLogger("cnstra.listener")

_RECONNECT_AFTER = 0.5
"""Seconds between two attempts to reach a broker that is away."""


class Source(Protocol):
    """Where a consumer's doorbells come from. Both methods raise ``BrokerAway``, and nothing else."""

    wait: float
    stopping: threading.Event

    def pop(self, queue: str) -> bytes | None:
        """The next message of a queue; None when none came for ``wait`` seconds, or all shall stop."""
        ...

    def put_back(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Return messages to the front of their queue."""
        ...


class DoorbellConsumer(Consumer):
    """Waits for a doorbell as long as a slot is free to answer one.

    ``__next__`` never raises: Dramatiq would log a traceback and sleep for three seconds. It reports an
    outage once, and tries again after half a second. A first failure is a connection that was cut: no news.
    """

    def __init__(self, source: Source, queue: str, slots: int) -> None:
        self._source = source
        self._queue = queue
        self._slots = threading.Semaphore(slots)
        self._failures = 0
        self._outage = Outage(
            _log,
            who=f"Listening on queue {queue!r}",
            meanwhile="Until it does, only sweeps find the work of this queue.",
        )

    def __next__(self) -> MessageProxy | None:
        if not self._slots.acquire(timeout=self._source.wait):
            return None
        doorbell = self._next_doorbell()
        if doorbell is None:
            self._slots.release()
        return doorbell

    def ack(self, message: MessageProxy) -> None:  # noqa: ARG002
        """The doorbell was answered: its slot is free."""
        self._slots.release()

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put back, when the worker stops, what was taken and not answered. If that fails, a sweep helps."""
        bodies = [message.body for message in messages if isinstance(message, _Doorbell)]
        if bodies:
            try:
                self._source.put_back(self._queue, bodies)
            except BrokerAway as error:
                _log.info("Queue %r loses %d doorbells at shutdown: %s", self._queue, len(bodies), error)

    def _next_doorbell(self) -> _Doorbell | None:
        try:
            body = self._source.pop(self._queue)
        except BrokerAway as error:
            self._failures += 1
            if self._failures > 1:
                self._outage.began(error)
                self._source.stopping.wait(_RECONNECT_AFTER)
            return None
        self._failures = 0
        self._outage.ended()
        if body is None:
            return None
        try:
            return _Doorbell(unpack(body, self._queue), body)
        except NotADoorbell as reason:
            _log.warning("Dropped a message of %d bytes from queue %r: %s.", len(body), self._queue, reason)
            return None


class _Doorbell(MessageProxy):
    """A message with the bytes that it came as, to be put back."""

    def __init__(self, message: Message[Any], body: bytes) -> None:
        super().__init__(message)
        self.body = body

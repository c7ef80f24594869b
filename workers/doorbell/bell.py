"""Rings: tells the workers of a queue, through the broker, which activations have become ready.

Owns what a caller may expect of a bell: it never raises for a broker that is away, does not hang, and says so
in the log once. Keeps nothing for later: what could not be rung, a sweep over Postgres rings again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cnstra.orchestrator.errors import BrokerAway, ConfigurationError
from cnstra.orchestrator.ports import Ring
from cnstra.workers.doorbell.brokers import open_broker
from cnstra.workers.doorbell.doorbells import OUTSTANDING
from cnstra.workers.doorbell.messages import pack
from cnstra.workers.doorbell.outage import Outage

_log = logging.getLogger("cnstra.bell")


class _Prepared(NamedTuple):
    """Messages that were made before it was time to ring."""

    rings: Sequence[Ring]
    messages: dict[str, list[bytes]]


class DramatiqBell:
    """The ``Bell`` over a Dramatiq broker. Connects when first rung; safe for threads and over a fork.

    Args:
        broker_url: of Redis or RabbitMQ, the same for bell and listener; see ``open_broker``.
        ids_per_message: how many activations share a doorbell: a message costs a worker as much as many ids.
        outstanding: how many doorbells may wait in a queue. More are not rung: who answers one drains more.
        clock: seconds, monotonic.

    Raises:
        ConfigurationError: the URL, or a number, cannot be used.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        ids_per_message: int = 50,
        outstanding: int = OUTSTANDING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if ids_per_message < 1 or outstanding < 1:
            raise ConfigurationError(
                f"ids_per_message={ids_per_message}, outstanding={outstanding}: both must be at least 1."
            )
        self._broker = open_broker(broker_url, client_name="cnstra-bell", outstanding=outstanding)
        self._ids_per_message = ids_per_message
        self._clock = clock
        self._silent_until = clock()
        self._closed = False
        self._prepared: _Prepared | None = None
        self._outage = Outage(
            _log, who="The bell", meanwhile="Until it does, no doorbell rings; a sweep makes up for it."
        )

    def prepare(self, rings: Sequence[Ring]) -> None:
        """Make ready to ring these next, in a moment in which the caller would only wait. Soon done; never raises.

        What another thread makes ready meanwhile takes its place: then these are made ready when they are rung.
        """
        if not self._is_silent():
            self._prepared = _Prepared(rings, self._messages(rings))
            self._broker.prepare()

    def ring(self, rings: Sequence[Ring]) -> None:
        """Tell idle workers what became ready. Returns soon, and never raises for a broker that is away.

        A failure silences the bell for as long as it took to be noticed: a broker that refuses connections is
        tried again at once; one that hangs takes half of a caller's time at most. A closed bell is silent.
        """
        if self._is_silent():
            return
        prepared, self._prepared = self._prepared, None
        messages = prepared.messages if prepared is not None and prepared.rings == rings else self._messages(rings)
        if not messages:
            return
        started = self._clock()
        try:
            answered = self._broker.push(messages)
        except BrokerAway as error:
            failed = self._clock()
            self._silent_until = failed + (failed - started)
            self._outage.began(error)
        else:
            if answered:
                self._outage.ended()

    def qsize(self, queue: str) -> int:
        """How many doorbells wait in a queue, not counting those in workers' hands.

        Raises:
            BrokerAway: the broker does not answer.
        """
        return self._broker.qsize(queue)

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        self._closed = True
        self._broker.close()

    def _is_silent(self) -> bool:
        return self._closed or self._clock() < self._silent_until

    def _messages(self, rings: Sequence[Ring]) -> dict[str, list[bytes]]:
        return pack(rings, ids_per_message=self._ids_per_message, messages_per_queue=self._broker.outstanding)

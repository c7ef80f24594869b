"""Rings: tells the workers of a queue, through the broker, which activations have become ready.

Owns what a caller may expect of a bell: it never raises for a broker that is away, does not hang, and says so
in the log once. Keeps nothing for later: what could not be rung, a sweep over Postgres rings again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from cnstra.orchestrator.errors import BrokerAway, ConfigurationError
from cnstra.orchestrator.ports import Ring
from cnstra.workers.doorbell.brokers import open_broker
from cnstra.workers.doorbell.doorbells import OUTSTANDING
from cnstra.workers.doorbell.messages import pack
from cnstra.workers.doorbell.outage import Outage

_log = logging.getLogger("cnstra.bell")


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
        self._outage = Outage(
            _log, who="The bell", meanwhile="Until it does, no doorbell rings; a sweep makes up for it."
        )

    def ring(self, rings: Sequence[Ring]) -> None:
        """Tell idle workers what became ready. Returns soon, and never raises for a broker that is away.

        A failure silences the bell for as long as it took to be noticed: a broker that refuses connections is
        tried again at once; one that hangs takes half of a caller's time at most. A closed bell is silent.
        """
        if self._closed or self._clock() < self._silent_until:
            return
        messages = pack(rings, ids_per_message=self._ids_per_message, messages_per_queue=self._broker.outstanding)
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

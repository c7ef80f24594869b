"""The doorbell: how a worker learns at once that Postgres has work for it.

A doorbell message carries ids of activations as hints, and no state. It may be lost, doubled, delayed or
reordered: only latency suffers, because sweeps over Postgres find what nobody was told of. So nothing in here
is a durable duty: no retries, delays, results or dead letters, and no middleware that keeps any of these.

Dramatiq runs it: its ``Broker`` and ``Consumer`` interfaces, its ``Message`` format, its ``Worker`` with the
threads. How a queue is stored is the business of one module a kind of broker; ``brokers.open_broker`` chooses
it by the URL.
"""

from __future__ import annotations

from cnstra.workers.doorbell.bell import DramatiqBell
from cnstra.workers.doorbell.listener import DramatiqListener, OnRing

__all__ = ["DramatiqBell", "DramatiqListener", "OnRing"]

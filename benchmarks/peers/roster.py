"""Who the peers are, and why each is configured as it is. The configurations themselves are in the programs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An engine that CNStra is compared with."""

    name: str
    """Of its distribution, its program and its requirements."""
    does: str
    """A sentence for who reads the figures: what is durable, and how the work is written for it."""
    best: str
    """Why it is configured as it is."""
    broker_database: int
    """The logical database of Redis that is emptied for it."""


DBOS = Peer(
    name="dbos",
    does="workflows with a row in Postgres for each step that ended; a fan is an async workflow that gathers its steps",
    best=(
        "Its processes run what they start, which its documentation has first and which saves it the queue. Two processes "
        "of threads were its fastest for chains, two event loops for fans: its children, or its queue, cost more commits."
    ),
    broker_database=10,
)
CELERY = Peer(
    name="celery",
    does="canvas chains and chords on Redis; nothing is durable by step",
    best=(
        "A large prefetch multiplier, results ignored where nobody reads them, no gossip, mingle, heartbeat or events: so "
        "its guide to optimizing for many short tasks. A worker for each core with the solo pool was twice as fast as prefork."
    ),
    broker_database=11,
)
DRAMATIQ = Peer(
    name="dramatiq",
    does="pipelines, and groups with completion callbacks, on Redis; nothing is durable by step",
    best=(
        "Two processes, and a prefetch of 200 messages. Only what is read is stored as a result. For single runs idle "
        "workers look for messages each 2 ms, instead of up to a second apart."
    ),
    broker_database=12,
)
PROCRASTINATE = Peer(
    name="procrastinate",
    does="jobs in Postgres that defer the next; a fan is joined by hand, by a row with a counter",
    best=(
        "Async tasks with concurrency, submitted in batches, as its documentation says. Workers poll each 50 ms, beside "
        "listening: a notification that comes while they fetch is lost, and the default is to wait 5 s then."
    ),
    broker_database=13,
)

PEERS = (DBOS, CELERY, PROCRASTINATE, DRAMATIQ)

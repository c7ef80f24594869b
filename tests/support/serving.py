"""A worker in the test's own process, put together from the product's parts over real servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from cnstra import CNS
from cnstra.orchestrator.blobs import Blobs
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.stores.postgres import PostgresStore
from cnstra.workers.doorbell import DramatiqBell, DramatiqListener
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.worker import Worker


@contextmanager
def serving(
    cns: CNS, database_url: str, broker_url: str, *, contexts: Sequence[Blobs] = (), **settings: Any
) -> Iterator[Worker]:
    """A worker that serves the graph until the block ends; it drains then."""
    store = PostgresStore(database_url)
    bell = DramatiqBell(broker_url)
    worker = Worker(
        cns,
        store,
        bell,
        lambda queues, on_ring: DramatiqListener(broker_url, queues, on_ring),
        WorkerSettings(**({"drain": timedelta(seconds=10)} | settings)),
        SystemEntropy(),
        contexts,
    )
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()
        bell.close()
        store.close()

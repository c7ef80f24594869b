"""A worker in the test's own process, on threads, over real servers: the parts of ``cnstra worker``, without its processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypedDict

from typing_extensions import Unpack

from cnstra.orchestrator.blobs import Blobs
from cnstra.orchestrator.codecs import Codec
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.sealed_store import sealed_store
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.stimulation import CNS
from cnstra.stores.postgres import PostgresStore
from cnstra.workers.doorbell import DramatiqBell, DramatiqListener
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.worker import Worker

_DRAIN = timedelta(seconds=10)


class WorkerOptions(TypedDict, total=False):
    """What may be said of a worker; all of it as in ``cnstra worker``.

    ``queues``: those of the graph by default. ``threads``: how many sync handlers run at once, ``coroutines``: how many async
    ones. ``lease``: after so long without renewal it is lost. ``drain``: how long it waits, when it stops, for running
    handlers. ``crash_backoff`` and ``poison_limit``: what becomes of the work of lost workers.
    """

    queues: tuple[str, ...] | None
    threads: int
    coroutines: int
    lease: timedelta
    drain: timedelta
    crash_backoff: timedelta
    poison_limit: int
    look_every: timedelta
    unclaimed_after: timedelta
    litter_after: timedelta


@contextmanager
def serving(
    cns: CNS,
    database_url: str,
    broker_url: str,
    *,
    contexts: Sequence[Blobs] = (),
    codec: Codec | None = None,
    **options: Unpack[WorkerOptions],
) -> Iterator[Worker]:
    """A worker that serves the graph until the block ends; it drains then. ``codec`` is what the data of runs is sealed with."""
    settings = WorkerSettings(**({"drain": _DRAIN} | options))
    vault = None if codec is None else Vault(codec)
    if vault is not None:
        contexts = [Blobs(blobs.store, blobs.place, vault=vault) for blobs in contexts]
    store = sealed_store(PostgresStore(database_url), vault)
    bell = DramatiqBell(broker_url)
    worker = Worker(
        cns,
        store,
        bell,
        lambda queues, on_ring: DramatiqListener(broker_url, queues, on_ring),
        settings,
        SystemEntropy(),
        contexts,
    )
    try:
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()
    finally:
        bell.close()
        store.close()

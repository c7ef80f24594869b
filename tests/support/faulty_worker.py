"""The worker of the fault tests: the product's parts, put together as ``cnstra worker`` does, with points at their seams.

Runs in a process of its own, which ``support.stage`` starts. Nothing of the engine is changed: the store, the bell, the
listener and the caller are wrapped so that they reach points before and after what they do.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID

from cnstra import CNS
from cnstra.loading import load_context
from cnstra.orchestrator.blobs import Blob, Blobs
from cnstra.orchestrator.machine.events import FailedTry, Succeeded
from cnstra.orchestrator.ports import Ring, SystemEntropy
from cnstra.orchestrator.sealed_store import sealed_store
from cnstra.orchestrator.store import (
    AppliedBatch,
    ClaimRequest,
    Claims,
    Expired,
    Findings,
    Operation,
    Portion,
    RunEvent,
    Step,
    Transactions,
    Work,
)
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.transactions import PostgresOperation
from cnstra.workers import hop
from cnstra.workers.calling import Call, Caller, Stay
from cnstra.workers.doorbell import DramatiqBell, DramatiqListener
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.worker import Worker
from support import ledger, seals
from support.points import Fault, points

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyOrders:
    """What such a worker is told. ``tricks`` are functions, as ``module:name``, that are called before it starts."""

    app: str
    database_url: str
    broker_url: str
    ledger: Path
    log: Path
    settings: WorkerSettings
    faults: tuple[Fault, ...] = ()
    tricks: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Watched(PostgresOperation[T]):
    """An operation, and the activations that it is about."""

    what: str = ""
    activations: tuple[int, ...] = ()


def _watched(operation: Operation[T], what: str, activations: Iterable[int] = ()) -> Operation[T]:
    plain = cast("PostgresOperation[T]", operation)
    numbers = tuple(activations)

    def steps(repeated: bool) -> Generator[Any, Any, T]:
        result = yield from plain.steps(repeated)
        points.reach(f"{what}.commit", _claimed(result) if what == "claim" else numbers)
        return result

    # What commits by its one statement has no place before its commit: where one is asked for, it is a transaction.
    at_once = plain.at_once and not points.armed(f"{what}.commit")
    return _Watched(plain.name, steps, at_once=at_once, what=what, activations=numbers)


def _claimed(works: Any) -> list[int]:
    return [work.activation_id for work in cast("list[Work]", works)]


class WatchedStore(PostgresStore):
    """The store, with points around its transactions and at their ends."""

    def claim(self, request: ClaimRequest) -> Operation[Claims]:  # type: ignore[override]
        return _watched(super().claim(request), "claim")

    def apply(self, events: Sequence[RunEvent]) -> Operation[AppliedBatch]:  # type: ignore[override]
        operation = super().apply(events)
        settled = [one.event.fence.activation_id for one in events if isinstance(one.event, Succeeded | FailedTry)]
        return _watched(operation, "settle", settled) if settled else operation

    def look(  # type: ignore[override]
        self, worker: UUID, lease: timedelta, unclaimed_after: timedelta, limit: int
    ) -> Operation[Findings]:
        return _watched(super().look(worker, lease, unclaimed_after, limit), "look")

    def expire(self, portion: Portion) -> Operation[Expired]:  # type: ignore[override]
        return _watched(super().expire(portion), "expire")

    def transactions(self, limit: int) -> WatchedTransactions:  # type: ignore[override]
        return WatchedTransactions(super().transactions(limit))

    def run(self, operation: Operation[T], /) -> T:
        if operation.name == "renew":
            points.reach("renew.begin")
        if not isinstance(operation, _Watched):
            return super().run(operation)
        points.reach(f"{operation.what}.begin", operation.activations)
        result: T = super().run(operation)
        if operation.what != "look":
            done = _claimed(result) if operation.what == "claim" else operation.activations
            points.reach(f"{operation.what}.done", done)
        return result


class WatchedTransactions:
    """The transactions that handlers take part in, with the points of their settlement around it."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def begin(self, work: Work, worker: UUID, *, asynchronous: bool) -> WatchedStep:
        step = await self._transactions.begin(work, worker, asynchronous=asynchronous)
        return WatchedStep(step, work.activation_id)

    def close(self) -> None:
        self._transactions.close()

    async def close_async(self) -> None:
        await self._transactions.close_async()


class WatchedStep:
    """One of them."""

    def __init__(self, step: Step, activation: int) -> None:
        self._step = step
        self._activation = activation

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    async def settle(self, happening: RunEvent) -> AppliedBatch:
        points.reach("settle.begin", self._activation)
        return await self._step.settle(happening)

    async def commit(self) -> None:
        await self._step.commit()
        points.reach("settle.done", self._activation)


class WatchedBell(DramatiqBell):
    """The bell, with points around its ring."""

    def ring(self, rings: Sequence[Ring]) -> None:
        numbers = [number for ring in rings for _, number in ring.activations]
        points.reach("ring.begin", numbers)
        super().ring(rings)
        points.reach("ring.done", numbers)


class WatchedCaller(Caller):
    """The caller, with points on both sides of the handler."""

    def begin(self, work: Work) -> Call | FailedTry:
        begun = super().begin(work)
        points.reach("call.begin", work.activation_id)
        return begun

    def conclude(self, call: Call, returned: Any, *, seconds: float, stay: Stay | None) -> Succeeded | FailedTry:
        points.reach("call.end", call.work.activation_id)
        return super().conclude(call, returned, seconds=seconds, stay=stay)


class WatchedBlobs(Blobs):
    """A store of contexts, with points on both sides of what it is given to keep."""

    def put(self, blob: Blob) -> None:
        number = int(blob.key.partition("/")[2].partition("-")[0])
        points.reach("keep.begin", number)
        super().put(blob)
        points.reach("keep.done", number)


def _watched_blobs(given: str) -> WatchedBlobs:
    blobs = load_context(given)
    return WatchedBlobs(blobs.store, blobs.place, vault=seals.vault())


def _hear(rung: Callable[[str, Iterable[tuple[UUID, int]]], None]) -> Callable[[str, Any], None]:
    def heard(queue: str, hints: Iterable[tuple[UUID, int]]) -> None:
        numbers = [number for _, number in hints]
        points.reach("doorbell.heard", numbers)
        rung(queue, hints)
        points.reach("doorbell.answered", numbers)

    return heard


def put_together(orders: FaultyOrders) -> Worker:
    """The worker, as the product puts it together."""
    hop.Caller = WatchedCaller  # type: ignore[attr-defined]
    return Worker(
        cast("CNS", found(orders.app)),
        sealed_store(WatchedStore(orders.database_url), seals.vault()),
        WatchedBell(orders.broker_url),
        lambda queues, rung: DramatiqListener(orders.broker_url, queues, _hear(rung)),
        orders.settings,
        SystemEntropy(),
        [_watched_blobs(given) for given in orders.contexts],
    )


def found(name: str) -> Any:
    """What ``module:attribute`` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Channel:
    """The way to the test and back; safe for threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def tell(self, what: str, **details: Any) -> None:
        with self._lock:
            self._connection.send((what, details))

    def orders(self) -> Iterable[tuple[str, Any]]:
        """What the test says, until it is gone."""
        while True:
            try:
                yield self._connection.recv()
            except (EOFError, OSError):
                return


def main(orders: FaultyOrders, connection: Connection) -> None:
    """Serve until told to drain; end at once when the test is gone."""
    _log_to(orders.log)
    channel = _Channel(connection)
    ledger.open_ledger(orders.ledger)
    points.listen(channel.tell)
    for fault in orders.faults:
        points.arm(fault)
    for trick in orders.tricks:
        found(trick)()
    worker = put_together(orders)
    worker.start()
    channel.tell("ready")
    for what, argument in channel.orders():
        match what:
            case "arm":
                points.arm(argument)
                channel.tell("armed", fault=argument)
            case "release":
                points.release(argument)
            case "drain":
                channel.tell("drained", completely=worker.stop())
                os._exit(0)
    os._exit(1)


def _log_to(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdin.close()
    logging.basicConfig(
        level=logging.INFO,
        force=True,
        format="%(asctime)s %(process)d %(levelname)s %(name)s %(threadName)s: %(message)s",
    )
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def settings(**changes: Any) -> WorkerSettings:
    """Settings for tests: sweeps come soon, a lease outlives every stall of a busy machine.

    A test that wants a worker to be lost says so to the database, where leases are kept, or sets a short lease.
    """
    quick = WorkerSettings(
        threads=4,
        lease=timedelta(seconds=60),
        drain=timedelta(seconds=20),
        crash_backoff=timedelta(milliseconds=20),
        look_every=timedelta(milliseconds=50),
        supervisor_lease=timedelta(milliseconds=500),
        unclaimed_after=timedelta(milliseconds=100),
        litter_after=timedelta(0),
    )
    return replace(quick, **changes)

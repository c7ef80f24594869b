"""Where the fault tests happen: real servers, real worker processes, a client, a ledger, and questions to the database."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import iter_modules
from typing import Any
from uuid import UUID

import psutil
import psycopg
from psycopg.rows import dict_row

from cnstra import CNS, Orchestrator, Run, RunResult
from cnstra.orchestrator.ports import door
from cnstra.stores.blobs import RedisBlobStore
from support import seals
from support.brokers import Broker
from support.faulty_worker import FaultyOrders, main, settings
from support.ledger import Ledger
from support.points import Fault
from support.waiting import eventually

PATIENCE = float(os.environ.get("CNSTRA_TESTS_PATIENCE", "90"))
"""Seconds after which a test that waits has failed. None asserts how long anything takes."""

_IMPATIENT = f"-c lock_timeout={PATIENCE:.0f}s"

# Workers are forked from a server that has the product imported, so that a test may start many of them.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["cnstra.client", "cnstra.workers.worker", "cnstra.workers.doorbell"])


class WorkerProcess:
    """A worker in a process of its own, to be killed in every way."""

    def __init__(self, orders: FaultyOrders) -> None:
        self._log = orders.log
        self._told: list[tuple[str, dict[str, Any]]] = []
        self._channel, theirs = _processes.Pipe()
        self._process = _processes.Process(target=main, args=(orders, theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def ready(self) -> WorkerProcess:
        """Wait until it takes work."""
        self._wait_for("ready")
        return self

    def reached(self, point: str) -> list[int]:
        """Wait until it has reached a point where a fault happens; the activations that it is about. Once a fault."""
        return list(self._wait_for("reached", point=point)["activations"])

    def has_reached(self, point: str) -> bool:
        """Whether it has reached a point where a fault happens; once a fault."""
        return self._told_of("reached", point=point) is not None

    def arm(self, fault: Fault) -> None:
        """Let a fault happen to it, from now on."""
        self._channel.send(("arm", fault))
        self._wait_for("armed", fault=fault)

    def release(self, point: str) -> None:
        """Let it go on from a point at which it waits."""
        self._channel.send(("release", point))

    def kill(self) -> None:
        """SIGKILL; returns when nothing of it is left."""
        os.kill(self.pid, signal.SIGKILL)
        self.died()

    def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    @property
    def is_frozen(self) -> bool:
        """Whether it is stopped."""
        try:
            return self.alive and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:  # it has ended meanwhile
            return False

    def frozen(self) -> None:
        """Wait until it has stopped."""
        eventually(lambda: self.is_frozen, PATIENCE, what=f"worker process {self.pid} is stopped")

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def died(self) -> int:
        """Wait until it has ended; its exit code, negative for a signal."""
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, f"worker process {self.pid} does not end\n{self.log()}"
        return self._process.exitcode

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def drain(self) -> bool:
        """Let it end in good order; whether all of its handlers did."""
        self._channel.send(("drain", None))
        completely = self._wait_for("drained")["completely"]
        self.died()
        return bool(completely)

    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text() if self._log.exists() else ""

    def close(self) -> None:
        """Leave nothing of it behind."""
        if self._process.is_alive():
            os.kill(self.pid, signal.SIGKILL)
        self._process.join()
        self._process.close()
        self._channel.close()

    def _wait_for(self, what: str, **details: Any) -> dict[str, Any]:
        def told() -> tuple[dict[str, Any]] | None:
            said = self._told_of(what, **details)
            if said is not None:
                return (said,)
            assert self._process.is_alive(), f"worker process {self.pid} ended before {what} {details}"
            return None

        try:
            found = eventually(told, PATIENCE, what=f"{what} {details} of worker process {self.pid}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None
        return found[0] if found else {}

    def _told_of(self, what: str, **details: Any) -> dict[str, Any] | None:
        self._hear(self._channel)
        for place, (kind, said) in enumerate(self._told):
            if kind == what and details.items() <= said.items():
                return self._told.pop(place)[1]
        return None

    def _hear(self, channel: Connection) -> None:
        try:
            while channel.poll():
                self._told.append(channel.recv())
        except (EOFError, OSError):
            pass


class Stage:
    """One test's database, broker, ledger and workers."""

    def __init__(self, database_url: str, broker: Broker, folder: Path, redis_url: str) -> None:
        self.contexts_url: str | None = None
        """A Redis that keeps the contexts of all runs, instead of the database; as seen by workers."""
        self.database_url = database_url
        self.workers_url = self.clients_url = database_url
        """How workers and clients reach the database, and as whom; the test's own questions do not go this way."""
        self.broker = broker
        self.broker_url = broker.url
        self.redis_url = redis_url
        """A Redis of the test's own, that may be the broker, too."""
        self._doors: set[str] = set()
        self.ledger = Ledger(folder / "ledger")
        self.workers: list[WorkerProcess] = []
        self._folder = folder
        self._clients: list[Orchestrator] = []
        self._connection: psycopg.Connection[Any] | None = None

    def start(
        self,
        cns: CNS,
        *faults: Fault,
        database_url: str | None = None,
        broker_url: str | None = None,
        tricks: Sequence[str] = (),
        contexts: Sequence[str] | None = None,
        **changes: Any,
    ) -> WorkerProcess:
        """A worker that takes work. The faults may happen to it from its first claim on; see also its ``arm``.

        The graph must stand in a module of ``support.graphs``, in ``support.saga_graphs`` or in ``support.bank``; ``changes`` are
        of the worker's settings. ``contexts`` are the stores of contexts that it has, by default that of the stage, if there is
        one.
        """
        worker = self.launch(
            cns,
            *faults,
            database_url=database_url,
            broker_url=broker_url,
            tricks=tricks,
            contexts=contexts,
            **changes,
        )
        return worker.ready()

    def launch(
        self,
        cns: CNS,
        *faults: Fault,
        database_url: str | None = None,
        broker_url: str | None = None,
        tricks: Sequence[str] = (),
        contexts: Sequence[str] | None = None,
        **changes: Any,
    ) -> WorkerProcess:
        """The same, without waiting for it: for one that may die as soon as it takes work."""
        self._doors.update(doors_of(cns))
        worker = WorkerProcess(
            FaultyOrders(
                app=_name_of(cns),
                database_url=database_url or self.workers_url,
                broker_url=broker_url or self.broker_url,
                ledger=self.ledger.path,
                log=self._folder / f"worker-{len(self.workers) + 1}.log",
                settings=settings(**changes),
                faults=faults,
                tricks=tuple(tricks),
                contexts=tuple(self._contexts if contexts is None else contexts),
            )
        )
        self.workers.append(worker)
        return worker

    def client(self, cns: CNS | None, *, database_url: str | None = None) -> Orchestrator:
        """A client; closed at the end."""
        self._doors.update(() if cns is None else doors_of(cns))
        client = Orchestrator(
            cns,
            database=database_url or self.clients_url,
            broker=self.broker_url,
            context=None if self.contexts_url is None else RedisBlobStore.from_url(self.redis_url),
            codec=seals.codec(),
        )
        self._clients.append(client)
        return client

    def lose_doorbells(self) -> None:
        """The broker forgets all that it has, of every graph of this stage."""
        self.broker.forget(self._doors)

    @property
    def _contexts(self) -> list[str]:
        return [] if self.contexts_url is None else [self.contexts_url]

    def ended(self, run: Run) -> RunResult:
        """Wait until the run has ended; when it does not, say what everybody knows of it."""
        try:
            return run.wait(PATIENCE)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.report(run.id)}") from None

    def completed(self, run: Run) -> RunResult:
        """Wait until the run has ended, which must be well."""
        result = self.ended(run)
        assert result.status == "completed", f"{result}\n{self.report(run.id)}"
        return result

    def all_completed(self, runs: Sequence[Run]) -> None:
        """Wait until all of these runs have ended, which must be well."""
        ids = [run.id for run in runs]
        left = "select run_id, status from cnstra.run where run_id = any(%s) and status <> 'completed' order by finished_at"

        def ended() -> bool:
            waiting = self.rows(left + " limit 1", ids)
            assert not waiting or waiting[0]["status"] in ("running", "waiting"), self.report(waiting[0]["run_id"])
            return not waiting

        try:
            eventually(ended, PATIENCE, what=f"all of {len(ids)} runs have ended")
        except AssertionError as error:
            found = self.rows(left + " limit 1", ids)
            raise AssertionError(f"{error}\n{self.report(found[0]['run_id'] if found else ids[0])}") from None

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Ask the database."""
        try:
            return self._rows(query, parameters)
        except psycopg.OperationalError:  # it was restarted meanwhile
            self._forget_connection()
            return self._rows(query, parameters)

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
        if self._connection is None:
            self._connection = psycopg.connect(self.database_url, autocommit=True, options=_IMPATIENT)
        with self._connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description is not None else []

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def row(self, query: str, *parameters: Any) -> dict[str, Any]:
        """Ask for exactly one row."""
        (row,) = self.rows(query, *parameters)
        return row

    def activation(self, run: Run, number: int) -> dict[str, Any]:
        """One activation, as users see it."""
        return self.row("select * from cnstra.activations where run_id = %s and activation_id = %s", run.id, number)

    def lose(self, worker: WorkerProcess) -> None:
        """Let the worker's lease run out now, instead of waiting for it, and its office as supervisor."""
        self.rows(
            "update cnstra.supervisor s set until = '-infinity' from cnstra.worker w where w.pid = %s and s.worker = w.worker",
            worker.pid,
        )
        lost = self.rows(
            "update cnstra.worker set expires_at = '-infinity' where pid = %s returning worker", worker.pid
        )
        assert lost, f"worker process {worker.pid} has no lease"

    def report(self, run_id: UUID) -> str:
        """All that is known of a run, for whoever has to find out why a test failed."""
        tables = ("run", "activation", "try", "context_entry", "expectation", "letter", "scatter", "member")
        lines = [
            f"{table}: {row['text']}"
            for table in tables
            for row in self.rows(f"select t::text as text from cnstra.{table} t where run_id = %s order by t", run_id)
        ]
        lines += [f"worker: {row['text']}" for row in self.rows("select w::text as text from cnstra.worker w")]
        lines += [f"log of {worker.pid}:\n{worker.log()[-6000:]}" for worker in self.workers]
        return "\n".join(lines)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        for client in self._clients:
            client.close()
        self._forget_connection()


def _name_of(cns: CNS) -> str:
    from support import bank, graphs, saga_graphs

    subjects = (import_module(f"{graphs.__name__}.{found.name}") for found in iter_modules(graphs.__path__))
    for module in (*subjects, saga_graphs, bank):
        for name, value in vars(module).items():
            if value is cns:
                return f"{module.__name__}:{name}"
    raise LookupError(
        f"{cns} stands in no module of support.graphs, where worker processes find their graphs, nor beside them"
    )


def doors_of(cns: CNS) -> list[str]:
    """Where doorbells of this graph are rung."""
    return [door(cns.durable_name, queue) for queue in cns.queues]


@contextmanager
def on_stage(database_url: str, broker: Broker, folder: Path, redis_url: str) -> Iterator[Stage]:
    """A stage for the length of a block."""
    stage = Stage(database_url, broker, folder, redis_url)
    try:
        yield stage
    finally:
        stage.close()

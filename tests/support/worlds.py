"""Stores of runs under test, each with a clock that the test moves, and the words in which tests speak to them.

A ``World`` has a store, and makes the submits, workers, claims and events of a test. ``MemoryWorld`` and ``PostgresWorld``
differ in how they make operations meet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import psycopg
from msgspec.structs import replace

from cnstra.orchestrator.context import Context
from cnstra.orchestrator.footholds import without_footholds
from cnstra.orchestrator.machine.events import (
    AttemptDue,
    CancelAsked,
    DeadlineDue,
    Due,
    ExpectationDue,
    Expected,
    FailedTry,
    Gatherer,
    GaveWay,
    Lost,
    PauseAsked,
    ResumeAsked,
    RetryAsked,
    Returned,
    Scattered,
    Sent,
    Succeeded,
)
from cnstra.orchestrator.machine.records import Claimed, Compensable, Failure, Late, Output, Target
from cnstra.orchestrator.ports import uuid7
from cnstra.orchestrator.run_context import Identity, RunContext, view_of
from cnstra.orchestrator.sealed_store import SealedStore, sealed_store
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.slots import OnStale
from cnstra.orchestrator.store import (
    Accepted,
    Applied,
    AppliedBatch,
    ClaimRequest,
    Findings,
    Operation,
    RunEvent,
    Store,
    Submission,
    Work,
    WorkerInfo,
)
from cnstra.stores.memory import MemoryStore
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.transactions import TransactionRunner
from support import seals
from support.clocks import DATABASE_CLOCK, DatabaseClock, ManualClock
from support.waiting import eventually

T = TypeVar("T")
Handler = Callable[[Context[Any, Any]], object]

GRAPH = "shop"
VERSION = "v1"
QUEUE = "default"
NEURONS = ("stock", "bank", "ship", "report")
EVERYTHING = tuple((neuron, collateral) for collateral in ("order", "answer", "result") for neuron in NEURONS)
LEASE = 10.0
BOOM = Failure(error_type="shop.Boom", error="it broke", traceback="Traceback: it broke")
UNDONE = Failure(error_type="cnstra.StoreUnavailable", error="its transaction was undone")
GONE = Failure(error_type="cnstra.WorkerLost", error="its worker died")

_random = count(1)


def target(
    neuron: str,
    *,
    payload: str = "{}",
    queue: str = QUEUE,
    here: bool = False,
    ordinal: int = 0,
    delay: timedelta | None = None,
    at: datetime | None = None,
    compensable: Compensable = Compensable.NO,
    collateral: str = "order",
    limited: bool = False,
) -> Target:
    """A dendrite of ``neuron``, on the collateral ``order`` by default."""
    return Target(
        ordinal=ordinal,
        neuron=neuron,
        dendrite="handle",
        collateral=collateral,
        queue=queue,
        payload=payload,
        here=here,
        delay=delay,
        at=at,
        compensable=compensable,
        limited=limited,
    )


def bare(*works: Work) -> tuple[Work, ...]:
    """Works without their footholds: who is given a claim again may know more of its run by then, or less."""
    return tuple(replace(work, foothold=None) for work in works)


# -- events ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Hop:
    """One try of a claimed activation: its handler's context, and the event that comes of it."""

    work: Work
    context: RunContext[Any, Any]
    on_stale: OnStale = OnStale.CONFLICT
    targets: tuple[Target, ...] = ()
    outputs: tuple[Output, ...] = ()
    compensable: Compensable = Compensable.NO
    expected: tuple[Expected, ...] = ()
    scattered: tuple[Scattered, ...] = ()
    results: tuple[Output, ...] = ()

    def event(self) -> RunEvent:
        """The hop as a settlement; anew after ``take_in``."""
        return RunEvent(
            run_id=self.work.run_id,
            work=self.work,
            event=Succeeded(
                fence=self.work.fence,
                targets=self.targets,
                outputs=self.outputs,
                changes=view_of(self.context).changes(self.on_stale),
                version_read=self.work.snapshot.version,
                compensable=self.compensable,
                expected=self.expected,
                scattered=self.scattered,
                results=self.results,
            ),
        )

    def take_in(self, applied: Applied) -> RunEvent:
        """The hop again, on top of what others wrote meanwhile."""
        view_of(self.context).rebase(applied.newest)
        return self.event()


def hop(
    work: Work,
    handler: Handler = lambda context: None,
    *,
    on_stale: OnStale = OnStale.CONFLICT,
    targets: Sequence[Target] = (),
    outputs: Sequence[str] = (),
    compensable: Compensable = Compensable.NO,
    expected: Sequence[Expected] = (),
    scattered: Sequence[Scattered] = (),
    results: Sequence[str] = (),
) -> Hop:
    """Call a handler with the context of claimed work. ``outputs`` are payloads of signals that nobody hears; ``results`` too,
    of signals on ``result``, which gathers collect.
    """
    context = context_of(work)
    handler(context)
    ends = [
        Output(ordinal=ordinal, collateral=collateral, payload=payload)
        for ordinal, (collateral, payload) in enumerate(
            [*(("told", payload) for payload in outputs), *(("result", payload) for payload in results)],
            start=len(targets),
        )
    ]
    return Hop(
        work,
        context,
        on_stale,
        tuple(targets),
        tuple(ends),
        compensable,
        tuple(expected),
        tuple(scattered),
        tuple(output for output in ends if output.collateral == "result"),
    )


def context_of(work: Work) -> RunContext[Any, Any]:
    """The context that the handler of claimed work is given."""
    return RunContext(
        work.snapshot,
        Identity(
            run_id=str(work.run_id),
            activation_id=work.activation_id,
            neuron=work.neuron,
            attempt=work.attempt,
            try_number=work.try_number,
            undo=work.undo,
        ),
    )


def succeeded(work: Work, handler: Handler = lambda context: None, **options: Any) -> RunEvent:
    """The handler returned."""
    return hop(work, handler, **options).event()


def failed(
    work: Work,
    *,
    retry_after: float | None = None,
    revive_after: float | None = None,
    compensable: Compensable = Compensable.NO,
    failure: Failure = BOOM,
) -> RunEvent:
    """The handler raised: ``retry_after`` is what its policy decided, ``revive_after`` what the run's did."""
    event = FailedTry(
        fence=work.fence,
        failure=failure,
        retry_after=retry_after,
        revive_after=revive_after,
        compensable=compensable,
    )
    return RunEvent(run_id=work.run_id, event=event)


def gave_way(work: Work, *, backoff: float | None = None) -> RunEvent:
    """The handler's own transaction was undone: by a conflict, or, with a backoff, by what passes."""
    return RunEvent(run_id=work.run_id, event=GaveWay(fence=work.fence, failure=UNDONE, backoff=backoff))


def returned(work: Work) -> RunEvent:
    """The worker gives it back uncalled."""
    return RunEvent(run_id=work.run_id, event=Returned(fence=work.fence))


def lost(run_id: UUID, fence: Claimed, *, backoff: float = 1.0) -> RunEvent:
    """The worker died."""
    return RunEvent(run_id=run_id, event=Lost(fence=fence, failure=GONE, backoff=backoff))


def due(run_id: UUID, activation_id: int) -> RunEvent:
    return RunEvent(run_id=run_id, event=Due(activation_id=activation_id))


def attempt_due(run_id: UUID) -> RunEvent:
    return RunEvent(run_id=run_id, event=AttemptDue())


def retry_asked(run_id: UUID, *, attempt: int | None = None) -> RunEvent:
    """Somebody asks for the next attempt: after this one, or after whichever it is."""
    return RunEvent(run_id=run_id, event=RetryAsked(attempt=attempt))


def cancel_asked(run_id: UUID, *, compensate: bool = False) -> RunEvent:
    return RunEvent(run_id=run_id, event=CancelAsked(compensate=compensate))


def pause_asked(run_id: UUID) -> RunEvent:
    return RunEvent(run_id=run_id, event=PauseAsked())


def resume_asked(run_id: UUID) -> RunEvent:
    return RunEvent(run_id=run_id, event=ResumeAsked())


def deadline_due(run_id: UUID) -> RunEvent:
    return RunEvent(run_id=run_id, event=DeadlineDue())


def sent(run_id: UUID, payload: str = "1", *, collateral: str = "answer", idempotency_key: str = "") -> RunEvent:
    """Somebody sends a signal to the run; each call another one, unless it has a key."""
    key = idempotency_key or f"sent {next(_random)}"
    return RunEvent(run_id=run_id, event=Sent(collateral=collateral, payload=payload, idempotency_key=key))


def expectation_due(run_id: UUID, expectation_id: int) -> RunEvent:
    return RunEvent(run_id=run_id, event=ExpectationDue(expectation_id=expectation_id))


def expects(
    *neurons: str,
    key: str | None = None,
    timeout: timedelta | None = None,
    late: Sequence[Target] = (),
    told: str = "",
    result: str = "",
) -> Expected:
    """A wait for a signal on ``answer``, which is to start these neurons. ``told`` is an output where none comes in time, and
    ``result`` one that gathers collect.
    """
    outputs = (Output(ordinal=30, collateral="told", payload=told),) if told else ()
    results = (Output(ordinal=31, collateral="result", payload=result),) if result else ()
    return Expected(
        collateral="answer",
        targets=tuple(target(neuron, collateral="answer") for neuron in neurons or ("ship",)),
        key=key,
        timeout=timeout,
        late=Late(targets=tuple(late), outputs=(*outputs, *results), results=results),
    )


def scatter(
    *payloads: str,
    to: Sequence[str] = ("stock",),
    gather: Sequence[str] = ("report",),
    limit: int | None = None,
    failures: bool = False,
    named: bool = True,
    collateral: str = "order",
    limited: bool = False,
    here: int = 0,
) -> Scattered:
    """A fan-out on ``order`` to these neurons; the gathers collect signals on ``result``. Of the first ``here`` members what
    is for the first neuron is to stay with the worker that settles.
    """
    return Scattered(
        ordinal=50,
        collateral=collateral,
        payloads=payloads,
        targets=tuple(
            target(neuron, ordinal=50, payload="null", limited=limited, here=here > 0 and not place)
            for place, neuron in enumerate(to)
        ),
        gatherers=tuple(
            Gatherer(target=target(neuron, collateral="result", ordinal=50), named=named, failures=failures)
            for neuron in gather
        ),
        limit=limit,
        here=here,
    )


def all_applied(store: Store, events: Sequence[RunEvent], batch: AppliedBatch | None = None) -> AppliedBatch:
    """Apply events, and those again that were left, as a worker does; or the rest of a batch that was."""
    batch = batch or store.run(store.apply(events))
    if not batch.left:
        return batch
    rest = store.run(store.apply(without_footholds(events[place] for place in batch.left)))
    answers = list(batch.answers)
    for place, answer in zip(batch.left, rest.answers, strict=True):
        answers.insert(place, answer)
    return AppliedBatch(answers=tuple(answers), rings=batch.rings + rest.rings)


class Counted(NamedTuple):
    """How far a scatter is: its members, and of each how much is outstanding, and has failed."""

    started: int
    running: int
    ended: int
    closed: bool
    members: list[tuple[int, int]]


# -- the world -------------------------------------------------------------------------------------------------


class World:
    """A store, its clock, and what tests ask of them."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    # clients

    def run_id(self) -> UUID:
        """A new run id, of the clock's time."""
        return uuid7(int(self.clock.now().timestamp() * 1000), next(_random).to_bytes(10))

    def submission(self, *neurons: str | Target, **changes: Any) -> Submission:
        """A run that begins with an activation of each of these neurons."""
        targets = tuple(target(one) if isinstance(one, str) else one for one in neurons or ("stock",))
        submission = Submission(
            run_id=self.run_id(),
            graph=GRAPH,
            graph_version=VERSION,
            pinned=False,
            collateral="order",
            payload="{}",
            targets=targets,
        )
        return replace(submission, **changes)

    def accept(self, *submissions: Submission) -> list[Accepted]:
        accepted, _ = self.store.run(self.store.submit(submissions))
        return accepted

    def submit(self, *neurons: str | Target, **changes: Any) -> UUID:
        """Keep such a run; its id."""
        submission = self.submission(*neurons, **changes)
        self.accept(submission)
        return submission.run_id

    def row(self, run_id: UUID) -> dict[str, Any]:
        """The run as users see it."""
        row = self.store.run(self.store.run_row(run_id))
        assert row is not None
        return dict(row)

    def status(self, run_id: UUID) -> str | None:
        return self.store.run(self.store.run_status(run_id))

    def activations(self, run_id: UUID) -> dict[int, dict[str, Any]]:
        """The run's activations as users see them, by number."""
        rows = self.store.run(self.store.activation_rows(run_id))
        return {row["activation_id"]: dict(row) for row in rows}

    def groups(self, run_id: UUID) -> dict[int, Counted]:
        """The run's scatters as they are kept, with their members, by number."""
        raise NotImplementedError

    def values(self, run_id: UUID, version: int | None = None) -> Any:
        """The run's shared value at a version, the newest by default."""
        snapshot = self.store.run(self.store.context_at(run_id, version))
        assert snapshot is not None
        identity = Identity(run_id=str(run_id), activation_id=0, neuron="nobody", attempt=1, try_number=1)
        return RunContext[Any, Any](snapshot, identity).get()

    # workers

    def worker(self, *dendrites: tuple[str, str], **changes: Any) -> Worker:
        """A worker that has begun its lease; it knows everything by default."""
        info = WorkerInfo(
            worker=self.run_id(),
            host="here",
            pid=7,
            graph=GRAPH,
            graph_version=VERSION,
            queues=(QUEUE,),
            dendrites=dendrites or EVERYTHING,
            lease=timedelta(seconds=LEASE),
            compensations=dendrites or EVERYTHING,
        )
        worker = Worker(self.store, replace(info, **changes))
        self.store.run(self.store.register(worker.info))
        return worker

    def apply(self, *events: RunEvent) -> AppliedBatch:
        return all_applied(self.store, events)

    def settle(self, event: RunEvent) -> Applied:
        """Apply one event; what became of it."""
        (answer,) = self.apply(event).answers
        return answer

    # supervisors

    def look(self, worker: Worker, *, lease: float = 2.0, unclaimed_after: float = 1.0, limit: int = 100) -> Findings:
        return self.store.run(
            self.store.look(worker.info.worker, timedelta(seconds=lease), timedelta(seconds=unclaimed_after), limit)
        )

    def lift_limits(self, limit: int = 100) -> None:
        self.store.run(self.store.lift_limits(limit))

    def set_unknown_aside(self, unclaimed_after: float = 1.0, limit: int = 100) -> None:
        self.store.run(self.store.set_unknown_aside(timedelta(seconds=unclaimed_after), limit))

    def fire_everything(self, worker: Worker) -> None:
        """Tell the store of all whose time has come."""
        found = self.look(worker)
        for run_id, number in found.due:
            self.fire(run_id, number)
        for run_id, number in found.expectations_due:
            self.settle(expectation_due(run_id, number))

    def fire(self, run_id: UUID, activation_id: int) -> Applied:
        """Tell the store that a scheduled activation's time may have come."""
        return self.settle(due(run_id, activation_id))

    # what differs

    def at_once(self, *operations: Operation[T], hold: str = "") -> list[T]:
        """Carry operations out so that they meet. ``hold`` locks, in a database, what all of them need."""
        raise NotImplementedError

    def replayed(self, operation: Operation[T]) -> T:
        """Carry an operation out, lose its reply, and carry it out again, as a runner does."""
        raise NotImplementedError


@dataclass(slots=True)
class Worker:
    """One incarnation of a worker process."""

    store: Store
    info: WorkerInfo
    nonces: Iterator[int] = field(default_factory=lambda: iter(_random))

    def request(self, limit: int = 100, **changes: Any) -> ClaimRequest:
        request = ClaimRequest(
            worker=self.info.worker,
            nonce=next(self.nonces),
            graph=self.info.graph,
            graph_version=self.info.graph_version,
            queues=self.info.queues,
            dendrites=self.info.dendrites,
            limit=limit,
            compensations=self.info.compensations,
            limits=self.info.limits,
        )
        return replace(request, **changes)

    def claim(self, limit: int = 100, **changes: Any) -> list[Work]:
        return self.store.run(self.store.claim(self.request(limit, **changes)))

    def claim_one(self, **changes: Any) -> Work:
        """Claim what must be the only claimable activation."""
        (work,) = self.claim(**changes)
        return work

    def claim_by_neuron(self) -> dict[str, Work]:
        """Claim everything that there is, each of another neuron."""
        works = self.claim()
        found = {work.neuron: work for work in works}
        assert len(found) == len(works)
        return found


class MemoryWorld(World):
    """The store in memory. Operations that meet wait for its lock."""

    def __init__(self, *, sealed: bool = False) -> None:
        clock = ManualClock()
        self.memory = MemoryStore(clock.now)
        super().__init__(sealed_store(self.memory, Vault(seals.CODEC) if sealed else seals.vault()), clock)

    def groups(self, run_id: UUID) -> dict[int, Counted]:
        state = self.memory._state
        members = [row.member for row in state.members[run_id].values()]
        return {
            number: Counted(
                group.started,
                group.running,
                group.ended,
                group.closed,
                [(one.outstanding, one.failed) for one in members if one.group_id == number],
            )
            for number, group in state.groups[run_id].items()
        }

    def at_once(self, *operations: Operation[T], hold: str = "") -> list[T]:
        with self.memory._lock:
            threads = Threads([partial(self.store.run, one) for one in operations])
        return threads.results()

    def replayed(self, operation: Operation[T]) -> T:
        self.store.run(operation)
        return self.store.run(operation)


class PostgresWorld(World):
    """The store in Postgres. Operations that meet wait for locks, all at the same time, each on its own connection."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.database_clock = DatabaseClock(database_url)
        self.postgres = PostgresStore(database_url, clock=DATABASE_CLOCK)
        super().__init__(sealed_store(self.postgres, seals.vault()), self.database_clock)

    def groups(self, run_id: UUID) -> dict[int, Counted]:
        query = (
            "select s.group_id, s.started, s.running, s.ended, s.closed, array(select array[m.outstanding, m.failed] "
            "from cnstra.member m where m.run_id = s.run_id and m.group_id = s.group_id order by m.member) "
            "from cnstra.scatter s where s.run_id = %s"
        )
        with self.connect() as connection:
            return {
                row[0]: Counted(row[1], row[2], row[3], row[4], [(one, other) for one, other in row[5]])
                for row in connection.execute(query, [run_id])
            }

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database_url, autocommit=True)

    @contextmanager
    def held(self, statement: str) -> Iterator[psycopg.Connection[Any]]:
        """Hold what a statement locks, in a transaction that is undone at the end."""
        with self.connect() as connection:
            connection.execute("begin")
            connection.execute(statement.encode())
            yield connection
            connection.execute("rollback")

    def waiting(self) -> list[int]:
        """The backends of the store that wait for a lock."""
        with self.connect() as connection:
            rows = connection.execute(
                "select pid from pg_stat_activity where datname = current_database() "
                "and application_name = 'cnstra' and wait_event_type = 'Lock'"
            ).fetchall()
        return [pid for (pid,) in rows]

    def at_once(self, *operations: Operation[T], hold: str = "") -> list[T]:
        with self.held(hold or "select from cnstra.run order by run_id for no key update"):
            threads = Threads([partial(self.store.run, one) for one in operations])
            eventually(lambda: len(self.waiting()) == len(operations), what="all operations wait for locks")
        return threads.results()

    @contextmanager
    def under_way(self, operation: Operation[T]) -> Iterator[T]:
        """Carry an operation out in a transaction that commits at the end of the block: until then it holds its locks."""
        runner = TransactionRunner(self.connect, statements(DATABASE_CLOCK))
        with self.connect() as connection, connection.transaction():
            yield self._steps(runner, connection, operation)

    def _steps(
        self, runner: TransactionRunner, connection: Any, operation: Operation[T], *, repeated: bool = False
    ) -> T:
        """What an operation comes to in one transaction, where it is sealed, too."""

        def run(one: Any) -> Any:
            return runner.steps(connection, one, repeated=repeated)

        return self.store._carried_out(operation, run) if isinstance(self.store, SealedStore) else run(operation)

    @contextmanager
    def in_line(self, run_id: UUID, *operations: Operation[T]) -> Iterator[Threads]:
        """Let operations wait for a run, in this order, while the block lasts; then they are let in, in the same order."""
        with self.held(f"select from cnstra.run where run_id = '{run_id}' for no key update"):
            threads = Threads(())
            for place, operation in enumerate(operations, start=1):
                threads.start(partial(self.store.run, operation))
                eventually(lambda: len(self.waiting()) == place, what="it waits for the run")  # noqa: B023 - called at once
            yield threads
        threads.results()

    def replayed(self, operation: Operation[T]) -> T:
        self.store.run(operation)
        runner = TransactionRunner(self.connect, statements(DATABASE_CLOCK))
        with self.connect() as connection:
            return self._steps(runner, connection, operation, repeated=True)

    def close(self) -> None:
        self.store.close()
        self.database_clock.close()


class Threads:
    """Calls under way, each on a thread; their results, or the first error."""

    def __init__(self, calls: Sequence[Callable[[], Any]]) -> None:
        self._calls: list[Callable[[], Any]] = []
        self._results: list[Any] = []
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        for call in calls:
            self.start(call)

    def start(self, call: Callable[[], Any]) -> None:
        """Begin another one."""
        self._calls.append(call)
        self._results.append(None)
        self._threads.append(threading.Thread(target=self._call, args=[len(self._threads)]))
        self._threads[-1].start()

    def _call(self, place: int) -> None:
        try:
            self._results[place] = self._calls[place]()
        except BaseException as error:
            self._errors.append(error)

    @property
    def running(self) -> bool:
        """Whether any of them still is."""
        return any(thread.is_alive() for thread in self._threads)

    def results(self) -> list[Any]:
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self._results

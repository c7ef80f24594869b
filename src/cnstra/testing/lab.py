"""Labs: a graph's durable runs in the memory of a test, with a clock that the test moves.

``Lab`` and ``AsyncLab`` are clients, of the same names and types as ``Orchestrator`` and ``AsyncOrchestrator``, and the workers,
the supervisor and the time in one. Nothing runs by itself: no thread, no server, no real time. What happens depends on the
graph, the test and the seeds alone.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any
from uuid import UUID

from typing_extensions import Unpack

from cnstra.client import AsyncOrchestrator, Orchestrator
from cnstra.orchestrator.choosing import ChoiceOptions, OpenChoiceOptions
from cnstra.orchestrator.codecs import Codec
from cnstra.orchestrator.flows import Flows
from cnstra.orchestrator.graph import Signal
from cnstra.orchestrator.retention import RULES
from cnstra.orchestrator.sealed_store import sealed_store
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.stimulation import CNS
from cnstra.orchestrator.submitting import ListOptions, ManyOptions, SubmitOptions
from cnstra.stores.memory import MemoryStore
from cnstra.testing.bench import Bench
from cnstra.testing.calls import HandlerCall, Which
from cnstra.testing.clock import LabClock, LabEntropy
from cnstra.testing.crew import Crew
from cnstra.testing.driving import AsyncDriver, BlockingDriver, Drive
from cnstra.testing.errors import LabError
from cnstra.testing.faults import CrashPoint, Failing, When
from cnstra.testing.flows import AsyncLabWorld, LabFlows, LabWorld
from cnstra.testing.runs import AsyncLabRun, LabRun
from cnstra.testing.services import OWN, with_services
from cnstra.testing.weather import Calm, Storm
from cnstra.workers.settings import WorkerSettings

CALL_LIMIT = 100_000


class _Controls(ABC):
    """What a test says to a lab, in both colours: none of it runs anything."""

    def __init__(
        self,
        cns: CNS,
        *,
        services: Any = OWN,
        codec: Codec | None = None,
        seed: int | None = None,
        start: datetime | None = None,
        lease: timedelta = timedelta(seconds=15),
        crash_backoff: timedelta = timedelta(seconds=1),
        poison_limit: int = 5,
        call_limit: int = CALL_LIMIT,
    ) -> None:
        settings = WorkerSettings(lease=lease, crash_backoff=crash_backoff, poison_limit=poison_limit)
        self._cns = with_services(cns, services)
        self._clock = LabClock(start)
        self._entropy = LabEntropy(random.SystemRandom() if seed is None else random.Random(seed), self._clock)
        self._memory = sealed_store(MemoryStore(self._clock.now), None if codec is None else Vault(codec))
        self._memory.run(self._memory.set_retention(dict.fromkeys(RULES)))
        crew = Crew(self._cns, self._memory, self._clock, self._entropy, settings)
        chance = random.Random(f"policies {seed}")
        self._bench = Bench(self._cns, self._memory, self._clock, crew, settings, chance, call_limit)
        self._drive = Drive(self._bench, crew, self._clock, self._memory)
        self._flows: Flows = LabFlows(self._cns, self._memory, self._world(), self._entropy)

    @abstractmethod
    def _world(self) -> LabWorld | AsyncLabWorld:
        """Where the client's calls run."""

    @property
    def now(self) -> datetime:
        """The lab's time, aware. Give it to handlers that ask for the time, in the place of the system's clock."""
        return self._clock.now()

    def calls(self, which: Which = None, /) -> list[HandlerCall]:
        """The calls of handlers so far, of all runs, in order; only a neuron's, or a dendrite's, where one is given."""
        return self._bench.journal.calls(which)

    # -- what goes wrong ---------------------------------------------------------------------------------------

    def fail(
        self,
        which: Which,
        error: BaseException | Callable[[], BaseException],
        *,
        nth: int = 1,
        times: int = 1,
        when: When | None = None,
    ) -> None:
        """Let ``times`` tries of a neuron fail with an error, from the ``nth`` on, without a call of the handler.

        ``which`` is a neuron, its name, a dendrite, or None for any; ``when`` says which of its calls count, by the
        ``HandlerCall``. ``error`` may be an exception, its class, or what makes one. The policies decide what follows.

        Raises ``LabError`` for what is not in the graph.
        """
        self._bench.faults.add(which, Failing(error), nth=nth, times=times, when=when)

    def crash(
        self,
        which: Which,
        at: CrashPoint = "after_call",
        *,
        nth: int = 1,
        times: int = 1,
        when: When | None = None,
    ) -> None:
        """Let the worker die in ``times`` calls of a neuron, from the ``nth`` on.

        ``at``: ``before_call``; ``after_call``, before anything was committed; ``after_commit``, before the worker learns of
        it. What it held is tried again after its lease and a backoff: move the clock, or ``wait``. The others are those of
        ``fail``.

        Raises ``LabError`` for what is not in the graph, and a point that there is not.
        """
        self._bench.faults.add(which, at, nth=nth, times=times, when=when)

    def stall(self, which: Which, *, nth: int = 1, times: int = 1, when: When | None = None) -> None:
        """Let the worker stand still after ``times`` calls of a neuron, until it was taken for lost; then it tries to settle.

        Another worker has the step by then, so what the stalled one did is refused. The arguments are those of ``fail``.
        """
        self._bench.faults.add(which, "stall", nth=nth, times=times, when=when)

    def storm(self, seed: int | None = None, *, crash: float = 0.2, stall: float = 0.1) -> None:
        """From now on several workers run hops in any order, and die and stall at random; until ``calm``.

        ``crash`` and ``stall`` are chances in each call. The same seed is the same storm; without one a new one is drawn. An
        error that leaves the lab's ``with`` names it. No step loses so many workers that it fails with ``Poisoned``.

        Raises ``LabError`` for what is no chance.
        """
        drawn = random.SystemRandom().randrange(2**32) if seed is None else seed
        self._bench.weather = Storm(drawn, crash, stall)

    def calm(self) -> None:
        """End the storm: one worker, one hop at a time, and nothing goes wrong but what is asked for."""
        self._bench.weather = Calm()

    # -- pieces ------------------------------------------------------------------------------------------------

    def _after(self, by: timedelta) -> datetime:
        if by < timedelta(0):
            raise LabError(f"advance({by!r}): time does not go back")
        return self._clock.now() + by

    def _explain(self, error: BaseException | None) -> None:
        """Name the storm to an error that leaves the lab."""
        if error is not None and isinstance(self._bench.weather, Storm):
            blows = "".join(f"\n  {blow}" for blow in self._bench.blows) or " none"
            error.add_note(f"in {self._bench.weather.name}, which does the same again; its blows:{blows}")


class Lab(_Controls, Orchestrator):
    """Durable runs of a graph in memory, driven by the test; a client like ``Orchestrator``, in whose place it may stand.

    ``services`` take the place of the graph's own. ``seed`` is that of ids and of the jitter of backoffs; without one, ids are
    new in each lab, so that several may share what remembers idempotency keys, and all else is the same. The clock stands at
    ``start``, an aware datetime, by default now, until ``advance`` or ``wait`` moves it. ``lease``, ``crash_backoff`` and
    ``poison_limit`` are those of workers. ``codec`` seals its data, as that of an ``Orchestrator``. ``call_limit`` ends a graph
    that never comes to rest.

    Handlers are called in the test's own thread, async ones on an event loop of the lab; where a loop runs already, that is for
    ``AsyncLab``. Use it in a ``with``, or ``close`` it. Not to be shared by threads.

    Raises ``GraphError`` for a graph without a name, ``LabError`` for a start without a time zone.
    """

    def _world(self) -> LabWorld:
        self._driver = BlockingDriver(self._cns)
        return LabWorld(self._memory, self._clock, self._drive, self._driver)

    # -- driving -----------------------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Run what is ready, and what follows from it, until nothing more can run without time passing.

        Raises ``UnassignedChange`` for a handler that changes its context in place, ``LabError`` for a graph that does not
        come to rest.
        """
        self._driver.drive(self._drive.until_idle())

    def advance(self, by: timedelta) -> None:
        """Let time pass. Timers, backoffs, attempts and lost workers have their turn at their own times, and hops run in
        between. Raises as ``run_until_idle`` does."""
        self._driver.drive(self._drive.until(self._after(by)))

    # -- the client --------------------------------------------------------------------------------------------

    def submit(self, signal: Signal[Any], **options: Unpack[SubmitOptions]) -> LabRun:
        """Start a run, as ``Orchestrator.submit`` does. It runs when the lab is driven."""
        return self._run(super().submit(signal, **options).id)

    def submit_many(self, signals: Iterable[Signal[Any]], **options: Unpack[ManyOptions]) -> list[LabRun]:  # type: ignore[override]  # lists are invariant
        """Start a run for each signal, all or none, as ``Orchestrator.submit_many`` does."""
        return [self._run(run.id) for run in super().submit_many(signals, **options)]

    def send(self, signal: Signal[Any], *, key: str, idempotency_key: str | None = None) -> LabRun | None:
        """Send a signal by key, as ``Orchestrator.send`` does; the run that took it, if one did."""
        taken = super().send(signal, key=key, idempotency_key=idempotency_key)
        return None if taken is None else self._run(taken.id)

    def get_run(self, run_id: UUID | str) -> LabRun:
        """The run of this id. Raises ``RunNotFound``."""
        return self._run(super().get_run(run_id).id)

    def list_runs(self, **which: Unpack[ListOptions]) -> list[LabRun]:  # type: ignore[override]
        """The newest runs that fit, newest first."""
        return [self._run(run.id) for run in super().list_runs(**which)]

    def retry_failed(self, *, dry_run: bool = False, **which: Unpack[ChoiceOptions]) -> list[LabRun]:  # type: ignore[override]
        """Begin the next attempt of every run that is failed now, of those that are meant."""
        return [self._run(run.id) for run in super().retry_failed(dry_run=dry_run, **which)]

    def cancel_runs(  # type: ignore[override]
        self, *, compensate: bool = False, dry_run: bool = False, **which: Unpack[OpenChoiceOptions]
    ) -> list[LabRun]:
        """Cancel every run that has not ended, of those that are meant."""
        return [self._run(run.id) for run in super().cancel_runs(compensate=compensate, dry_run=dry_run, **which)]

    def _run(self, run_id: UUID) -> LabRun:
        return LabRun(run_id, self._flows, self._memory, self._bench.journal)

    def close(self) -> None:
        """Run nothing any more. What has happened can still be read. Idempotent."""
        self._driver.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._explain(error)
        super().__exit__(kind, error, trace)


class AsyncLab(_Controls, AsyncOrchestrator):
    """The same in async tests; a client like ``AsyncOrchestrator``. Handlers are called on the event loop of the test.

    The arguments are those of ``Lab``. Sync handlers are called on the loop's thread, and block it.
    """

    def _world(self) -> AsyncLabWorld:
        self._driver = AsyncDriver()
        return AsyncLabWorld(self._memory, self._clock, self._drive, self._driver)

    async def run_until_idle(self) -> None:
        """Run what is ready, and what follows from it; see ``Lab.run_until_idle``."""
        await self._driver.drive(self._drive.until_idle())

    async def advance(self, by: timedelta) -> None:
        """Let time pass; see ``Lab.advance``."""
        await self._driver.drive(self._drive.until(self._after(by)))

    async def submit(self, signal: Signal[Any], **options: Unpack[SubmitOptions]) -> AsyncLabRun:
        """Start a run. It runs when the lab is driven."""
        return self._run((await super().submit(signal, **options)).id)

    async def submit_many(self, signals: Iterable[Signal[Any]], **options: Unpack[ManyOptions]) -> list[AsyncLabRun]:  # type: ignore[override]
        """Start a run for each signal, all or none."""
        return [self._run(run.id) for run in await super().submit_many(signals, **options)]

    async def send(self, signal: Signal[Any], *, key: str, idempotency_key: str | None = None) -> AsyncLabRun | None:
        """Send a signal by key; the run that took it, if one did."""
        taken = await super().send(signal, key=key, idempotency_key=idempotency_key)
        return None if taken is None else self._run(taken.id)

    async def get_run(self, run_id: UUID | str) -> AsyncLabRun:
        """The run of this id. Raises ``RunNotFound``."""
        return self._run((await super().get_run(run_id)).id)

    async def list_runs(self, **which: Unpack[ListOptions]) -> list[AsyncLabRun]:  # type: ignore[override]
        """The newest runs that fit, newest first."""
        return [self._run(run.id) for run in await super().list_runs(**which)]

    async def retry_failed(  # type: ignore[override]
        self, *, dry_run: bool = False, **which: Unpack[ChoiceOptions]
    ) -> list[AsyncLabRun]:
        """Begin the next attempt of every run that is failed now, of those that are meant."""
        return [self._run(run.id) for run in await super().retry_failed(dry_run=dry_run, **which)]

    async def cancel_runs(  # type: ignore[override]
        self, *, compensate: bool = False, dry_run: bool = False, **which: Unpack[OpenChoiceOptions]
    ) -> list[AsyncLabRun]:
        """Cancel every run that has not ended, of those that are meant."""
        cancelled = await super().cancel_runs(compensate=compensate, dry_run=dry_run, **which)
        return [self._run(run.id) for run in cancelled]

    def _run(self, run_id: UUID) -> AsyncLabRun:
        return AsyncLabRun(run_id, self._flows, self._memory, self._bench.journal)

    async def close(self) -> None:
        """Run nothing any more. What has happened can still be read. Idempotent."""
        self._driver.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._explain(error)
        await super().__aexit__(kind, error, trace)

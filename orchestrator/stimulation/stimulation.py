"""A stimulation, as its user holds it: one run of a graph inside this process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cnstra.orchestrator.contexts import InMemoryContextStore, VersionedContextStore
from cnstra.orchestrator.errors import StimulationAborted, StimulationFailed
from cnstra.orchestrator.graph import CNS, Signal
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.stimulation.completion import Completion
from cnstra.orchestrator.stimulation.context import Locals, locals_beside
from cnstra.orchestrator.stimulation.engine import Engine
from cnstra.orchestrator.stimulation.frontier import Item, task_of
from cnstra.orchestrator.stimulation.options import Options
from cnstra.orchestrator.stimulation.records import Failure, Task
from cnstra.orchestrator.stimulation.shared import Shared


class Stimulation:
    """A graph under way, or done. Made by ``cns.stimulate``, ``cns.run`` and ``cns.activate``."""

    __slots__ = (
        "__weakref__",
        "_calls",
        "_completion",
        "_engine",
        "_failures",
        "_has_versions",
        "_id",
        "_listener_error",
        "_locals",
        "_store",
        "cns",
        "options",
    )

    cns: CNS
    """The graph."""
    options: Options
    """What it was started with."""
    _has_versions: bool
    """Whether the context store counts versions, as CNStra's own do."""

    def __init__(self, shared: Shared, options: Options, *, blocking: bool = False) -> None:
        self.cns = shared.cns
        self.options = options
        self._store = options.ctx
        self._has_versions = self._store is not None and isinstance(self._store, VersionedContextStore)
        self._locals: Locals | None = None
        self._id: str | None = None
        self._calls = 0
        self._failures: list[Failure] = []
        self._listener_error: BaseException | None = None
        self._completion = Completion()
        self._engine: Engine | None = Engine(self, shared, blocking=blocking)  # until its end: no cycle to collect

    # -- its end -------------------------------------------------------------------------------------------------

    async def wait_until_complete(self) -> None:
        """Wait for its end; to stop waiting stops nothing else.

        Raises ``StimulationFailed`` when tasks failed, ``StimulationAborted`` when it was aborted, and the error of the
        first response listener that raised, as itself.
        """
        await self._completion.wait()
        self._completion.check()

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it is under way any more."""
        return self._completion.is_settled

    @property
    def failed_tasks(self) -> list[Failure]:
        """The tasks that failed, and those that an abort kept from starting, in this order."""
        self._completion.hear()
        return list(self._failures)

    @property
    def outstanding_tasks(self) -> list[Task]:
        """Every task that is not done: queued, held back, running, failed. ``activate`` goes on with them."""
        items = () if self._engine is None else self._engine.frontier.items()
        return [*map(task_of, items), *(failure.task for failure in self._failures)]

    # -- its context ---------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """A UUIDv7 of its own, for logs and for what must be told apart."""
        if self._id is None:
            self._id = str(SystemEntropy().run_id())
        return self._id

    @property
    def context_store(self) -> Any:
        """The store of its context: the one that it was given, or one in memory."""
        if self._store is None:
            self._store = InMemoryContextStore()
            self._has_versions = True
        return self._store

    @property
    def _local_contexts(self) -> Locals:
        """The local contexts of its neurons."""
        if self._locals is None:
            self._locals = locals_beside(self.context_store)
        return self._locals

    @property
    def _known_locals(self) -> Locals | None:
        """The local contexts, unless there can be none because there is no store yet."""
        return None if self._store is None else self._local_contexts

    def __repr__(self) -> str:
        return f"<stimulation {self.id}>"

    def __str__(self) -> str:
        return f"stimulation {self.id}"

    # -- for the CNS and the engine ------------------------------------------------------------------------------

    def _begin(self, signals: Iterable[Signal[Any]]) -> None:
        """Begin with signals: everything that runs without waiting has run when this returns."""
        if self._engine is not None:
            self._engine.stimulate(signals)

    def _resume(self, items: Iterable[Item]) -> None:
        """Begin with tasks, in the same way."""
        if self._engine is not None:
            self._engine.activate(items)

    async def _to_the_end(self) -> None:
        """Go on where a blocking stimulation had to stop for want of an event loop, and wait for the end."""
        engine = self._engine
        if engine is None:
            return
        try:
            engine.carry_on()
            await self._completion.wait()
        except BaseException:  # an interrupt: what asyncio cancels now must not start what would come after it
            engine.abandon()
            raise

    def _check(self) -> None:
        """Raise what ``wait_until_complete`` raises; nothing for a stimulation that is still under way."""
        self._completion.check()

    def _notice_abort(self) -> None:
        """Look at the abort signal now: otherwise it is looked at when a turn ends. Any thread may call this."""
        if self._engine is not None:
            self._engine.notice_abort()

    def _hear(self) -> None:
        """A heartbeat of a handler."""
        if self._engine is not None:
            self._engine.hear()

    def _count_call(self) -> int:
        """The number of the call that is about to be made, from 1."""
        self._calls += 1
        return self._calls

    def _note_failure(self, item: Item, error: BaseException, *, aborted: bool) -> None:
        """A task has failed, or will not start."""
        self._failures.append(Failure(task=task_of(item), error=error, aborted=aborted))

    def _note_listener_error(self, error: BaseException | None) -> None:
        """A listener has raised; the first one counts."""
        if self._listener_error is None:
            self._listener_error = error

    def _end(self, *, aborted: bool, is_known: bool) -> None:
        """Nothing is under way any more; ``is_known`` says that there were listeners to tell."""
        self._engine = None
        self._completion.settle(self._outcome(aborted), is_known=is_known)

    def _outcome(self, aborted: bool) -> BaseException | None:
        failures = self._failures
        if aborted:
            message = f"{self} was aborted, and {len(failures)} tasks are left over"
            return StimulationAborted(message, failures, self.context_store)
        if self._listener_error is not None or not failures:
            return self._listener_error
        first = failures[0]
        failed = StimulationFailed(
            f"{self}: {len(failures)} failed, the first of them {first.task} with {type(first.error).__name__}",
            failures,
            self.context_store,
        )
        failed.__cause__ = first.error
        return failed

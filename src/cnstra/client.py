"""The client: ``Orchestrator`` and ``AsyncOrchestrator``, and the handles of runs that they give.

Both wire a graph, a store and a bell to the same flows; they differ in nothing but their colour.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from typing_extensions import Unpack

from cnstra import settings
from cnstra.mirrors import AsyncMirror, Mirror
from cnstra.orchestrator.blobs import USUAL_PLACE, Blobs, BlobStore
from cnstra.orchestrator.choosing import ChoiceOptions, OpenChoiceOptions
from cnstra.orchestrator.cloning import CloneOptions
from cnstra.orchestrator.codecs import Codec
from cnstra.orchestrator.flows import Flows, RunResult, Written, drive, drive_async
from cnstra.orchestrator.graph import CNS, Signal
from cnstra.orchestrator.mirroring import Mirroring, MirrorOptions
from cnstra.orchestrator.ports import Bell, Ring, SystemEntropy
from cnstra.orchestrator.retention import KeepOptions
from cnstra.orchestrator.sealed_store import sealed_async_store, sealed_store
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.store import Operation
from cnstra.orchestrator.submitting import ListOptions, ManyOptions, SubmitOptions, run_uuid
from cnstra.orchestrator.watching import Change, Watch
from cnstra.stores.postgres import AsyncPostgresStore, PostgresStore
from cnstra.stores.reactive import Collection, ContextRecord
from cnstra.stores.reactive.mirrored import MirroredContexts
from cnstra.workers.doorbell import DramatiqBell

T = TypeVar("T")


class _BlockingWorld:
    """Flows run in the calling thread."""

    def __init__(self, store: PostgresStore, bell: Bell) -> None:
        self._store, self._bell = store, bell

    def run(self, operation: Operation[T], /) -> T:
        return self._store.run(operation)

    def run_in(self, connection: Any, operation: Operation[T], /) -> T:
        return self._store.run_in(connection, operation)

    def ring(self, rings: Sequence[Ring], /) -> None:
        self._bell.ring(rings)

    def call(self, blocking: Callable[[], T], /) -> T:
        return blocking()

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)

    def monotonic(self) -> float:
        return time.monotonic()


class _AsyncWorld:
    """Flows run on the calling event loop; the bell, which blocks for a moment, in a thread."""

    def __init__(self, store: AsyncPostgresStore, bell: Bell) -> None:
        self._store, self._bell = store, bell

    def run(self, operation: Operation[T], /) -> Awaitable[T]:
        return self._store.run(operation)

    def run_in(self, connection: Any, operation: Operation[T], /) -> Awaitable[T]:
        return self._store.run_in(connection, operation)

    def ring(self, rings: Sequence[Ring], /) -> Awaitable[None]:
        return asyncio.to_thread(self._bell.ring, rings)

    def call(self, blocking: Callable[[], T], /) -> Awaitable[T]:
        return asyncio.to_thread(blocking)

    def sleep(self, seconds: float, /) -> Awaitable[None]:
        return asyncio.sleep(seconds)

    def monotonic(self) -> float:
        return time.monotonic()


class Run:
    """One run, by its id. Everything that it answers is read anew."""

    def __init__(self, run_id: UUID, flows: Flows, rings: tuple[Ring, ...] = ()) -> None:
        self.id = run_id
        self._flows = flows
        self._rings = rings

    def ring(self) -> None:
        """Have workers look for it at once, after your transaction, in which it was submitted, has committed.

        Without this they find it within about a second.
        """
        drive(self._flows.ring(self._rings))

    def status(self) -> str:
        """``running``, ``waiting``, ``completed``, ``failed`` …: the words of the view ``cnstra.runs``."""
        return drive(self._flows.status(self.id))

    def wait(self, timeout: float | None = None) -> RunResult:
        """Its result, once it has ended, however it ended. ``TimeoutError`` when it has not within ``timeout`` seconds."""
        return drive(self._flows.wait(self.id, timeout))

    def context(self, version: int | None = None) -> Any:
        """The shared value, now or at a version; None when there was none."""
        return drive(self._flows.context(self.id, version))

    def history(self) -> list[Written]:
        """Every version of its context, in order: who wrote what."""
        return drive(self._flows.history(self.id))

    def watch(self, *, after: int = 0) -> Iterator[Change]:
        """Every version of its context after one, and every change of its status, as they come, until it has ended.

        Nothing is missed, and nothing comes twice, also while Postgres is away for a while; ``change.version`` is what to give as
        ``after`` to go on another time. Of statuses that come and go within a moment the last is seen.

        Raises ``ContextExpired`` where the retention has taken a version that was to come, ``RunNotFound`` where it has taken the
        run, ``StoreUnavailable`` where Postgres is away at the beginning, ``ContextError`` for an ``after`` that is no version.
        """
        watch = Watch(after)
        while not watch.is_over:
            yield from watch.take(*drive(self._flows.watched(self.id, watch.after, watch.status)))

    def describe(self) -> dict[str, Any]:
        """The columns of ``cnstra.runs``, and its activations as a list."""
        return drive(self._flows.describe(self.id))

    def retry(self) -> None:
        """Begin the next attempt: the failed activations run again, on the saved context.

        Raises ``RunStateError`` for a run that has not failed.
        """
        drive(self._flows.retry(self.id))

    def cancel(self, *, compensate: bool = False) -> None:
        """End the run: what is open of it is cancelled, and no handler is called any more.

        Handlers that run may come to their end (``ctx.cancelled`` tells them), and their writes count; what they emit starts
        nothing. With ``compensate`` everything done that has a compensation is undone then, in reverse order of finishing.
        Asked again, it changes nothing. Raises ``RunStateError`` for a run that has ended, or is ending in another way.
        """
        drive(self._flows.cancel(self.id, compensate))

    def pause(self) -> None:
        """Call no handler of the run until ``resume``; those that run come to their end. Its timers and its deadline wait.

        Raises ``RunStateError`` for a run that has ended, or is being cancelled.
        """
        drive(self._flows.pause(self.id))

    def resume(self) -> None:
        """Let a paused run go on. Raises ``RunStateError`` for a run that has ended."""
        drive(self._flows.resume(self.id))

    def send(self, signal: Signal[Any], *, idempotency_key: str | None = None) -> None:
        """Send a signal to the run: the oldest ``ctx.expect`` of its collateral takes it, or the next one that there will be.

        The same ``idempotency_key`` again sends nothing again. Raises ``RunStateError`` for a run that has ended, or ends,
        ``SendError`` or ``PayloadError`` for what cannot be sent.
        """
        drive(self._flows.send(self.id, signal, idempotency_key))

    def clone(self, **options: Unpack[CloneOptions]) -> Run:
        """Start a new run from the same entry signal: it repeats everything, side effects included, under keys of its own.

        It runs the graph as the ``Orchestrator`` has it now, begins at once, with an empty context, and has no idempotency key.
        Priority, tags, policy, and the store of its context are the original's, and so is a deadline that was given as a
        timedelta, counted from now; one given as a datetime is not. ``options`` are those of ``CloneOptions``: run_id, priority,
        tags, deadline. The view ``cnstra.runs`` says in ``cloned_from`` what it is a clone of. The original may be in any state,
        and stays as it is.

        Raises ``SubmitError``, with nothing stored, where the ``Orchestrator`` has no graph, or another; where nobody hears the
        entry collateral any more; and where its payload does not fit it any more.
        """
        kept = drive(self._flows.clone(self.id, options))
        return Run(kept.run_id, self._flows)

    def __repr__(self) -> str:
        return f"<run {self.id}>"


def until_ended(run: Run, timeout: float | None = None) -> None:
    """Return when a run has ended, for who does not ask for its context. ``TimeoutError`` as from ``wait``."""
    drive(run._flows.ended(run.id, timeout))


class AsyncRun:
    """One run, by its id. Everything that it answers is read anew."""

    def __init__(self, run_id: UUID, flows: Flows, rings: tuple[Ring, ...] = ()) -> None:
        self.id = run_id
        self._flows = flows
        self._rings = rings

    async def ring(self) -> None:
        """Have workers look for it at once, after your transaction, in which it was submitted, has committed.

        Without this they find it within about a second.
        """
        await drive_async(self._flows.ring(self._rings))

    async def status(self) -> str:
        """``running``, ``waiting``, ``completed``, ``failed`` …: the words of the view ``cnstra.runs``."""
        return await drive_async(self._flows.status(self.id))

    async def wait(self, timeout: float | None = None) -> RunResult:  # noqa: ASYNC109
        """Its result, once it has ended, however it ended. ``TimeoutError`` when it has not within ``timeout`` seconds."""
        return await drive_async(self._flows.wait(self.id, timeout))

    async def context(self, version: int | None = None) -> Any:
        """The shared value, now or at a version; None when there was none."""
        return await drive_async(self._flows.context(self.id, version))

    async def history(self) -> list[Written]:
        """Every version of its context, in order: who wrote what."""
        return await drive_async(self._flows.history(self.id))

    async def watch(self, *, after: int = 0) -> AsyncIterator[Change]:
        """Every version of its context after one, and every change of its status, as they come; see ``Run.watch``."""
        watch = Watch(after)
        while not watch.is_over:
            for change in watch.take(*await drive_async(self._flows.watched(self.id, watch.after, watch.status))):
                yield change

    async def describe(self) -> dict[str, Any]:
        """The columns of ``cnstra.runs``, and its activations as a list."""
        return await drive_async(self._flows.describe(self.id))

    async def retry(self) -> None:
        """Begin the next attempt: the failed activations run again, on the saved context.

        Raises ``RunStateError`` for a run that has not failed.
        """
        await drive_async(self._flows.retry(self.id))

    async def cancel(self, *, compensate: bool = False) -> None:
        """End the run: what is open of it is cancelled, and no handler is called any more.

        Handlers that run may come to their end (``ctx.cancelled`` tells them), and their writes count; what they emit starts
        nothing. With ``compensate`` everything done that has a compensation is undone then, in reverse order of finishing.
        Asked again, it changes nothing. Raises ``RunStateError`` for a run that has ended, or is ending in another way.
        """
        await drive_async(self._flows.cancel(self.id, compensate))

    async def pause(self) -> None:
        """Call no handler of the run until ``resume``; those that run come to their end. Its timers and its deadline wait.

        Raises ``RunStateError`` for a run that has ended, or is being cancelled.
        """
        await drive_async(self._flows.pause(self.id))

    async def resume(self) -> None:
        """Let a paused run go on. Raises ``RunStateError`` for a run that has ended."""
        await drive_async(self._flows.resume(self.id))

    async def send(self, signal: Signal[Any], *, idempotency_key: str | None = None) -> None:
        """Send a signal to the run: the oldest ``ctx.expect`` of its collateral takes it, or the next one that there will be.

        The same ``idempotency_key`` again sends nothing again. Raises ``RunStateError`` for a run that has ended, or ends,
        ``SendError`` or ``PayloadError`` for what cannot be sent.
        """
        await drive_async(self._flows.send(self.id, signal, idempotency_key))

    async def clone(self, **options: Unpack[CloneOptions]) -> AsyncRun:
        """Start a new run from the same entry signal: it repeats everything, side effects included, under keys of its own.

        It runs the graph as the ``Orchestrator`` has it now, begins at once, with an empty context, and has no idempotency key.
        Priority, tags, policy, and the store of its context are the original's, and so is a deadline that was given as a
        timedelta, counted from now; one given as a datetime is not. ``options`` are those of ``CloneOptions``: run_id, priority,
        tags, deadline. The view ``cnstra.runs`` says in ``cloned_from`` what it is a clone of. The original may be in any state,
        and stays as it is.

        Raises ``SubmitError``, with nothing stored, where the ``Orchestrator`` has no graph, or another; where nobody hears the
        entry collateral any more; and where its payload does not fit it any more.
        """
        kept = await drive_async(self._flows.clone(self.id, options))
        return AsyncRun(kept.run_id, self._flows)

    def __repr__(self) -> str:
        return f"<run {self.id}>"


class Orchestrator:
    """Submits runs of a graph and asks about them; for blocking callers. Threads may share it; it survives a fork.

    ``database`` is a Postgres URL, ``broker`` a Redis one; without them CNSTRA_DATABASE_URL and CNSTRA_BROKER_URL are
    read. ``cns`` may be left out by who only looks at runs and retries them. Connections open when they are first needed.

    ``replica`` is the URL of a streaming standby of the database, or several: reads of runs come from there, where it has all
    that this client has done and seen. Without it CNSTRA_REPLICA_URL is read; ``[]`` is none.

    ``context`` is a store of your own (see ``BlobStore``), such as ``RedisBlobStore(client)``: runs that are submitted here
    keep their contexts there, for good, and their workers need it, too (``cnstra worker --context``). ``context_name`` is
    what that store is called among several.

    ``codec`` seals what is stored of runs, such as an ``EncryptedCodec``: payloads, outputs, contexts, progress, errors. Their
    workers need it, too (``cnstra worker --codec``). What was stored without one is read as it is.

    Raises ``ConfigurationError`` when a URL is missing or cannot be used, or the store lacks a method.
    """

    def __init__(
        self,
        cns: CNS | None = None,
        *,
        database: str | None = None,
        broker: str | None = None,
        replica: str | Sequence[str] | None = None,
        context: BlobStore | None = None,
        context_name: str = USUAL_PLACE,
        codec: Codec | None = None,
    ) -> None:
        vault = None if codec is None else Vault(codec)
        blobs = None if context is None else Blobs(context, context_name, vault=vault)
        store = PostgresStore(settings.database_url(database), replicas=settings.replica_urls(replica))
        self._store = sealed_store(store, vault)
        self._bell = DramatiqBell(settings.broker_url(broker))
        world = _BlockingWorld(self._store, self._bell)
        self._flows = Flows(cns, self._store, world, SystemEntropy(), blobs, self._bell.prepare)

    def submit(self, signal: Signal[Any], **options: Unpack[SubmitOptions]) -> Run:
        """Start a run. When this returns the run is kept: it ends, whatever dies.

        The options are those of ``SubmitOptions``: run_id, idempotency_key, priority, delay, deadline, tags, retry, connection.

        Raises ``SubmitError``, ``PayloadError`` or ``PolicyError`` with nothing stored; ``StoreUnavailable`` when the
        database is away (then submit again under the same ``run_id`` or ``idempotency_key``).
        """
        kept = drive(self._flows.submit(signal, options))
        return Run(kept.run_id, self._flows, kept.rings)

    def submit_many(self, signals: Iterable[Signal[Any]], **options: Unpack[ManyOptions]) -> list[Run]:
        """Start a run for each signal, in one transaction: all of them are kept, or none.

        The options are those of ``ManyOptions``: idempotency_keys (one for each signal), priority, delay, deadline, tags,
        retry, connection.
        """
        return [Run(kept.run_id, self._flows, kept.rings) for kept in drive(self._flows.submit_many(signals, options))]

    def send(self, signal: Signal[Any], *, key: str, idempotency_key: str | None = None) -> Run | None:
        """Send a signal by key: to the oldest run that expects it, ``ctx.expect(..., key=key)``, which is answered; or, where
        none does yet, to the next one that will: None.

        The same ``idempotency_key`` again sends nothing again. What nobody takes is kept for as long as the retention's rule
        ``sent`` says. Raises ``SendError`` or ``PayloadError`` for what cannot be sent.
        """
        taken = drive(self._flows.send_by_key(signal, key, idempotency_key))
        return None if taken is None else Run(taken, self._flows)

    def get_run(self, run_id: UUID | str) -> Run:
        """The run of this id. Raises ``RunNotFound``."""
        run = Run(run_uuid(run_id), self._flows)
        run.status()
        return run

    def watch(self, run_id: UUID | str, *, after: int = 0) -> Iterator[Change]:
        """Follow a run; see ``Run.watch``. Raises ``RunNotFound``."""
        return Run(run_uuid(run_id), self._flows).watch(after=after)

    def mirror(self, contexts: Collection[str, ContextRecord], **which: Unpack[MirrorOptions]) -> Mirror:
        """Keep a collection in step with the contexts of runs, wherever these run, for the length of a ``with`` block.

        For each run that has written something there is a record, which goes from version to version, and comes to the last one.
        Versions that follow each other quickly may be passed over; none comes twice, and none goes back. A mirror begins with
        what the collection has. ``which`` is that of ``MirrorOptions``: runs, or graph, tag, since, status; and keep_ended.

        Raises ``ConfigurationError`` for what no run can be, ``ReactiveError`` for a collection of something else.
        """
        return Mirror(Mirroring(self._flows, self._flows.world, MirroredContexts(contexts), which))

    def list_runs(self, **which: Unpack[ListOptions]) -> list[Run]:
        """The newest runs that fit, newest first. ``which`` is that of ``ListOptions``: status, tag, since, limit."""
        return [Run(row["run_id"], self._flows) for row in drive(self._flows.list_rows(which))]

    def retry_failed(self, *, dry_run: bool = False, **which: Unpack[ChoiceOptions]) -> list[Run]:
        """Begin the next attempt of every run that is failed now, of those that are meant; these runs.

        ``which`` is that of ``ChoiceOptions``: graph, tag, since, older_than; all of what is given must fit. ``dry_run`` only
        says which they would be. Goes on in short transactions: when it raises, it has begun, and may be asked again.
        """
        return [Run(run_id, self._flows) for run_id in drive(self._flows.retry_failed(which, dry_run))]

    def cancel_runs(
        self, *, compensate: bool = False, dry_run: bool = False, **which: Unpack[OpenChoiceOptions]
    ) -> list[Run]:
        """Cancel every run that has not ended, of those that are meant; these runs. What happens to each is as in ``Run.cancel``.

        ``which`` is that of ``OpenChoiceOptions``: graph, tag, since, older_than, status; all of what is given must fit.
        ``dry_run`` only says which they would be. Goes on in short transactions: when it raises, it has begun, and may be asked
        again. Runs that are ending already are left alone.

        Raises ``ConfigurationError`` where nothing says which runs are meant, and for statuses of runs that cannot be cancelled.
        """
        return [Run(run_id, self._flows) for run_id in drive(self._flows.cancel_runs(which, compensate, dry_run))]

    def prune(
        self,
        *,
        older_than: timedelta,
        statuses: Sequence[str] | None = None,
        dry_run: bool = False,
        limit: int | None = None,
    ) -> dict[str, int]:
        """Delete runs that ended longer than ``older_than`` ago, with all that belongs to them; how many, by status.

        ``statuses`` are the final ones by default: completed, compensated and cancelled. Failed runs, which could still be
        retried, are deleted where they are named. ``dry_run`` counts and deletes nothing; ``limit`` is the most to delete.
        Goes on in short transactions, each of whole runs; a run that somebody is changing is passed over.

        Raises ``ConfigurationError`` for statuses of runs that have not ended.
        """
        return drive(self._flows.prune(older_than, statuses, dry_run, limit))

    def retention(self) -> dict[str, timedelta | None]:
        """How long what has ended is kept, by status, and contexts by ``context``; None is for ever."""
        return drive(self._flows.retention())

    def set_retention(self, **keep: Unpack[KeepOptions]) -> None:
        """Change how long what has ended is kept: completed, failed, compensated, cancelled, context.

        The workers delete what is older than that, in the background. ``context`` is for contexts of runs that stay
        themselves; a failed run keeps its own. When this returns, nothing goes by the old rules any more.
        """
        drive(self._flows.set_retention(keep))

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        self._store.close()
        self._bell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncOrchestrator:
    """Submits runs of a graph and asks about them; for callers on one event loop. As ``Orchestrator``, awaited.

    The store that ``context`` names is a sync one here, too: it is called in threads. The ``codec`` is called
    on the event loop.
    """

    def __init__(
        self,
        cns: CNS | None = None,
        *,
        database: str | None = None,
        broker: str | None = None,
        replica: str | Sequence[str] | None = None,
        context: BlobStore | None = None,
        context_name: str = USUAL_PLACE,
        codec: Codec | None = None,
    ) -> None:
        vault = None if codec is None else Vault(codec)
        blobs = None if context is None else Blobs(context, context_name, vault=vault)
        store = AsyncPostgresStore(settings.database_url(database), replicas=settings.replica_urls(replica))
        self._store = sealed_async_store(store, vault)
        self._bell = DramatiqBell(settings.broker_url(broker))
        self._flows = Flows(cns, self._store, _AsyncWorld(self._store, self._bell), SystemEntropy(), blobs)

    async def submit(self, signal: Signal[Any], **options: Unpack[SubmitOptions]) -> AsyncRun:
        """Start a run; see ``Orchestrator.submit``."""
        kept = await drive_async(self._flows.submit(signal, options))
        return AsyncRun(kept.run_id, self._flows, kept.rings)

    async def submit_many(self, signals: Iterable[Signal[Any]], **options: Unpack[ManyOptions]) -> list[AsyncRun]:
        """Start a run for each signal, all or none; see ``Orchestrator.submit_many``."""
        return [
            AsyncRun(kept.run_id, self._flows, kept.rings)
            for kept in await drive_async(self._flows.submit_many(signals, options))
        ]

    async def send(self, signal: Signal[Any], *, key: str, idempotency_key: str | None = None) -> AsyncRun | None:
        """Send a signal by key: to the oldest run that expects it, ``ctx.expect(..., key=key)``, which is answered; or, where
        none does yet, to the next one that will: None.

        The same ``idempotency_key`` again sends nothing again. What nobody takes is kept for as long as the retention's rule
        ``sent`` says. Raises ``SendError`` or ``PayloadError`` for what cannot be sent.
        """
        taken = await drive_async(self._flows.send_by_key(signal, key, idempotency_key))
        return None if taken is None else AsyncRun(taken, self._flows)

    async def get_run(self, run_id: UUID | str) -> AsyncRun:
        """The run of this id. Raises ``RunNotFound``."""
        run = AsyncRun(run_uuid(run_id), self._flows)
        await run.status()
        return run

    def watch(self, run_id: UUID | str, *, after: int = 0) -> AsyncIterator[Change]:
        """Follow a run: ``async for change in orchestrator.watch(run_id)``; see ``Run.watch``. Raises ``RunNotFound``."""
        return AsyncRun(run_uuid(run_id), self._flows).watch(after=after)

    def mirror(self, contexts: Collection[str, ContextRecord], **which: Unpack[MirrorOptions]) -> AsyncMirror:
        """Keep a collection in step with the contexts of runs, for an ``async with`` block; see ``Orchestrator.mirror``."""
        return AsyncMirror(Mirroring(self._flows, self._flows.world, MirroredContexts(contexts), which))

    async def list_runs(self, **which: Unpack[ListOptions]) -> list[AsyncRun]:
        """The newest runs that fit, newest first; see ``Orchestrator.list_runs``."""
        return [AsyncRun(row["run_id"], self._flows) for row in await drive_async(self._flows.list_rows(which))]

    async def retry_failed(self, *, dry_run: bool = False, **which: Unpack[ChoiceOptions]) -> list[AsyncRun]:
        """Begin the next attempt of every failed run that is meant; see ``Orchestrator.retry_failed``."""
        retried = await drive_async(self._flows.retry_failed(which, dry_run))
        return [AsyncRun(run_id, self._flows) for run_id in retried]

    async def cancel_runs(
        self, *, compensate: bool = False, dry_run: bool = False, **which: Unpack[OpenChoiceOptions]
    ) -> list[AsyncRun]:
        """Cancel every run that is meant and has not ended; see ``Orchestrator.cancel_runs``."""
        cancelled = await drive_async(self._flows.cancel_runs(which, compensate, dry_run))
        return [AsyncRun(run_id, self._flows) for run_id in cancelled]

    async def prune(
        self,
        *,
        older_than: timedelta,
        statuses: Sequence[str] | None = None,
        dry_run: bool = False,
        limit: int | None = None,
    ) -> dict[str, int]:
        """Delete runs that ended longer than ``older_than`` ago; see ``Orchestrator.prune``."""
        return await drive_async(self._flows.prune(older_than, statuses, dry_run, limit))

    async def retention(self) -> dict[str, timedelta | None]:
        """How long what has ended is kept, by status, and contexts by ``context``; None is for ever."""
        return await drive_async(self._flows.retention())

    async def set_retention(self, **keep: Unpack[KeepOptions]) -> None:
        """Change how long what has ended is kept; see ``Orchestrator.set_retention``."""
        await drive_async(self._flows.set_retention(keep))

    async def close(self) -> None:
        """Let go of all connections. Idempotent."""
        await self._store.close()
        await asyncio.to_thread(self._bell.close)  # a server that hangs is waited for, a moment

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

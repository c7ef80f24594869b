"""The life of a hop, top to bottom: doorbell → claim → call → settle → ring.

One ``Hops`` serves one graph in one process. A doorbell (or a nudge) makes the claiming thread claim as much as there is
room for. Sync handlers are called on a pool of threads, async ones on one event loop; the watch sees how long they take, and
takes the claims of those that take too long. What they come to is settled by the committer in batches; a thread does not
wait for its own commit. The commit's answer rings for what became ready elsewhere, and a single successor that stayed here
goes straight on to its call.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from cnstra.orchestrator.blobs import Blobs, blob_of, referring
from cnstra.orchestrator.errors import CnstraError, ContextLost, DataRefused, MaxDurationExceeded, StoreUnavailable
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.machine.events import FailedTry, Returned, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import BlobRef, Claimed, Failure
from cnstra.orchestrator.ports import Bell, Entropy
from cnstra.orchestrator.run_context import lifeline_of, view_of
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Applied, ClaimRequest, Report, Store, Work
from cnstra.workers.calling import Call, Caller
from cnstra.workers.committing import Committer, Settlement
from cnstra.workers.coroutines import Coroutines
from cnstra.workers.keeping import Found, Keeper
from cnstra.workers.progress import Reports
from cnstra.workers.quarantine import Quarantine
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.threads import Seat, Threads
from cnstra.workers.transacting import Ended, TooLate, Transacting, carried_out, has_transaction, transactions_of
from cnstra.workers.watching import Clock, SystemClock, UnderWay, Watch

_log = logging.getLogger("cnstra.worker")

_CLAIM_PAUSE = 0.25  # seconds between two claims while the store is away
_MISSED_PAUSE = 0.02  # seconds between two claims where somebody else held a limit
_LONGEST_ANSWER = 5.0  # seconds that a doorbell is kept waiting for its claim
_REPORT_EVERY = 1.0  # seconds between two writes of progress, unless the lease is renewed more often


@dataclass(frozen=True, slots=True)
class _Job:
    """Claimed work on its way to a call; ``claimed`` is the monotonic time at which it came."""

    work: Work
    claimed: float
    streak: int


class Hops:
    """Runs the hops of one graph in this process."""

    def __init__(
        self,
        cns: CNS,
        store: Store,
        bell: Bell,
        settings: WorkerSettings,
        entropy: Entropy,
        worker: Callable[[], UUID],
        contexts: Sequence[Blobs] = (),
        clock: Clock | None = None,
    ) -> None:
        self.queues = settings.queues or cns.queues
        self.dendrites = tuple(
            (neuron.name, collateral)
            for neuron in cns.neurons.values()
            if neuron.queue in self.queues
            for collateral in neuron.dendrites
        )
        self.compensations = tuple(
            (neuron, collateral)
            for neuron, collateral in self.dendrites
            if cns.neurons[neuron].dendrites[collateral].compensation is not None
        )
        self.limits = {
            neuron.name: neuron.concurrency
            for neuron in cns.neurons.values()
            if neuron.concurrency is not None and neuron.queue in self.queues
        }
        self._cns = cns
        self._kinds = {self._is_async(neuron, collateral, False) for neuron, collateral in self.dendrites} | {
            self._is_async(neuron, collateral, True) for neuron, collateral in self.compensations
        }
        self._store = store
        self._settings = settings
        self._entropy = entropy
        self._worker = worker
        self._caller = Caller(cns, queues=frozenset(self.queues), poison_limit=settings.poison_limit)
        self._threads = Threads(settings.threads)
        self._reports = Reports(store, min(_REPORT_EVERY, settings.lease.total_seconds() / 3), self._report_refused)
        self._watch = Watch(
            clock or SystemClock(), settings.most_stuck, reported=self._reports.put, shut_changed=self.nudge
        )
        self._committer = Committer(
            store,
            bell,
            before=self._about_to_settle,
            settled=self._settled,
            refused=self._refused,
            rung=self.nudge,
        )
        transactions = transactions_of(cns, store, self.dendrites, settings.transactions or settings.threads)
        self._transacting = Transacting(transactions, entropy, worker, lambda: self._calling) if transactions else None
        self._keepers = {
            blobs.place: Keeper(blobs, litter_after=settings.litter_after, back=self.nudge) for blobs in contexts
        }
        self.places = tuple(self._keepers)
        self._held: set[tuple[UUID, Claimed]] = set()
        self._set_down: set[tuple[UUID, Claimed]] = set()  # of these, what waits for a store of contexts
        self._waiting: dict[tuple[UUID, Claimed], _Job] = {}  # for a thread, or the event loop
        self._waited: set[tuple[UUID, Claimed]] = set()  # of these, what the last renewal of the lease found waiting
        self._ahead = settings.threads  # how much may wait
        self._sync_held = 0
        self._async_held = 0
        self._change = threading.Condition()
        self._wanted = 0  # how often work was announced, and how much of that a claim has answered
        self._answered = 0
        self._hungry = False
        self._missed_at: float | None = None  # when a claim passed over work, as somebody else held its limit
        self._quarantine = Quarantine()
        self._claiming = True
        self._calling = True
        self._claimer = threading.Thread(target=self._claim_loop, name="cnstra-claimer", daemon=True)
        self._coroutines = Coroutines()
        self._loop_hangs = False  # async handlers cannot even begin: one of them holds the event loop up

    # -- 1. the doorbell ---------------------------------------------------------------------------------------

    def rung(self, _queue: str, _hints: Iterable[tuple[UUID, int]]) -> None:
        """A doorbell came. Returns when a claim was made after it, or refused for want of room: then it may be acked."""
        with self._change:
            self._wanted += 1
            ticket = self._wanted
            self._change.notify_all()
            self._change.wait_for(lambda: self._answered >= ticket or not self._claiming, _LONGEST_ANSWER)

    def nudge(self) -> None:
        """There may be work; claim when there is room."""
        with self._change:
            self._wanted += 1
            self._change.notify_all()

    # -- 2. the claim ------------------------------------------------------------------------------------------

    def _claim_loop(self) -> None:
        while True:
            with self._change:
                while not self._may_claim():
                    self._change.wait(self._patience(time.monotonic()))
                    self._hungry |= self._quarantine.overdue(time.monotonic())
                    self._ask_again(time.monotonic())
                if not self._claiming:
                    return
                alone = self._quarantine.open
                ticket, room = self._wanted, 1 if alone else self._room()
            try:
                claimed = self._claim(room, suspects=alone) if room else None
            except Exception:  # the thread must live on: nothing would be claimed any more
                _log.exception("claimed work could not be taken in")
                time.sleep(_CLAIM_PAUSE)
                claimed = None
            # A full claim, or none for want of room, leaves work behind: go on when there is room, without a doorbell.
            self._hungry = alone or claimed is None or claimed == room
            with self._change:
                if alone:
                    self._quarantine.claimed(claimed or 0)
                self._answered = max(self._answered, ticket)
                self._change.notify_all()

    def _may_claim(self) -> bool:
        """Whether the claimer has something to do. In quarantine it waits until nothing is held, and then takes one."""
        if not self._claiming:
            return True
        if self._quarantine.open:
            return not self._held
        return self._wanted > self._answered or (self._hungry and self._has_room())

    def _patience(self, now: float) -> float | None:
        """Seconds after which the claimer looks around, though nobody calls it."""
        missed = None if self._missed_at is None else max(self._missed_at + _MISSED_PAUSE - now, 0.0)
        return min((one for one in (self._quarantine.patience(now), missed) if one is not None), default=None)

    def _ask_again(self, now: float) -> None:
        """Somebody else held a limit a moment ago: there may be work that neither took."""
        if self._missed_at is not None and now >= self._missed_at + _MISSED_PAUSE:
            self._missed_at = None
            self._wanted += 1

    def _room(self) -> int:
        sync = self._settings.threads + self._ahead - self._sync_held
        coroutines = self._settings.coroutines - self._async_held
        kinds = self._kinds - self._shut()
        rooms = [coroutines] * (True in kinds) + [sync] * (False in kinds)
        return max(min(rooms, default=0), 0)

    def _has_room(self) -> bool:
        return self._room() >= max(1, min(self._ahead, self._settings.coroutines) // 4)

    def _is_async(self, neuron: str, collateral: str, undo: bool) -> bool:
        dendrite = self._cns.dendrite(neuron, collateral)
        callee = dendrite.compensation if dendrite is not None and undo else dendrite
        return callee is not None and callee.is_async

    def _shut(self) -> frozenset[bool]:
        """The kinds of handlers, async or not, that this process cannot call for the moment: too many are stuck."""
        return self._watch.shut | {True} if self._loop_hangs else self._watch.shut

    def _callable(self, ours: tuple[tuple[str, str], ...], *, undo: bool) -> tuple[tuple[str, str], ...]:
        """Those of our dendrites, or of their compensations, that are of the other kinds."""
        shut = self._shut()
        return tuple(one for one in ours if self._is_async(*one, undo) not in shut) if shut else ours

    def _request(self, limit: int, *, suspects: bool) -> ClaimRequest:
        return ClaimRequest(
            worker=self._worker(),
            nonce=self._entropy.nonce(),
            graph=self._cns.durable_name,
            graph_version=self._cns.version,
            queues=self.queues,
            dendrites=self._callable(self.dendrites, undo=False),
            limit=limit,
            suspects=suspects,
            places=tuple(keeper.place for keeper in self._keepers.values() if keeper.reachable),
            compensations=self._callable(self.compensations, undo=True),
            limits=self.limits,
        )

    def _claim(self, limit: int, *, suspects: bool) -> int | None:
        """Claim at most so many; how many came, or None when the store is away."""
        try:
            works = self._store.run(self._store.claim(self._request(limit, suspects=suspects)))
        except StoreUnavailable as error:
            _log.info("claiming failed, the store is away: %s", error)
            time.sleep(_CLAIM_PAUSE)
            return None
        except Exception:
            _log.exception("claiming failed")
            time.sleep(_CLAIM_PAUSE)
            return None
        self._missed_at = time.monotonic() if works.missed else None
        for work in works:
            self._take(work, streak=0)
        return len(works)

    def _take(self, work: Work, *, streak: int) -> None:
        """Hold claimed work, and send it to its call; by way of its values, where they are kept elsewhere."""
        asynchronous = self._is_async(work.neuron, work.collateral, work.undo)
        job = _Job(work, time.monotonic(), streak)
        with self._change:
            self._held.add((work.run_id, work.fence))
            self._sync_held += not asynchronous
            self._async_held += asynchronous
        if work.place is None:
            self._send(job)
        else:
            self._keepers[work.place].load(
                work.snapshot.slots, str(work), partial(self._loaded, job), waits=partial(self._make_room, work)
            )

    def _loaded(self, job: _Job, found: Found) -> None:
        """The values of a context that is kept elsewhere have come, or have not."""
        work = job.work
        if isinstance(found, StoreUnavailable):
            self._give_back(job, backoff=self._keepers[work.place or ""].pause)
        elif not self._calling:
            self._give_back(job)
        elif isinstance(found, ContextLost):
            self._context_lost(Settlement(work=work, event=Returned(fence=work.fence)), found)
        else:
            snapshot = Snapshot(version=work.snapshot.version, slots=found)
            self._send(replace(job, work=replace(work, snapshot=snapshot)))

    def _send(self, job: _Job) -> None:
        """To a thread, or to the event loop."""
        with self._change:
            self._waiting[job.work.run_id, job.work.fence] = job
        if self._is_async(job.work.neuron, job.work.collateral, job.work.undo):
            self._coroutines.put(partial(self._call_async, job), f"cnstra {job.work}")
        else:
            self._threads.put(partial(self._call, job))

    # -- 3. the call -------------------------------------------------------------------------------------------

    def _call(self, job: _Job) -> None:
        call = self._begin(job)
        if call is None:
            return
        under_way = partial(self._watched, job, call, self._threads.seat())
        if has_transaction(job.work, call):
            carried_out(self._transact(job, call, under_way, asynchronous=False))
            return
        try:
            returned = self._invoke(call, under_way())
        except BaseException as error:  # a handler may raise anything, and the thread must live on
            self._settle(self._failed(job, call, error))
        else:
            self._settle(self._returned(job, call, returned))

    def _invoke(self, call: Call, under_way: UnderWay) -> Any:
        returned = call.begin()
        if inspect.isawaitable(returned):
            returned = self._coroutines.wait_for(self._watch.in_time(returned, under_way))
        return returned

    async def _call_async(self, job: _Job) -> None:
        call = self._begin(job)
        if call is None:
            return
        under_way = partial(self._watched, job, call)
        if has_transaction(job.work, call):
            await self._transact(job, call, under_way, asynchronous=True)
            return
        try:
            returned = await self._await(call, under_way())
        except asyncio.CancelledError:  # the worker stops, and did not wait any longer: the claim runs out
            raise
        except BaseException as error:
            self._settle(self._failed(job, call, error))
        else:
            self._settle(self._returned(job, call, returned))

    async def _await(self, call: Call, under_way: UnderWay) -> Any:
        try:
            return await self._watch.in_time(call.begin(), under_way)
        except asyncio.CancelledError as error:
            if not self._calling:
                raise
            raise RuntimeError("the handler was cancelled from inside") from error

    async def _transact(self, job: _Job, call: Call, begun: Callable[[], UnderWay], *, asynchronous: bool) -> None:
        """Call and settle in one transaction with the handler's own statements; see ``transacting``."""
        assert self._transacting is not None, "the graph has such a dendrite"
        ending: Settlement | Ended | None
        try:
            ending = await self._transacting.hop(call, _Ways(self, job, begun, asynchronous=asynchronous))
        except Exception as error:
            _log.exception("%s: its transaction could not be carried out", job.work)
            ending = self._failure(job, call, error)
        if not isinstance(ending, Ended):
            self._settle(ending)
        else:
            self._settled(ending.settlement, ending.applied)
            self._committer.ring(ending.rings)

    def _begin(self, job: _Job) -> Call | None:
        """What the handler is to be called with; None where it is not to be called."""
        asynchronous = self._is_async(job.work.neuron, job.work.collateral, job.work.undo)
        if asynchronous and self._loop_hangs:
            self._loop_hangs = False
            self.nudge()
        with self._change:
            if self._waiting.pop((job.work.run_id, job.work.fence), None) is None:
                return None  # it has waited too long, and was given back
            if not asynchronous:
                self._ahead = self._settings.threads
        if not self._calling:
            self._give_back(job)
            return None
        try:
            begun = self._caller.begin(job.work)
        except BaseException as error:  # types and policies are users' code, too
            _log.exception("%s: its call could not begin", job.work)
            begun = self._caller.failed(job.work, error, for_good=True)
        if isinstance(begun, FailedTry):
            self._log_failed(job.work, begun)
            self._committer.put(Settlement(work=job.work, event=begun))
            return None
        return begun

    def _watched(self, job: _Job, call: Call, seat: Seat | None = None) -> UnderWay:
        """The call begins, and with it its time. ``seat`` is the thread that it is made on; None is the event loop."""
        return self._watch.begin(
            job.work,
            lifeline_of(call.context),
            call.callee.max_duration,
            partial(self._lost, job, call, seat),
            is_async=seat is None,
        )

    def _returned(self, job: _Job, call: Call, returned: Any) -> Settlement | None:
        """How a handler that returned is to be settled; None where that comes too late."""
        if not self._watch.stands(job.work):  # what was a generator must not even begin
            self._watch.end(job.work, "its handler returned")
            return None
        settlement = self._concluded(job, call, returned)
        return settlement if self._watch.end(job.work, "its handler returned") else None

    def _concluded(self, job: _Job, call: Call, returned: Any) -> Settlement:
        seconds = time.monotonic() - job.claimed
        for name in view_of(call.context).unassigned():
            _log.warning("%s was changed in place and not assigned: the change is lost", name)
        event = self._caller.conclude(call, returned, seconds=seconds, stay=self._stays(job.streak))
        return Settlement(work=job.work, event=event, call=call, seconds=seconds, streak=job.streak)

    def _failed(self, job: _Job, call: Call, error: BaseException) -> Settlement | None:
        """How one that raised is; None where that comes too late."""
        in_time = self._watch.end(job.work, f"its handler raised {type(error).__name__}")
        return self._failure(job, call, error) if in_time else None

    def _failure(self, job: _Job, call: Call, error: BaseException) -> Settlement:
        seconds = time.monotonic() - job.claimed
        event = self._caller.failed(job.work, error, dendrite=call.dendrite, seconds=seconds)
        self._log_failed(job.work, event)
        return Settlement(work=job.work, event=event)

    def _log_failed(self, work: Work, event: FailedTry) -> None:
        after = "failed for good" if event.retry_after is None else f"again in {event.retry_after:.3f} s"
        _log.info("%s, try %d: %s; %s", work, work.try_number, event.failure.error_type, after)

    def _stays(self, streak: int) -> bool:
        calm = self._claiming and not self._quarantine.open and not self._shut()
        return calm and streak < self._settings.streak

    # -- calls that take too long ------------------------------------------------------------------------------

    def _lost(self, job: _Job, call: Call, seat: Seat | None, error: MaxDurationExceeded) -> None:
        """A call goes on beyond its ``max_duration``: it has failed, and somebody else takes its thread's place."""
        if seat is not None:
            if stack := seat.stack():
                error.add_note(f"Its thread, when its time was over:\n{stack}")
            self._threads.replace(seat)
        stuck = self._watch.stuck(is_async=seat is None)
        _log.warning(
            "%s, try %d: still in its handler after its max_duration of %s; its claim is given up, %s; %d stuck by now",
            job.work,
            job.work.try_number,
            call.callee.max_duration,
            "and it did not end when it was cancelled" if seat is None else "and its thread is replaced",
            stuck,
        )
        self._settle(self._failure(job, call, error))

    def cancel(self, run_id: UUID) -> None:
        """The run is being ended: say so to those of its handlers that run here, by ``ctx.cancelled``."""
        self._watch.cancel(run_id)

    def _report_refused(self, report: Report) -> None:
        run_id, fence = report.run_id, report.fence
        _log.info(
            "run %s, activation %d: its claim was taken away, so its progress was refused", run_id, fence.activation_id
        )
        self._watch.disown(run_id, fence)

    # -- 4. the settlement, and its answer ---------------------------------------------------------------------

    def _settle(self, settlement: Settlement | None) -> None:
        """Commit how a hop ended; None is one that ended too late."""
        if settlement is not None:
            self._keep(settlement, self._committer.put, partial(self._refused, settlement))

    def _keep(
        self,
        settlement: Settlement,
        kept: Callable[[Settlement], None],
        refused: Callable[[DataRefused], None],
    ) -> None:
        """The settlement on its way; by way of a blob, where it wrote to a context that is kept elsewhere."""
        work, event = settlement.work, settlement.event
        if settlement.wasted and isinstance(event, Succeeded | FailedTry):
            event = replace(event, wasted=settlement.wasted)
            settlement = replace(settlement, event=event)
        keeper = None if work.place is None else self._keepers[work.place]
        if keeper is None or not isinstance(event, Succeeded):
            kept(settlement)
            return
        try:
            blob = blob_of(work.run_id, work.fence, settlement.turn, event.changes)
        except DataRefused as refusal:
            refused(refusal)
            return
        if blob is None:
            kept(settlement)
            return
        reference = BlobRef(place=keeper.place, key=blob.key)
        refers = replace(settlement, event=replace(event, changes=referring(event.changes, blob), blob=reference))

        def settle(refusal: DataRefused | None) -> None:
            if refusal is None:
                kept(refers)
            else:
                refused(refusal)

        keeper.put(blob, str(work), settle, waits=partial(self._make_room, work))

    def _about_to_settle(self, settlements: Sequence[Settlement]) -> None:
        self._reports.write_before((one.work.run_id, one.work.fence) for one in settlements)

    def _settled(self, settlement: Settlement, applied: Applied) -> None:
        work = settlement.work
        match applied.verdict:
            case Verdict.STALE:
                self._newest(settlement, applied)
                return
            case Verdict.FENCED | Verdict.VOID:
                _log.warning("%s: its claim was taken away, so its result was refused; nothing was committed", work)
            case Verdict.REFUSED:
                _log.warning("%s: what it emitted breaks a rule of its group, so that it has failed for good", work)
            case Verdict.CONFLICTED:
                _log.info("%s: in conflict with another activation's writes; it runs again", work)
            case _:
                pass
        for kept in applied.kept:
            self._take(kept, streak=settlement.streak + 1)
        self._let_go(work)

    def _newest(self, settlement: Settlement, applied: Applied) -> None:
        """Others wrote what this hop updates: their values, as they are or from where they are kept, on to a thread."""
        work, settlement = settlement.work, replace(settlement, wasted=settlement.put_by)

        def found(newest: Found) -> None:
            if isinstance(newest, StoreUnavailable | ContextLost):
                self._context_lost(settlement, newest)
            else:
                self._threads.put(lambda: self._settle(self._take_in(settlement, newest)))

        self._load_newest(work, applied, found)

    def _load_newest(self, work: Work, applied: Applied, found: Callable[[Found], None]) -> None:
        if work.place is None:
            found(dict(applied.newest))
        else:
            self._keepers[work.place].load(
                applied.newest, str(work), found, waits=partial(self._make_room, work), patient=True
            )

    def _take_in(self, settlement: Settlement, newest: Mapping[str, Slot]) -> Settlement:
        """The settlement again, with others' values taken in."""
        call, seconds = settlement.call, settlement.seconds
        if call is None or not isinstance(settlement.event, Succeeded):
            raise RuntimeError(f"{settlement.work}: stale values for a hop that wrote none")
        event = self._caller.take_in(call, newest, seconds=seconds, stay=self._stays(settlement.streak))
        return replace(settlement, event=event, turn=settlement.turn + 1)

    def _context_lost(self, settlement: Settlement, error: CnstraError) -> None:
        """Nothing can be made of a part that is gone: the activation has failed, and waits for the blob and a retry."""
        _log.error("%s", error)
        self._settle(replace(settlement, event=self._caller.given_up(settlement.work, error), call=None))

    def _refused(self, settlement: Settlement, error: DataRefused) -> None:
        """The store cannot hold what the hop wrote: that is the hop's own failed try."""
        work = settlement.work
        _log.warning("%s: %s", work, error)
        if isinstance(settlement.event, Succeeded) and settlement.call is not None:
            event = self._refusal(settlement, settlement.call, error)
        elif isinstance(settlement.event, FailedTry) and settlement.event.failure.traceback is not None:
            kind = settlement.event.failure.error_type
            event = replace(
                settlement.event,
                failure=Failure(error_type=kind, error=f"its message could not be stored: {error}"),
            )
        else:
            _log.error("%s: the store refuses even its failure; it is tried again when the lease is reconciled", work)
            self._let_go(work)
            return
        self._committer.put(Settlement(work=work, event=event))

    def _refusal(self, settlement: Settlement, call: Call, error: DataRefused) -> FailedTry:
        event = self._caller.failed(settlement.work, error, dendrite=call.dendrite, seconds=settlement.seconds)
        return replace(event, wasted=settlement.put_by)

    def _let_go(self, work: Work) -> None:
        """The claim is settled. Only this one: the activation may have been claimed here again meanwhile.

        Where its neuron has a limit a slot is free: nobody else is told, so that this process looks what waits for it.
        """
        with self._change:
            if (work.run_id, work.fence) in self._held:
                self._make_room(work)
                self._held.remove((work.run_id, work.fence))
                self._set_down.discard((work.run_id, work.fence))
                self._wanted += work.neuron in self.limits
            self._change.notify_all()

    def _make_room(self, work: Work) -> None:
        """The claim is still held, and takes no room any more: while it waits for a store of contexts, others may run."""
        asynchronous = self._is_async(work.neuron, work.collateral, work.undo)
        with self._change:
            key = (work.run_id, work.fence)
            if key in self._held and key not in self._set_down:
                self._set_down.add(key)
                self._sync_held -= not asynchronous
                self._async_held -= asynchronous
            self._change.notify_all()

    def _give_back(self, job: _Job, *, backoff: float | None = None) -> None:
        self._committer.put(Settlement(work=job.work, event=Returned(fence=job.work.fence, backoff=backoff)))

    # -- what the lease asks ----------------------------------------------------------------------------------

    def renewed(self) -> None:
        """What is done as often as the lease is renewed."""
        self._return_waiting()
        self.look_for_suspects()
        for keeper in self._keepers.values():
            keeper.renewed(self._store)

    def look_for_suspects(self) -> None:
        """Where a poison suspect waits, empty this process and run it alone, as soon as that can be."""
        if not self._store.run(self._store.suspects_wait(self._request(1, suspects=True))):
            return
        with self._change:
            self._quarantine.ask(time.monotonic())
            self._change.notify_all()

    def _return_waiting(self) -> None:
        """Give back what waits to be called, and did so at the last call of this already: other workers may be free.

        Until a thread is free, nothing more is claimed to wait; until the event loop goes on, nothing that needs it.
        """
        with self._change:
            overdue = [self._waiting.pop(key) for key in self._waited & self._waiting.keys()]
            self._waited = set(self._waiting)
            for job in overdue:
                if self._is_async(job.work.neuron, job.work.collateral, job.work.undo):
                    self._loop_hangs = True
                else:
                    self._ahead = 0
        for job in overdue:
            _log.info("%s: no thread was free for it, or a handler holds the event loop up; given back", job.work)
            self._give_back(job)

    def holds(self, run_id: UUID, fence: Claimed) -> bool:
        """Whether this process still has the claim in its hands."""
        with self._change:
            return (run_id, fence) in self._held

    # -- start and stop ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to claim and to call."""
        self._threads.start()
        self._coroutines.start()
        self._claimer.start()
        self._watch.start()
        self._reports.start()
        self._committer.start()
        for keeper in self._keepers.values():
            keeper.start()
        self.nudge()

    def stop(self, timeout: float) -> bool:
        """Claim no more, give back what was not called, let running handlers end within ``timeout`` seconds.

        Returns whether all of them did.
        """
        until = time.monotonic() + timeout
        with self._change:
            self._claiming = False
            self._calling = False
            self._change.notify_all()
        self._claimer.join(_LONGEST_ANSWER)
        self._threads.empty()  # given back: each thread may be in a handler until the time to drain is over
        with self._change:
            drained = self._change.wait_for(lambda: not self._held, max(until - time.monotonic(), 0.0))
        for keeper in self._keepers.values():
            keeper.stop()
        self._committer.stop(max(until - time.monotonic(), 1.0))
        if self._transacting is not None:
            self._transacting.close(self._coroutines.loop)
        self._watch.stop()
        self._reports.stop(1.0)
        self._threads.stop()
        self._coroutines.stop()
        return drained


class _Ways:
    """What a hop in its own transaction does like all others, at the hand of ``Hops``; see ``transacting.Ways``."""

    def __init__(self, hops: Hops, job: _Job, begun: Callable[[], UnderWay], *, asynchronous: bool) -> None:
        self._hops = hops
        self._job = job
        self._begun = begun
        self.asynchronous = asynchronous

    async def invoke(self, call: Call) -> Any:
        under_way = self._begun()
        how = "its handler raised"
        try:
            waited = self._hops._await(call, under_way) if self.asynchronous else None
            returned = self._hops._invoke(call, under_way) if waited is None else await waited
            if inspect.isgenerator(returned):  # its body is the handler
                returned = list(returned)
            how = "its handler returned"
        finally:
            in_time = self._hops._watch.end(self._job.work, how)
            if not in_time:
                raise TooLate  # in the place of whatever was raised
        return returned

    def returned(self, call: Call, returned: Any) -> Settlement:
        return self._hops._concluded(self._job, call, returned)

    def failed(self, call: Call, error: BaseException) -> Settlement:
        return self._hops._failure(self._job, call, error)

    def failed_for_good(self, work: Work, error: Exception) -> Settlement:
        return Settlement(work=work, event=self._hops._caller.given_up(work, error))

    def refused(self, settlement: Settlement, call: Call, error: DataRefused) -> Settlement:
        _log.warning("%s: %s", settlement.work, error)
        return Settlement(work=settlement.work, event=self._hops._refusal(settlement, call, error))

    def keep(self, settlement: Settlement) -> Future[Settlement]:
        self._hops._about_to_settle([settlement])
        future: Future[Settlement] = Future()
        self._hops._keep(settlement, future.set_result, future.set_exception)
        return future

    def newest(self, settlement: Settlement, applied: Applied) -> Future[Mapping[str, Slot]]:
        future: Future[Mapping[str, Slot]] = Future()

        def found(newest: Found) -> None:
            if isinstance(newest, StoreUnavailable | ContextLost):
                future.set_exception(newest)
            else:
                future.set_result(newest)

        self._hops._load_newest(settlement.work, applied, found)
        return future

    def take_in(self, settlement: Settlement, newest: Mapping[str, Slot]) -> Settlement:
        return self._hops._take_in(settlement, newest)

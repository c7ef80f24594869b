"""The life of a hop, top to bottom: doorbell → claim → call → settle → ring.

One ``Hops`` serves one graph in one process. A doorbell (or a nudge) makes the claimer claim as much as there is room for.
Sync handlers are called on a pool of threads, async ones on one event loop; the watch sees how long they take, and takes the
claims of those that take too long. What they come to is settled by the committer in batches; a thread carries its own hop to
the store only where it would have nothing else to do. The commit's answer rings for what became ready elsewhere, and a single
successor that stayed here goes straight on to its call.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import NoneType
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.blobs import Blobs, blob_of, referring
from cnstra.orchestrator.context import ABOUT, naming
from cnstra.orchestrator.errors import (
    CnstraError,
    ContextLost,
    DataRefused,
    KeyMissing,
    MaxDurationExceeded,
    SealError,
    StoreUnavailable,
)
from cnstra.orchestrator.graph import CNS, Signal
from cnstra.orchestrator.machine.events import FailedTry, GaveWay, Returned, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import BlobRef, Failure, Target
from cnstra.orchestrator.ports import Bell, Entropy
from cnstra.orchestrator.run_context import lifeline_of, view_of
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Applied, Report, Store, Work
from cnstra.workers.calling import Call, Caller, Stay, failure_of
from cnstra.workers.claiming import Claimer, Skills
from cnstra.workers.committing import Committer, Settlement
from cnstra.workers.coroutines import Coroutines
from cnstra.workers.holding import Holdings, Job
from cnstra.workers.keeping import Found, Keeper
from cnstra.workers.progress import Reports
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.threads import Seat, Threads
from cnstra.workers.transacting import Ended, TooLate, Transacting, carried_out, has_transaction, transactions_of
from cnstra.workers.watching import Clock, SystemClock, UnderWay, Watch

_log = logging.getLogger("cnstra.worker")

_PLAIN = (Signal, NoneType, list)  # what handlers return most, and what nobody awaits: to ask each takes a while
_REPORT_EVERY = 1.0  # seconds between two writes of progress, unless the lease is renewed more often
_WARN_AGAIN = 60.0  # seconds between two warnings of keys that are missing
_FOR_ANOTHER = 5.0  # seconds before work may be claimed again that is sealed with a key which this worker does not have


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
        self.skills = Skills(cns, settings.queues or cns.queues)
        self._store = store
        self._settings = settings
        self._caller = Caller(cns, queues=frozenset(self.skills.queues), poison_limit=settings.poison_limit)
        self._threads = Threads(settings.threads)
        self._holdings = Holdings(threads=settings.threads, coroutines=settings.coroutines)
        self._claimer = Claimer(
            cns,
            self.skills,
            store,
            entropy,
            self._holdings,
            worker=worker,
            shut=self._shut,
            places=self._places,
            take=self._take_claimed,
        )
        self.rung, self.nudge = self._claimer.rung, self._claimer.nudge
        self.look_for_suspects = self._claimer.look_for_suspects
        self.holds = self._holdings.holds
        self.disown = self._holdings.disown
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
            unhurried=self._holdings.some_wait,
        )
        transactions = transactions_of(cns, store, self.skills.dendrites, settings.transactions or settings.threads)
        self._coroutines = Coroutines()  # an event loop, which what refuses to begin would leave behind
        self._transacting = Transacting(transactions, entropy, worker, lambda: self._calling) if transactions else None
        self._keepers = {
            blobs.place: Keeper(blobs, litter_after=settings.litter_after, back=self.nudge) for blobs in contexts
        }
        self.places = tuple(self._keepers)
        self._calling = True
        self._warns_of_keys_at = 0.0
        self._loop_hangs = False  # async handlers cannot even begin: one of them holds the event loop up

    # -- 1. the doorbell, and 2. the claim: see ``Claimer`` ---------------------------------------------------------

    def _shut(self) -> frozenset[bool]:
        """The kinds of handlers, async or not, that this process cannot call for the moment: too many are stuck."""
        return self._watch.shut | {True} if self._loop_hangs else self._watch.shut

    def _places(self) -> tuple[str, ...]:
        """The stores of contexts that can be reached."""
        return tuple(keeper.place for keeper in self._keepers.values() if keeper.reachable)

    def _take_claimed(self, works: Sequence[Work]) -> None:
        self._take([self._job(work, streak=0) for work in works])

    def _job(self, work: Work, *, streak: int) -> Job:
        is_async = self.skills.is_async(work.neuron, work.collateral, work.undo)
        return Job(work=work, claimed=time.monotonic(), streak=streak, is_async=is_async)

    def _take(self, jobs: Sequence[Job]) -> None:
        """Hold claimed work, and send it to its call; by way of its values, where they are kept elsewhere."""
        here = [job for job in jobs if job.work.place is None]
        elsewhere = [job for job in jobs if job.work.place is not None] if len(here) < len(jobs) else []
        self._send(self._holdings.take(here, waiting=True))
        for job in self._holdings.take(elsewhere, waiting=False):
            work = job.work
            self._keepers[work.place or ""].load(
                work.snapshot.slots,
                str(work),
                partial(self._loaded, job),
                waits=partial(self._holdings.set_down, work),
            )

    def _loaded(self, job: Job, found: Found) -> None:
        """The values of a context that is kept elsewhere have come, or have not."""
        work = job.work
        if isinstance(found, StoreUnavailable):
            self._give_back(job, backoff=self._keepers[work.place or ""].pause)
        elif isinstance(found, KeyMissing):
            self._leave_to_another(job, found)
        elif not self._calling:
            self._give_back(job)
        elif isinstance(found, ContextLost | SealError):
            self._context_lost(Settlement(work=work, event=Returned(fence=work.fence)), found)
        else:
            snapshot = Snapshot(version=work.snapshot.version, slots=found)
            ready = replace(job, work=replace(work, snapshot=snapshot))
            self._holdings.wait(ready)
            self._send([ready])

    def _send(self, jobs: Sequence[Job]) -> None:
        """To the threads, or to the event loop."""
        on_threads = [partial(self._call, job) for job in jobs if not job.is_async]
        if on_threads:
            self._threads.put(on_threads)
            if not self._calling:  # it came last: each thread may be in a handler until the time to drain is over
                self._threads.empty()
        if len(on_threads) < len(jobs):
            self._coroutines.put([(partial(self._call_async, job), job.work) for job in jobs if job.is_async])

    # -- 3. the call -------------------------------------------------------------------------------------------

    def _call(self, job: Job) -> None:
        call = self._begin(job)
        if call is None:
            return
        begin = partial(self._watched, job, call, self._threads.seat())
        if has_transaction(job.work, call):
            carried_out(self._transact(job, call, begin, asynchronous=False))
            return
        under_way = begin()
        try:
            returned = self._invoke(call, under_way)
        except BaseException as error:  # a handler may raise anything, and the thread must live on
            self._settle(self._failed(job, call, error))
        else:
            self._settle(self._returned(job, call, under_way, returned), self._committer.settle)

    def _invoke(self, call: Call, under_way: UnderWay) -> Any:
        returned = call.begin()
        if not isinstance(returned, _PLAIN) and inspect.isawaitable(returned):
            returned = self._coroutines.wait_for(self._watch.in_time(returned, under_way))
        return returned

    async def _call_async(self, job: Job) -> None:
        call = self._begin(job)
        if call is None:
            return
        begin = partial(self._watched, job, call)
        if has_transaction(job.work, call):
            await self._transact(job, call, begin, asynchronous=True)
            return
        under_way = begin()
        try:
            returned = await self._await(call, under_way)
        except asyncio.CancelledError:  # the worker stops, and did not wait any longer: the claim runs out
            raise
        except BaseException as error:
            self._settle(self._failed(job, call, error))
        else:
            self._settle(self._returned(job, call, under_way, returned))

    async def _await(self, call: Call, under_way: UnderWay) -> Any:
        try:
            return await self._watch.in_time(call.begin(), under_way)
        except asyncio.CancelledError as error:
            if not self._calling:
                raise
            raise RuntimeError("the handler was cancelled from inside") from error

    async def _transact(self, job: Job, call: Call, begun: Callable[[], UnderWay], *, asynchronous: bool) -> None:
        """Call and settle in one transaction with the handler's own statements; see ``transacting``."""
        assert self._transacting is not None, "the graph has such a dendrite"
        ending: Settlement | Ended | None
        try:
            ending = await self._transacting.hop(call, _Ways(self, job, begun, asynchronous=asynchronous))
        except Exception as error:
            _log.error("%s: its transaction could not be carried out: %s", job.work, type(error).__name__)
            ending = self._failure(job, call, error)
        if not isinstance(ending, Ended):
            self._settle(ending)
        else:
            self._settled([(ending.settlement, ending.applied)])
            self._committer.ring(ending.rings)

    def _begin(self, job: Job) -> Call | None:
        """What the handler is to be called with; None where it is not to be called."""
        if job.is_async and self._loop_hangs:
            self._loop_hangs = False
            self.nudge()
        if not self._holdings.begin(job):
            return None
        if not self._calling:
            self._give_back(job)
            return None
        if isinstance(job.work.unopened, KeyMissing):
            self._leave_to_another(job, job.work.unopened)
            return None
        try:
            begun = self._caller.begin(job.work)
        except BaseException as error:  # types and policies are users' code, too
            _log.error("%s: its call could not begin: %s", job.work, type(error).__name__)  # the rest stands in its try
            begun = self._caller.failed(job.work, error, for_good=True)
        if isinstance(begun, FailedTry):
            self._log_failed(job.work, begun)
            self._committer.put(Settlement(work=job.work, event=begun))
            return None
        return begun

    def _watched(self, job: Job, call: Call, seat: Seat | None = None) -> UnderWay:
        """The call begins, and with it its time. ``seat`` is the thread that it is made on; None is the event loop."""
        return self._watch.begin(
            job.work,
            lifeline_of(call.context),
            call.callee.max_duration,
            partial(self._lost, job, call, seat),
            is_async=seat is None,
        )

    def _returned(self, job: Job, call: Call, under_way: UnderWay, returned: Any) -> Settlement | None:
        """How a handler that returned is to be settled; None where that comes too late."""
        if not self._watch.stands(under_way):  # what was a generator must not even begin
            self._watch.end(job.work, "its handler returned")
            return None
        settlement = self._concluded(job, call, returned)
        return settlement if self._watch.end(job.work, "its handler returned") else None

    def _concluded(self, job: Job, call: Call, returned: Any) -> Settlement:
        seconds = time.monotonic() - job.claimed
        for name in view_of(call.context).unassigned():
            _log.warning("%s was changed in place and not assigned: the change is lost", name, extra={ABOUT: job.work})
        event = self._caller.conclude(call, returned, seconds=seconds, stay=self._stay(job.work, job.streak))
        return Settlement(work=job.work, event=event, call=call, seconds=seconds, streak=job.streak)

    def _failed(self, job: Job, call: Call, error: BaseException) -> Settlement | None:
        """How one that raised is; None where that comes too late."""
        in_time = self._watch.end(job.work, f"its handler raised {type(error).__name__}")
        return self._failure(job, call, error) if in_time else None

    def _failure(self, job: Job, call: Call, error: BaseException) -> Settlement:
        seconds = time.monotonic() - job.claimed
        event = self._caller.failed(job.work, error, dendrite=call.dendrite, seconds=seconds)
        self._log_failed(job.work, event)
        return Settlement(work=job.work, event=event)

    def _log_failed(self, work: Work, event: FailedTry) -> None:
        after = "failed for good" if event.retry_after is None else f"again in {event.retry_after:.3f} s"
        _log.info("%s, try %d: %s; %s", work, work.try_number, event.failure.error_type, after)

    def _stay(self, work: Work, streak: int) -> Stay | None:
        """Whether successors of work may stay here; and how many members of a scatter."""
        if streak >= self._settings.streak or not self._claimer.is_calm or self._shut():
            return None
        return partial(self._members_stay, work)

    def _members_stay(self, work: Work, target: Target, wanted: int) -> int:
        is_async = self.skills.is_async(target.neuron, target.collateral, False)
        return self._holdings.promise(work, target, wanted, is_async=is_async, plenty=self._claimer.leaves_plenty)

    # -- calls that take too long ------------------------------------------------------------------------------

    def _lost(self, job: Job, call: Call, seat: Seat | None, error: MaxDurationExceeded) -> None:
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
            "run %s, activation %d: its claim was taken away, so its progress was refused",
            run_id,
            fence.activation_id,
            extra=naming((run_id, fence.activation_id)),
        )
        self._watch.disown(run_id, fence)

    # -- 4. the settlement, and its answer ---------------------------------------------------------------------

    def _settle(self, settlement: Settlement | None, commit: Callable[[Settlement], None] | None = None) -> None:
        """Commit how a hop ended; None is one that ended too late."""
        if settlement is not None:
            self._holdings.set_down(settlement.work, size=settlement.size)
            if commit is None or settlement.work.place is not None:  # a keeper's threads have others to serve
                commit = self._committer.put
            self._keep(settlement, commit, partial(self._refused, settlement))

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
            blob = blob_of(work.run_id, work.fence, settlement.turn, event.changes, keeper.vault)
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

        keeper.put(blob, str(work), settle, waits=partial(self._holdings.set_down, work))

    def _about_to_settle(self, settlements: Sequence[Settlement]) -> None:
        self._reports.write_before((one.work.run_id, one.work.fence) for one in settlements)

    def _settled(self, answers: Sequence[tuple[Settlement, Applied]]) -> None:
        """What the store answered to a batch: successors that are kept here go on, and what is settled is let go."""
        settled: list[Work] = []
        kept: list[Job] = []
        for settlement, applied in answers:
            if applied.verdict is Verdict.STALE:
                try:
                    self._newest(settlement, applied)
                except Exception:  # the committer must live on: all hops of this process pass through it
                    _log.exception("%s: its settlement's answer could not be taken in", settlement.work)
                continue
            if applied.verdict is not Verdict.APPLIED:
                _tell_of(applied.verdict, settlement.work)
            settled.append(settlement.work)
            kept += [self._job(work, streak=settlement.streak + 1) for work in applied.kept]
        self._take(kept)
        self._let_go(settled)

    def _newest(self, settlement: Settlement, applied: Applied) -> None:
        """Others wrote what this hop updates: their values, as they are or from where they are kept, on to a thread."""
        work, settlement = settlement.work, replace(settlement, wasted=settlement.put_by)

        def found(newest: Found) -> None:
            if isinstance(newest, KeyMissing):
                self._give_way(settlement, newest)
            elif isinstance(newest, StoreUnavailable | ContextLost | SealError):
                self._context_lost(settlement, newest)
            else:
                self._threads.put([lambda: self._settle(self._take_in(settlement, newest))])

        self._load_newest(work, applied, found)

    def _load_newest(self, work: Work, applied: Applied, found: Callable[[Found], None]) -> None:
        if applied.unopened is not None:
            found(applied.unopened)
        elif work.place is None:
            found(dict(applied.newest))
        else:
            self._keepers[work.place].load(
                applied.newest, str(work), found, waits=partial(self._holdings.set_down, work), patient=True
            )

    def _take_in(self, settlement: Settlement, newest: Mapping[str, Slot]) -> Settlement:
        """The settlement again, with others' values taken in."""
        call, seconds = settlement.call, settlement.seconds
        if call is None or not isinstance(settlement.event, Succeeded):
            raise RuntimeError(f"{settlement.work}: stale values for a hop that wrote none")
        event = self._caller.take_in(call, newest, seconds=seconds, stay=self._stay(settlement.work, settlement.streak))
        return replace(settlement, event=event, turn=settlement.turn + 1)

    def _context_lost(self, settlement: Settlement, error: CnstraError) -> None:
        """Nothing can be made of a part that is gone: the activation has failed, and waits for the blob and a retry."""
        _log.error("%s", error, extra={ABOUT: settlement.work})
        self._settle(replace(settlement, event=self._caller.given_up(settlement.work, error), call=None))

    def _give_way(self, settlement: Settlement, error: KeyMissing) -> None:
        """What others wrote is sealed with a key that is not here: somebody who has it calls the handler again."""
        _log.warning("%s", error, extra={ABOUT: settlement.work})
        event = GaveWay(
            fence=settlement.work.fence, failure=failure_of(error), backoff=_FOR_ANOTHER, wasted=settlement.put_by
        )
        self._settle(replace(settlement, event=event, call=None))

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
            self._let_go([work])
            return
        self._committer.put(Settlement(work=work, event=event))

    def _refusal(self, settlement: Settlement, call: Call, error: DataRefused) -> FailedTry:
        event = self._caller.failed(settlement.work, error, dendrite=call.dendrite, seconds=settlement.seconds)
        return replace(event, wasted=settlement.put_by)

    def _let_go(self, works: Sequence[Work]) -> None:
        """Their claims are settled. Where a neuron has a limit a slot is free: nobody else is told, so that this process looks
        what waits for it.
        """
        self._holdings.let_go(works)
        if self.skills.limits and any(work.neuron in self.skills.limits for work in works):
            self.nudge()

    def _leave_to_another(self, job: Job, error: KeyMissing) -> None:
        """Work of which something is sealed with a key that is not here: it has not failed."""
        now = time.monotonic()
        level = logging.WARNING if now >= self._warns_of_keys_at else logging.INFO  # there may be thousands of them
        if level == logging.WARNING:
            self._warns_of_keys_at = now + _WARN_AGAIN
        _log.log(level, "%s; it goes back, for a worker that has the key", error, extra={ABOUT: job.work})
        self._give_back(job, backoff=_FOR_ANOTHER)

    def _give_back(self, job: Job, *, backoff: float | None = None) -> None:
        self._committer.put(Settlement(work=job.work, event=Returned(fence=job.work.fence, backoff=backoff)))

    # -- what the lease asks ----------------------------------------------------------------------------------

    def renewed(self) -> None:
        """What is done as often as the lease is renewed."""
        self._return_waiting()
        self.look_for_suspects()
        for keeper in self._keepers.values():
            keeper.renewed(self._store)

    def _return_waiting(self) -> None:
        """Give back what waits to be called, and did so at the last call of this already: other workers may be free.

        Until a thread is free, nothing more is claimed to wait; until the event loop goes on, nothing that needs it.
        """
        overdue = self._holdings.overdue()
        self._loop_hangs |= any(job.is_async for job in overdue)
        for job in overdue:
            _log.info("%s: no thread was free for it, or a handler holds the event loop up; given back", job.work)
            self._give_back(job)

    # -- start and stop ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to claim and to call."""
        self._threads.start()
        self._coroutines.start()
        self._watch.start()
        self._reports.start()
        self._committer.start()
        for keeper in self._keepers.values():
            keeper.start()
        self._claimer.start()

    def close(self) -> None:
        """Claim and keep no more, give back what was not called. Idempotent."""
        self._calling = False
        self._claimer.stop()
        self._threads.empty()  # given back: each thread may be in a handler until the time to drain is over

    def stop(self, timeout: float) -> bool:
        """The same, and let running handlers end within ``timeout`` seconds. Returns whether all of them did."""
        until = time.monotonic() + timeout
        self.close()
        drained = self._holdings.wait_for_none(max(until - time.monotonic(), 0.0))
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


def _tell_of(verdict: Verdict, work: Work) -> None:
    """A settlement that was not applied, for the log."""
    match verdict:
        case Verdict.FENCED | Verdict.VOID:
            _log.warning("%s: its claim was taken away, so its result was refused; nothing was committed", work)
        case Verdict.REFUSED:
            _log.warning("%s: what it emitted breaks a rule of its group, so that it has failed for good", work)
        case Verdict.CONFLICTED:
            _log.info("%s: in conflict with another activation's writes; it runs again", work)
        case _:
            pass


class _Ways:
    """What a hop in its own transaction does like all others, at the hand of ``Hops``; see ``transacting.Ways``."""

    def __init__(self, hops: Hops, job: Job, begun: Callable[[], UnderWay], *, asynchronous: bool) -> None:
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
            if isinstance(newest, StoreUnavailable | ContextLost | SealError):
                future.set_exception(newest)
            else:
                future.set_result(newest)

        self._hops._load_newest(settlement.work, applied, found)
        return future

    def take_in(self, settlement: Settlement, newest: Mapping[str, Slot]) -> Settlement:
        return self._hops._take_in(settlement, newest)

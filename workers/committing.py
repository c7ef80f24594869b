"""Group commit: settlements of many hops travel as one transaction.

Owns the threads that settle. Whatever is pending when the last commit has returned goes into the next, at once; but while
more is held than can be called, nobody waits for the first successor, and commits keep a pace: many small ones would take
the time that the calls need. A thread that would have nothing to do meanwhile commits by itself. While the store is away the
committer keeps the batch and tries again; a batch that the store refuses is halved until the one settlement that it cannot hold
is found. Refuses to know what the answers mean: it hands them on.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from cnstra.orchestrator.context import naming
from cnstra.orchestrator.errors import DataRefused, StoreUnavailable
from cnstra.orchestrator.footholds import without_footholds
from cnstra.orchestrator.machine.events import Event, Succeeded
from cnstra.orchestrator.machine.records import BlobRef
from cnstra.orchestrator.ports import Bell, Ring
from cnstra.orchestrator.store import Applied, AppliedBatch, RunEvent, Store, Work
from cnstra.workers.calling import Call

_log = logging.getLogger("cnstra.worker")

IN_FLIGHT = 2
"""Commits at a time: while the database carries one out, the next one is made ready."""

MOST_PER_COMMIT = 400
MOST_BYTES_PER_COMMIT = 8 * 1024 * 1024
PACE = 0.02
"""Seconds from the beginning of a commit to that of the next one, while more is held than can be called."""
_GLANCE = 0.0025  # seconds between two looks meanwhile, whether it is full
_PAUSE = 0.25  # seconds between two tries at a store that is away
_LONGEST_PAUSE = 5.0


class Settlement(Struct, frozen=True, kw_only=True):
    """How a hop ended. ``call`` is None where no handler was called; ``streak`` counts hops made without a doorbell,
    ``turn`` the settlements that were made of this claim before, and ``wasted`` are the blobs that were put for these.
    """

    work: Work
    event: Event
    call: Call | None = None
    seconds: float = 0.0
    streak: int = 0
    turn: int = 0
    wasted: tuple[BlobRef, ...] = ()

    @property
    def put_by(self) -> tuple[BlobRef, ...]:
        """All blobs that were put for it, where contexts are kept elsewhere: litter, unless it is committed."""
        blob = self.event.blob if isinstance(self.event, Succeeded) else None
        return self.wasted if blob is None or blob in self.wasted else (*self.wasted, blob)

    @property
    def size(self) -> int:
        """About how many characters it writes."""
        return 0 if self.call is None else self.call.size


Before = Callable[[Sequence[Settlement]], None]
Rings = tuple[Ring, ...]
Settled = Callable[[Sequence[tuple[Settlement, Applied]]], None]
Refused = Callable[[Settlement, DataRefused], None]


class _Lane:
    """One way to the store: what is pending, and the right to commit some of it."""

    def __init__(self) -> None:
        self.pending: queue.SimpleQueue[Settlement | Rings | None] = queue.SimpleQueue()
        self.free = threading.Lock()


class Committer:
    """Settles hops in batches, on threads of its own. ``before`` is done before each batch, again where that is tried
    again. While ``unhurried`` says so, ``pace`` seconds pass from one commit to the next, unless that is full before."""

    def __init__(
        self,
        store: Store,
        bell: Bell,
        *,
        before: Before,
        settled: Settled,
        refused: Refused,
        rung: Callable[[], None],
        unhurried: Callable[[], bool],
        pace: float = PACE,
    ) -> None:
        self._store = store
        self._bell = bell
        self._before = before
        self._settled = settled
        self._refused = refused
        self._rung = rung
        self._unhurried = unhurried
        self._pace = pace
        self._abandoned = threading.Event()
        self._away = False
        self._lanes = [_Lane() for _ in range(IN_FLIGHT)]
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"cnstra-committer-{number}", daemon=True)
            for number, lane in enumerate(self._lanes, start=1)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, settlement: Settlement) -> None:
        """Settle this, soon."""
        self._lane(settlement).pending.put(settlement)

    def settle(self, settlement: Settlement) -> None:
        """The same, for a caller that has nothing better to do: where nothing else is on its way, it carries the settlement
        to the store by itself, and no thread has to wake. What goes wrong there is the committer's to try again.
        """
        lane = self._lane(settlement)
        if self._unhurried() or not lane.pending.empty() or not lane.free.acquire(blocking=False):
            lane.pending.put(settlement)
            return
        try:
            applied = self._applied([settlement], _events([settlement]))
        except Exception:
            lane.pending.put(settlement)  # if it was committed, that is what it learns
            return
        finally:
            lane.free.release()
        if applied.rings:  # by the committer, which a broker that hangs may hold up; and before it may be told to end
            lane.pending.put(applied.rings)
        self._take_in([settlement], applied)
        if applied.left:
            lane.pending.put(replace(settlement, work=replace(settlement.work, foothold=None)))

    def _lane(self, settlement: Settlement) -> _Lane:
        """What is settled of one run goes the same way: two commits would wait for each other."""
        return self._lanes[settlement.work.run_id.int % IN_FLIGHT]

    def ring(self, rings: Rings) -> None:
        """Ring for what became ready by a settlement that was committed elsewhere."""
        if rings:
            self._lanes[0].pending.put(rings)

    def stop(self, timeout: float) -> None:
        """Settle what is pending, then end. What the store did not take within ``timeout`` seconds is abandoned: other
        workers do it again."""
        until = time.monotonic() + timeout
        for lane in self._lanes:
            lane.pending.put(None)
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
        self._abandoned.set()
        for thread in self._threads:
            thread.join(1.0)

    def _run(self, lane: _Lane) -> None:
        going = True
        began = float("-inf")  # not 0: the clock may have begun a moment ago, with the machine
        while going:
            pending = lane.pending.get()
            rings: list[Ring] = []
            with lane.free:  # while a caller commits by itself, the next batch grows
                batch, going = self._gathered(lane, pending, rings, began + self._pace if self._unhurried() else 0.0)
                began = time.monotonic()
                if batch:
                    self._commit(batch)
            if rings:
                self._ring(rings)

    def _gathered(
        self, lane: _Lane, pending: Settlement | Rings | None, rings: list[Ring], until: float
    ) -> tuple[list[Settlement], bool]:
        """What is pending, and what comes up to a moment, as far as it fits into one commit; and whether more is to come."""
        batch: list[Settlement] = []
        size = 0
        while pending is not None:
            if isinstance(pending, Settlement):
                batch.append(pending)
                size += pending.size
            else:
                rings += pending
            if len(batch) >= MOST_PER_COMMIT or size >= MOST_BYTES_PER_COMMIT:
                return batch, True
            while lane.pending.empty() and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, _GLANCE))  # not at the queue: each settlement that comes would wake this thread
            try:
                pending = lane.pending.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: Sequence[Settlement], *, footholds: bool = True) -> None:
        events = _events(batch)
        if not footholds:
            events = without_footholds(events)
        pause = _PAUSE
        while not self._abandoned.is_set():
            try:
                applied = self._applied(batch, events)
            except StoreUnavailable as error:
                if not self._away:
                    _log.warning("the store is away, %d settlements wait for it: %s", len(batch), error)
                self._away = True
                self._abandoned.wait(_PAUSE)
                continue
            except DataRefused as error:
                self._halve(batch, error)
                return
            except Exception:
                _log.exception(
                    "settling failed: %s",
                    ", ".join(str(settlement.work) for settlement in batch),
                    extra=naming(*((one.work.run_id, one.work.fence.activation_id) for one in batch)),
                )
                self._abandoned.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            if self._away:
                _log.warning("the store is back")
            self._away = False
            self._take_in(batch, applied)
            if applied.rings:  # last: a broker that hangs holds nobody up but those that it is to tell
                self._ring(applied.rings)
            if applied.left:  # somebody else has moved their runs, and may still hold these
                self._commit([batch[place] for place in applied.left], footholds=False)
            return
        _log.warning("abandoned %d settlements: the worker stops, and the store is away", len(batch))

    def _applied(self, batch: Sequence[Settlement], events: Sequence[RunEvent]) -> AppliedBatch:
        self._before(batch)
        return self._store.run(self._store.apply(events))

    def _take_in(self, batch: Sequence[Settlement], applied: AppliedBatch) -> None:
        left = set(applied.left)
        settled = [one for place, one in enumerate(batch) if place not in left]
        try:
            self._settled(list(zip(settled, applied.answers, strict=True)))
        except Exception:  # the thread must live on: all hops of this process pass through it
            _log.exception("the answers to %d settlements could not be taken in", len(batch))

    def _ring(self, rings: Sequence[Ring]) -> None:
        try:
            self._bell.ring(rings)
        except Exception:
            _log.exception("the bell broke; the supervisor rings again")
        self._rung()

    def _halve(self, batch: Sequence[Settlement], error: DataRefused) -> None:
        if len(batch) == 1:
            try:
                self._refused(batch[0], error)
            except Exception:
                _log.exception("%s: its refusal could not be taken in", batch[0].work)
            return
        middle = len(batch) // 2
        self._commit(batch[:middle])
        self._commit(batch[middle:])


def _events(batch: Sequence[Settlement]) -> list[RunEvent]:
    return [RunEvent(run_id=one.work.run_id, event=one.event, work=one.work) for one in batch]

"""What this process has in its hands: claims on their way to a call, in one, and on their way to the store.

Owns how much more may be claimed. A call takes room from its claim until its handler has ended: what is only settled still
takes none, so that a quick handler never waits for its own commit, up to a bound beyond which the store is too slow. Of sync
handlers as many may wait for a thread as the threads work off in a moment, by how long calls have taken lately: a batch of
quick ones is claimed at once, and slow ones are left to who has a thread for them. By that it also promises room to members of a
scatter, which stay then. All of it is bounded in bytes, too. Refuses to know what is done with a claim.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from msgspec import Struct

from cnstra.orchestrator.machine.records import Claimed, Target
from cnstra.orchestrator.store import Work

MOST_AHEAD = 400
"""Claims that may wait for a thread, however quick the handlers are: others could have them."""

_MOMENT = 0.02
"""Seconds in which the threads should work off what waits for them."""

_WEIGHT = 0.05
"""Of a call's time in the average of all: it takes some dozens to be believed."""

_QUICK = 0.01
"""Seconds that quick calls take at most: of these all may stay while more waits in the store than this process can take."""

_WHILE = 1.0
"""Seconds in which the threads should work off what stays so: other work, and that of the other kind, waits for it."""

MOST_STAYING = 4_000
"""Claims beyond which nothing but a single successor stays, however quick the handlers are."""

MOST_SETTLING = 2_000
"""Claims whose calls have ended, and that the store has not settled yet."""

MOST_BYTES = 128 * 1024 * 1024
"""Characters of what waits to be called with, and of what has been emitted and written, and is not settled yet."""

MOST_DISOWNED = 10_000
"""Claims that were given back before they came, and that are not to be called when they do: so many are remembered."""

Key = tuple[int, int, int, int]


class Job(Struct, frozen=True, kw_only=True, eq=False):
    """Claimed work on its way to a call; ``claimed`` is the monotonic time at which it came."""

    work: Work
    claimed: float
    streak: int
    is_async: bool


def key_of(run_id: UUID, fence: Claimed) -> Key:
    """What tells a claim from all others. The activation alone does not: it may have been claimed here again meanwhile.

    Plain numbers: a ``UUID`` computes its hash anew each time, and every hop looks its claim up six times.
    """
    return run_id.int, fence.activation_id, fence.epoch, fence.nonce


class _Held(Struct):
    """A claim in this process. ``began`` is when its call did; ``size`` what it is called with, or what has come of that."""

    is_async: bool
    takes_room: bool = True
    began: float | None = None
    size: int = 0
    promised: dict[bool, int] | None = None


class Holdings:
    """The claims of this process, under one lock, ``change``. Who waits on that for room, or for nothing to be held, says so:
    it is notified when that has come about, and not by each claim that goes.
    """

    def __init__(self, *, threads: int, coroutines: int) -> None:
        self._lock = threading.Lock()  # by itself quicker to take than through the condition
        self.change = threading.Condition(self._lock)
        self.wants_room = 0
        """So many claims are to make room before who waits for that is told; 0 is nobody. Under the lock, as the next ones."""
        self.wants_kinds: Collection[bool] = ()
        """What that room is for."""
        self.wants_none = False
        """Somebody waits for nothing to be held."""
        self._threads = threads
        self._coroutines = coroutines
        self._held: dict[Key, _Held] = {}
        self._waiting: dict[Key, Job] = {}  # for a thread, or the event loop
        self._waited: set[Key] = set()  # of these, what the last look at them found waiting
        self._disowned: dict[Key, None] = {}  # the latest
        self._taken = {False: 0, True: 0}  # the room that is taken, by whether it is for async handlers
        self._promised = {False: 0, True: 0}  # room for what is to stay here of hops that are not settled yet
        self._settling = 0
        self._bytes = 0
        self._usual = 1.0  # seconds that a sync call takes
        self._usual_of: dict[tuple[str, str], float] = {}  # the same by neuron and collateral
        self._stalled = False  # what waited for a thread waited too long: nothing more is to wait until one is free

    # -- room ------------------------------------------------------------------------------------------------------

    def room(self, kinds: Collection[bool]) -> int:
        """How many more may be claimed by who takes these kinds, async (True) or sync, and cannot choose among them."""
        return max(self._left(kinds), 0)

    def lacks(self, kinds: Collection[bool]) -> int:
        """How much room is to be made before that is worth a claim: one by one would cost too much."""
        least = min((self._most(kind) for kind in kinds), default=0) // 8
        return max(max(1, least) - self._left(kinds), 0)

    def _left(self, kinds: Collection[bool]) -> int:
        """Below zero where successors were kept beyond it."""
        if self._is_full:
            return 0
        left = [self._most(kind) - self._taken[kind] - self._promised[kind] for kind in kinds]
        return min(*left, MOST_SETTLING - self._settling) if left else 0

    @property
    def _is_full(self) -> bool:
        return self._bytes >= MOST_BYTES

    def _most(self, kind: bool) -> int:
        return self._coroutines if kind else self._threads + self._ahead

    @property
    def _ahead(self) -> int:
        if self._stalled:
            return 0
        return max(self._threads, min(MOST_AHEAD, self._worked_off_in(_MOMENT, self._usual)))

    def _worked_off_in(self, seconds: float, usual: float) -> int:
        """How many calls that usually take so long the threads work off in a time."""
        return int(self._threads * seconds / max(usual, 1e-6))

    def promise(self, work: Work, target: Target, wanted: int, *, is_async: bool, plenty: bool = False) -> int:
        """Room, beyond what is claimed, for calls of ``target`` that are to stay here once ``work`` is settled: as many of those
        wanted as there are threads for, or as would be over before anybody else could have claimed them. Where there is
        ``plenty`` of work for others, all that are known to be quick: to claim one takes longer than to call it.
        """
        with self._lock:
            held = self._held.get(key_of(work.run_id, work.fence))
            if held is None or self._stalled or self._is_full:
                return 0
            usual = self._usual_of.get((target.neuron, target.collateral))
            is_quick = usual is not None and usual < _QUICK
            soon = self._worked_off_in(_WHILE if plenty and is_quick else _MOMENT, usual or self._usual)
            most = self._coroutines if is_async else max(self._threads, min(MOST_STAYING, soon))
            given = max(min(wanted, most - self._taken[is_async] - self._promised[is_async]), 0)
            promised = held.promised = held.promised or {}
            promised[is_async] = promised.get(is_async, 0) + given
            self._promised[is_async] += given
            return given

    # -- one claim's way -------------------------------------------------------------------------------------------

    def take(self, jobs: Sequence[Job], *, waiting: bool) -> Sequence[Job]:
        """Claims have come; ``waiting`` for their calls, or for something before that. Gives those that are held now: others
        have what was disowned."""
        with self._lock:
            if self._disowned:
                jobs = [job for job in jobs if key_of(job.work.run_id, job.work.fence) not in self._disowned]
            for job in jobs:
                key = key_of(job.work.run_id, job.work.fence)
                size = len(job.work.payload)
                self._held[key] = _Held(job.is_async, size=size)
                self._bytes += size
                self._taken[job.is_async] += 1
                if waiting:
                    self._waiting[key] = job
        return jobs

    def disown(self, run_id: UUID, fence: Claimed) -> bool:
        """A claim that is not here is about to be given back: from now on it is not taken. False where it has come meanwhile."""
        key = key_of(run_id, fence)
        with self._lock:
            if key in self._held:
                return False
            self._disowned[key] = None
            while len(self._disowned) > MOST_DISOWNED:
                del self._disowned[next(iter(self._disowned))]
            return True

    def wait(self, job: Job) -> None:
        """What its call needs has come: it waits for a thread, or for the event loop."""
        with self._lock:
            self._waiting[key_of(job.work.run_id, job.work.fence)] = job

    def begin(self, job: Job) -> bool:
        """Its turn has come; False when it has waited too long, and was given back."""
        key = key_of(job.work.run_id, job.work.fence)
        with self._lock:
            if self._waiting.pop(key, None) is None:
                return False
            if not job.is_async:
                self._stalled = False
            if (held := self._held.get(key)) is not None:
                held.began = time.monotonic()
            return True

    def set_down(self, work: Work, *, size: int = 0) -> None:
        """It takes no room any more: its call has ended, or it waits for a store of contexts."""
        with self._lock:
            held = self._held.get(key_of(work.run_id, work.fence))
            if held is None:
                return
            if held.takes_room:
                held.takes_room = False
                self._taken[held.is_async] -= 1
                self._settling += 1
                if held.began is not None and not held.is_async:
                    self._took(time.monotonic() - held.began, (work.neuron, work.collateral))
            was_full = self._is_full
            self._bytes += size - held.size
            held.size = size
            self._tell(1, anew=was_full)

    def _took(self, seconds: float, place: tuple[str, str]) -> None:
        self._usual += (seconds - self._usual) * _WEIGHT
        usual = self._usual_of.get(place, seconds)
        self._usual_of[place] = usual + (seconds - usual) * _WEIGHT

    def let_go(self, works: Iterable[Work]) -> None:
        """These claims are settled."""
        with self._lock:
            before, anew = len(self._held), self._is_full
            for work in works:
                held = self._held.pop(key_of(work.run_id, work.fence), None)
                if held is None:
                    continue
                if held.takes_room:
                    self._taken[held.is_async] -= 1
                else:
                    self._settling -= 1
                self._bytes -= held.size
                if held.promised is not None:
                    anew = True
                    for kind, promised in held.promised.items():
                        self._promised[kind] -= promised
            self._tell(before - len(self._held), anew=anew)

    def _tell(self, freed: int, *, anew: bool) -> None:
        """So many claims have made room. It is measured ``anew`` where one alone may have made much: what was promised to it,
        or what its bytes kept from all.
        """
        if self.wants_room:
            self.wants_room = max(self.wants_room - freed, 0)
            if anew:
                self.wants_room = min(self.wants_room, self.lacks(self.wants_kinds))
            if not self.wants_room:
                self.change.notify_all()
        elif self.wants_none and not self._held:
            self.change.notify_all()

    # -- all claims ------------------------------------------------------------------------------------------------

    def some_wait(self) -> bool:
        """Whether there is more to call than threads, or an event loop, to call it."""
        return bool(self._waiting)

    def overdue(self) -> list[Job]:
        """What waits to be called, and did so at the last call of this already; it waits no more. Until a thread is free,
        nothing is to be claimed that would wait for one.
        """
        with self._lock:
            overdue = [self._waiting.pop(key) for key in self._waited & self._waiting.keys()]
            self._waited = set(self._waiting)
            self._stalled |= any(not job.is_async for job in overdue)
        return overdue

    def holds(self, run_id: UUID, fence: Claimed) -> bool:
        """Whether a claim is in this process's hands."""
        with self._lock:
            return key_of(run_id, fence) in self._held

    def wait_for_none(self, timeout: float) -> bool:
        """Wait so many seconds for nothing to be held; whether that came about."""
        with self._lock:
            self.wants_room, self.wants_none = 0, True
            return self.change.wait_for(lambda: self.is_empty, timeout)

    @property
    def is_empty(self) -> bool:
        """Whether there is none. Its reader's lock is ``change``."""
        return not self._held

"""Contexts in a store of the user's own: values taken from its blobs before a call, a blob put there before a settlement.

One ``Keeper`` serves one such store in one process, on threads of its own: a store that is slow, hangs or is away holds up
the runs that live in it, and nobody else. What is asked for at the same time is fetched in one call. While the store is
away, work that was not called yet goes back, as no failed try; what a handler has done already waits here, for it must not
be called again; and only one batch a while finds out whether the store is back. Refuses to know hops and their settlements.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cnstra.orchestrator.blobs import Blob, Blobs, Fetched, keys_of
from cnstra.orchestrator.errors import CnstraError, ContextLost, DataRefused, SealError, StoreUnavailable
from cnstra.orchestrator.slots import Slot
from cnstra.orchestrator.store import Store
from cnstra.workers.doorbell.outage import Outage

_log = logging.getLogger("cnstra.worker")

PUTTING = 8
"""How many blobs of one store a process puts at the same time."""
_SHORTEST_PAUSE = 0.25  # seconds between two tries at a store that is away
_LONGEST_PAUSE = 5.0
_LONG = 5.0  # seconds to wait for an answer, before no more is asked
_LITTER = 500  # blobs that are deleted at once

Found = dict[str, Slot] | ContextLost | SealError | StoreUnavailable
"""Slots with their values; or why they have none."""
Wait = Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Want:
    """Slots whose values somebody wants; ``patient``: also if that takes until a store that is away has come back."""

    slots: Mapping[str, Slot]
    where: str
    found: Callable[[Found], None]
    waits: Wait
    patient: bool


class Keeper:
    """Keeps contexts in one store. ``back`` is called when it has come back. A blob that nobody refers to is deleted
    ``litter_after`` so long a time.
    """

    def __init__(self, blobs: Blobs, *, litter_after: timedelta, back: Callable[[], None]) -> None:
        self.place = blobs.place
        self.vault = blobs.vault
        self.pause = _SHORTEST_PAUSE
        """Seconds after which it makes sense to try again, while the store is away."""
        self._blobs = blobs
        self._litter_after = litter_after
        self._back = back
        self._away_until = 0.0
        self._lock = threading.Lock()
        self._outage = Outage(
            _log,
            who=f"the store of contexts {blobs.place!r}",
            meanwhile="Its runs wait for it; nothing of them is lost.",
            back="it is back.",
        )
        self._waits: dict[object, tuple[float, Wait]] = {}  # since when somebody waits, and what he is told then
        self._stopped = threading.Event()
        self._tidying = False
        self._wants: queue.SimpleQueue[_Want | None] = queue.SimpleQueue()
        self._puts: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._put_loop, name=f"cnstra-keep-{number}", daemon=True)
            for number in range(PUTTING)
        ]
        self._threads.append(threading.Thread(target=self._load_loop, name="cnstra-load", daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Give up what still waits for the store: others do it again."""
        self._stopped.set()
        self._wants.put(None)
        for _ in range(PUTTING):
            self._puts.put(None)

    # -- whether the store is there ----------------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        """Whether it is worth while to take work that needs the store: it is there, and answers before long."""
        now = time.monotonic()
        with self._lock:
            return now >= self._away_until and all(now - since < _LONG for since, _ in self._waits.values())

    def _failed(self, error: Exception) -> float:
        """The store is away; seconds to wait before the next try."""
        self._outage.began(error)
        with self._lock:  # of all that fail at about the same time, one makes the pause longer
            now = time.monotonic()
            if now >= self._away_until:
                self.pause = min(self.pause * 2, _LONGEST_PAUSE) if self._away_until else _SHORTEST_PAUSE
                self._away_until = now + self.pause
            return self.pause

    def _worked(self) -> None:
        with self._lock:
            was_away, self._away_until = self._away_until > 0, 0.0
        if was_away:
            self._outage.ended()
            self._back()

    # -- before a call -----------------------------------------------------------------------------------------

    def load(
        self,
        slots: Mapping[str, Slot],
        where: str,
        found: Callable[[Found], None],
        *,
        waits: Wait,
        patient: bool = False,
    ) -> None:
        """Call ``found`` with the values of slots: at once where they are at hand, else from another thread.

        Where the store is away it is told so, unless it is ``patient``. ``waits`` is called when it takes long. Abandoned
        when the worker stops.
        """
        want = _Want(slots, where, found, waits, patient)
        known = self._blobs.cached(keys_of(slots))
        if known is not None:
            _answer(want, known)
            return
        self._asks(want, waits)
        self._wants.put(want)

    def _load_loop(self) -> None:
        waiting: list[_Want] = []
        while not self._stopped.is_set():
            wants = [*waiting, *self._asked(block=not waiting)]
            try:
                waiting = self._load(wants)
            except Exception as error:  # the thread must live on, and what was asked for be answered
                _log.exception("the store of contexts %r: what it answered could not be read", self.place)
                left = [want for want in wants if want in self._waits]
                waiting = self._put_off(left, StoreUnavailable(f"{type(error).__name__}: {error}"))
            if waiting:
                self._stopped.wait(self.pause)
            for want in waiting:
                self._asks(want, want.waits)

    def _asked(self, *, block: bool) -> list[_Want]:
        wants: list[_Want] = []
        try:
            while (want := self._wants.get(block=block and not wants)) is not None:
                wants.append(want)
        except queue.Empty:
            pass
        return wants

    def _load(self, wants: Sequence[_Want]) -> list[_Want]:
        """Answer what can be answered; those that wait come back.

        All together first. Where that fails they are tried one by one, for it may be about one of them; when two have failed
        the store is away.
        """
        if not wants:
            return []
        try:
            self._fetch(wants)
            return []
        except StoreUnavailable as error:
            failed, problem = ([*wants], error) if len(wants) == 1 else ([], error)
        for number, want in enumerate(wants if not failed else ()):
            try:
                self._fetch([want])
            except StoreUnavailable as error:
                failed, problem = [*failed, want], error
                if len(failed) == 2:
                    failed += wants[number + 1 :]
                    break
        return self._put_off(failed, problem)

    def _fetch(self, wants: Sequence[_Want]) -> None:
        fetched = self._blobs.fetch(key for want in wants for key in keys_of(want.slots))
        self._worked()
        for want in wants:
            self._ends(want)
            _answer(want, fetched)

    def _asks(self, wait: object, waits: Wait) -> None:
        with self._lock:
            self._waits[wait] = time.monotonic(), waits

    def _ends(self, wait: object) -> None:
        with self._lock:
            self._waits.pop(wait, None)

    def _put_off(self, wants: Sequence[_Want], error: StoreUnavailable) -> list[_Want]:
        if wants:
            self._failed(error)
        for want in wants:
            self._ends(want)
            if want.patient:
                want.waits()
            else:
                want.found(error)
        return [want for want in wants if want.patient]

    # -- before a settlement -----------------------------------------------------------------------------------

    def put(self, blob: Blob, where: str, kept: Callable[[DataRefused | None], None], *, waits: Wait) -> None:
        """Put a blob, however long that takes, then call ``kept``: with the refusal of a store that will never take it.

        ``waits`` is called when it takes long. Abandoned when the worker stops.
        """
        self._asks(blob, waits)
        self._puts.put(lambda: self._put(blob, where, kept, waits))

    def _put_loop(self) -> None:
        while (job := self._puts.get()) is not None:
            try:
                job()
            except Exception:  # the thread must live on
                _log.exception("the store of contexts %r: a task failed", self.place)

    def _put(self, blob: Blob, where: str, kept: Callable[[DataRefused | None], None], waits: Wait) -> None:
        while not self._stopped.is_set():
            try:
                self._blobs.put(blob)
            except DataRefused as refusal:
                self._ends(blob)
                kept(refusal)
                return
            except StoreUnavailable as error:
                self._ends(blob)
                waits()
                self._stopped.wait(self._failed(error))
                self._asks(blob, waits)
            else:
                self._ends(blob)
                self._worked()
                kept(None)
                return
        _log.warning("%s: its result is abandoned: the worker stops, and the store %r is away", where, self.place)

    # -- from time to time -------------------------------------------------------------------------------------

    def renewed(self, store: Store) -> None:
        """What is done as often as the worker's lease is renewed. It waits for nobody: a store may hang."""
        now = time.monotonic()
        with self._lock:
            late = [waits for since, waits in self._waits.values() if now - since >= _LONG]
        for waits in late:
            waits()
        if self.reachable and not self._tidying:
            self._tidying = True
            self._puts.put(lambda: self._tidy(store))

    def _tidy(self, store: Store) -> None:
        """Delete the blobs that, as the store of runs knows, nobody refers to."""
        try:
            while not self._stopped.is_set() and (
                keys := store.run(store.litter(self.place, self._litter_after, _LITTER))
            ):
                self._blobs.delete(keys)
                store.run(store.litter_gone(self.place, keys))
        except CnstraError as error:
            _log.info("the store of contexts %r was not tidied, and will be later: %s", self.place, error)
        finally:
            self._tidying = False


def _answer(want: _Want, fetched: Fetched) -> None:
    """Give a want what was found for it; somebody's failure to take it in is not the next one's."""
    found: Found
    try:
        found = fetched.values(want.slots, want.where)
    except (ContextLost, SealError) as lost:
        found = lost
    try:
        want.found(found)
    except Exception:
        _log.exception("%s: its context could not be taken in", want.where)

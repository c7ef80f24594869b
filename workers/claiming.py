"""Claims: doorbells, nudges and free room make this process ask the store for work.

Owns the one thread that claims, and when it does; what a request says; the quarantine in which a poison suspect runs alone.
Refuses to know what becomes of work: it is handed on in the batch that it came in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

from cnstra.orchestrator.errors import StoreUnavailable
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.ports import Entropy
from cnstra.orchestrator.store import ClaimRequest, Claims, Store, Work
from cnstra.workers.holding import Holdings
from cnstra.workers.quarantine import Quarantine

_log = logging.getLogger("cnstra.worker")

_PAUSE = 0.25  # seconds between two claims while the store is away
_MISSED_PAUSE = 0.02  # seconds between two claims where somebody else held a limit
LONGEST_ANSWER = 5.0  # seconds that a doorbell is kept waiting for its claim

Pairs = tuple[tuple[str, str], ...]
"""Neurons and collaterals."""


class Skills:
    """What a process can run of a graph: the dendrites in its queues, their compensations, and which of both are async."""

    def __init__(self, cns: CNS, queues: tuple[str, ...]) -> None:
        self.queues = queues
        self.dendrites: Pairs = tuple(
            (neuron.name, collateral)
            for neuron in cns.neurons.values()
            if neuron.queue in queues
            for collateral in neuron.dendrites
        )
        self.compensations: Pairs = tuple(
            (neuron, collateral)
            for neuron, collateral in self.dendrites
            if cns.neurons[neuron].dendrites[collateral].compensation is not None
        )
        self.limits: Mapping[str, int] = {
            neuron.name: neuron.concurrency
            for neuron in cns.neurons.values()
            if neuron.concurrency is not None and neuron.queue in queues
        }
        self._async: dict[tuple[str, str, bool], bool] = {}
        for neuron, collateral in self.dendrites:
            dendrite = cns.neurons[neuron].dendrites[collateral]
            self._async[neuron, collateral, False] = dendrite.is_async
            if dendrite.compensation is not None:
                self._async[neuron, collateral, True] = dendrite.compensation.is_async
        self.kinds = frozenset(self._async.values())

    def is_async(self, neuron: str, collateral: str, undo: bool) -> bool:
        """Whether the handler, or its compensation, is; a stranger counts as sync."""
        return self._async.get((neuron, collateral, undo), False)

    def without(self, shut: frozenset[bool], pairs: Pairs, *, undo: bool) -> Pairs:
        """Those dendrites, or their compensations, that are not of these kinds."""
        return tuple(pair for pair in pairs if self.is_async(*pair, undo) not in shut) if shut else pairs


class Claimer:
    """Claims for one graph in this process. ``shut`` are the kinds of handlers that cannot be called for the moment, ``places``
    the stores of contexts that can be reached.
    """

    def __init__(
        self,
        cns: CNS,
        skills: Skills,
        store: Store,
        entropy: Entropy,
        holdings: Holdings,
        *,
        worker: Callable[[], UUID],
        shut: Callable[[], frozenset[bool]],
        places: Callable[[], tuple[str, ...]],
        take: Callable[[Sequence[Work]], None],
    ) -> None:
        self._cns = cns
        self._skills = skills
        self._store = store
        self._entropy = entropy
        self._holdings = holdings
        self._change = holdings.change
        self._worker = worker
        self._shut = shut
        self._places = places
        self._take = take
        self._wanted = 0  # how often work was announced, and how much of that a claim has answered
        self._answered = 0
        self._hungry = False  # there is more than the last claim could take, or may be
        self.leaves_plenty = False
        """There is: others have something to do."""
        self._missed_at: float | None = None  # when a claim passed over work, as somebody else held its limit
        self._quarantine = Quarantine()
        self._going = True
        self._thread = threading.Thread(target=self._run, name="cnstra-claimer", daemon=True)

    @property
    def is_calm(self) -> bool:
        """Whether work may be kept here: nobody stops this process, nor empties it."""
        return self._going and not self._quarantine.open

    def start(self) -> None:
        self._thread.start()
        self.nudge()

    def stop(self) -> None:
        """Claim no more."""
        with self._change:
            self._going = False
            self._change.notify_all()
        self._thread.join(LONGEST_ANSWER)

    # -- why to claim ----------------------------------------------------------------------------------------------

    def rung(self, _queue: str, _hints: Iterable[tuple[UUID, int]]) -> None:
        """A doorbell came. Returns when a claim was made after it, or refused for want of room: then it may be acked."""
        with self._change:
            self._wanted += 1
            ticket = self._wanted
            self._change.notify_all()
            self._change.wait_for(lambda: self._answered >= ticket or not self._going, LONGEST_ANSWER)

    def nudge(self) -> None:
        """There may be work; claim when there is room."""
        with self._change:
            self._wanted += 1
            self._change.notify_all()

    def look_for_suspects(self) -> None:
        """Where a poison suspect waits, empty this process and run it alone, as soon as that can be."""
        if not self._store.run(self._store.suspects_wait(self._request(1, suspects=True))):
            return
        with self._change:
            self._quarantine.ask(time.monotonic())
            self._change.notify_all()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._may_claim():
                    self._say_what_is_waited_for()
                    self._change.wait(self._patience(time.monotonic()))
                    self._hungry |= self._quarantine.overdue(time.monotonic())
                    self._ask_again(time.monotonic())
                self._holdings.wants_room, self._holdings.wants_none = 0, False
                if not self._going:
                    return
                alone = self._quarantine.open
                ticket, room = self._wanted, 1 if alone else self.room()
            works = self._claim(room, suspects=alone) if room else None
            # A full claim, or none for want of room, leaves work behind: go on when there is room, without a doorbell.
            self._hungry = alone or works is None or len(works) == room
            if works is not None:
                self.leaves_plenty = len(works) == room and not alone
            taken = self._take_in(works) if works else 0
            with self._change:
                if alone:
                    self._quarantine.claimed(taken)
                self._answered = max(self._answered, ticket)
                self._change.notify_all()

    def _may_claim(self) -> bool:
        """Whether there is something to do. In quarantine it waits until nothing is held, and then takes one."""
        if not self._going:
            return True
        if self._quarantine.open:
            return self._holdings.is_empty
        return self._wanted > self._answered or (self._hungry and not self._holdings.lacks(self._kinds()))

    def _say_what_is_waited_for(self) -> None:
        holdings = self._holdings
        holdings.wants_none = self._quarantine.open
        holdings.wants_kinds = self._kinds()
        holdings.wants_room = holdings.lacks(holdings.wants_kinds) if self._hungry and not holdings.wants_none else 0

    def _patience(self, now: float) -> float | None:
        """Seconds after which it looks around, though nobody calls it."""
        missed = None if self._missed_at is None else max(self._missed_at + _MISSED_PAUSE - now, 0.0)
        return min((one for one in (self._quarantine.patience(now), missed) if one is not None), default=None)

    def _ask_again(self, now: float) -> None:
        """Somebody else held a limit a moment ago: there may be work that neither took."""
        if self._missed_at is not None and now >= self._missed_at + _MISSED_PAUSE:
            self._missed_at = None
            self._wanted += 1

    def _kinds(self) -> frozenset[bool]:
        return self._skills.kinds - self._shut()

    def room(self) -> int:
        """How much a claim may ask for. Its reader's lock is the holdings'."""
        return self._holdings.room(self._kinds())

    # -- the claim -------------------------------------------------------------------------------------------------

    def _request(self, limit: int, *, suspects: bool) -> ClaimRequest:
        skills, shut = self._skills, self._shut()
        return ClaimRequest(
            worker=self._worker(),
            nonce=self._entropy.nonce(),
            graph=self._cns.durable_name,
            graph_version=self._cns.version,
            queues=skills.queues,
            dendrites=skills.without(shut, skills.dendrites, undo=False),
            limit=limit,
            suspects=suspects,
            places=self._places(),
            compensations=skills.without(shut, skills.compensations, undo=True),
            limits=skills.limits,
        )

    def _claim(self, limit: int, *, suspects: bool) -> Claims | None:
        """Claim at most so many; None when the store is away."""
        try:
            works = self._store.run(self._store.claim(self._request(limit, suspects=suspects)))
        except StoreUnavailable as error:
            _log.info("claiming failed, the store is away: %s", error)
            time.sleep(_PAUSE)
            return None
        except Exception:
            _log.exception("claiming failed")
            time.sleep(_PAUSE)
            return None
        self._missed_at = time.monotonic() if works.missed else None
        return works

    def _take_in(self, works: Sequence[Work]) -> int:
        """Hand claimed work on; how much."""
        try:
            self._take(works)
        except Exception:  # the thread must live on: nothing would be claimed any more
            _log.exception("claimed work could not be taken in")
            self._hungry = True
            time.sleep(_PAUSE)
            return 0
        return len(works)

"""The life of a hop in a lab: claim → call → settle, in turns, with whatever is to go wrong in between.

The same parts as in a worker decide: the store's claims and settlements, and the ``Caller`` on both sides of the handler. What
differs is that nothing runs by itself: each turn is chosen by the weather. A turn hands the call of a handler out, and is
given what came of it, so that blocking and async labs run the same turns. All state is kept between turns: who is
interrupted goes on later.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.machine.events import FailedTry, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.run_context import view_of
from cnstra.orchestrator.store import RunEvent, Work
from cnstra.stores.memory import MemoryStore
from cnstra.testing.calls import Journal, call_of, outcome_of
from cnstra.testing.clock import LabClock
from cnstra.testing.crew import Crew, Hand
from cnstra.testing.errors import LabError, UnassignedChange
from cnstra.testing.faults import Doom, Failing, Faults
from cnstra.testing.weather import Calm, Weather
from cnstra.workers.calling import Call, Caller, Stay
from cnstra.workers.settings import WorkerSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of a call: what the handler returned, or what it raised."""

    returned: Any = None
    error: BaseException | None = None


Turns = Generator[Call, Ended, T]
"""Turns hand calls out, and are given how these ended."""


@dataclass(slots=True, eq=False)
class _Hop:
    """Claimed work in a worker's hands. With an event it has been called, and waits for its settlement."""

    hand: Hand
    work: Work
    streak: int = 0
    doom: Doom | None = None
    call: Call | None = None
    event: Succeeded | FailedTry | None = None
    place: int | None = None
    """Its place in the journal, where its handler was called."""


class Bench:
    """Runs the hops of one graph, turn by turn."""

    def __init__(
        self,
        cns: CNS,
        store: MemoryStore,
        clock: LabClock,
        crew: Crew,
        settings: WorkerSettings,
        chance: random.Random,
        call_limit: int,
    ) -> None:
        self.faults = Faults(cns)
        self.journal = Journal(cns)
        self.weather: Weather = Calm()
        self.blows: list[str] = []
        self._store = store
        self._clock = clock
        self._crew = crew
        self._settings = settings
        self._chance = chance
        self._call_limit = call_limit
        self._caller = Caller(cns, queues=frozenset(cns.queues), poison_limit=settings.poison_limit)
        self._held: list[_Hop] = []
        self._stalled: list[_Hop] = []
        self._hungry = True  # whether there may be something to claim
        self._called = 0

    def rest(self) -> None:
        """Begin to count calls anew: somebody drives the lab."""
        self._called = 0

    # -- turns -------------------------------------------------------------------------------------------------

    def until_idle(self) -> Turns[None]:
        """Do what is due by now, and run what is ready, until nothing more can run without time passing."""
        self._crew.resize(self.weather.hands)
        self._crew.look_around()
        self._wake()
        self._hungry = True
        while turns := self._turns():
            turn = turns[self.weather.choose(len(turns))]
            if isinstance(turn, Hand):
                self._claim(turn)
            elif turn.event is None:
                yield from self._call(turn)
            else:
                self._settle(turn)

    def _turns(self) -> list[_Hop | Hand]:
        """What may come next: a hop that is held goes on, or a worker with room claims."""
        claimers = [hand for hand in self._crew.hands if self._hungry and self._has_room(hand)]
        return [*self._held, *claimers]

    def _has_room(self, hand: Hand) -> bool:
        held = sum(hop.hand is hand for hop in self._held)
        return held < self.weather.room and not (hand.alone and held)

    # -- claim -------------------------------------------------------------------------------------------------

    def _claim(self, hand: Hand) -> None:
        """Claim one. A worker that holds nothing also takes a poison suspect, and then nothing beside it."""
        hand.alone = False
        works = self._crew.claim(hand, 1)
        if not works and all(hop.hand is not hand for hop in self._held):
            works = self._crew.claim(hand, 1, suspects=True)
            hand.alone = bool(works)
        self._hungry = bool(works)
        self._held += [_Hop(hand, work) for work in works]

    # -- call --------------------------------------------------------------------------------------------------

    def _call(self, hop: _Hop) -> Turns[None]:
        call = self._begin(hop.work)
        if isinstance(call, FailedTry):
            hop.event = call
            return
        said = call_of(call, self._caller.payload_of(hop.work, call.dendrite), self._clock.now())
        fault = self._fault(hop, self.faults.meet(said))
        if isinstance(fault, Failing):
            hop.event = self._failed(hop.work, call, fault.raised())
            return
        if fault == "before_call":
            self._lose(hop, fault)
            return
        self._count(hop)
        hop.doom, hop.place = fault, self.journal.write(said)
        ended = yield call
        hop.call = call
        if ended.error is not None:
            self.journal.raised(hop.place, ended.error)
            hop.event = self._failed(hop.work, call, ended.error)
            return
        lost = view_of(call.context).unassigned()
        with self._seeded():
            hop.event = self._caller.conclude(call, ended.returned, seconds=0.0, stay=self._stay(hop))
        if lost:
            raise UnassignedChange(
                f"{', '.join(lost)}: changed in place and not assigned, so the change is lost; assign the value, "
                "such as ctx[key] = value"
            )

    def _begin(self, work: Work) -> Call | FailedTry:
        try:
            with self._seeded():
                return self._caller.begin(work)
        except Exception as error:  # types and policies are users' code, too
            return self._caller.failed(work, error, for_good=True)

    def _failed(self, work: Work, call: Call, error: BaseException) -> FailedTry:
        with self._seeded():
            return self._caller.failed(work, error, dendrite=call.dendrite)

    def _fault(self, hop: _Hop, asked: Doom | Failing | None) -> Doom | Failing | None:
        """What was asked for, or what the weather brings: it spares who would then have failed with ``Poisoned``."""
        brought = self.weather.doom()
        spared = hop.work.crashes + 1 >= self._settings.poison_limit or not hop.hand.alive
        return asked or (None if spared else brought)

    def _count(self, hop: _Hop) -> None:
        self._called += 1
        if self._called > self._call_limit:
            raise LabError(
                f"{hop.work}: the lab has made {self._call_limit:,} calls and does not come to rest; a cycle of the "
                "graph, or a retry without an end, goes on for ever. Lab(..., call_limit=) sets the limit"
            )

    def _stay(self, hop: _Hop) -> Stay | None:
        stays = hop.hand.alive and hop.streak < self._settings.streak and self.weather.stays() and not hop.hand.alone
        return (lambda _, wanted: wanted) if stays else None

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Policies draw jitter from the module ``random``: here out of the lab's seed, and nobody else notices."""
        outside = random.getstate()
        random.setstate(self._chance.getstate())
        try:
            yield
        finally:
            self._chance.setstate(random.getstate())
            random.setstate(outside)

    # -- settle ------------------------------------------------------------------------------------------------

    def _settle(self, hop: _Hop) -> None:
        if hop.doom == "after_call":
            self._lose(hop, hop.doom)
            return
        if hop.doom == "stall":
            hop.doom = None
            self._stall(hop)
            return
        event = hop.event
        assert event is not None
        settled = RunEvent(run_id=hop.work.run_id, event=event, work=hop.work)
        [applied] = self._store.run(self._store.apply([settled])).answers
        if applied.verdict is Verdict.STALE:
            assert hop.call is not None
            with self._seeded():
                hop.event = self._caller.take_in(hop.call, dict(applied.newest), seconds=0.0, stay=self._stay(hop))
            return
        self._held.remove(hop)
        self._hungry = True
        if hop.place is not None:
            self.journal.end(hop.place, outcome_of(event, applied.verdict))
        self._held += [_Hop(hop.hand, work, hop.streak + 1) for work in applied.kept]
        if hop.doom == "after_commit":
            self._lose(hop, hop.doom)

    # -- lost workers ------------------------------------------------------------------------------------------

    def _lose(self, hop: _Hop, doom: Doom) -> None:
        """The worker of a hop dies, with all that it holds."""
        self._note(hop, doom)
        for lost in self._gone(hop.hand):
            if lost.place is not None:
                self.journal.end(lost.place, "lost")
        self._crew.lose(hop.hand)
        self._hungry = True

    def _stall(self, hop: _Hop) -> None:
        """The worker of a hop stands still, with all that it holds, until after it was taken for lost."""
        self._note(hop, "stall")
        if hop.hand.alive:
            self._stalled += self._gone(hop.hand)
            self._crew.lose(hop.hand)
            self._hungry = True

    def _gone(self, hand: Hand) -> list[_Hop]:
        gone = [held for held in self._held if held.hand is hand]
        self._held = [held for held in self._held if held.hand is not hand]
        return gone

    def _wake(self) -> None:
        """Stalled workers whose leases have run out go on, as if nothing had happened."""
        now = self._clock.now()
        self._held += [hop for hop in self._stalled if hop.hand.expires < now]
        self._stalled = [hop for hop in self._stalled if hop.hand.expires >= now]

    def _note(self, hop: _Hop, doom: Doom) -> None:
        self.blows.append(f"{doom} of {hop.work.neuron}, run {hop.work.run_id}, activation {hop.work.activation_id}")

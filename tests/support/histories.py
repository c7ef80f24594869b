"""Histories of runs that chance writes: workers, supervisors and people who do anything, at any time, in batches or alone.

A ``History`` plays on any world, and takes every choice from one ``Random``: the same one tells the same history. Each kind
of event stands in ``KINDS`` with a method that makes one, or None where there is nothing of the kind: a new kind of event is
a new method and a line there. ``Mood`` says how often each comes, so that some histories get deep into what others never see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.context import Context
from cnstra.orchestrator.machine.events import Expected, FailedTry, Scattered, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Compensable, Output, Target
from cnstra.orchestrator.store import Applied, AppliedBatch, Posting, RunEvent, Work
from support.worlds import (
    EVERYTHING,
    GRAPH,
    NEURONS,
    Hop,
    Worker,
    World,
    attempt_due,
    cancel_asked,
    deadline_due,
    due,
    expectation_due,
    expects,
    failed,
    hop,
    lost,
    pause_asked,
    resume_asked,
    retry_asked,
    returned,
    scatter,
    sent,
    target,
)

KEYS = ("a", "b")
ENDED = frozenset({"completed", "failed", "compensated", "cancelled"})
LIMITED = {"bank": 100}
"""What has a limit in every history: one that none reaches, as of what is equally old each store takes another first."""

MOST_ACTIVATIONS = 9
"""No run grows above this by much, so that histories come to ends."""


@dataclass(frozen=True, kw_only=True)
class Mood:
    """How often things happen, by the names in ``KINDS`` and ``DEEDS``; and what is declared."""

    weights: Mapping[str, int]
    compensables: tuple[Compensable, ...] = tuple(Compensable)
    runs: int = 1
    writes: float = 0.3
    """How often a handler writes to the context."""
    deadlines: float = 0.2
    batches: float = 0.2
    """How often several events come as one batch."""
    expects: float = 0.0
    """How often a hop expects a signal from outside."""
    scatters: float = 0.0
    """How often a hop scatters."""
    gives: float = 0.0
    """How often a hop gives a result, which a gather may collect."""
    size: int = MOST_ACTIVATIONS
    """How many activations a run may have before its hops start nothing more."""


_WORK = {"claim": 12, "succeed": 16, "fail": 3, "fail for good": 2, "give back": 2, "lose": 2, "zombie": 2, "time": 5}
_PEOPLE = {"cancel": 1, "cancel and undo": 1, "pause": 1, "resume": 2, "retry": 2}

MOODS = {
    "anything": Mood(
        weights=_WORK | _PEOPLE | {"submit": 1, "strangers": 1, "late": 1, "cancel": 2, "pause": 3, "resume": 3}, runs=2
    ),
    "undoing": Mood(
        weights=_WORK | {"fail for good": 6, "cancel and undo": 2, "pause": 2, "resume": 4, "retry": 6, "late": 1},
        compensables=(Compensable.DONE, Compensable.UNCERTAIN),
        writes=0.1,
    ),
    "conflicts": Mood(weights=_WORK | _PEOPLE | {"race": 12, "fail": 0, "pause": 2, "resume": 4}, writes=0.9),
    "crashes": Mood(
        weights=_WORK | _PEOPLE | {"lose": 20, "time": 14, "succeed": 4, "pause": 3, "resume": 4}, writes=0.1
    ),
    "strangers": Mood(weights=_WORK | _PEOPLE | {"strangers": 5, "pause": 4, "resume": 4}, writes=0.1),
    "too late": Mood(
        weights=_WORK | _PEOPLE | {"late": 6, "time": 8, "cancel": 2, "pause": 4, "resume": 3}, deadlines=1.0
    ),
    "waiting": Mood(
        weights=_WORK | {"answer": 8, "post": 6, "too late to answer": 4, "cancel and undo": 1, "retry": 3},
        runs=2,
        writes=0.1,
        deadlines=0.1,
        expects=0.6,
        gives=0.1,
        scatters=0.1,
        size=14,
    ),
    "groups": Mood(
        weights=_WORK | {"claim": 18, "succeed": 26, "time": 3, "retry": 6},
        compensables=(Compensable.NO,),
        writes=0.0,
        deadlines=0.0,
        scatters=0.5,
        gives=0.7,
        size=24,
    ),
    "failing groups": Mood(
        weights=_WORK | {"claim": 18, "succeed": 20, "fail for good": 8, "retry": 12, "lose": 4},
        compensables=(Compensable.NO,),
        writes=0.0,
        deadlines=0.0,
        scatters=0.5,
        gives=0.6,
        size=24,
    ),
    "everything": Mood(
        weights=_WORK
        | _PEOPLE
        | {"answer": 5, "post": 3, "too late to answer": 2, "race": 1, "strangers": 1, "late": 1},
        runs=2,
        expects=0.25,
        scatters=0.3,
        gives=0.5,
        size=18,
    ),
}


@dataclass
class Model:
    """What is known of a run without asking the store."""

    run_id: UUID
    committed: dict[int, Compensable] = field(default_factory=dict)
    """The activations whose call has committed, with what their compensation covers by the code that ran."""
    undone: list[int] = field(default_factory=list)
    """The activations whose compensation has committed, in that order."""
    covers: dict[int, Compensable] = field(default_factory=dict)
    """What the code that ran said of an activation's compensation, at its last call."""
    is_final: bool = False


class History:
    """One history on one world."""

    def __init__(self, world: World, random: Random, mood: Mood) -> None:
        self.world = world
        self.random = random
        self.mood = mood
        self.held: list[Work] = []
        self.gone: list[Work] = []
        self.models: dict[UUID, Model] = {}
        self.told: list[str] = []
        self.before: Callable[[list[RunEvent]], None] = lambda events: None
        """Called with every batch before it is applied."""
        self.after: Callable[[list[RunEvent], AppliedBatch], None] = lambda events, batch: None
        """And after it, with its answers."""
        self.workers: list[Worker] = []
        self.worker = self._hire()
        self.stranger: Worker | None = None
        self._hops: dict[tuple[UUID, object], Hop] = {}
        for _ in range(mood.runs):
            self._submit()

    # -- the course of it --------------------------------------------------------------------------------------

    def step(self) -> None:
        """The next thing that happens. Where every run has ended, another one begins."""
        if not self._live():
            self._submit()
        names = [name for name, weight in self.mood.weights.items() if weight]
        (name,) = self.random.choices(names, [self.mood.weights[name] for name in names])
        if name in DEEDS:
            self.told.append(name)
            DEEDS[name](self)
            return
        kinds = [name]
        if self.random.random() < self.mood.batches:
            kinds += self.random.choices([each for each in names if each in KINDS], k=self.random.randint(1, 4))
        events: list[RunEvent] = []
        for kind in kinds:
            events += KINDS[kind](self) or []
        if events:
            self.told.append(" + ".join(kinds))
            self.apply(events)

    def apply(self, events: list[RunEvent]) -> AppliedBatch:
        """Events as one batch; what is stale is settled again."""
        self.before(events)
        batch = self.world.apply(*events)
        stale: list[Hop] = []
        for event, applied in zip(events, batch.answers, strict=True):
            self._take_in(event, applied)
            if applied.verdict is Verdict.STALE and isinstance(event.event, Succeeded):
                one = self._hops[event.run_id, event.event.fence]
                one.take_in(applied)
                stale.append(one)
        self.after(events, batch)
        for one in stale:
            self.apply([one.event()])
        return batch

    def _take_in(self, event: RunEvent, applied: Applied) -> None:
        fences = {(work.run_id, work.fence) for work in applied.kept}
        self.held = [work for work in self.held if (work.run_id, work.fence) not in fences] + list(applied.kept)
        if applied.verdict not in (Verdict.APPLIED, Verdict.CONFLICTED):
            return
        model = self.models[event.run_id]
        if isinstance(event.event, Succeeded | FailedTry):
            [work] = [one for one in self.gone if (one.run_id, one.fence) == (event.run_id, event.event.fence)]
            if not work.undo:
                model.covers[work.activation_id] = event.event.compensable
        if applied.verdict is Verdict.APPLIED and isinstance(event.event, Succeeded):
            one = self._hops[event.run_id, event.event.fence]
            if one.work.undo:
                model.undone.append(one.work.activation_id)
            else:
                model.committed[one.work.activation_id] = one.compensable

    def come_to_an_end(self, *, rounds: int = 200) -> None:
        """Everybody goes on settling, and time passes, until all runs that nobody pauses have ended."""
        self.told.append("everybody comes to an end")
        worker = self._hire()
        for run_id in self.models:
            self.apply([resume_asked(run_id)])
        for _ in range(rounds):
            self._answer_who_waits()
            self.held += worker.claim() + [work for work in worker.claim(suspects=True) if work not in self.held]
            while self.held:
                work = self.held.pop()
                self.gone.append(work)
                self.apply([self._hop(work, targets=()).event()])
            if all(self.world.status(run_id) in ENDED for run_id in self.models):
                return
            self._time(60.0)
        left = {run_id: self.world.status(run_id) for run_id in self.models}
        raise AssertionError(f"these never end: {left}")

    def retry_what_failed(self) -> None:
        """What has failed is retried, and everybody goes on: nothing that a retry takes up is left."""
        self.told.append("what failed is retried")
        again = [run_id for run_id in self.models if self.world.status(run_id) == "failed"]
        for run_id in again:
            if self.apply([retry_asked(run_id)]).answers[0].verdict is Verdict.APPLIED:
                self.come_to_an_end()
                assert self.world.status(run_id) != "failed", f"run {run_id} has failed again, though nothing did"

    def _answer_who_waits(self) -> None:
        for run_id in self.models:
            rows = self.world.activations(run_id).values()
            for _ in [row for row in rows if row["status"] == "waiting" and row["gathers_group_id"] is None]:
                self.apply([sent(run_id)])

    # -- deeds: what is no event -------------------------------------------------------------------------------

    def _submit(self) -> None:
        if len(self._live()) > 2:
            return
        begins = self._targets(self.random.randint(1, 3), here=False)
        changes: dict[str, object] = {"priority": self.random.choice([0, 0, 1])}
        if self.random.random() < 0.1:
            changes["delay"] = timedelta(seconds=self.random.choice([1, 5]))
        if self.random.random() < self.mood.deadlines:
            changes["deadline"] = timedelta(seconds=self.random.choice([3, 10, 30]))
        run_id = self.world.submit(*begins, **changes)
        self.models[run_id] = Model(run_id)

    def _claim(self) -> None:
        """All that one worker may have; in the order of the ids, whatever order it came in."""
        worker = self.worker if self.stranger is None or self.random.random() < 0.7 else self.stranger
        claimed = worker.claim(suspects=self.random.random() < 0.2)
        paused = {run_id for run_id in self.models if self.world.status(run_id) == "paused"}
        assert not paused & {work.run_id for work in claimed}, "something of a paused run was claimed"
        self.held += sorted(claimed, key=lambda work: (work.run_id, work.activation_id))

    def _time(self, passes: float | None = None) -> None:
        """Time passes, leases are renewed, and the supervisor finds what is due."""
        self.world.clock.advance(self.random.choice([0.5, 1.0, 5.0]) if passes is None else passes)
        self._renew()
        found = self.world.look(self.worker, lease=0.0)
        events = [due(run_id, number) for run_id, number in sorted(found.due)]
        events += [attempt_due(run_id) for run_id in sorted(found.attempts_due)]
        events += [deadline_due(run_id) for run_id in sorted(found.deadlines_due)]
        events += [expectation_due(run_id, number) for run_id, number in sorted(found.expectations_due)]
        if events:
            self.apply(events)

    def _renew(self) -> None:
        for worker in self.workers:
            self.world.store.run(self.world.store.renew(worker.info.worker))

    def _strangers(self) -> None:
        """A worker that lacks compensations, and some dendrites, is alone for a while; what nobody knows is set aside."""
        if self.stranger is None:
            known = tuple(pair for pair in EVERYTHING if self.random.random() < 0.7) or EVERYTHING[:1]
            self.stranger = self._hire(*known, compensations=())
            self.world.store.run(self.world.store.leave(self.worker.info.worker))
            self.world.clock.advance(2.0)
            self._renew()
            self.world.set_unknown_aside()
        else:
            self.worker, self.stranger = self._hire(), None

    def _race(self) -> None:
        """All that is held writes one key, the youngest first; more than once, until one may run alone."""
        key = self.random.choice(KEYS)
        for _ in range(self.random.choice([1, 4])):
            self._claim()
            for work in sorted(self.held, key=lambda work: (work.run_id, -work.activation_id)):
                self._drop(work)
                targets = () if work.undo else self._targets(1 if self._has_room(work.run_id) else 0)
                self.apply([self._hop(work, targets=targets, writes=key).event()])

    def _post(self) -> None:
        """A signal is sent by key; sometimes again."""
        posting = Posting(
            graph=GRAPH,
            key=self.random.choice(KEYS),
            collateral="answer",
            payload=str(self.random.randint(1, 2)),
            idempotency_key=f"posted {self.random.randint(1, 9)}",
        )
        self.world.store.run(self.world.store.post(posting))

    # -- events ------------------------------------------------------------------------------------------------

    def _succeed(self) -> list[RunEvent] | None:
        work = self._take()
        if work is None:
            return None
        targets: tuple[Target, ...] = ()
        if not work.undo and self._has_room(work.run_id):
            targets = self._targets(self.random.choice([0, 1, 1, 2]))
        writes = self.random.choice(KEYS) if self.random.random() < self.mood.writes else None
        one = self._hop(work, targets=targets, writes=writes)
        if not work.undo:
            self._wait_or_scatter(one)
        return [one.event()]

    def _wait_or_scatter(self, one: Hop) -> None:
        """What a hop does beside starting others: so far as its mood has it."""
        room, wants = self._has_room(one.work.run_id), self._wants
        if wants(self.mood.expects) and room:
            one.expected = tuple(self._expected() for _ in range(self.random.choice([1, 1, 2])))
        if wants(self.mood.scatters) and room:
            one.scattered = tuple(self._scattered() for _ in range(self.random.choice([1, 1, 1, 2])))
        if wants(self.mood.gives):
            many = self.random.choice([1, 1, 1, 1, 1, 2])  # two are an error, where they are collected
            results = tuple(
                Output(ordinal=20 + place, collateral="result", payload=f"{one.work.activation_id}{place}")
                for place in range(many)
            )
            one.results, one.outputs = results, (*one.outputs, *results)

    def _wants(self, how_often: float) -> bool:
        return how_often > 0 and self.random.random() < how_often

    def _expected(self) -> Expected:
        timeout = self.random.choice([None, timedelta(seconds=1), timedelta(seconds=5)])
        late = () if timeout is None else self._targets(self.random.choice([0, 1]), here=False)
        return expects(
            *self.random.sample(NEURONS, self.random.choice([1, 1, 2])),
            key=self.random.choice([None, *KEYS]),
            timeout=timeout,
            late=late,
            told='"late"' if timeout is not None and self.random.random() < 0.3 else "",
        )

    def _scattered(self) -> Scattered:
        size = self.random.choice([0, 1, 2, 3, 5])
        many = scatter(
            *map(str, range(size)),
            to=self.random.sample(NEURONS, self.random.choice([1, 1, 1, 2])),
            gather=self.random.sample(NEURONS, self.random.choice([0, 1, 1, 1, 2])),
            limit=self.random.choice([None, None, 1, 2]),
            failures=self.random.random() < 0.4,
            named=self.random.random() < 0.9,
            here=self.random.choice([0, 0, 1, 2, 5]),
        )
        if len(many.gatherers) == 2 and self.random.random() < 0.3:  # one takes failures, the other does not
            first, second = many.gatherers
            many = replace(many, gatherers=(first, replace(second, failures=not first.failures)))
        return many

    def _answer(self) -> list[RunEvent]:
        key = f"answer {self.random.randint(1, 9)}" if self.random.random() < 0.3 else ""
        return [sent(self._run(), str(self.random.randint(1, 2)), idempotency_key=key)]

    def _too_late_to_answer(self) -> list[RunEvent] | None:
        """A timeout that may not have come yet, or not exist."""
        run_id = self._run()
        waiting = [n for n, row in self.world.activations(run_id).items() if row["status"] == "waiting"]
        return [expectation_due(run_id, self.random.choice(waiting))] if waiting else None

    def _fail(self) -> list[RunEvent] | None:
        work = self._take()
        if work is None:
            return None
        return [
            failed(work, retry_after=self.random.choice([0.0, 1.0, 5.0]), compensable=self._covers(work)),
        ]

    def _fail_for_good(self) -> list[RunEvent] | None:
        work = self._take()
        if work is None:
            return None
        revive = None if work.undo else self.random.choice([None, None, 0.0, 2.0])
        return [failed(work, revive_after=revive, compensable=self._covers(work))]

    def _give_back(self) -> list[RunEvent] | None:
        work = self._take()
        return None if work is None else [returned(work)]

    def _lose(self) -> list[RunEvent] | None:
        work = self._take()
        return None if work is None else [lost(work.run_id, work.fence, backoff=self.random.choice([0.0, 1.0]))]

    def _zombie(self) -> list[RunEvent] | None:
        """A claim that was settled, given back or taken away is settled again."""
        if not self.gone:
            return None
        work = self.random.choice(self.gone)
        kind = self.random.randrange(4)
        if kind == 0 and (work.run_id, work.fence) in self._hops:
            return [self._hops[work.run_id, work.fence].event()]
        made = [
            lambda: self._hop(work, targets=(), writes="a").event(),
            lambda: failed(work, retry_after=1.0),
            lambda: failed(work),
            lambda: lost(work.run_id, work.fence),
        ]
        return [made[kind]()]

    def _cancel(self) -> list[RunEvent]:
        return [cancel_asked(self._run())]

    def _cancel_and_undo(self) -> list[RunEvent]:
        return [cancel_asked(self._run(), compensate=True)]

    def _pause(self) -> list[RunEvent]:
        return [pause_asked(self._run())]

    def _resume(self) -> list[RunEvent]:
        return [resume_asked(self._run())]

    def _retry(self) -> list[RunEvent]:
        run_id = self._run()
        attempt: int = self.world.row(run_id)["attempt"]
        return [retry_asked(run_id, attempt=self.random.choice([None, attempt, attempt - 1]))]

    def _late(self) -> list[RunEvent]:
        return [deadline_due(self._run())]

    # -- shorthands --------------------------------------------------------------------------------------------

    def _hire(self, *dendrites: tuple[str, str], **changes: object) -> Worker:
        worker = self.world.worker(*dendrites, **{"limits": LIMITED} | changes)
        self.workers.append(worker)
        return worker

    def _run(self) -> UUID:
        """One of the runs: as a rule, of those that can still move."""
        live = self._live()
        return self.random.choice(live if live and self.random.random() < 0.9 else list(self.models))

    def _live(self) -> list[UUID]:
        for model in self.models.values():
            model.is_final = model.is_final or self.world.status(model.run_id) in ENDED - {"failed"}
        return [run_id for run_id, model in self.models.items() if not model.is_final]

    def _take(self) -> Work | None:
        """One of the claims that are held; it will not be any more."""
        if not self.held:
            return None
        work = self.random.choice(self.held)
        self._drop(work)
        return work

    def _drop(self, work: Work) -> None:
        self.held.remove(work)
        self.gone.append(work)

    def _covers(self, work: Work) -> Compensable:
        """What the code that runs says of the compensation, which may be another than the one that started it."""
        if work.undo:
            return Compensable.UNCERTAIN
        return self.mood.compensables[work.activation_id % len(self.mood.compensables)]

    def _has_room(self, run_id: UUID) -> bool:
        return len(self.world.activations(run_id)) < self.mood.size

    def _targets(self, number: int, *, here: bool = True) -> tuple[Target, ...]:
        waits = [None, None, None, timedelta(seconds=1), timedelta(seconds=5)]
        return tuple(
            target(
                neuron := self.random.choice(NEURONS),
                limited=neuron in LIMITED,
                ordinal=place,
                here=here and self.random.random() < 0.3,
                delay=self.random.choice(waits) if here else None,
                compensable=self.random.choice(self.mood.compensables),
            )
            for place in range(number)
        )

    def _hop(self, work: Work, *, targets: Iterable[Target], writes: str | None = None) -> Hop:
        counts = self.random.random() < 0.3

        def handler(ctx: Context) -> None:
            if writes is not None and counts:
                ctx.update(writes, lambda count: (count or 0) + 1)
            elif writes is not None:
                ctx[writes] = work.fence.epoch

        outputs = [str(work.activation_id)] if not work.undo and self.random.random() < 0.2 else []
        one = hop(work, handler, targets=tuple(targets), outputs=outputs, compensable=self._covers(work))
        self._hops[work.run_id, work.fence] = one
        return one


DEEDS: dict[str, Callable[[History], None]] = {
    "submit": History._submit,
    "claim": History._claim,
    "time": History._time,
    "strangers": History._strangers,
    "race": History._race,
    "post": History._post,
}

KINDS: dict[str, Callable[[History], list[RunEvent] | None]] = {
    "succeed": History._succeed,
    "fail": History._fail,
    "fail for good": History._fail_for_good,
    "give back": History._give_back,
    "lose": History._lose,
    "zombie": History._zombie,
    "cancel": History._cancel,
    "cancel and undo": History._cancel_and_undo,
    "pause": History._pause,
    "resume": History._resume,
    "retry": History._retry,
    "late": History._late,
    "answer": History._answer,
    "too late to answer": History._too_late_to_answer,
}

"""The pure core under random events: what must hold after each of them, in whatever order they come.

Hypothesis plays workers that settle, fail, die, come back as zombies and repeat themselves, supervisors that are early and
late, and people who retry. The machine's plans are carried out by the store in memory, one run at a time; what the handlers
wrote is held against a plain dictionary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from itertools import cycle, islice
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from cnstra.orchestrator.context import Context
from cnstra.orchestrator.machine.fold import CONFLICTS_BEFORE_ALONE
from cnstra.orchestrator.machine.folding import BLOCKED_ALONE
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Run
from cnstra.orchestrator.machine.states import (
    ACTIVATION_MOVES,
    ACTIVATION_STARTS,
    ACTIVE,
    ENDED,
    FINAL,
    OUTSTANDING,
    RUN_MOVES,
    RUN_STARTS,
    ActivationStatus,
    RunStatus,
)
from cnstra.orchestrator.slots import OnStale
from cnstra.orchestrator.store import Applied, RunEvent, Work
from cnstra.stores.memory import MemoryStore
from cnstra.stores.memory.state import ActivationRow, State
from support.worlds import (
    EVERYTHING,
    Hop,
    MemoryWorld,
    attempt_due,
    due,
    failed,
    gave_way,
    hop,
    lost,
    retry_asked,
    returned,
    target,
)

KEYS = ("a", "b", "c")
NEURONS = tuple(neuron for neuron, _ in EVERYTHING)
REFUSED = {Verdict.FENCED, Verdict.VOID, Verdict.STALE, Verdict.REPEATED}

ACTIVATION_STEPS = {(before, after) for (before, _), after in ACTIVATION_MOVES.items()}
RUN_STEPS = {(before, after) for (before, _), after in RUN_MOVES.items()}

starts = st.lists(st.sampled_from(NEURONS), min_size=2, max_size=4)
seconds = st.sampled_from([0.0, 1.0, 5.0])
maybe_seconds = st.none() | seconds
indexes = st.integers(min_value=0, max_value=10_000)
waits = st.none() | st.sampled_from([timedelta(0), timedelta(seconds=1), timedelta(seconds=5)])
fan_outs = st.lists(st.tuples(st.sampled_from(NEURONS), st.booleans(), waits), max_size=3)
FanOut = list[tuple[str, bool, timedelta | None]]

# What a handler does to the context, in order: it writes, counts up or deletes a key, or sets or deletes the whole.
key_steps = st.tuples(st.sampled_from(["put", "count", "drop"]), st.sampled_from(KEYS))
whole_steps = st.tuples(st.just("set"), st.lists(st.sampled_from(KEYS), unique=True)) | st.sampled_from(
    [("value", None), ("delete", None)]
)
WHOLE_STEPS = {"set", "value", "delete"}
scripts = st.lists(key_steps, max_size=2) | st.lists(key_steps | whole_steps, max_size=3)
busy_scripts = st.lists(key_steps | whole_steps, min_size=1, max_size=3)
Script = Sequence[tuple[str, Any]]


@dataclass
class Written:
    """What one hop's handler saw and did, for the model."""

    hop: Hop
    script: Script
    marks: list[int]
    """A value that nobody else writes, for every step."""
    saw: Any
    """The whole shared value that it started from."""


def has_keys(value: Any) -> bool:
    """Whether keys of a value can be written: of a mapping, or of none at all."""
    return value is None or isinstance(value, dict)


def value_of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def writes_key(step: str, key: str, value: Any) -> bool:
    """Whether a step does anything to a value: a handler deletes no key that it does not see."""
    return has_keys(value) and (step != "drop" or value_of(value, key) is not None)


def played(step: str, argument: Any, mark: int, value: Any) -> Any:
    """What a step makes of a value; ``mark`` is a value that no other step writes."""
    keys = dict(value) if isinstance(value, dict) else {}
    match step:
        case "set":
            return dict.fromkeys(argument, mark)
        case "value":
            return mark
        case "delete":
            return None
        case "put":
            return keys | {argument: mark}
        case "count":
            return keys | {argument: keys.get(argument, 0) + 1}
        case _:
            return {key: held for key, held in keys.items() if key != argument}


def perform(context: Context[Any, Any], script: Script, marks: list[int]) -> None:
    """The same script, by a handler."""
    for (step, argument), mark in zip(script, marks, strict=True):
        if step not in WHOLE_STEPS and not writes_key(step, argument, context.get()):
            continue
        match step:
            case "set":
                context.set(dict.fromkeys(argument, mark))
            case "value":
                context.set(mark)
            case "delete":
                context.delete()
            case "put":
                context[argument] = mark
            case "count":
                context.update(argument, lambda count: (count or 0) + 1)
            case "drop":
                del context[argument]


@dataclass
class Seen:
    """What has been seen of the run so far, for what must never change again."""

    done: dict[int, ActivationRow] = field(default_factory=dict)
    final: Run | None = None
    epochs: dict[int, int] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    """One run, and everybody who has to do with it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = MemoryWorld()
        self.worker = self.world.worker()
        self.marks = 1000

    @initialize(neurons=starts)
    def begin(self, neurons: list[str]) -> None:
        self.run_id: UUID = self.world.submit(*neurons)
        self.held: list[Work] = []
        self.gone: list[Work] = []
        self.value: Any = None
        self.seen = Seen()
        assert self.run.status in RUN_STARTS

    @precondition(lambda self: self.run.status in FINAL)
    @rule(neurons=starts)
    def begin_anew(self, neurons: list[str]) -> None:
        self.begin(neurons)

    # -- shorthands --------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.world.memory._state

    @property
    def run(self) -> Run:
        return self.state.runs[self.run_id].run

    def rows(self) -> list[ActivationRow]:
        return self.state.of_run(self.run_id)

    def take(self, index: int) -> Work:
        """One of the claims that are held; it will not be any more."""
        work = self.held.pop(index % len(self.held))
        self.gone.append(work)
        return work

    def apply(self, event: RunEvent) -> Applied:
        """One event; its steps must be in the tables."""
        before = {row.activation.activation_id: row.activation.status for row in self.rows()}
        run, state = self.run.status, everything(self.state, self.run_id)
        (applied,) = self.world.apply(event).answers
        for row in self.rows():
            number, after = row.activation.activation_id, row.activation.status
            if number not in before:
                assert after in ACTIVATION_STARTS
            else:
                assert before[number] is after or (before[number], after) in ACTIVATION_STEPS
        assert run is self.run.status or self.run.status in reachable(run)
        if applied.verdict in REFUSED:
            assert everything(self.state, self.run_id) == state
        self.hold(applied)
        return applied

    def hold(self, applied: Applied) -> None:
        """Successors that were kept; a repetition gives them out again, with the context as it is by then."""
        fences = {work.fence for work in applied.kept}
        self.held = [work for work in self.held if work.fence not in fences] + list(applied.kept)

    def written(self, work: Work, script: Script, on_stale: OnStale, targets: FanOut) -> Written:
        """Call a handler that plays the script."""
        marks = [self.marks + place for place in range(len(script))]
        self.marks += len(script)
        context = hop(work).context
        one = hop(
            work,
            lambda ctx: perform(ctx, script, marks),
            on_stale=on_stale,
            targets=[
                target(name, here=here, ordinal=place, delay=delay) for place, (name, here, delay) in enumerate(targets)
            ],
        )
        return Written(one, script, marks, context.get())

    # -- workers -----------------------------------------------------------------------------------------------

    @rule(limit=st.sampled_from([1, 2, 100]))
    def claim(self, limit: int) -> None:
        for work in self.worker.claim(limit):
            assert work.fence.epoch > self.seen.epochs.get(work.activation_id, 0)
            self.seen.epochs[work.activation_id] = work.fence.epoch
            self.held.append(work)

    @precondition(lambda self: self.held)
    @rule(index=indexes, fan_out=fan_outs, script=scripts)
    def succeed(self, index: int, fan_out: FanOut, script: Script) -> None:
        """A hop commits what it did to what it saw, or, in conflict, nothing; updates land on the newest value."""
        work = self.take(index)
        written = self.written(work, script, OnStale.CONFLICT, fan_out)
        applied = self.apply(written.hop.event())
        if applied.verdict is Verdict.STALE:  # only keys that it counts up were written meanwhile
            stale = {slot.removeprefix("s:") for slot in applied.newest}
            assert stale <= {key for step, key in script if step == "count"}
            applied = self.apply(written.hop.take_in(applied))
        if applied.verdict is Verdict.APPLIED:
            self.commit(written)
        else:
            assert applied.verdict is Verdict.CONFLICTED
            assert script

    def commit(self, written: Written) -> None:
        """The model's side of a commit: nothing that the hop wrote over was newer than what it had read."""
        saw, own, value = written.saw, written.saw, self.value
        for (step, argument), mark in zip(written.script, written.marks, strict=True):
            if step in WHOLE_STEPS:
                assert (saw or {}) == (self.value or {})  # it wrote every key; no value and no keys are alike here
            elif writes_key(step, argument, own):
                assert has_keys(self.value) or saw == self.value
                assert step == "count" or value_of(saw, argument) == value_of(self.value, argument)
            else:
                continue
            own, value = played(step, argument, mark, own), played(step, argument, mark, value)
        self.value = value

    @precondition(lambda self: self.held)
    @rule(index=indexes, script=scripts)
    def overwrite(self, index: int, script: Script) -> None:
        """A hop that overwrites is never in conflict."""
        written = self.written(self.take(index), [step for step in script if step[0] != "count"], OnStale.OVERWRITE, [])
        assert self.apply(written.hop.event()).verdict is Verdict.APPLIED
        snapshot = self.state.snapshot(self.run_id)
        self.value = hop(replace(written.hop.work, snapshot=snapshot)).context.get()

    @precondition(lambda self: self.run.active > 1)
    @rule(
        key=st.sampled_from(KEYS),
        rounds=st.sampled_from([1, CONFLICTS_BEFORE_ALONE, CONFLICTS_BEFORE_ALONE + 1]),
        spared=st.integers(min_value=0, max_value=1),
    )
    def race(self, key: str, rounds: int, spared: int) -> None:
        """Almost all write one key, the youngest first: it wins and goes on, again and again, until one may run alone."""
        for _ in range(rounds):
            self.claim(100)
            for work in sorted(self.held, key=lambda work: -work.activation_id)[: -spared or None]:
                self.succeed(self.held.index(work), [("bank", False, None)], [("put", key)])

    @precondition(lambda self: len(self.held) > 1)
    @rule(played=st.lists(busy_scripts, min_size=2, max_size=4))
    def race_with_anything(self, played: list[Script]) -> None:
        """Some that are running write whatever they like, from what they all had read."""
        for script in played[: len(self.held)]:
            self.succeed(0, [], script)

    @precondition(lambda self: self.held)
    @rule(
        index=indexes,
        kind=st.sampled_from(["fail", "fail for good", "give back", "give way", "die"]),
        seconds=maybe_seconds,
    )
    def end_otherwise(self, index: int, kind: str, seconds: float | None) -> None:
        """It failed, for now or for good, or was not called at all, or was undone, or its worker died."""
        work = self.take(index)
        event = {
            "fail": failed(work, retry_after=seconds or 0.0),
            "fail for good": failed(work, revive_after=seconds),
            "give back": returned(work),
            "give way": gave_way(work, backoff=seconds),
            "die": lost(self.run_id, work.fence, backoff=seconds or 0.0),
        }[kind]
        conflicts = kind == "give way" and seconds is None
        assert self.apply(event).verdict is (Verdict.CONFLICTED if conflicts else Verdict.APPLIED)

    @precondition(lambda self: self.gone)
    @rule(index=indexes, kind=st.integers(min_value=0, max_value=6), epoch=st.integers(min_value=-1, max_value=1))
    def come_back_as_a_zombie(self, index: int, kind: int, epoch: int) -> None:
        """A claim that was settled, given back or taken away commits nothing, nor does one with another epoch."""
        claims = self.gone + (self.held if epoch else [])
        work = claims[index % len(claims)]
        fence = replace(work.fence, epoch=work.fence.epoch + epoch)
        answer = self.apply(self.an_event(replace(work, fence=fence), kind))
        assert answer.verdict in {Verdict.FENCED, Verdict.REPEATED}

    def an_event(self, work: Work, kind: int) -> RunEvent:
        settlements = [
            lambda: hop(work, lambda ctx: ctx.set({"zombie": 1}), targets=[target("stock")]).event(),
            lambda: failed(work, retry_after=1.0),
            lambda: failed(work),
            lambda: returned(work),
            lambda: lost(work.run_id, work.fence),
            lambda: gave_way(work),
            lambda: gave_way(work, backoff=1.0),
        ]
        return settlements[kind]()

    # -- supervisors, people, time -----------------------------------------------------------------------------

    @rule(passes=st.sampled_from([0.0, 0.5, 5.0]))
    def look_for_what_is_due(self, passes: float) -> None:
        """Every activation, and the run, are told that their time may have come: it has, exactly where it has."""
        self.world.clock.advance(passes)
        scheduled = [row for row in self.rows() if row.activation.status is ActivationStatus.SCHEDULED]
        for row in scheduled or self.rows()[:1]:
            at = row.activation.available_at
            is_due = row in scheduled and at is not None and self.is_over(at)
            applied = self.apply(due(self.run_id, row.activation.activation_id))
            assert applied.verdict is (Verdict.APPLIED if is_due else Verdict.VOID)
        is_due = self.run.next_retry_at is not None and self.is_over(self.run.next_retry_at)
        applied = self.apply(attempt_due(self.run_id))
        assert applied.verdict is (Verdict.APPLIED if is_due else Verdict.VOID)

    def is_over(self, at: datetime) -> bool:
        return at <= self.world.clock.now()

    @precondition(lambda self: not self.held)
    @rule(late=st.sampled_from([None, 0, 1]))
    def ask_for_a_retry(self, late: int | None) -> None:
        """Of whichever attempt it is, of this one, or of the one before."""
        attempt = self.run.attempt
        begins = self.run.status is RunStatus.FAILED and not late
        applied = self.apply(retry_asked(self.run_id, attempt=None if late is None else attempt - late))
        assert applied.verdict is (Verdict.APPLIED if begins else Verdict.VOID)
        assert self.run.attempt == attempt + begins

    # -- batches -----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.held) > 1)
    @rule(
        kinds=st.lists(st.tuples(st.integers(min_value=0, max_value=8), scripts, fan_outs), min_size=1, max_size=4),
        leaves=st.integers(min_value=0, max_value=2),
        asks=st.booleans(),
    )
    def settle_a_batch(self, kinds: list[tuple[int, Script, FanOut]], leaves: int, asks: bool) -> None:
        """A batch comes to what its events come to one by one, verdict by verdict and row by row."""
        events: list[RunEvent] = []
        written: dict[int, Written] = {}
        for kind, script, targets in islice(cycle(kinds), max(len(self.held) - leaves, 1)):
            work = self.take(kind)
            if kind in {7, 8}:
                events.append(due(self.run_id, work.activation_id))
            if kind in {0, 7, 8}:
                written[len(events)] = self.written(work, script, OnStale.CONFLICT, targets)
                events.append(written[len(events)].hop.event())
            else:
                events.append(self.an_event(work, kind))
        events += [events[0], attempt_due(self.run_id)] + [retry_asked(self.run_id)] * asks
        self.compare_with_one_by_one(events)
        batch = self.world.apply(*events)
        for place, (event, applied) in enumerate(zip(events, batch.answers, strict=True)):
            if applied.verdict is Verdict.APPLIED:
                self.hold(applied)
                if place in written:
                    self.commit(written[place])
            elif applied.verdict is Verdict.STALE and place in written:
                self.take_in(written[place], event)

    def take_in(self, written: Written, event: RunEvent) -> None:
        """Settle again what was stale within a batch."""
        applied = self.apply(event)
        while applied.verdict is Verdict.STALE:
            applied = self.apply(written.hop.take_in(applied))
        if applied.verdict is Verdict.APPLIED:
            self.commit(written)

    def compare_with_one_by_one(self, events: Sequence[RunEvent]) -> None:
        together, apart = self.a_copy(), self.a_copy()
        batch = together.run(together.apply(events)).answers
        single = [apart.run(apart.apply([event])).answers[0] for event in events]
        assert [answer.verdict for answer in batch] == [answer.verdict for answer in single]
        assert [{work.activation_id for work in answer.kept} for answer in batch] == [
            {work.activation_id for work in answer.kept} for answer in single
        ]
        assert everything(together._state, self.run_id) == everything(apart._state, self.run_id)

    def a_copy(self) -> MemoryStore:
        store = MemoryStore(self.world.clock.now)
        store._state = a_copy(self.state)
        return store

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def the_runs_counts_are_those_of_its_activations(self) -> None:
        statuses = [row.activation.status for row in self.rows()]
        assert self.run.outstanding == sum(status in OUTSTANDING for status in statuses)
        assert self.run.active == sum(status in ACTIVE for status in statuses)
        assert self.run.failed == statuses.count(ActivationStatus.FAILED)
        assert self.run.last_activation == len(statuses)
        assert [row.activation.activation_id for row in self.rows()] == list(range(1, len(statuses) + 1))

    @invariant()
    def the_run_ends_exactly_when_nothing_is_outstanding(self) -> None:
        run = self.run
        waits_for_attempt = run.next_retry_at is not None
        assert (run.outstanding == 0) == (run.status in ENDED or waits_for_attempt)
        assert (run.status is RunStatus.RUNNING) == (run.active > 0)
        assert (run.status is RunStatus.COMPLETED) == (run.outstanding == 0 and run.failed == 0)
        assert (run.finished_at is not None) == (run.status in ENDED)
        assert not waits_for_attempt or (run.status is RunStatus.WAITING and run.failed > 0)
        assert (run.failure is not None) == (run.failed > 0)

    @invariant()
    def an_activation_has_ended_exactly_when_it_says_when(self) -> None:
        ended = [row.activation for row in self.rows() if row.activation.status not in OUTSTANDING]
        assert all(row.activation.finished_at is None for row in self.rows() if row.activation.status in OUTSTANDING)
        assert all(activation.finished_at is not None for activation in ended)
        order = [activation.finish for activation in ended]
        assert len(set(order)) == len(order)
        assert None not in order

    @invariant()
    def versions_are_exact_and_heads_agree_with_entries(self) -> None:
        entries = self.state.entries.get(self.run_id, {})
        versions = sorted({version for version, _ in entries})
        assert versions == list(range(1, self.run.context_version + 1))
        wrote = [row.activation.version_written for row in self.rows() if row.activation.version_written is not None]
        assert sorted(wrote) == versions
        heads: dict[str, int] = {}
        for (version, slot), entry in sorted(entries.items()):
            heads[slot] = version if entry.text is not None else -version
        assert self.state.heads.get(self.run_id, {}) == heads

    @invariant()
    def the_context_is_what_the_handlers_made_of_it(self) -> None:
        snapshot = self.state.snapshot(self.run_id)
        work = self.held[0] if self.held else self.gone[0] if self.gone else None
        if work is not None:
            assert hop(replace(work, snapshot=snapshot)).context.get() == self.value

    @invariant()
    def done_stays_done(self) -> None:
        for number, row in self.seen.done.items():
            assert self.state.activation((self.run_id, number)) == row
        self.seen.done = {
            row.activation.activation_id: row for row in self.rows() if row.activation.status is ActivationStatus.DONE
        }

    @invariant()
    def what_is_final_stays(self) -> None:
        assert self.seen.final is None or self.run == self.seen.final
        self.seen.final = self.run if self.run.status in FINAL else None

    @invariant()
    def nobody_is_set_aside_for_nobody(self) -> None:
        alone = self.run.alone
        for row in self.rows():
            activation = row.activation
            assert activation.blocked in (None, BLOCKED_ALONE)
            if activation.status is not ActivationStatus.READY:
                assert activation.blocked is None
            elif activation.activation_id != alone:
                assert activation.blocked == (None if alone is None else BLOCKED_ALONE)

    @invariant()
    def a_run_with_work_is_never_stuck(self) -> None:
        """Where something is ready, something is running, or somebody can claim."""
        statuses = [row.activation.status for row in self.rows()]
        if self.run.active > 0 and ActivationStatus.RUNNING not in statuses:
            assert any(
                row.activation.status is ActivationStatus.READY and row.activation.blocked is None
                for row in self.rows()
            )

    @invariant()
    def who_is_alone_is_alone(self) -> None:
        """While one that is to run alone may be claimed, or runs since, no other of the run is running."""
        alone = self.run.alone
        if alone is None:
            return
        row = self.state.activation((self.run_id, alone))
        assert row is not None
        if row.activation.blocked is None:
            assert all(
                other.activation.activation_id == alone
                for other in self.rows()
                if other.activation.status is ActivationStatus.RUNNING
            )


def everything(state: State, run_id: UUID) -> Any:
    """All that is kept of a run."""
    return (
        state.runs[run_id],
        state.of_run(run_id),
        dict(state.entries.get(run_id, {})),
        dict(state.heads.get(run_id, {})),
        list(state.tries.get(run_id, [])),
    )


def a_copy(state: State) -> State:
    """The same rows, to be put elsewhere. Rows themselves never change."""
    return dataclasses.replace(
        state, **{kept.name: _copied(getattr(state, kept.name)) for kept in fields(state) if kept.name != "now"}
    )


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(held) for key, held in value.items()}
    return list(value) if isinstance(value, list) else value


def reachable(run: RunStatus) -> set[RunStatus]:
    """Where one event can bring a run: it may wake it, and end it, in one go."""
    found = {after for before, after in RUN_STEPS if before is run}
    return found | {after for before, after in RUN_STEPS if before in found}


Machine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase

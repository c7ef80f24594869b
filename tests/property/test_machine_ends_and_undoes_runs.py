"""Runs that are cancelled, paused, too late and undone, in histories that hypothesis writes: what holds after every event.

The histories play on the store in memory; ``support.invariants`` counts everything anew after each batch of events, which
must have come to the same as its events one by one. In the end everybody goes on settling, and every run ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cnstra.orchestrator.machine.events import (
    AttemptDue,
    CancelAsked,
    DeadlineDue,
    Event,
    PauseAsked,
    ResumeAsked,
    RetryAsked,
)
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Run
from cnstra.orchestrator.machine.states import RunStatus
from cnstra.orchestrator.store import AppliedBatch, RunEvent
from cnstra.stores.memory import MemoryStore
from cnstra.stores.memory.claiming import UNKNOWN
from cnstra.stores.memory.state import State
from support.histories import MOODS, History
from support.invariants import Watch
from support.worlds import MemoryWorld

REFUSED = {Verdict.FENCED, Verdict.VOID, Verdict.STALE, Verdict.REPEATED}


class Watched(History):
    """A history in memory, of which every event is watched."""

    def __init__(self, random: Random, mood: str) -> None:
        world = MemoryWorld()
        self._memory = world.memory
        self._clock = world.clock
        self._watches: dict[UUID, Watch] = {}
        self._was: dict[UUID, Any] = {}
        super().__init__(world, random, MOODS[mood])
        self.before, self.after = self._before_events, self._after_events

    @property
    def _state(self) -> State:
        return self._memory._state

    def step(self) -> None:
        super().step()
        self.look()

    def look(self, events: int = 1) -> None:
        for run_id, model in self.models.items():
            watch = self._watches.setdefault(run_id, Watch(self._state, model))
            watch.look(events=events)

    def _before_events(self, events: list[RunEvent]) -> None:
        self.look()
        self._was = {run_id: everything(self._state, run_id) for run_id in self.models}
        if len(events) > 1:
            self._compare_with_one_by_one(events)

    def _after_events(self, events: list[RunEvent], batch: AppliedBatch) -> None:
        if len(events) == 1:
            [happening], verdict = events, batch.answers[0].verdict
            was = self._was[happening.run_id]
            asked = is_allowed(happening.event, was[0].run, self._clock.now())
            assert asked is None or verdict is (Verdict.APPLIED if asked else Verdict.VOID), (happening, was[0].run)
            if verdict in REFUSED:
                assert everything(self._state, happening.run_id) == was
        self.look(len(events))

    def _compare_with_one_by_one(self, events: Sequence[RunEvent]) -> None:
        together, apart = self._copy(), self._copy()
        batch = together.run(together.apply(events)).answers
        single = [apart.run(apart.apply([event])).answers[0] for event in events]
        for event, one, other in zip(events, batch, single, strict=True):
            refused = {one.verdict, other.verdict} <= {Verdict.FENCED, Verdict.REPEATED}
            assert one.verdict is other.verdict or refused, (event, one.verdict, other.verdict)
            kept, kept_alone = ({work.activation_id for work in answer.kept} for answer in (one, other))
            # What was kept is looked up again at the batch's end: another event of it may have taken that away.
            assert kept == kept_alone or (one.verdict is Verdict.REPEATED and kept < kept_alone)
        for run_id in {event.run_id for event in events}:
            told = [event.event for event in events if event.run_id == run_id]
            one, other = (outcome(store._state, run_id, told) for store in (together, apart))
            for mine, theirs in zip(one, other, strict=True):
                assert mine == theirs

    def _copy(self) -> MemoryStore:
        store = MemoryStore(self._clock.now)
        kept = [each.name for each in dataclasses.fields(self._state) if each.name != "now"]
        store._state = dataclasses.replace(self._state, **{name: _copied(getattr(self._state, name)) for name in kept})
        return store


def is_allowed(event: Event, run: Run, now: datetime) -> bool | None:
    """Whether what somebody asks of a run, or its time, is to move it; None for other events."""
    goes_on = run.status in (RunStatus.RUNNING, RunStatus.WAITING) and run.ending is None
    late = run.deadline_at is not None and run.deadline_at <= now
    match event:
        case CancelAsked():
            return goes_on or (run.status is RunStatus.PAUSED and run.ending is None)
        case PauseAsked():
            return goes_on or run.status is RunStatus.COMPENSATING
        case ResumeAsked():
            return run.status is RunStatus.PAUSED
        case RetryAsked():
            retriable = run.status is RunStatus.FAILED and run.failed > 0 and event.attempt in (None, run.attempt)
            return retriable and (run.ending is not None or not late)
        case DeadlineDue():
            return goes_on and late
        case AttemptDue():
            return run.status is RunStatus.WAITING and run.next_retry_at is not None and run.next_retry_at <= now
        case _:
            return None


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(held) for key, held in value.items()}
    return list(value) if isinstance(value, list) else value


def everything(state: State, run_id: UUID) -> Any:
    """All that is kept of a run."""
    return (
        state.runs[run_id],
        state.of_run(run_id),
        dict(state.entries.get(run_id, {})),
        dict(state.heads.get(run_id, {})),
        list(state.tries.get(run_id, [])),
        dict(state.expectations.get(run_id, {})),
        list(state.letters.get(run_id, [])),
        dict(state.groups.get(run_id, {})),
        {
            place: (row.as_loaded(), row.payload, row.results, row.failure)
            for place, row in state.members.get(run_id, {}).items()
        },
    )


def outcome(state: State, run_id: UUID, events: Sequence[Any]) -> Any:
    """The same, without what may differ between a batch and its events one by one.

    What a batch both begins and cancels has no place in the order of finishing: it never ran. And where it begins an attempt
    and ends it, the frontier stays as it had failed, at the place at which it had. What nobody knows is set aside until a pause
    lets it go; a pause that a batch begins and ends does not.
    """
    run, rows, *rest = everything(state, run_id)
    rows = [_known(row) for row in rows]
    if not any(isinstance(event, CancelAsked | DeadlineDue) for event in events):
        return run, *rows, rest
    if any(isinstance(event, RetryAsked | AttemptDue) for event in events):
        return run.run.status, run.run.ending, run.run.outstanding, run.run.undoable, run.run.undone, run.run.attempt
    places = sorted(row.activation.finish or 0 for row in rows if _ran(row))
    plain = [
        replace(row, activation=replace(row.activation, finish=places.index(row.activation.finish or 0)))
        if _ran(row)
        else replace(row, activation=replace(row.activation, finish=None))
        for row in rows
    ]
    return replace(run, run=replace(run.run, last_finish=0)), *plain, rest


def _known(row: Any) -> Any:
    aside = row.activation.blocked == UNKNOWN
    return replace(row, activation=replace(row.activation, blocked=None)) if aside else row


def _ran(row: Any) -> bool:
    return bool(row.activation.tries)


@pytest.mark.parametrize("mood", MOODS)
def test_g2_g4_g9_g10_g11_whatever_happens_the_rows_agree_and_every_run_ends(mood: str) -> None:
    """Counts, statuses, order of undoing, tries and versions; batches; and, in the end, liveness."""

    @settings(max_examples=40, deadline=None)
    @given(random=st.randoms(use_true_random=False), steps=st.integers(min_value=1, max_value=50))
    def play(random: Random, steps: int) -> None:
        _play(random, mood, steps)

    play()


_REACHED = {
    "waiting": {"completed", "failed", "compensated"},
    "groups": {"completed", "failed"},
    "failing groups": {"completed", "failed"},
}


@pytest.mark.parametrize("mood", MOODS)
def test_g10_g11_deep_histories_hold_too(mood: str) -> None:
    """Some that are longer than hypothesis writes them: always the same ones."""
    reached = set()
    for seed in range(25):
        reached |= _play(Random(seed), mood, 80)
    assert _REACHED.get(mood, {"compensated", "cancelled"}) <= reached


def _play(random: Random, mood: str, steps: int) -> set[str | None]:
    """One history; how its runs ended, before what failed was retried."""
    history = Watched(random, mood)
    try:
        for _ in range(steps):
            history.step()
        history.come_to_an_end()
        history.look()
        ended = {history.world.status(run_id) for run_id in history.models}
        history.retry_what_failed()
        history.look()
    except BaseException as error:
        error.add_note(f"mood {mood!r}, after: {'; '.join(history.told)}")
        raise
    return ended

"""What holds of a run's rows after every event, whatever it was: counted anew from the rows, and held against the past.

Knows the rows of the store in memory; ``Watch`` keeps what was seen of one run, for what must never change again.
"""

from __future__ import annotations

from collections import Counter

from cnstra.orchestrator.machine.folding import BLOCKED_ALONE, BLOCKED_PAUSED, BLOCKED_SUSPECT, CLAIMABLE, unblocked
from cnstra.orchestrator.machine.records import Activation, Compensable, Ending, Run
from cnstra.orchestrator.machine.states import (
    ACTIVATION_MOVES,
    ACTIVATION_STARTS,
    ACTIVE,
    ENDED,
    FINAL,
    OUTSTANDING,
    RUN_MOVES,
    ActivationStatus,
    RunStatus,
)
from cnstra.stores.memory.claiming import UNKNOWN
from cnstra.stores.memory.state import State
from support.group_invariants import counts, gathers_have_all_results, groups_are_counted, waits_are_kept
from support.histories import Model

ACTIVATION_STEPS = {(before, after) for (before, _), after in ACTIVATION_MOVES.items()}
RUN_STEPS = {(before, after) for (before, _), after in RUN_MOVES.items()}


def reachable(pairs: set[tuple[RunStatus, RunStatus]], status: RunStatus, moves: int) -> set[RunStatus]:
    """Where so many moves can bring a run."""
    found = {status}
    for _ in range(moves):
        found |= {after for before, after in pairs if before in found}
    return found


class Watch:
    """One run, looked at after every batch of events."""

    def __init__(self, state: State, model: Model) -> None:
        self._state = state
        self._model = model
        self._before: tuple[Run, dict[int, Activation]] | None = None

    def look(self, *, events: int = 1) -> None:
        """Everything holds, now and against what it was before so many events."""
        run_id = self._model.run_id
        run = self._state.runs[run_id].run
        rows = {row.activation.activation_id: row.activation for row in self._state.of_run(run_id)}
        counts_are_those_of_the_rows(run, rows)
        the_status_says_what_there_is(run, rows)
        finishing_is_counted(run, rows)
        who_may_be_claimed(run, rows)
        undoing_goes_in_order(run, rows)
        tries_are_all_there(self._state, run, rows)
        versions_are_exact(self._state, run, rows)
        what_was_done_is_what_is_undone(run, rows, self._model)
        waits_are_kept(self._state, run)
        groups_are_counted(self._state, run)
        gathers_have_all_results(self._state, run)
        if self._before is not None:
            self._against_the_past(run, rows, events)
        self._before = run, rows

    def _against_the_past(self, run: Run, rows: dict[int, Activation], events: int) -> None:
        assert self._before is not None
        past, old = self._before
        assert run.status in reachable(RUN_STEPS, past.status, 3 * events)
        if past.status in FINAL:
            assert (run, rows) == self._before, "what is final has moved"
        if past.status is RunStatus.FAILED and run != past:
            assert run.attempt == past.attempt + 1, "only a retry leaves what has failed"
        assert past.ending is None or run.ending is past.ending
        for number, activation in rows.items():
            before = old.get(number)
            if before is None:
                assert activation.status in ACTIVATION_STARTS or events > 1
            elif events == 1:
                step = before.status, activation.status
                # Between two looks a claim may have come, or, of one event, two moves: it ends, and its undoing begins.
                assert step[0] is step[1] or step in ACTIVATION_STEPS or step in _TWO_STEPS, step
            if before is not None and past.ending is not None and not activation.undo:
                assert activation.tries <= before.tries, f"activation {number} was begun in a run that ends"
            if before is not None and before.status is ActivationStatus.DONE and not activation.undo:
                assert activation == before, f"activation {number} was done, and has changed"
            if before is not None and before.status is ActivationStatus.COMPENSATED:
                assert activation == before, f"activation {number} was undone, and has changed"
            if before is not None and before.undo:
                assert activation.undo
                assert activation.finish == before.finish
        if past.ending is not None and run.ending is not None:
            started = [number for number, one in rows.items() if number not in old and one.status in OUTSTANDING]
            assert not started, f"{started} began in a run that ends"


_TWO_STEPS = {
    (before, final) for before, between in ACTIVATION_STEPS for start, final in ACTIVATION_STEPS if start is between
}


def counts_are_those_of_the_rows(run: Run, rows: dict[int, Activation]) -> None:
    statuses = Counter(row.status for row in rows.values())
    assert run.outstanding == sum(map(counts, rows.values()))
    assert run.active == sum(statuses[status] for status in ACTIVE)
    failed = [
        row
        for row in rows.values()
        if row.status is ActivationStatus.FAILED and not (row.handled and run.ending is None)
    ]
    assert run.failed == sum(row.undo == (run.ending is not None) for row in failed)
    assert run.undoable == sum(row.undoable for row in rows.values())
    assert run.undone == statuses[ActivationStatus.COMPENSATED]
    uncertain = sum(row.undoable and not row.handled for row in failed)
    assert run.uncertain == uncertain if run.ending is None else run.uncertain in (0, uncertain)
    assert sorted(rows) == list(range(1, run.last_activation + 1))


def the_status_says_what_there_is(run: Run, rows: dict[int, Activation]) -> None:
    assert (run.finished_at is not None) == (run.status in ENDED)
    assert run.status not in ENDED or run.outstanding == 0
    assert run.ending is None or run.next_retry_at is None
    match run.status:
        case RunStatus.RUNNING:
            assert run.active > 0
            assert run.ending in (None, Ending.CANCELLED)
        case RunStatus.WAITING:
            assert run.active == 0
            assert run.ending is None
            assert (run.outstanding == 0) == (run.next_retry_at is not None)
        case RunStatus.COMPENSATING:
            assert run.outstanding > 0
            assert run.ending is not None
        case RunStatus.COMPLETED:
            ended_otherwise = {row.status for row in rows.values() if not (row.handled or _was_not_needed(row))}
            assert ended_otherwise == {ActivationStatus.DONE}
            assert run.ending is None
            assert run.failure is None
        case RunStatus.FAILED if run.ending is None:
            assert run.failed > 0
            assert run.undoable == 0
            assert run.failure is not None
        case RunStatus.FAILED:
            assert run.failure is not None or run.ending is Ending.CANCELLED
            assert (run.failed == 1) == (run.undo_failure is not None)
            assert run.failed == 1 or (run.undone == 0 and run.undoable == 0 and run.ending is Ending.FAILED)
        case RunStatus.COMPENSATED:
            assert run.undone > 0
            assert run.undoable == 0
            assert run.undo_failure is None
            assert all(row.status is ActivationStatus.COMPENSATED for row in rows.values() if row.undo)
        case RunStatus.CANCELLED:
            assert run.ending is Ending.CANCELLED
            assert run.undone == 0
        case RunStatus.PAUSED:
            assert run.finished_at is None


def _was_not_needed(row: Activation) -> bool:
    """Whether it only ever waited: for a signal that did not come in time, or for a group that could not end."""
    return row.status is ActivationStatus.CANCELLED and row.tries == 0


def finishing_is_counted(run: Run, rows: dict[int, Activation]) -> None:
    finishes = [row.finish for row in rows.values() if row.finish is not None]
    assert len(finishes) == len(set(finishes))
    assert all(0 < finish <= run.last_finish for finish in finishes)
    for row in rows.values():
        ended = row.status not in OUTSTANDING
        assert (row.finished_at is not None) == ended
        if row.undo:
            assert row.finish is not None
        elif ended:
            assert row.finish is not None or (row.status is ActivationStatus.CANCELLED and row.tries == 0)
        else:
            assert row.finish is None
        assert row.status is not ActivationStatus.RUNNING or row.nonce is not None


def who_may_be_claimed(run: Run, rows: dict[int, Activation]) -> None:
    ready = [row for row in rows.values() if row.status is ActivationStatus.READY]
    for row in ready:
        if run.status is RunStatus.PAUSED:
            assert row.blocked in (BLOCKED_PAUSED, BLOCKED_SUSPECT), row
        elif row.activation_id != run.alone:
            allowed = {unblocked(limited=row.limited), UNKNOWN} if run.alone is None else {BLOCKED_ALONE}
            assert row.blocked in allowed | {BLOCKED_SUSPECT}, row
        else:
            assert row.blocked != BLOCKED_PAUSED, row
        assert not row.limited or row.blocked is not None, "it would pass by its limit"
    running = any(row.status is ActivationStatus.RUNNING for row in rows.values())
    if ready and not running and run.status is not RunStatus.PAUSED:
        assert any(row.blocked in CLAIMABLE | {BLOCKED_SUSPECT, UNKNOWN} for row in ready), (
            "nobody can ever claim what is ready"
        )


def undoing_goes_in_order(run: Run, rows: dict[int, Activation]) -> None:
    undoing = [row for row in rows.values() if row.undo and row.status is not ActivationStatus.COMPENSATED]
    outstanding = [row for row in rows.values() if row.status in OUTSTANDING]
    if run.ending is not None:
        assert all(row.status is ActivationStatus.RUNNING for row in outstanding if not row.undo)
    assert len(undoing) <= 1, "two compensations at a time"
    undone = [row.finish or 0 for row in rows.values() if row.status is ActivationStatus.COMPENSATED]
    left = [row.finish or 0 for row in rows.values() if row.undoable]
    for row in undoing:
        assert run.ending is not None
        assert len(outstanding) == (row.status is not ActivationStatus.FAILED), "it began before the rest had drained"
        assert max(left, default=0) < (row.finish or 0) < min(undone, default=run.last_finish + 1)
    if undone:
        assert run.ending is not None
        assert max(left, default=0) < min(undone)
    assert not (run.undoable and run.status is RunStatus.COMPENSATED)


def tries_are_all_there(state: State, run: Run, rows: dict[int, Activation]) -> None:
    noted = Counter((row.ended.activation_id, row.ended.try_number) for row in state.tries.get(run.run_id, []))
    for number, row in rows.items():
        if row.status in (ActivationStatus.RUNNING, ActivationStatus.DONE, ActivationStatus.COMPENSATED):
            noted[number, row.tries] += 1  # as the view shows it
    assert dict(noted) == {(number, at): 1 for number, row in rows.items() for at in range(1, row.tries + 1)}


def versions_are_exact(state: State, run: Run, rows: dict[int, Activation]) -> None:
    versions = sorted({version for version, _ in state.entries.get(run.run_id, {})})
    assert versions == list(range(1, run.context_version + 1))
    wrote = [version for row in rows.values() for version in (row.version_written, row.version_undone) if version]
    assert sorted(wrote) == versions


def what_was_done_is_what_is_undone(run: Run, rows: dict[int, Activation], model: Model) -> None:
    """Of a run that is compensated: each done activation with a compensation once, each doubtful one, and no other."""
    order = [rows[number].finish or 0 for number in model.undone]
    assert order == sorted(set(order), reverse=True), "not by descending order of finishing, or twice"
    undone = {number for number, row in rows.items() if row.status is ActivationStatus.COMPENSATED}
    assert undone == set(model.undone)
    for number in undone:
        certain = model.committed.get(number, Compensable.NO) is not Compensable.NO
        covers = model.covers.get(number, rows[number].compensable)
        assert certain or (covers is Compensable.UNCERTAIN and number not in model.committed)
    if run.status is RunStatus.COMPENSATED:
        owed = {number for number, covers in model.committed.items() if covers is not Compensable.NO}
        doubtful = {
            number
            for number, row in rows.items()
            if number not in model.committed
            and row.tries > 0
            and model.covers.get(number, row.compensable) is Compensable.UNCERTAIN
        }
        assert undone == owed | doubtful

"""The tables of states are the machine: every pair in them comes about, and nothing moves outside of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnstra.orchestrator.machine import fold as folds
from cnstra.orchestrator.machine import folding
from cnstra.orchestrator.machine.fold import begin
from cnstra.orchestrator.machine.records import Compensable
from cnstra.orchestrator.machine.states import (
    ACTIVATION_MOVES,
    ACTIVATION_STARTS,
    ACTIVE,
    ENDED,
    FINAL,
    OUTSTANDING,
    RUN_MOVES,
    RUN_STARTS,
    ActivationMove,
    ActivationStatus,
    RunMove,
    RunStatus,
    diagram,
    move,
)
from cnstra.stores.memory import applying, claiming
from support.worlds import (
    GRAPH,
    MemoryWorld,
    Worker,
    attempt_due,
    cancel_asked,
    deadline_due,
    expects,
    failed,
    lost,
    pause_asked,
    resume_asked,
    retry_asked,
    returned,
    scatter,
    sent,
    succeeded,
    target,
)

TABLES = pytest.mark.parametrize(
    ("table", "statuses", "moves"),
    [
        pytest.param(RUN_MOVES, RunStatus, RunMove, id="runs"),
        pytest.param(ACTIVATION_MOVES, ActivationStatus, ActivationMove, id="activations"),
    ],
)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> set[tuple[Any, Any]]:
    """The pairs of the tables that are walked along, whoever does."""
    pairs: set[tuple[Any, Any]] = set()

    def noted(table: Mapping[Any, Any], status: Any, by: Any) -> Any:
        pairs.add((status, by))
        return move(table, status, by)

    for module in (folding, folds, applying, claiming):
        monkeypatch.setattr(module, "move", noted)
    return pairs


def test_every_pair_of_the_tables_comes_about(moved: set[tuple[Any, Any]]) -> None:
    """A few runs that fail, are retried, complete, are paused, cancelled, too late and undone walk along both tables."""
    world = MemoryWorld()
    worker = world.worker()
    starts = set()

    late = world.submit("stock", delay=timedelta(seconds=1))
    early = world.submit("stock", "bank")
    starts |= {world.activations(run_id)[1]["status"] for run_id in (late, early)}
    run_starts = {world.status(late), world.status(early)}
    works = worker.claim_by_neuron()
    (kept,) = world.settle(
        succeeded(works["bank"], lambda ctx: ctx.set({"a": 1}), targets=[target("ship", here=True)])
    ).kept
    starts.add(world.activations(early)[kept.activation_id]["status"])
    world.apply(returned(kept))
    world.apply(succeeded(works["stock"], lambda ctx: ctx.set({"a": 2})))  # in conflict
    world.apply(*(lost(early, work.fence, backoff=1.0) for work in worker.claim()))
    world.clock.advance(1)
    for run_id, number in world.look(worker).due:
        world.fire(run_id, number)
    world.apply(*(failed(work, revive_after=1.0) for work in worker.claim()))
    world.clock.advance(1)
    world.apply(attempt_due(early), attempt_due(late))
    world.apply(*(failed(work) for work in worker.claim()))
    world.apply(retry_asked(early), retry_asked(late))
    world.apply(*(succeeded(work) for work in worker.claim()))
    assert {world.status(early), world.status(late)} == {"completed"}

    starts |= _end_runs_early(world, worker)
    _undo_runs(world, worker)
    starts |= _wait_and_scatter(world, worker)

    assert moved == set(RUN_MOVES) | set(ACTIVATION_MOVES)
    assert starts == {status.value for status in ACTIVATION_STARTS}
    assert run_starts == {status.value for status in RUN_STARTS}


def _end_runs_early(world: MemoryWorld, worker: Worker) -> set[str]:
    """Runs are paused, resumed and cancelled, in every status; answers where an activation began that was late."""
    busy = world.submit("stock", "bank")
    works = worker.claim_by_neuron()
    idle = world.submit("stock", target("bank"), delay=timedelta(days=1))
    for run_id in (busy, idle):
        world.apply(pause_asked(run_id), resume_asked(run_id))
    world.apply(pause_asked(busy), cancel_asked(busy), cancel_asked(idle))
    world.apply(failed(works["stock"]), succeeded(works["bank"], targets=[target("ship")]))
    waiting = world.submit("stock")
    world.apply(cancel_asked(waiting))
    assert {world.status(run_id) for run_id in (busy, idle, waiting)} == {"cancelled"}
    return {world.activations(busy)[3]["status"]}


def _undo_runs(world: MemoryWorld, worker: Worker) -> None:
    """Runs are undone from every status: what is done, what failed and what was cancelled with a doubt; with a retry."""
    unsure = Compensable.UNCERTAIN
    fails = world.submit(*(target(name, compensable=unsure) for name in ("stock", "bank")))
    works = worker.claim_by_neuron()
    world.apply(
        succeeded(works["stock"], targets=[target("ship")], compensable=unsure),
        failed(works["bank"], compensable=unsure),
    )
    world.apply(failed(worker.claim_one()))
    world.apply(pause_asked(fails), resume_asked(fails))
    world.apply(failed(worker.claim_one()))
    world.apply(retry_asked(fails))
    world.apply(succeeded(worker.claim_one()))
    world.apply(succeeded(worker.claim_one()))

    cancelled = world.submit(target("stock", compensable=unsure), "bank")
    works = worker.claim_by_neuron()
    world.apply(failed(works["stock"], retry_after=9.0, compensable=unsure), succeeded(works["bank"]))
    world.apply(pause_asked(cancelled), cancel_asked(cancelled, compensate=True))
    world.apply(succeeded(worker.claim_one()))
    assert {world.status(run_id) for run_id in (fails, cancelled)} == {"compensated"}

    nothing = world.submit("stock", delay=timedelta(hours=1))
    world.apply(cancel_asked(nothing, compensate=True))
    too_late = world.submit("stock", deadline=timedelta(seconds=5))
    world.clock.advance(5)
    world.apply(deadline_due(too_late))
    assert (world.status(nothing), world.status(too_late)) == ("cancelled", "failed")


def _wait_and_scatter(world: MemoryWorld, worker: Worker) -> set[str]:
    """Signals come, do not come in time, and are not waited for any more; answers where what waits for them began."""
    run_id = world.submit("stock")
    waits = [expects("ship"), expects("bank", timeout=timedelta(seconds=1)), expects("report")]
    world.apply(succeeded(worker.claim_one(), expected=waits, scattered=[scatter("1")]))
    starts = {row["status"] for row in world.activations(run_id).values() if row["neuron"] == "ship"}
    world.apply(sent(run_id))
    world.clock.advance(1)
    world.fire_everything(worker)
    world.apply(cancel_asked(run_id))
    return starts


@TABLES
def test_a_pair_that_is_not_in_a_table_is_refused(table: Any, statuses: Any, moves: Any) -> None:
    """A move that the table does not have is a bug of the caller: it raises, and names both."""
    for status, by in product(statuses, moves):
        if (status, by) in table:
            assert move(table, status, by) is table[status, by]
        else:
            with pytest.raises(LookupError, match=rf"{status.value}.*{by.name}"):
                move(table, status, by)


@TABLES
def test_every_move_is_used_and_leads_elsewhere(table: Any, statuses: Any, moves: Any) -> None:
    """No move is there for nothing, and none leaves a status where it was."""
    assert {by for _, by in table} == set(moves)
    assert all(before is not after for (before, _), after in table.items())


def test_ends_are_left_by_a_retry_only() -> None:
    """Nothing leaves a final status; ``failed`` is left by a retry alone (G9), and what is done only to be undone (G4)."""
    assert {before for before, _ in RUN_MOVES} & FINAL == set()
    assert {by for before, by in RUN_MOVES if before in ENDED} == {RunMove.RETRY, RunMove.RETRY_UNDOING}
    left = {(before, by) for before, by in ACTIVATION_MOVES if before not in OUTSTANDING}
    assert left == {
        (ActivationStatus.DONE, ActivationMove.UNDO),
        (ActivationStatus.FAILED, ActivationMove.UNDO),
        (ActivationStatus.CANCELLED, ActivationMove.UNDO),
        (ActivationStatus.FAILED, ActivationMove.REVIVE),
    }


def test_what_is_being_undone_comes_to_no_end_but_its_own() -> None:
    """A run that is undone is never completed, nor run again; only what runs is ``compensated``, by its compensation."""
    after = {RUN_MOVES[before, by] for before, by in RUN_MOVES if before is RunStatus.COMPENSATING}
    assert after == {RunStatus.PAUSED, RunStatus.COMPENSATED, RunStatus.FAILED, RunStatus.CANCELLED}
    assert [pair for pair, end in RUN_MOVES.items() if end is RunStatus.COMPENSATED] == [
        (RunStatus.COMPENSATING, RunMove.UNDONE)
    ]
    assert [pair for pair, end in ACTIVATION_MOVES.items() if end is ActivationStatus.COMPENSATED] == [
        (ActivationStatus.RUNNING, ActivationMove.UNDONE)
    ]


def test_a_paused_run_moves_only_where_somebody_moves_it() -> None:
    """Nothing of its own ends it: it is resumed, or undone."""
    left_by = {by for before, by in RUN_MOVES if before is RunStatus.PAUSED}
    assert left_by == {RunMove.RESUME, RunMove.RESUME_UNDOING, RunMove.COMPENSATE}


def test_the_sets_of_statuses_say_what_the_tables_do() -> None:
    """What can still be moved by itself is outstanding; of that, what a worker has or can have is active."""
    ended = {after for after in ACTIVATION_MOVES.values() if after not in OUTSTANDING}
    assert ended == set(ActivationStatus) - OUTSTANDING
    left_by = {by for before, by in ACTIVATION_MOVES if before not in OUTSTANDING}
    assert left_by == {ActivationMove.REVIVE, ActivationMove.UNDO}
    assert {ACTIVATION_MOVES[pair] for pair in ACTIVATION_MOVES if pair[0] not in OUTSTANDING} == {
        ActivationStatus.READY
    }
    assert ACTIVE < OUTSTANDING
    assert FINAL < ENDED
    assert {RunStatus.COMPENSATED, RunStatus.CANCELLED, RunStatus.COMPLETED} == FINAL


@given(
    neurons=st.lists(st.sampled_from(["stock", "bank"]), min_size=1, max_size=5),
    delay=st.none() | st.floats(min_value=0.001, max_value=5),
    priority=st.integers(min_value=-3, max_value=3),
)
def test_a_run_begins_where_the_tables_say(neurons: list[str], delay: float | None, priority: int) -> None:
    """Whatever it begins with, its counts are those of its activations, and all of them share its time to come, if it has one."""
    world = MemoryWorld()
    available_at = None if delay is None else world.clock.now() + timedelta(seconds=delay)
    run, created = begin(
        run_id=world.run_id(),
        graph=GRAPH,
        targets=[target(neuron) for neuron in neurons],
        priority=priority,
        available_at=available_at,
    )
    later = available_at is not None
    assert run.status is (RunStatus.WAITING if later else RunStatus.RUNNING)
    assert run.status in RUN_STARTS
    assert {new.status for new in created} == {ActivationStatus.SCHEDULED if later else ActivationStatus.READY}
    assert {new.status for new in created} <= set(ACTIVATION_STARTS)
    assert {new.available_at for new in created} == {available_at}
    assert (run.outstanding, run.last_activation) == (len(neurons), len(neurons))
    assert run.active == (0 if later else len(neurons))
    assert [new.activation_id for new in created] == list(range(1, len(neurons) + 1))


def test_a_diagram_has_every_pair_start_and_end() -> None:
    """What is drawn is the table: a line a start, a line a pair, and a line for each status that nothing leaves."""
    lines = diagram(ACTIVATION_STARTS, ACTIVATION_MOVES).splitlines()
    assert lines[0] == "stateDiagram-v2"
    for (before, by), after in ACTIVATION_MOVES.items():
        assert f"    {before.value} --> {after.value}: {by.value}" in lines
    assert [line for line in lines if line.endswith("--> [*]")] == ["    compensated --> [*]"]
    assert len(lines) == 1 + len(ACTIVATION_STARTS) + len(ACTIVATION_MOVES) + 1
    ends = {line for line in diagram(RUN_STARTS, RUN_MOVES).splitlines() if line.endswith("--> [*]")}
    assert ends == {f"    {status.value} --> [*]" for status in FINAL}

"""Carrying out the machine's plans: lock, load, decide, write, in one transaction for a batch of events.

Runs are locked first, in the order of their ids; everything that a decision rests on is read by later statements,
under those locks. What is written derives from rows that passed the fence.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from cnstra.orchestrator import batches
from cnstra.orchestrator.batches import Ready
from cnstra.orchestrator.machine.fold import fold
from cnstra.orchestrator.machine.records import (
    Activation,
    Answer,
    BlobRef,
    Event,
    Plan,
    Run,
    Sweep,
    Verdict,
)
from cnstra.orchestrator.slots import Slot
from cnstra.orchestrator.store import AppliedBatch, RunEvent, Work
from cnstra.stores.postgres import rows as shapes
from cnstra.stores.postgres.claiming import load_works
from cnstra.stores.postgres.transactions import Ask, InterferenceError, Steps, operation

State = tuple[dict[UUID, Run], dict[UUID, dict[int, Activation]], dict[UUID, dict[str, int]], datetime]


class Applying:
    """The one operation by which runs move."""

    @operation
    def apply(self, _repeated: bool, events: Sequence[RunEvent]) -> Steps[AppliedBatch]:
        by_run = batches.by_run(events)
        runs, activations, heads, now = yield from _load(by_run)
        plans = {
            run_id: fold(run, activations.get(run_id, {}), heads.get(run_id, {}), by_run[run_id], now)
            for run_id, run in runs.items()
        }
        moved = [plan for plan in plans.values() if batches.moves(plan)]
        ready = yield from _write(moved, activations, now)
        yield from _answer_repeated(plans, by_run)
        works = yield from _load_kept(plans)
        newest = yield from _load_stale(plans)
        answers = batches.answers(events, plans, works, newest)
        yield from _note_litter(batches.littered(events, answers), now)
        return AppliedBatch(answers=answers, rings=batches.rings_of(ready))


# -- lock and load ---------------------------------------------------------------------------------------------


def _load(by_run: dict[UUID, list[Event]]) -> Steps[State]:
    passing = all(map(batches.may_pass, by_run.values()))
    lock = "lock_free_runs" if passing else "lock_runs"
    rows = yield Ask(lock, {"run_ids": sorted(by_run)})
    runs = {row[0]: shapes.run_of(row) for row in rows}
    keys = sorted({(run_id, number) for run_id in runs for number in batches.named(by_run[run_id])})
    activations: dict[UUID, dict[int, Activation]] = {}
    if keys:
        rows = yield Ask(
            "load_activations",
            {"run_ids": [run_id for run_id, _ in keys], "activation_ids": [number for _, number in keys]},
        )
        for row in rows:
            activations.setdefault(row[0], {})[row[1]] = shapes.activation_of(row)
    ending = [run_id for run_id in runs if batches.end_the_run(by_run[run_id])]
    if ending:
        for row in (yield Ask("load_open", {"run_ids": ending})):
            activations.setdefault(row[0], {})[row[1]] = shapes.activation_of(row)
    writing = [run_id for run_id in runs if batches.write_context(by_run[run_id])]
    heads: dict[UUID, dict[str, int]] = {}
    if writing:
        rows = yield Ask("load_heads", {"run_ids": writing})
        heads = dict(rows)
    [(now,)] = yield Ask("clock", {})
    return runs, activations, heads, now


# -- write -----------------------------------------------------------------------------------------------------


def _write(plans: Sequence[Plan], before: dict[UUID, dict[int, Activation]], now: datetime) -> Steps[list[Ready]]:
    """Write the plans; answers what became ready."""
    if not plans:
        return []
    yield shapes.update_runs([plan.run for plan in plans])
    changed = [
        (plan.run.run_id, before[plan.run.run_id][number], activation)
        for plan in plans
        for number, activation in plan.changed.items()
    ]
    if changed:
        yield from _write_activations(changed)
    created = [(plan.run.run_id, activation) for plan in plans for activation in plan.created]
    if created:
        yield shapes.insert_activations(created, now)
    yield from _write_contexts(plans, now)
    yield from _write_tries(plans, now)
    swept = yield from _sweep(plans, now)
    return [ready for plan in plans for ready in batches.made_ready(plan)] + swept


def _write_activations(changed: list[tuple[UUID, Activation, Activation]]) -> Steps[None]:
    rows = yield shapes.update_activations(changed)
    if len(rows) != len(changed):
        raise InterferenceError(
            f"{len(changed) - len(rows)} of {len(changed)} activations changed under their run's lock"
        )


def _write_contexts(plans: Sequence[Plan], now: datetime) -> Steps[None]:
    entries = [(plan.run.run_id, entry) for plan in plans for entry in plan.entries]
    if not entries:
        return
    yield Ask(
        "insert_entries",
        {
            "run_ids": [run_id for run_id, _ in entries],
            "versions": [entry.version for _, entry in entries],
            "slots": [entry.slot for _, entry in entries],
            "activation_ids": [entry.activation_id for _, entry in entries],
            "texts": [entry.text for _, entry in entries],
        },
    )
    yield shapes.update_heads([(plan.run, plan.heads) for plan in plans if plan.heads], now)


def _note_litter(blobs: Sequence[BlobRef], now: datetime) -> Steps[None]:
    if blobs:
        noted = {"places": [blob.place for blob in blobs], "keys": [blob.key for blob in blobs], "now": now}
        yield Ask("note_litter", noted)


def _write_tries(plans: Sequence[Plan], now: datetime) -> Steps[None]:
    tries = [(plan.run.run_id, ended) for plan in plans for ended in plan.tries]
    if not tries:
        return
    yield Ask(
        "insert_tries",
        {
            "now": now,
            "run_ids": [run_id for run_id, _ in tries],
            "activation_ids": [ended.activation_id for _, ended in tries],
            "numbers": [ended.try_number for _, ended in tries],
            "workers": [ended.worker for _, ended in tries],
            "started": [ended.started_at for _, ended in tries],
            "errors": [ended.failure.error if ended.failure else None for _, ended in tries],
            "error_types": [ended.failure.error_type if ended.failure else None for _, ended in tries],
            "tracebacks": [ended.failure.traceback if ended.failure else None for _, ended in tries],
            "undo": [ended.undo for _, ended in tries],
        },
    )


def _sweep(plans: Sequence[Plan], now: datetime) -> Steps[list[Ready]]:
    ready: list[Ready] = []
    for sweep, statements in _SWEEPS.items():
        run_ids = [plan.run.run_id for plan in plans if sweep in plan.sweeps]
        if not run_ids:
            continue
        for statement in statements:
            ready += yield Ask(statement, {"run_ids": run_ids, "now": now})
    return ready


_SWEEPS = {
    Sweep.REVIVE: ("revive",),
    Sweep.UNDO: ("note_done", "undo"),
    Sweep.HOLD: ("hold",),
    Sweep.LET_GO: ("let_go",),
    Sweep.REJOIN: ("rejoin",),
    Sweep.SINGLE_OUT: ("set_others_aside", "make_alone_wait", "let_alone_run"),
}


# -- answer ----------------------------------------------------------------------------------------------------


def _answer_repeated(plans: dict[UUID, Plan], by_run: dict[UUID, list[Event]]) -> Steps[None]:
    """A settlement whose reply was lost learns which successors its worker had kept then."""
    for run_id, plan in plans.items():
        for place, activation_id in batches.repeated_hops(plan, by_run[run_id]):
            rows = yield Ask("children_held", {"run_id": run_id, "activation_id": activation_id})
            plan.answers[place] = Answer(verdict=Verdict.REPEATED, kept=tuple(number for (number,) in rows))


def _load_kept(plans: dict[UUID, Plan]) -> Steps[list[Work]]:
    keys = batches.kept(plans)
    if not keys:
        return []
    claimed = yield Ask(
        "claims_of_ids",
        {"run_ids": [run_id for run_id, _ in keys], "activation_ids": [number for _, number in keys]},
    )
    return (yield from load_works(claimed))


def _load_stale(plans: dict[UUID, Plan]) -> Steps[dict[UUID, dict[str, Slot]]]:
    stale = [run_id for run_id, plan in plans.items() if any(answer.stale for answer in plan.answers)]
    if not stale:
        return {}
    rows = yield Ask("load_contexts", {"run_ids": stale})
    return {run_id: dict(snapshot.slots) for run_id, snapshot in shapes.snapshots_of(rows).items()}

"""Carrying out the machine's plans: lock, load, decide, write, in one transaction for a batch of events.

Hops that were decided on footholds come first, in one statement; where all of a batch are, that commits by itself. Of the
rest, runs are locked first, in the order of their ids; everything that a decision rests on is read by later statements,
under those locks. What is written derives from rows that passed the fence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cnstra.orchestrator import batches
from cnstra.orchestrator.batches import Ready
from cnstra.orchestrator.footholds import Ahead, footholds_after, is_plain, plans_ahead, settled_ahead
from cnstra.orchestrator.machine.events import Event
from cnstra.orchestrator.machine.fold import fold
from cnstra.orchestrator.machine.plans import Answer, Plan, Sweep, Verdict
from cnstra.orchestrator.machine.records import BlobRef, Run
from cnstra.orchestrator.slots import Slot
from cnstra.orchestrator.store import Applied, AppliedBatch, Foothold, RunEvent, Work
from cnstra.orchestrator.succession import successors
from cnstra.stores.postgres import rows as shapes
from cnstra.stores.postgres import waits
from cnstra.stores.postgres.claiming import load_works
from cnstra.stores.postgres.loading import LoadedRuns, load
from cnstra.stores.postgres.transactions import Ask, InterferenceError, PostgresOperation, Steps


class Applying:
    """The one operation by which runs move."""

    def apply(self, events: Sequence[RunEvent]) -> PostgresOperation[AppliedBatch]:
        ahead = plans_ahead(events)
        at_once = 0 < len(ahead) == len(events)
        return PostgresOperation("apply", lambda _repeated: _apply(events, ahead, at_once=at_once), at_once=at_once)


def applied(events: Sequence[RunEvent]) -> Steps[AppliedBatch]:
    """What becomes of events: lock, load, decide, write."""
    return _apply(events, {}, at_once=False)


@dataclass(frozen=True, slots=True)
class _Decided:
    """What became of runs under their locks: the plans that were carried out, by run; the footholds that are left; when."""

    plans: dict[UUID, Plan]
    footholds: dict[UUID, Foothold]
    now: datetime


def _apply(events: Sequence[RunEvent], ahead: Mapping[UUID, Ahead], *, at_once: bool) -> Steps[AppliedBatch]:
    """Write what was decided ahead, where that still stands; then lock, load, decide and write the rest. What is one statement
    has committed then, and leaves the rest: nobody whose hop is settled waits for the run of another."""
    ready: list[Ready] = []
    done = (yield from _settle_ahead(ahead, ready)) if ahead else {}
    left = [place for place, happening in enumerate(events) if happening.run_id not in done]
    if left and at_once:
        answers = tuple(done[happening.run_id] for happening in events if happening.run_id in done)
        return AppliedBatch(answers=answers, rings=batches.rings_of(ready), left=tuple(left))
    rest = iter((yield from _settle([events[place] for place in left], ready)) if left else ())
    answers = tuple(done[happening.run_id] if happening.run_id in done else next(rest) for happening in events)
    return AppliedBatch(answers=answers, rings=batches.rings_of(ready))


def _settle_ahead(ahead: Mapping[UUID, Ahead], ready: list[Ready]) -> Steps[dict[UUID, Applied]]:
    """Write the plans that were made on footholds, but those of runs that somebody has changed since: these come to nothing, and
    have no answer."""
    hops = sorted(ahead.values(), key=lambda hop: hop.work.run_id.int)
    done: dict[UUID, Applied] = {}
    for run_id, now, mark in (yield shapes.settle_ahead(hops)):
        hop = ahead[run_id]
        answer = done[run_id] = settled_ahead(hop, now, mark)
        if not answer.kept:
            ready += batches.made_ready(hop.plan)
    return done


def _settle(events: Sequence[RunEvent], ready: list[Ready]) -> Steps[tuple[Applied, ...]]:
    """Lock, load, decide, write, and answer."""
    decided = yield from _decide_and_write(batches.by_run(events), ready)
    works = list(successors(events, decided.plans, decided.now, decided.footholds))
    works += yield from _load_kept(decided.plans, works)
    newest = yield from _load_stale(decided.plans)
    answers = batches.answers(events, decided.plans, works, newest)
    yield from _note_litter(batches.littered(events, answers), decided.now)
    return answers


def _decide_and_write(by_run: Mapping[UUID, list[Event]], ready: list[Ready]) -> Steps[_Decided]:
    """Lock, load, decide, write."""
    runs, loaded, now = yield from load(by_run)
    plans: dict[UUID, Plan] = {}
    for run_id, run in runs.items():
        plans[run_id] = fold(run, loaded.of_run(run_id), by_run[run_id], now)
        loaded.take(plans[run_id])
    moved = [plan for plan in plans.values() if batches.moves(plan)]
    footholds: dict[UUID, Foothold] = {}
    if moved:
        mark = yield from _write(moved, runs, loaded, now, ready)
        plain = {run_id: plan for run_id, plan in plans.items() if is_plain(plan, runs[run_id])}
        footholds = dict(footholds_after(plain, now, mark))
    yield from _answer_repeated(plans, by_run)
    return _Decided(plans, footholds, now)


# -- write -----------------------------------------------------------------------------------------------------


def _write(
    plans: Sequence[Plan], runs: Mapping[UUID, Run], loaded: LoadedRuns, now: datetime, ready: list[Ready]
) -> Steps[str]:
    """Write the plans, of ``runs`` as they were loaded; answers the mark of those that go on plainly."""
    mark = ""
    going, changed_runs = shapes.go_on([(runs[plan.run.run_id], plan.run) for plan in plans])
    finished, changed = shapes.finished(
        [
            (plan.run.run_id, loaded.activation(plan.run.run_id, number), activation)
            for plan in plans
            for number, activation in plan.changed.items()
        ],
        now,
    )
    created = [(plan.run.run_id, activation) for plan in plans for activation in plan.created]
    if going or finished or created:
        [(written, mark)] = yield shapes.write_hops(going, finished, created, now)
        _all_written(written, len(finished))
    if changed_runs:
        yield shapes.update_runs(changed_runs)
    if changed:
        _all_written(len((yield shapes.update_activations(changed))), len(changed))
    yield from _write_contexts(plans, now)
    yield from _write_tries(plans, now)
    yield from _write_waits(plans, now)
    yield from _write_groups(plans, now)
    swept = yield from _sweep(plans, now)
    ready += [one for plan in plans for one in batches.made_ready(plan)] + swept
    return mark


def _all_written(written: int, wanted: int) -> None:
    if written != wanted:
        raise InterferenceError(f"{wanted - written} of {wanted} activations changed under their run's lock")


def _write_contexts(plans: Sequence[Plan], now: datetime) -> Steps[None]:
    entries = [(plan.run.run_id, entry) for plan in plans for entry in plan.entries]
    if not entries:
        return
    yield shapes.insert_entries(entries)
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


def _write_waits(plans: Sequence[Plan], now: datetime) -> Steps[None]:
    """What is expected, what was sent, and what has come of both."""
    if delivered := [(plan.run.run_id, *one) for plan in plans for one in plan.delivered.items()]:
        yield Ask(
            "deliver",
            {
                "run_ids": [run_id for run_id, _, _ in delivered],
                "activation_ids": [number for _, number, _ in delivered],
                "payloads": [payload for _, _, payload in delivered],
            },
        )
    if closed := [(plan.run.run_id, number) for plan in plans for number in plan.closed]:
        keys = {"run_ids": [run_id for run_id, _ in closed], "expectation_ids": [number for _, number in closed]}
        yield Ask("delete_expectations", keys)
    if expectations := [(plan.run.run_id, one) for plan in plans for one in plan.expectations]:
        yield waits.insert_expectations(expectations)
    if letters := [(plan.run.run_id, letter) for plan in plans for letter in plan.letters]:
        yield waits.insert_letters(letters, now)
    taken = [(plan.run.run_id, one) for plan in plans for one in plan.taken]
    if of_runs := [one for one in taken if one[1][0].key is None]:
        yield waits.take_letters(of_runs)
    if by_key := [one for one in taken if one[1][0].key is not None]:
        yield waits.take_posted(by_key)


def _write_groups(plans: Sequence[Plan], now: datetime) -> Steps[None]:
    """Scatters that begin, what becomes of their members, and their gathers."""
    if groups := [(plan.run.run_id, plan.groups.get(one.group_id, one)) for plan in plans for one in plan.scattered]:
        yield waits.insert_groups(groups)
    new = {(plan.run.run_id, one.group_id) for plan in plans for one in plan.scattered}
    if members := [(plan.run.run_id, waits.inserted(one, plan.members)) for plan in plans for one in plan.new_members]:
        yield waits.insert_members(members)
    changed = [(plan.run.run_id, group) for plan in plans for group in plan.groups.values()]
    if changed := [(run_id, group) for run_id, group in changed if (run_id, group.group_id) not in new]:
        yield waits.update_groups(changed)
    counted = [(plan.run.run_id, member) for plan in plans for member in plan.members.values()]
    if counted := [(run_id, member) for run_id, member in counted if (run_id, member.group_id) not in new]:
        yield waits.update_members(counted)
    if fired := [(plan.run.run_id, one) for plan in plans for one in plan.fired]:
        yield waits.fire(fired)
    if gone := [(plan.run.run_id, path) for plan in plans for path in plan.abandoned]:
        yield waits.abandon(gone, now)


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
    Sweep.CLOSE: ("close_expectations", "close_groups", "close_gathers"),
    Sweep.REVIVE: ("revive", "revive_members"),
    Sweep.UNDO: ("note_done", "undo"),
    Sweep.HOLD: ("hold",),
    Sweep.LET_GO: ("let_go",),
    Sweep.REJOIN: ("rejoin",),
    Sweep.SINGLE_OUT: ("set_others_aside", "make_alone_wait", "let_alone_run"),
}


# -- answer ----------------------------------------------------------------------------------------------------


def _answer_repeated(plans: Mapping[UUID, Plan], by_run: Mapping[UUID, Sequence[Event]]) -> Steps[None]:
    """A settlement whose reply was lost learns which successors its worker had kept then."""
    for run_id, plan in plans.items():
        for place, activation_id in batches.repeated_hops(plan, by_run[run_id]):
            rows = yield Ask("children_held", {"run_id": run_id, "activation_id": activation_id})
            plan.answers[place] = Answer(verdict=Verdict.REPEATED, kept=tuple(number for (number,) in rows))


def _load_kept(plans: dict[UUID, Plan], made: Sequence[Work]) -> Steps[list[Work]]:
    """What workers keep, and could not be made of what they held."""
    known = {(work.run_id, work.activation_id) for work in made}
    keys = [key for key in batches.kept(plans) if key not in known]
    if not keys:
        return []
    claimed = yield Ask(
        "claims_of_ids",
        {"run_ids": [run_id for run_id, _ in keys], "activation_ids": [number for _, number in keys]},
    )
    return (yield from load_works(claimed, known_before=True))


def _load_stale(plans: dict[UUID, Plan]) -> Steps[dict[UUID, dict[str, Slot]]]:
    stale = [run_id for run_id, plan in plans.items() if any(answer.stale for answer in plan.answers)]
    if not stale:
        return {}
    rows = yield Ask("load_contexts", {"run_ids": stale})
    return {run_id: dict(snapshot.slots) for run_id, snapshot in shapes.snapshots_of(rows).items()}

"""From the machine's records to the arrays that statements take, and from rows back to records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.footholds import Ahead
from cnstra.orchestrator.machine.plans import Entry, Plan
from cnstra.orchestrator.machine.records import (
    Activation,
    Claimed,
    Compensable,
    Ending,
    Failure,
    NewActivation,
    Output,
    Path,
    Run,
)
from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus
from cnstra.orchestrator.slots import EMPTY, Slot, Snapshot
from cnstra.orchestrator.store import Foothold, Work
from cnstra.stores.postgres.arrays import array_of
from cnstra.stores.postgres.statements import included
from cnstra.stores.postgres.transactions import Ask, Rows

# -- records from rows ---------------------------------------------------------------------------------------------

# By their texts: to call an enumeration takes five times as long.
_RUN_STATUSES = {one.value: one for one in RunStatus}
_STATUSES = {one.value: one for one in ActivationStatus}
_COMPENSABLE = {one.value: one for one in Compensable}


def run_of(row: Sequence[Any]) -> Run:
    """A row of ``lock_runs``."""
    return Run(
        run_id=row[0],
        status=_RUN_STATUSES[row[1]],
        attempt=row[2],
        outstanding=row[3],
        active=row[4],
        failed=row[5],
        last_activation=row[6],
        last_finish=row[7],
        context_version=row[8],
        priority=row[9],
        alone=row[10],
        revive_after=row[11],
        gave_up=row[12],
        idled=row[13],
        failure=_failure(row[14], row[15]),
        started_at=row[16],
        finished_at=row[17],
        next_retry_at=row[18],
        deadline_at=row[19],
        ending=None if row[20] is None else Ending(row[20]),
        undoable=row[21],
        uncertain=row[22],
        undone=row[23],
        undo_failure=_failure(row[24], row[25]),
        last_letter=row[26],
        last_group=row[27],
        graph=row[28],
    )


def activation_of(row: Sequence[Any]) -> Activation:
    """A row of ``load_activations`` or ``load_open``, without its run id."""
    return Activation(
        activation_id=row[1],
        status=_STATUSES[row[2]],
        queue=row[3],
        attempt=row[4],
        epoch=row[5],
        nonce=row[6],
        worker=row[7],
        tries=row[8],
        failures=row[9],
        idled=row[10],
        conflicts=row[11],
        crashes=row[12],
        blocked=row[13],
        available_at=row[14],
        started_at=row[15],
        failure=_failure(row[16], row[17]),
        compensable=_COMPENSABLE[row[18]],
        undo=row[19],
        finish=row[20],
        version_read=row[21],
        version_written=row[22],
        path=path_of(row[23]),
        gathers=row[24],
        limited=row[25],
        handled=row[26],
    )


def path_of(flat: Sequence[int] | None) -> Path:
    """A path as the database keeps it: group, member, group, member, …"""
    return tuple(zip(flat[::2], flat[1::2], strict=True)) if flat else ()


def _failure(error: str | None, error_type: str | None) -> Failure | None:
    return None if error_type is None else Failure(error_type=error_type, error=error or "")


OF_CLAIM = 21
"""How many columns of a claim's row are about the activation; those of its run may follow."""


def works_of(claims: Rows, facts: Rows, contexts: Rows, emitted: Rows) -> list[Work]:
    """Rows of ``claim``, with those of ``run_facts`` and ``load_contexts`` for their runs, and of ``emitted``."""
    of_run = {row[0]: row for row in facts}
    signals: dict[tuple[UUID, int], list[Output]] = {}
    for run_id, activation_id, ordinal, collateral, payload in emitted:
        output = Output(ordinal=ordinal, collateral=collateral, payload=payload)
        signals.setdefault((run_id, activation_id), []).append(output)
    snapshots = snapshots_of(contexts)
    return [
        Work(
            run_id=row[0],
            fence=Claimed(activation_id=row[1], epoch=row[2], nonce=row[3]),
            neuron=row[4],
            collateral=row[5],
            queue=row[6],
            payload=row[7],
            attempt=row[8],
            try_number=row[9],
            failures=row[10],
            elapsed=row[11],
            idled=row[12],
            crashes=row[13],
            undo=row[14],
            emitted=tuple(signals.get((row[0], row[1]), ())),
            deadline=of_run[row[0]][5],
            run_elapsed=of_run[row[0]][1],
            run_idled=of_run[row[0]][2],
            policy=of_run[row[0]][3],
            snapshot=replace(snapshots.get(row[0], EMPTY), place=of_run[row[0]][4]),
            place=of_run[row[0]][4],
            progress=row[15],
            foothold=_foothold(row, of_run[row[0]]),
        )
        for row in claims
    ]


def _foothold(claim: Sequence[Any], facts: Sequence[Any]) -> Foothold | None:
    """What the first claim of an activation that is in no group knows of its run, where nothing else of that is outstanding."""
    mark, is_first, is_in_no_group = facts[7], claim[2] == 1, claim[20]
    if mark is None or not is_first or not is_in_no_group:
        return None
    run = Run(
        run_id=facts[0],
        graph=facts[8],
        status=RunStatus.RUNNING,
        attempt=facts[9],
        outstanding=1,
        active=1,
        last_activation=facts[10],
        last_finish=facts[11],
        last_group=facts[14],
        context_version=facts[6],
        idled=facts[2],
        started_at=facts[13],
        deadline_at=facts[5],
        undoable=facts[12],
    )
    activation = Activation(
        activation_id=claim[1],
        status=ActivationStatus.RUNNING,
        queue=claim[6],
        attempt=claim[8],
        epoch=claim[2],
        nonce=claim[3],
        worker=claim[16],
        tries=1,
        started_at=claim[17],
        compensable=_COMPENSABLE[claim[18]],
        limited=claim[19],
    )
    return Foothold(run=run, activation=activation, mark=mark)


def snapshots_of(rows: Rows) -> dict[UUID, Snapshot]:
    """Rows of ``load_contexts``, by run."""
    slots: dict[UUID, dict[str, Slot]] = {}
    versions: dict[UUID, int] = {}
    for run_id, version, slot, slot_version, text in rows:
        versions[run_id] = version
        slots.setdefault(run_id, {})[slot] = Slot(slot_version, text)
    return {run_id: Snapshot(version=version, slots=slots[run_id]) for run_id, version in versions.items()}


# -- statements from records ---------------------------------------------------------------------------------------


def update_runs(runs: Sequence[Run]) -> Ask:
    return Ask(
        "update_runs",
        {
            "run_ids": [run.run_id for run in runs],
            "statuses": [run.status.value for run in runs],
            "attempts": [run.attempt for run in runs],
            "outstanding": [run.outstanding for run in runs],
            "active": [run.active for run in runs],
            "failed": [run.failed for run in runs],
            "last_activations": [run.last_activation for run in runs],
            "last_finishes": [run.last_finish for run in runs],
            "versions": [run.context_version for run in runs],
            "alone": [run.alone for run in runs],
            "revive_after": [run.revive_after for run in runs],
            "gave_up": [run.gave_up for run in runs],
            "idled": [run.idled for run in runs],
            "errors": [run.failure.error if run.failure else None for run in runs],
            "error_types": [run.failure.error_type if run.failure else None for run in runs],
            "started": [run.started_at for run in runs],
            "finished": [run.finished_at for run in runs],
            "next_retries": [run.next_retry_at for run in runs],
            "endings": [run.ending for run in runs],
            "undoable": [run.undoable for run in runs],
            "uncertain": [run.uncertain for run in runs],
            "undone": [run.undone for run in runs],
            "undo_errors": [run.undo_failure.error if run.undo_failure else None for run in runs],
            "last_letters": [run.last_letter for run in runs],
            "last_groups": [run.last_group for run in runs],
            "undo_error_types": [run.undo_failure.error_type if run.undo_failure else None for run in runs],
        },
    )


def go_on(runs: Sequence[tuple[Run, Run]]) -> tuple[list[Run], list[Run]]:
    """Of runs as they were loaded, and as the plans leave them: those of which ``update_runs_that_go_on`` writes all that has
    changed; and the others.
    """
    going: list[Run] = []
    others: list[Run] = []
    for before, after in runs:
        (going if after.goes_on_from(before) else others).append(after)
    return going, others


def _going(runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "run_ids": [run.run_id for run in runs],
        "statuses": [run.status.value for run in runs],
        "outstanding": [run.outstanding for run in runs],
        "active": [run.active for run in runs],
        "last_activations": [run.last_activation for run in runs],
        "last_finishes": [run.last_finish for run in runs],
        "last_groups": [run.last_group for run in runs],
        "versions": [run.context_version for run in runs],
        "started": [run.started_at for run in runs],
        "finished": [run.finished_at for run in runs],
        "undoable": [run.undoable for run in runs],
    }


Changed = tuple[UUID, Activation, Activation]
"""A run, and an activation of it as it was loaded, and as the plan leaves it."""


def finished(changed: Sequence[Changed], now: datetime) -> tuple[list[Changed], list[Changed]]:
    """Those of which ``finish_activations`` writes all that has changed; and the others."""
    plain: list[Changed] = []
    others: list[Changed] = []
    for one in changed:
        _, before, after = one
        same = before.status is ActivationStatus.RUNNING and after == replace(
            before,
            status=ActivationStatus.DONE,
            finished_at=now,
            finish=after.finish,
            version_read=after.version_read,
            version_written=after.version_written,
            outputs=after.outputs,
            undoable=after.undoable,
        )
        (plain if same else others).append(one)
    return plain, others


def write_hops(
    going: Sequence[Run],
    finished: Sequence[Changed],
    created: Sequence[tuple[UUID, NewActivation]],
    now: datetime,
) -> Ask:
    """All three at once; it answers how many activations it has finished, and the mark of the runs."""
    return Ask(
        "write_hops",
        included("run", _going(going))
        | included("done", _finished(finished, now))
        | included("new", insert_activations(created, now).parameters),
    )


def _finished(changed: Sequence[Changed], now: datetime) -> dict[str, Any]:
    after = [activation for _, _, activation in changed]
    return {
        "now": now,
        "run_ids": [run_id for run_id, _, _ in changed],
        "activation_ids": [activation.activation_id for activation in after],
        "epochs": [activation.epoch for activation in after],
        "finishes": [activation.finish for activation in after],
        "reads": [activation.version_read for activation in after],
        "writes": [activation.version_written for activation in after],
        "outputs": [_outputs(activation.outputs) for activation in after],
        "undoable": [activation.undoable for activation in after],
    }


def update_activations(changed: Sequence[Changed]) -> Ask:
    after = [activation for _, _, activation in changed]
    return Ask(
        "update_activations",
        {
            "run_ids": [run_id for run_id, _, _ in changed],
            "activation_ids": [activation.activation_id for activation in after],
            "befores": [before.status.value for _, before, _ in changed],
            "epochs": [activation.epoch for activation in after],
            "statuses": [activation.status.value for activation in after],
            "nonces": [activation.nonce for activation in after],
            "tries": [activation.tries for activation in after],
            "failures": [activation.failures for activation in after],
            "idled": [activation.idled for activation in after],
            "conflicts": [activation.conflicts for activation in after],
            "crashes": [activation.crashes for activation in after],
            "blocked": [activation.blocked for activation in after],
            "available": [activation.available_at for activation in after],
            "finished": [activation.finished_at for activation in after],
            "finishes": [activation.finish for activation in after],
            "reads": [activation.version_read for activation in after],
            "writes": [activation.version_written for activation in after],
            "outputs": [_outputs(activation.outputs) for activation in after],
            "errors": [activation.failure.error if activation.failure else None for activation in after],
            "error_types": [activation.failure.error_type if activation.failure else None for activation in after],
            "compensable": [activation.compensable for activation in after],
            "undoable": [activation.undoable for activation in after],
            "versions_undone": [activation.version_undone for activation in after],
            "handled": [activation.handled for activation in after],
        },
    )


def _outputs(outputs: tuple[Output, ...]) -> str | None:
    if not outputs:
        return None
    signals = (
        f'{{"ordinal":{output.ordinal},"collateral":{json.dumps(output.collateral)},"payload":{output.payload}'
        + (',"collected":true}' if output.collected else "}")
        for output in outputs
    )
    return f"[{','.join(signals)}]"


def settle_ahead(hops: Sequence[Ahead]) -> Ask:
    """Hops that were decided on footholds."""
    plans = [hop.plan for hop in hops]
    settled = included("hop", _ahead(plans) | {"marks": [hop.mark for hop in hops]})
    entries = [(plan.run.run_id, entry) for plan in plans for entry in plan.entries]
    if not entries:
        return Ask("settle_ahead", settled)
    heads = included("head", _heads([(plan.run, plan.heads) for plan in plans if plan.heads]))
    return Ask("settle_ahead_with_contexts", settled | included("entry", insert_entries(entries).parameters) | heads)


def _ahead(plans: Sequence[Plan]) -> dict[str, Any]:
    runs = [plan.run for plan in plans]
    ended = [activation for plan in plans for activation in plan.changed.values()]
    news = [plan.created[0] if plan.created else None for plan in plans]
    targets = [None if new is None else new.target for new in news]
    return {
        "run_ids": [run.run_id for run in runs],
        "statuses": [run.status.value for run in runs],
        "outstanding": [run.outstanding for run in runs],
        "active": [run.active for run in runs],
        "last_activations": [run.last_activation for run in runs],
        "last_finishes": [run.last_finish for run in runs],
        "versions": [run.context_version for run in runs],
        "started": [run.started_at for run in runs],
        "ended": [run.finished_at is not None for run in runs],
        "undoables": [run.undoable for run in runs],
        "activation_ids": [activation.activation_id for activation in ended],
        "epochs": [activation.epoch for activation in ended],
        "nonces": [activation.nonce for activation in ended],
        "reads": [activation.version_read for activation in ended],
        "writes": [activation.version_written for activation in ended],
        "outputs": [_outputs(activation.outputs) for activation in ended],
        "undoable": [activation.undoable for activation in ended],
        "new_ids": [new and new.activation_id for new in news],
        "ordinals": [target and target.ordinal for target in targets],
        "neurons": [target and target.neuron for target in targets],
        "dendrites": [target and target.dendrite for target in targets],
        "collaterals": [target and target.collateral for target in targets],
        "payloads": [target and target.payload for target in targets],
        "queues": [target and target.queue for target in targets],
        "attempts": [new and new.attempt for new in news],
        "kept": [new and new.status is ActivationStatus.RUNNING for new in news],
        "blocked": [new and new.blocked for new in news],
        "compensable": [target and target.compensable for target in targets],
        "limited": [target and target.limited for target in targets],
    }


def insert_activations(created: Sequence[tuple[UUID, NewActivation]], now: datetime | None) -> Ask:
    news = [activation for _, activation in created]
    return Ask(
        "insert_activations",
        {
            "now": now,
            "run_ids": [run_id for run_id, _ in created],
            "activation_ids": [new.activation_id for new in news],
            "parents": [new.parent for new in news],
            "ordinals": [new.target.ordinal for new in news],
            "neurons": [new.target.neuron for new in news],
            "dendrites": [new.target.dendrite for new in news],
            "collaterals": [new.target.collateral for new in news],
            "payloads": [new.target.payload for new in news],
            "queues": [new.target.queue for new in news],
            "attempts": [new.attempt for new in news],
            "statuses": [new.status.value for new in news],
            "blocked": [new.blocked for new in news],
            "nonces": [new.nonce for new in news],
            "workers": [new.worker for new in news],
            "available": [new.available_at for new in news],
            "compensable": [new.target.compensable for new in news],
            "origins": [new.origin for new in news],
            "paths": [array_of(path_numbers(new.path)) if new.path else None for new in news],
            "group_ids": [new.path[-1][0] if new.path else None for new in news],
            "gathers": [new.gathers for new in news],
            "limited": [new.target.limited for new in news],
        },
    )


def path_numbers(path: Path) -> list[int]:
    """A path as the database keeps it."""
    return [number for place in path for number in place]


def insert_entries(entries: Sequence[tuple[UUID, Entry]]) -> Ask:
    return Ask(
        "insert_entries",
        {
            "run_ids": [run_id for run_id, _ in entries],
            "versions": [entry.version for _, entry in entries],
            "slots": [entry.slot for _, entry in entries],
            "activation_ids": [entry.activation_id for _, entry in entries],
            "texts": [entry.text for _, entry in entries],
        },
    )


def update_heads(runs: Sequence[tuple[Run, Mapping[str, int]]], now: datetime) -> Ask:
    return Ask("update_heads", {"now": now} | _heads(runs))


def _heads(runs: Sequence[tuple[Run, Mapping[str, int]]]) -> dict[str, Any]:
    return {
        "run_ids": [run.run_id for run, _ in runs],
        "versions": [run.context_version for run, _ in runs],
        "heads": [json.dumps(heads) for _, heads in runs],
    }

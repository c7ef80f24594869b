"""Keeping new runs: all of a batch, or none; the same id or idempotency key again is the same run.

One run without a key, that asks nothing of the time, is one statement, which commits by itself. Others are a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from cnstra.orchestrator.batches import Entry, refuse_others, repeats, rings_of, same_signal
from cnstra.orchestrator.machine.fold import begin
from cnstra.orchestrator.machine.records import NewActivation, Run
from cnstra.orchestrator.machine.states import ActivationStatus
from cnstra.orchestrator.ports import Foresee, Ring, door
from cnstra.orchestrator.store import Accepted, Submission
from cnstra.stores.postgres.arrays import interval_of
from cnstra.stores.postgres.rows import insert_activations
from cnstra.stores.postgres.transactions import Ask, InterferenceError, PostgresOperation, Rows, Steps

Taken = dict[UUID, Accepted]
Created = list[tuple[Submission, NewActivation]]
Rings = tuple[Ring, ...]
Submitted = tuple[list[Accepted], Rings]


class Submitting:
    """The operations of clients that start runs."""

    def submit(self, submissions: Sequence[Submission], foresee: Foresee | None = None) -> PostgresOperation[Submitted]:
        alone = len(submissions) == 1 and submissions[0].idempotency_key is None and not submissions[0].timed
        return PostgresOperation("submit", lambda _repeated: _submit(submissions, foresee), at_once=alone)

    def entries(self, submissions: Sequence[Submission]) -> PostgresOperation[list[Entry | None]]:
        return PostgresOperation("entries", lambda _repeated: _entries(submissions))


def _submit(submissions: Sequence[Submission], foresee: Foresee | None) -> Steps[Submitted]:
    again = repeats(submissions)
    firsts = [submission for place, submission in enumerate(submissions) if place not in again]
    taken = yield from _take_keys(firsts)
    had, rings = yield from _keep(_others(firsts, taken), foresee)
    taken |= had
    accepted = [
        _first(submission, taken) if place not in again else _again(submission, submissions[again[place]], taken)
        for place, submission in enumerate(submissions)
    ]
    if not all(one.same for one in accepted):
        refuse_others(submissions, accepted, (yield from _entries(submissions)))
    return accepted, rings


def _entries(submissions: Sequence[Submission]) -> Steps[list[Entry | None]]:
    keyed = [one for one in submissions if one.idempotency_key is not None]
    of_keys: dict[str, Entry] = {}
    if keyed:  # those of a batch are of one graph
        asked = {"graphs": [one.graph for one in keyed], "keys": [one.idempotency_key for one in keyed]}
        of_keys = {
            key: (run_id, collateral, text) for key, run_id, collateral, text in (yield Ask("entries_of_keys", asked))
        }
    rows = yield Ask("entries_of_ids", {"run_ids": [one.run_id for one in submissions]})
    of_ids = {run_id: (run_id, collateral, text) for run_id, collateral, text in rows}
    return [of_keys.get(one.idempotency_key or "") or of_ids.get(one.run_id) for one in submissions]


def _others(submissions: Sequence[Submission], taken: Collection[UUID]) -> Sequence[Submission]:
    """Those whose ids are not among these. Most often nothing is taken, and to look up each id takes a while."""
    return [submission for submission in submissions if submission.run_id not in taken] if taken else submissions


def _first(submission: Submission, taken: Taken) -> Accepted:
    return (taken and taken.get(submission.run_id)) or Accepted(run_id=submission.run_id, new=True)


def _again(submission: Submission, first: Submission, taken: Taken) -> Accepted:
    """The answer to a submit that repeats an earlier one of its batch."""
    accepted = _first(first, taken)
    return Accepted(run_id=accepted.run_id, new=False, same=accepted.same and same_signal(first, submission))


def _take_keys(submissions: Sequence[Submission]) -> Steps[Taken]:
    keyed = [submission for submission in submissions if submission.idempotency_key is not None]
    if not keyed:
        return {}
    keys = {
        "graphs": [submission.graph for submission in keyed],
        "keys": [submission.idempotency_key for submission in keyed],
        "run_ids": [submission.run_id for submission in keyed],
    }
    got = yield Ask("take_keys", keys)
    won = {run_id for (run_id,) in got}
    if len(won) == len(keyed):
        return {}
    rows = yield Ask(
        "runs_of_keys",
        keys
        | {
            "collaterals": [submission.collateral for submission in keyed],
            "payloads": [submission.payload for submission in keyed],
        },
    )
    return _had_before(rows, {submission.run_id for submission in keyed} - won)


def _keep(submissions: Sequence[Submission], foresee: Foresee | None) -> Steps[tuple[Taken, Rings]]:
    """Keep those whose ids nobody has; the answers to the others, and the doorbells of what begins."""
    if not submissions:
        return {}, ()
    now: datetime | None = None
    if any(submission.timed for submission in submissions):
        [(now,)] = yield Ask("clock", {})
    begun = [(submission, *_begun(submission, now)) for submission in submissions]
    created = [(submission, activation) for submission, _, of_run in begun for activation in of_run]
    rings = _rings(created)
    if len(begun) == 1:
        insert = _insert_run(*begun[0], now)
        got = yield insert if foresee is None else insert._replace(meanwhile=partial(foresee, rings))
    else:
        got = yield _insert_runs(submissions, [run for _, run, _ in begun], now)
    new = {run_id for (run_id,) in got}
    known = _others(submissions, new) if len(new) < len(submissions) else []
    if known:
        created = [(submission, activation) for submission, activation in created if submission.run_id in new]
        rings = _rings(created)
    if created and len(submissions) > 1:
        yield _insert_activations(created, now)
    if not known:
        return {}, rings
    rows = yield Ask(
        "runs_of_ids",
        {
            "run_ids": [submission.run_id for submission in known],
            "graphs": [submission.graph for submission in known],
            "collaterals": [submission.collateral for submission in known],
            "payloads": [submission.payload for submission in known],
        },
    )
    return _had_before(rows, {submission.run_id for submission in known}), rings


def _rings(created: Created) -> Rings:
    return rings_of(
        (door(submission.graph, activation.target.queue), submission.run_id, activation.activation_id)
        for submission, activation in created
        if activation.status is ActivationStatus.READY
    )


def _insert_activations(created: Created, now: datetime | None) -> Ask:
    return insert_activations([(submission.run_id, activation) for submission, activation in created], now)


def _begun(submission: Submission, now: datetime | None) -> tuple[Run, list[NewActivation]]:
    """A run as it begins, and its first activations. What is not timed needs no ``now``."""
    return begin(
        run_id=submission.run_id,
        graph=submission.graph,
        targets=submission.targets,
        priority=submission.priority,
        available_at=None if now is None else submission.begins_at(now),
        deadline_at=None if now is None else submission.ends_by(now),
    )


def _insert_run(submission: Submission, run: Run, created: Sequence[NewActivation], now: datetime | None) -> Ask:
    """One run with its first activations, which begin all at the same time."""
    payload = submission.payload
    document = {
        "now": _moment(now),
        "run_id": submission.run_id,
        "graph": submission.graph,
        "version": submission.graph_version,
        "pinned": submission.pinned,
        "collateral": submission.collateral,
        "status": run.status,
        "outstanding": run.outstanding,
        "active": run.active,
        "last_activation": run.last_activation,
        "priority": submission.priority,
        "policy": _policy_of(submission),
        "tags": _tags_of(submission),
        "idempotency_key": submission.idempotency_key,
        "place": submission.place,
        "deadline": _moment(run.deadline_at),
        "deadline_after": None if submission.deadline_after is None else interval_of(submission.deadline_after),
        "clone_of": submission.cloned_from,
        "begun_as": created[0].status,
        "available": _moment(created[0].available_at),
        "activations": [_activation(activation, payload) for activation in created],
    }
    return Ask("insert_run", {"run": _DOCUMENTS.encode(document).decode(), "payload": payload})


def _activation(activation: NewActivation, of_run: str) -> dict[str, Any]:
    """Its part of the document. It has no payload of its own where that is the run's: sealed, they differ."""
    target = activation.target
    return {
        "activation_id": activation.activation_id,
        "ordinal": target.ordinal,
        "neuron": target.neuron,
        "dendrite": target.dendrite,
        "collateral": target.collateral,
        "payload": None if target.payload == of_run else target.payload,
        "queue": target.queue,
        "blocked": activation.blocked,
        "compensable": target.compensable,
        "limited": target.limited,
    }


def _moment(moment: datetime | None) -> str | None:
    """As in an array: msgspec would leave the seconds of its offset out."""
    return None if moment is None else moment.isoformat()


def _plain(text: Any) -> str:
    """The text of what is more than that, such as a string that a library has marked: msgspec writes plain ones alone."""
    if isinstance(text, str):
        return str.__str__(text)
    raise NotImplementedError


_DOCUMENTS = msgspec.json.Encoder(enc_hook=_plain)


def _insert_runs(submissions: Sequence[Submission], runs: Sequence[Run], now: datetime | None) -> Ask:
    parameters: dict[str, Any] = {
        "now": now,
        "run_ids": [submission.run_id for submission in submissions],
        "graphs": [submission.graph for submission in submissions],
        "versions": [submission.graph_version for submission in submissions],
        "pinned": [submission.pinned for submission in submissions],
        "collaterals": [submission.collateral for submission in submissions],
        "payloads": [submission.payload for submission in submissions],
        "statuses": [run.status.value for run in runs],
        "outstanding": [run.outstanding for run in runs],
        "active": [run.active for run in runs],
        "last_activations": [run.last_activation for run in runs],
        "priorities": [submission.priority for submission in submissions],
        "policies": [_policy_of(submission) for submission in submissions],
        "tags": [_tags_of(submission) for submission in submissions],
        "idempotency_keys": [submission.idempotency_key for submission in submissions],
        "places": [submission.place for submission in submissions],
        "deadlines": [run.deadline_at for run in runs],
        "deadlines_after": [submission.deadline_after for submission in submissions],
        "clones_of": [submission.cloned_from for submission in submissions],
    }
    return Ask("insert_runs", parameters)


def _policy_of(submission: Submission) -> str | None:
    return None if submission.policy is None else json.dumps(submission.policy)


def _tags_of(submission: Submission) -> str:
    return json.dumps(dict(submission.tags)) if submission.tags else "{}"


def _had_before(rows: Rows, asked: set[UUID]) -> Taken:
    """Who had these ids and keys before. One of them may have been pruned since it was found taken: then all begins anew."""
    taken = {run_id: Accepted(run_id=had, new=False, same=same) for run_id, had, same in rows if run_id in asked}
    if len(taken) != len(asked):
        raise InterferenceError(f"{len(asked) - len(taken)} runs were pruned while they were submitted again")
    return taken

"""Expectations, letters and groups: to the arrays that statements take, and from rows back to records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.machine.plans import Fired, NewLetter
from cnstra.orchestrator.machine.records import (
    Compensable,
    Expectation,
    Gathering,
    Group,
    Late,
    Letter,
    Member,
    Output,
    Path,
    Target,
)
from cnstra.stores.postgres.arrays import array_of
from cnstra.stores.postgres.rows import path_numbers, path_of
from cnstra.stores.postgres.transactions import Ask

Of = tuple[UUID, Any]
"""A run's id, and something of that run."""


# -- records from rows ---------------------------------------------------------------------------------------------


def expectation_of(row: Sequence[Any]) -> Expectation:
    """A row of ``load_expectations``, without its run id."""
    late = json.loads(row[6])
    return Expectation(
        expectation_id=row[1],
        collateral=row[2],
        key=row[3],
        activations=tuple(row[4]),
        expires_at=row[5],
        late=Late(
            targets=tuple(map(_target_of, late["targets"])),
            outputs=tuple(Output(**output) for output in late["outputs"]),
            results=tuple(Output(**output) for output in late["results"]),
        ),
    )


def group_of(row: Sequence[Any]) -> Group:
    """A row of ``load_groups``, without its run id."""
    return Group(
        group_id=row[1],
        parent=row[2],
        ordinal=row[3],
        collateral=row[4],
        size=row[5],
        limit=row[6],
        path=path_of(row[7]),
        targets=tuple(map(_target_of, json.loads(row[8]))),
        gatherings=tuple(Gathering(**gathering) for gathering in row[9]),
        started=row[10],
        running=row[11],
        ended=row[12],
        closed=row[13],
    )


def member_of(row: Sequence[Any]) -> Member:
    """A row of ``load_members``, without its run id."""
    return Member(
        group_id=row[1], member=row[2], outstanding=row[3], failed=row[4], ended=row[5], gave=frozenset(row[6])
    )


def _target_of(found: Mapping[str, Any]) -> Target:
    delay, at = found.get("delay"), found.get("at")
    return Target(
        ordinal=found["ordinal"],
        neuron=found["neuron"],
        dendrite=found["dendrite"],
        collateral=found["collateral"],
        queue=found["queue"],
        payload=found["payload"],
        delay=None if delay is None else timedelta(days=delay[0], seconds=delay[1], microseconds=delay[2]),
        at=None if at is None else datetime.fromisoformat(at),
        compensable=Compensable(found["compensable"]),
        limited=found.get("limited", False),
    )


# -- statements from records ---------------------------------------------------------------------------------------


def _target(target: Target) -> dict[str, Any]:
    """A target as JSON; its payload stays the text that it is."""
    written: dict[str, Any] = {
        "ordinal": target.ordinal,
        "neuron": target.neuron,
        "dendrite": target.dendrite,
        "collateral": target.collateral,
        "queue": target.queue,
        "payload": target.payload,
        "compensable": target.compensable,
        "limited": target.limited,
    }
    if target.delay is not None:
        written["delay"] = [target.delay.days, target.delay.seconds, target.delay.microseconds]
    if target.at is not None:
        written["at"] = target.at.isoformat()
    return written


def _late(late: Late) -> str:
    written = {
        "targets": [_target(target) for target in late.targets],
        "outputs": [_output(output) for output in late.outputs],
        "results": [_output(output) for output in late.results],
    }
    return json.dumps(written)


def _output(output: Output) -> dict[str, Any]:
    """An output as JSON; its payload stays the text that it is."""
    return {"ordinal": output.ordinal, "collateral": output.collateral, "payload": output.payload}


def insert_expectations(new: Sequence[tuple[UUID, Expectation]]) -> Ask:
    return Ask(
        "insert_expectations",
        {
            "run_ids": [run_id for run_id, _ in new],
            "expectation_ids": [one.expectation_id for _, one in new],
            "collaterals": [one.collateral for _, one in new],
            "keys": [one.key for _, one in new],
            "activations": [array_of(list(one.activations)) for _, one in new],
            "expire": [one.expires_at for _, one in new],
            "late": [_late(one.late) for _, one in new],
        },
    )


def insert_letters(new: Sequence[tuple[UUID, NewLetter]], now: datetime) -> Ask:
    return Ask(
        "insert_letters",
        {
            "now": now,
            "run_ids": [run_id for run_id, _ in new],
            "numbers": [letter.number for _, letter in new],
            "collaterals": [letter.sent.collateral for _, letter in new],
            "payloads": [letter.sent.payload for _, letter in new],
            "idempotency_keys": [letter.sent.idempotency_key for _, letter in new],
            "takers": [letter.taken_by for _, letter in new],
        },
    )


def take_letters(taken: Sequence[tuple[UUID, tuple[Letter, int]]]) -> Ask:
    return Ask(
        "take_letters",
        {
            "run_ids": [run_id for run_id, _ in taken],
            "numbers": [letter.number for _, (letter, _) in taken],
            "takers": [taker for _, (_, taker) in taken],
        },
    )


def take_posted(taken: Sequence[tuple[UUID, tuple[Letter, int]]]) -> Ask:
    return Ask(
        "take_posted",
        {
            "run_ids": [run_id for run_id, _ in taken],
            "keys": [letter.key for _, (letter, _) in taken],
            "numbers": [letter.number for _, (letter, _) in taken],
        },
    )


def insert_groups(new: Sequence[tuple[UUID, Group]]) -> Ask:
    groups = [group for _, group in new]
    return Ask(
        "insert_groups",
        {
            "run_ids": [run_id for run_id, _ in new],
            "parents": [group.parent for group in groups],
            "ordinals": [group.ordinal for group in groups],
            "collaterals": [group.collateral for group in groups],
            "sizes": [group.size for group in groups],
            "limits": [group.limit for group in groups],
            "paths": [_path(group.path) for group in groups],
            "targets": [json.dumps([_target(target) for target in group.targets]) for group in groups],
            "gathers": [json.dumps([_gathering(one) for one in group.gatherings]) for group in groups],
            **_counts(groups),
        },
    )


def update_groups(changed: Sequence[tuple[UUID, Group]]) -> Ask:
    return Ask(
        "update_groups", {"run_ids": [run_id for run_id, _ in changed], **_counts([group for _, group in changed])}
    )


def _counts(groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "group_ids": [group.group_id for group in groups],
        "started": [group.started for group in groups],
        "running": [group.running for group in groups],
        "ended": [group.ended for group in groups],
        "closed": [group.closed for group in groups],
    }


def _gathering(gathering: Gathering) -> dict[str, Any]:
    return {
        "activation_id": gathering.activation_id,
        "neuron": gathering.neuron,
        "collateral": gathering.collateral,
        "failures": gathering.failures,
    }


def _path(path: Path) -> str | None:
    return array_of(path_numbers(path)) if path else None


def insert_members(new: Sequence[tuple[UUID, Member]]) -> Ask:
    return Ask(
        "insert_members",
        {
            "run_ids": [run_id for run_id, _ in new],
            "group_ids": [member.group_id for _, member in new],
            "members": [member.member for _, member in new],
            "outstanding": [member.outstanding for _, member in new],
            "payloads": [member.payload for _, member in new],
        },
    )


def update_members(changed: Sequence[tuple[UUID, Member]]) -> Ask:
    return Ask(
        "update_members",
        {
            "run_ids": [run_id for run_id, _ in changed],
            "group_ids": [member.group_id for _, member in changed],
            "members": [member.member for _, member in changed],
            "outstanding": [member.outstanding for _, member in changed],
            "failed": [member.failed for _, member in changed],
            "ended": [member.ended for _, member in changed],
            "results": [_results(member.results) for _, member in changed],
            "failures": [_failure(member) for _, member in changed],
        },
    )


def _results(results: Mapping[str, str]) -> str | None:
    if not results:
        return None
    return f"{{{','.join(f'{json.dumps(name)}:{payload}' for name, payload in results.items())}}}"


def _failure(member: Member) -> str | None:
    if member.failure is None:
        return None
    return json.dumps({"error": member.failure.error, "error_type": member.failure.error_type})


def fire(fired: Sequence[tuple[UUID, Fired]]) -> Ask:
    return Ask(
        "fire",
        {
            "run_ids": [run_id for run_id, _ in fired],
            "activation_ids": [one.gathering.activation_id for _, one in fired],
            "group_ids": [one.group_id for _, one in fired],
            "collaterals": [one.gathering.collateral for _, one in fired],
            "failures": [one.gathering.failures for _, one in fired],
        },
    )


def abandon(gone: Sequence[tuple[UUID, Path]], now: datetime) -> Ask:
    ends = [(*path[:-1], (path[-1][0], path[-1][1] + 1)) for _, path in gone]  # where the next member's paths begin
    return Ask(
        "abandon",
        {
            "now": now,
            "run_ids": [run_id for run_id, _ in gone],
            "paths": [_path(path) for _, path in gone],
            "ends": [_path(path) for path in ends],
        },
    )


def inserted(member: Member, plan: Mapping[tuple[int, int], Member]) -> Member:
    """A new member as its plan leaves it."""
    left = plan.get((member.group_id, member.member), member)
    return replace(left, payload=member.payload)

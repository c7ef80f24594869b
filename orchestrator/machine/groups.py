"""Scatters and gathers: the members of a group, counted until nothing of them is outstanding.

A member is all that its scattered signal brings about: each activation knows its path, the groups and members that it is part
of, and every change of one is counted in all of these. Gathers wait as activations that count for nothing: only members do.
When all members of a group have ended its gathers are called, and what they emit belongs to the group around it.

A failure counts in every member around it, out to the first group that takes failures: that one handles it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from cnstra.orchestrator.machine.events import Scattered, Succeeded
from cnstra.orchestrator.machine.folding import Folding
from cnstra.orchestrator.machine.plans import Fired
from cnstra.orchestrator.machine.records import (
    Activation,
    Failure,
    Gathering,
    Group,
    Member,
    NewActivation,
    Origin,
    Output,
    Path,
    Target,
)
from cnstra.orchestrator.machine.states import ActivationMove, ActivationStatus

_REFUSED = "cnstra.OutputError"
_READY, _RUNNING = ActivationStatus.READY, ActivationStatus.RUNNING  # names of a module are found faster than members


# -- what a hop may not do -----------------------------------------------------------------------------------------


def problem_of(folding: Folding, activation: Activation, event: Succeeded) -> Failure | None:
    """Why the groups that a hop is part of refuse it, if they do."""
    gives: set[str] = set()
    for result in event.results:
        collateral = result.collateral
        place = _collector(folding, activation.path, collateral)
        if place is None:
            continue
        if collateral in folding.members[place].gave:
            return Failure(
                error_type=_REFUSED,
                error=f"member {place[1]} of group {place[0]} has given a result on {collateral!r} already; "
                "a member gives one, so let one activation of it emit that",
            )
        if collateral in gives:
            return Failure(
                error_type=_REFUSED,
                error=f"this hop gives two results on {collateral!r} for one member; a member gives one",
            )
        gives.add(collateral)
    for scattered in event.scattered:
        for gatherer in scattered.gatherers:
            if not gatherer.named and (around := _also_gathers(folding, activation.path, gatherer.target)) is not None:
                return Failure(
                    error_type=_REFUSED,
                    error=f"the gather of neuron {gatherer.target.neuron!r} on {gatherer.target.collateral!r} could belong to "
                    f"the scatter of {scattered.collateral!r} and to that of {around!r} around it; say which: gather(..., of=)",
                )
    return None


def _also_gathers(folding: Folding, path: Path, target: Target) -> str | None:
    """The scattered collateral of a group around that has the same gather."""
    for group_id, _ in path:
        group = folding.groups[group_id]
        if any((one.neuron, one.collateral) == (target.neuron, target.collateral) for one in group.gatherings):
            return group.collateral
    return None


# -- results -------------------------------------------------------------------------------------------------------


def collect(
    folding: Folding, path: Path, results: tuple[Output, ...], outputs: tuple[Output, ...]
) -> tuple[Output, ...]:
    """Give results to the members that something on a path is part of, where they have none yet; the outputs, with those
    marked that were collected.
    """
    collected: set[int] = set()
    for result in results:
        place = _collector(folding, path, result.collateral)
        if place is None or result.collateral in folding.members[place].gave:
            continue
        member = folding.members[place]
        folding.put_member(
            replace(
                member,
                gave=member.gave | {result.collateral},
                results={**member.results, result.collateral: result.payload},
            )
        )
        collected.add(result.ordinal)
    if not collected:
        return outputs
    return tuple([replace(output, collected=True) if output.ordinal in collected else output for output in outputs])


def _collector(folding: Folding, path: Path, collateral: str) -> tuple[int, int] | None:
    """The innermost group, and its member, that collects signals on a collateral."""
    for place in reversed(path):
        for gathering in folding.groups[place[0]].gatherings:
            if gathering.collateral == collateral:
                return place
    return None


# -- scatters ------------------------------------------------------------------------------------------------------


def scatter(folding: Folding, parent: Activation, scattered: Scattered) -> tuple[int, ...]:
    """Begin a group: its gathers wait, its first members start; an empty one has ended already. Answers which activations the
    settling worker keeps.
    """
    if folding.plan.run.ending is not None:
        return ()
    group_id = folding.plan.run.last_group + 1
    folding.run(last_group=group_id)
    size = len(scattered.payloads)
    group = Group(
        group_id=group_id,
        parent=parent.activation_id,
        ordinal=scattered.ordinal,
        collateral=scattered.collateral,
        size=size,
        limit=scattered.limit,
        path=parent.path,
        targets=tuple(replace(target, here=False) for target in scattered.targets),
        gatherings=tuple(
            Gathering(
                activation_id=_wait(folding, parent, gatherer.target, group_id, empty=not size),
                neuron=gatherer.target.neuron,
                collateral=gatherer.target.collateral,
                failures=gatherer.failures,
            )
            for gatherer in scattered.gatherers
        ),
    )
    at_once = size if group.limit is None else min(size, group.limit)
    keeps = group.takes_failures or at_once < size
    folding.groups[group_id] = group
    for number, payload in enumerate(scattered.payloads):
        begun = len(group.targets) if number < at_once else 0
        member = Member(group_id=group_id, member=number, outstanding=begun, payload=payload if keeps else None)
        folding.members[group_id, number] = member
        folding.plan.new_members.append(member)
    kept = _start(folding, group, dict(enumerate(scattered.payloads[:at_once])), _holder(folding, parent, scattered))
    folding.groups[group_id] = replace(group, started=at_once, running=at_once, closed=not size)
    folding.plan.scattered.append(folding.groups[group_id])
    return kept


def _wait(folding: Folding, parent: Activation, target: Target, group_id: int, *, empty: bool) -> int:
    """A gather that waits; of an empty scatter, one that is ready."""
    number = folding.plan.run.last_activation + 1
    folding.plan.created.append(
        NewActivation(
            activation_id=number,
            parent=parent.activation_id,
            target=replace(target, payload="[]"),
            attempt=folding.plan.run.attempt,
            status=ActivationStatus.READY if empty else ActivationStatus.WAITING,
            blocked=folding.blocked(target) if empty else None,
            available_at=folding.now,
            origin=Origin.GATHER,
            path=parent.path,
            gathers=group_id,
        )
    )
    folding.run(last_activation=number)
    if empty:
        folding.count(parent.path, 1, 1)
    return number


class _Holder(Struct, frozen=True):
    """Who keeps members as they begin: of the first ``most`` what is for this one of the group's targets, by its place."""

    parent: Activation
    target: int
    most: int


def _holder(folding: Folding, parent: Activation, scattered: Scattered) -> _Holder | None:
    asked = next((place for place, target in enumerate(scattered.targets) if target.here and not target.limited), None)
    return None if asked is None or not folding.may_stay else _Holder(parent, asked, scattered.here)


def _start(
    folding: Folding, group: Group, payloads: Mapping[int, str], holder: _Holder | None = None
) -> tuple[int, ...]:
    """Begin members, which know themselves how much of them is outstanding by that; the rest is counted at once. Answers which
    activations are kept.
    """
    run = folding.plan.run
    number = run.last_activation
    kept: list[int] = []
    for begun_before, (member, payload) in enumerate(payloads.items()):
        place = (group.group_id, member)
        path = (*group.path, place)
        for which, target in enumerate(group.targets):
            number += 1
            held_by = None
            if holder is not None and which == holder.target and begun_before < holder.most:
                held_by = holder.parent
                kept.append(number)
            folding.plan.created.append(
                NewActivation(
                    activation_id=number,
                    parent=group.parent,
                    target=replace(target, payload=payload),
                    attempt=run.attempt,
                    status=_READY if held_by is None else _RUNNING,
                    worker=None if held_by is None else held_by.worker,
                    nonce=None if held_by is None else held_by.nonce,
                    blocked=folding.blocked(target) if held_by is None else None,
                    available_at=folding.now,
                    path=path,
                )
            )
    begun_now = len(payloads) * len(group.targets)
    folding.run(last_activation=number)
    folding.count(group.path, begun_now, begun_now)
    return tuple(kept)


# -- the ends of members and groups --------------------------------------------------------------------------------


def settle(folding: Folding) -> None:
    """What the last event has brought to an end: members, and with the last of them their groups; inner ones first.

    A group whose gathers become ready keeps the member around it from having ended.
    """
    if folding.plan.run.ending is not None:
        folding.touched.clear()
        return
    while folding.touched:
        for place in _deepest(folding):
            folding.touched.remove(place)
            if folding.members[place].outstanding == 0:
                _settle_member(folding, folding.members[place])


def _deepest(folding: Folding) -> list[tuple[int, int]]:
    if len(folding.touched) == 1:
        return list(folding.touched)
    depths = {place: len(folding.groups[place[0]].path) for place in folding.touched}
    deepest = max(depths.values())
    return sorted(place for place, depth in depths.items() if depth == deepest)


def _settle_member(folding: Folding, member: Member) -> None:
    group = folding.groups[member.group_id]
    if member.ended or group.closed:
        return
    ends = member.failed == 0 or group.takes_failures
    group = replace(group, running=group.running - 1, ended=group.ended + ends)
    folding.put_group(group)
    if ends:
        folding.put_member(replace(member, ended=True))
        if member.failed:
            folding.plan.abandoned.append((*group.path, (group.group_id, member.member)))
    if group.limit is not None and group.started < group.size and group.running < group.limit:
        number = group.started
        folding.put_group(replace(group, started=number + 1, running=group.running + 1))
        folding.put_member(Member(group_id=group.group_id, member=number, outstanding=len(group.targets)))
        _start(folding, group, {number: folding.pending[group.group_id, number]})
    elif group.ended == group.size:
        _fire(folding, group)


def _fire(folding: Folding, group: Group) -> None:
    """All members have ended: the gathers are called."""
    folding.put_group(replace(group, closed=True))
    for gathering in group.gatherings:
        waiting = folding.activations[gathering.activation_id]
        folding.plan.fired.append(Fired(gathering=gathering, group_id=group.group_id))
        folding.change(waiting, ActivationMove.ARRIVE, blocked=folding.blocked(waiting), available_at=folding.now)

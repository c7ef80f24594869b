"""What holds of a run's groups and waits after every event: members counted anew, gathers, signals from outside.

Counted from the activations alone, each of which knows the groups and members that it is part of.
"""

from __future__ import annotations

import json
from typing import Any

from cnstra.orchestrator.machine.records import Activation, Group, Origin, Path, Run
from cnstra.orchestrator.machine.states import ENDED, OUTSTANDING, ActivationStatus
from cnstra.stores.memory.state import ActivationRow, State


def counts(row: Activation) -> bool:
    """Whether it can still move its run: a gather that waits cannot."""
    return row.status in OUTSTANDING and not (row.status is ActivationStatus.WAITING and row.gathers is not None)


# -- signals from outside ------------------------------------------------------------------------------------------


def waits_are_kept(state: State, run: Run) -> None:
    """Who waits is expected for; a signal is taken once; and none lies there that somebody waits for."""
    rows = {row.activation.activation_id: row for row in state.of_run(run.run_id)}
    waiting = {n for n, row in rows.items() if row.activation.status is ActivationStatus.WAITING and not _gathers(row)}
    expectations = list(state.expectations.get(run.run_id, {}).values())
    expected = [number for one in expectations for number in one.activations]
    assert sorted(expected) == sorted(waiting), "who waits is not expected for, or the other way round"
    assert not expectations or (run.status not in ENDED and run.ending is None)
    letters = state.letters.get(run.run_id, [])
    takers = [row.taken_by for row in letters if row.taken_by is not None]
    assert len(takers) == len(set(takers)), "an expectation has taken two signals"
    keys = [row.letter.sent.idempotency_key for row in letters]
    assert len(keys) == len(set(keys)), "a signal was kept twice"
    assert [row.letter.number for row in letters] == list(range(1, run.last_letter + 1))
    wanted = {one.collateral for one in expectations}
    assert not [row for row in letters if row.taken_by is None and row.letter.sent.collateral in wanted], (
        "it waits in vain"
    )
    graph = state.runs[run.run_id].submission.graph
    wanted_by_key = {(graph, one.key, one.collateral) for one in expectations if one.key is not None}
    for posted in state.posted.values():
        lies_there = posted.run_id is None and (posted.graph, posted.key, posted.collateral) in wanted_by_key
        assert not lies_there, "what was sent by key lies there, and somebody waits for it"
    for row in letters:
        if row.taken_by is not None:
            taker = rows[row.taken_by]
            assert taker.origin is Origin.AWAITED
            assert taker.target.payload == row.letter.sent.payload


def _gathers(row: ActivationRow) -> bool:
    return row.activation.gathers is not None


# -- groups --------------------------------------------------------------------------------------------------------


def groups_are_counted(state: State, run: Run) -> None:
    """Every count of a member, and of a group, is what its activations come to."""
    if run.ending is not None:
        return
    groups = state.groups.get(run.run_id, {})
    rows = [row.activation for row in state.of_run(run.run_id)]
    assert sorted(groups) == list(range(1, run.last_group + 1))
    within: dict[tuple[int, int], list[Activation]] = {}
    for row in rows:
        for place in row.path:
            within.setdefault(place, []).append(row)
        assert row.handled == (row.status is ActivationStatus.FAILED and _handler(groups, row.path) is not None), row
    for group in groups.values():
        _members_are_counted(state, run, group, groups, within)
        if group.limit is not None and run.attempt == 1:
            assert group.running <= group.limit, "more members at once than it may have"


def _members_are_counted(
    state: State,
    run: Run,
    group: Group,
    groups: dict[int, Group],
    within: dict[tuple[int, int], list[Activation]],
) -> None:
    members = state.members[run.run_id] if group.size else {}
    ended = running = 0
    for number in range(group.size):
        place = (group.group_id, number)
        member, rows = members[place].member, within.get(place, [])
        assert bool(rows) == (number < group.started), "members begin in their order"
        outstanding = sum(map(counts, rows))
        failed = sum(
            row.status is ActivationStatus.FAILED and not _taken_before(groups, row.path, place) for row in rows
        )
        if not _is_gone(groups, group):
            assert (member.outstanding, member.failed) == (outstanding, failed), (member, rows)
        has_ended = bool(rows) and outstanding == 0 and (failed == 0 or group.takes_failures)
        assert member.ended == has_ended, member
        ended += has_ended
        running += outstanding > 0
    if not _is_gone(groups, group):
        assert (group.running, group.ended) == (running, ended), group
        assert group.closed == (ended == group.size), group
    if group.started < group.size:
        assert group.limit is not None
        assert running >= group.limit or run.attempt > 1 or group.closed, "a member could begin"
        assert running > 0 or group.closed, "its other members never begin"


def _handler(groups: dict[int, Group], path: Path) -> tuple[int, int] | None:
    return next((place for place in reversed(path) if groups[place[0]].takes_failures), None)


def _taken_before(groups: dict[int, Group], path: Path, place: tuple[int, int]) -> bool:
    """Whether a group within a member takes a failure, so that it is none of the member."""
    return any(groups[group_id].takes_failures for group_id, _ in path[path.index(place) + 1 :])


def _is_gone(groups: dict[int, Group], group: Group) -> bool:
    """Whether a group within a member that has failed can never end, and was closed with that member."""
    return group.closed and group.ended < group.size


# -- gathers -------------------------------------------------------------------------------------------------------


def gathers_have_all_results(state: State, run: Run) -> None:
    """One activation a gather and group; it is called when the group has ended, with the results in their order."""
    if run.ending is not None:
        return
    rows = state.of_run(run.run_id)
    groups = state.groups.get(run.run_id, {})
    gathers = [row for row in rows if row.activation.gathers is not None]
    declared = {one.activation_id: group for group in groups.values() for one in group.gatherings}
    assert {row.activation.activation_id for row in gathers} == set(declared), "a gather too many, or too few"
    for row in gathers:
        group = declared[row.activation.activation_id]
        assert row.activation.gathers == group.group_id
        assert row.activation.path == group.path
        assert (row.activation.status is ActivationStatus.WAITING) == (not group.closed), row
        if row.activation.status is ActivationStatus.CANCELLED:
            assert _is_gone(groups, group)
            assert any(groups[place[0]].takes_failures for place in group.path)
        elif group.closed:
            failures = next(
                one.failures for one in group.gatherings if one.activation_id == row.activation.activation_id
            )
            assert json.loads(row.target.payload) == _results(state, rows, group, groups, failures=failures)


def _results(
    state: State, rows: list[ActivationRow], group: Group, groups: dict[int, Group], *, failures: bool
) -> list[Any]:
    """What a gather of ``result`` is to be called with, found from what the members' activations have done."""
    given: dict[int, str] = {}
    failed: dict[int, ActivationRow] = {}
    for row in sorted(rows, key=lambda row: row.activation.finish or 0):
        place = next((one for one in row.activation.path if one[0] == group.group_id), None)
        if place is None:
            continue
        if row.activation.handled and _handler(groups, row.activation.path) == place:
            failed.setdefault(place[1], row)
        if row.activation.status is ActivationStatus.DONE and _collector(groups, row.activation.path) == place:
            for output in row.activation.outputs:
                if output.collateral == "result":
                    assert output.collected
                    assert place[1] not in given, "a member has given two results"
                    given[place[1]] = output.payload
    texts: list[Any] = []
    for number in range(group.size):
        if failures and number in failed:
            failure = failed[number].activation.failure
            assert failure is not None
            texts.append(
                {
                    "failure": {
                        "error": failure.error,
                        "error_type": failure.error_type,
                        "index": number,
                        "collateral": group.collateral,
                        "payload": number,
                    }
                }
            )
        elif number in given:
            texts.append({"result": json.loads(given[number])} if failures else json.loads(given[number]))
    return texts


def _collector(groups: dict[int, Group], path: Path) -> tuple[int, int] | None:
    return next((place for place in reversed(path) if groups[place[0]].gatherings), None)

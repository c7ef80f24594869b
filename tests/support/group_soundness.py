"""What must hold of the waits and the groups of a run that has ended, in SQL: nothing is expected, every member is counted."""

from __future__ import annotations

from typing import Any

from support.stage import Stage


def assert_waits_are_over(stage: Stage, run: dict[str, Any]) -> None:
    """Of a run that has ended nothing is expected any more; each signal was kept once, and fed one expectation at most."""
    run_id = run["run_id"]
    assert stage.rows("select * from cnstra.expectation where run_id = %s", run_id) == []
    letters = stage.rows("select * from cnstra.letter where run_id = %s order by number", run_id)
    assert [letter["number"] for letter in letters] == list(range(1, run["last_letter"] + 1)), letters
    takers = [letter["taken_by"] for letter in letters if letter["taken_by"] is not None]
    assert len(takers) == len(set(takers)), letters
    awaited = stage.rows(
        "select activation_id, payload, status from cnstra.activation where run_id = %s and origin = 'awaited'", run_id
    )
    assert {one["status"] for one in awaited} <= {"done", "failed", "cancelled", "compensated"}, awaited
    payloads = {one["activation_id"]: one["payload"] for one in awaited}
    for letter in letters:
        if letter["taken_by"] is not None:
            assert payloads[letter["taken_by"]] == letter["payload"], letter


def assert_groups_are_counted(stage: Stage, run: dict[str, Any], activations: list[dict[str, Any]]) -> None:
    """G11: members and groups are what their activations come to; a gather is one activation, called at the group's end."""
    run_id = run["run_id"]
    paths = {
        row["activation_id"]: _places(row["path"] or [])
        for row in stage.rows("select activation_id, path from cnstra.activation where run_id = %s", run_id)
    }
    groups = {g["group_id"]: g for g in stage.rows("select * from cnstra.scatter where run_id = %s", run_id)}
    members = stage.rows("select * from cnstra.member where run_id = %s", run_id)
    assert sorted(groups) == list(range(1, run["last_group"] + 1)), groups
    for group in groups.values():
        of_group = [one for one in members if one["group_id"] == group["group_id"]]
        assert len(of_group) == group["size"], (group, len(of_group))
        _assert_gathers(run, group, activations)
    if run["ending"] is not None:
        assert all(group["closed"] for group in groups.values()), groups
        return
    takes = {group_id: _takes_failures(group) for group_id, group in groups.items()}
    for member in members:
        place = (member["group_id"], member["member"])
        within = [one for one in activations if place in paths[one["activation_id"]]]
        failed = [
            one for one in within if one["status"] == "failed" and _counts_in(paths[one["activation_id"]], place, takes)
        ]
        group = groups[member["group_id"]]
        assert (member["outstanding"], member["failed"]) == (0, len(failed)), member
        assert member["ended"] == (bool(within) and (not failed or takes[member["group_id"]])), member
        assert bool(within) == (member["member"] < group["started"]), member
    for group in groups.values():
        ended = sum(one["ended"] for one in members if one["group_id"] == group["group_id"])
        assert (group["running"], group["ended"]) == (0, ended), group
        assert ended != group["size"] or group["closed"], group
        assert run["status"] != "completed" or group["closed"], group


def _assert_gathers(run: dict[str, Any], group: dict[str, Any], activations: list[dict[str, Any]]) -> None:
    declared = {one["activation_id"] for one in group["gathers"]}
    found = {one["activation_id"]: one for one in activations if one["gathers_group_id"] == group["group_id"]}
    assert set(found) == declared, (group, sorted(found))
    if run["ending"] is None:
        for one in found.values():
            called = one["tries"] > 0
            assert called == (group["closed"] and group["ended"] == group["size"]), (group, one)


def _takes_failures(group: dict[str, Any]) -> bool:
    return bool(group["gathers"]) and all(one["failures"] for one in group["gathers"])


def _counts_in(path: list[tuple[int, int]], place: tuple[int, int], takes: dict[int, bool]) -> bool:
    """Whether a failure counts in a member: no group within it takes it."""
    return not any(takes[group_id] for group_id, _ in path[path.index(place) + 1 :])


def _places(flat: list[int]) -> list[tuple[int, int]]:
    return list(zip(flat[::2], flat[1::2], strict=True))

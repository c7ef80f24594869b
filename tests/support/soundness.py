"""What must hold of every run that has ended, whatever died on its way: checked in SQL and against the ledger."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from support.ledger import Entry
from support.stage import Stage


def assert_sound(stage: Stage, run_id: UUID, *, same_try_twice: bool = False) -> None:
    """The run's rows agree with each other and with the calls that were made.

    ``same_try_twice`` allows two calls under one try number, which only a database that forgot a claim can bring about.
    """
    run = stage.row("select * from cnstra.run where run_id = %s", run_id)
    activations = stage.rows(
        "select v.*, a.finish, a.undoable, a.version_undone from cnstra.activations v "
        "join cnstra.activation a using (run_id, activation_id) where run_id = %s order by activation_id",
        run_id,
    )
    try:
        _assert_counts(run, activations)
        _assert_versions(stage, run_id, run["context_version"], activations)
        _assert_causality(activations)
        _assert_tries(stage, run_id, activations)
        _assert_calls(stage, run_id, activations, same_try_twice=same_try_twice)
        _assert_undone(stage, run, activations)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{stage.report(run_id)}") from None


def _assert_counts(run: dict[str, Any], activations: list[dict[str, Any]]) -> None:
    """The run's counts are those of its activations; nothing is left over."""
    counts = {name: run[name] for name in ("outstanding", "active", "failed", "alone", "undoable", "undone")}
    failed = sum(one["status"] == "failed" and one["undo"] == (run["ending"] is not None) for one in activations)
    assert counts == {
        "outstanding": 0,
        "active": 0,
        "failed": failed,
        "alone": None,
        "undoable": sum(one["undoable"] for one in activations),
        "undone": sum(one["status"] == "compensated" for one in activations),
    }, counts
    numbers = [one["activation_id"] for one in activations]
    assert numbers == list(range(1, run["last_activation"] + 1)), numbers
    ended = {"done", "failed"} if run["ending"] is None else {"done", "failed", "cancelled", "compensated"}
    assert {one["status"] for one in activations} <= ended, activations


def _assert_versions(stage: Stage, run_id: UUID, newest: int, activations: list[dict[str, Any]]) -> None:
    """G7: each committed call that wrote, and each write from outside, raised the version by 1; the history says which."""
    history = stage.rows(
        "select version, activation_id from cnstra.context_history where run_id = %s order by version", run_id
    )
    written = sorted(
        (version, one["activation_id"])
        for one in activations
        for version in (one["context_version_written"], one["version_undone"])
        if version is not None
    )
    assert [row["version"] for row in history] == list(range(1, newest + 1)), history
    by_calls = [(row["version"], row["activation_id"]) for row in history if row["activation_id"] is not None]
    assert by_calls == written, (history, written)


def _assert_causality(activations: list[dict[str, Any]]) -> None:
    """G5: a handler saw at least the version that the activation which emitted its signal had written."""
    by_number = {one["activation_id"]: one for one in activations}
    for one in activations:
        parent = by_number.get(one["parent_activation_id"])
        if parent is not None and one["context_version_read"] is not None:
            least = max(parent["context_version_written"] or 0, parent["context_version_read"] or 0)
            assert one["context_version_read"] >= least, (one, parent)


def _assert_tries(stage: Stage, run_id: UUID, activations: list[dict[str, Any]]) -> None:
    """Every try of every activation is on record, once, without a gap."""
    tries = stage.rows(
        "select activation_id, array_agg(try_number order by try_number) as numbers "
        "from cnstra.tries where run_id = %s group by activation_id",
        run_id,
    )
    recorded = {row["activation_id"]: row["numbers"] for row in tries}
    expected = {one["activation_id"]: list(range(1, one["tries"] + 1)) for one in activations if one["tries"]}
    assert recorded == expected, (recorded, expected)


def _assert_calls(stage: Stage, run_id: UUID, activations: list[dict[str, Any]], *, same_try_twice: bool) -> None:
    """G4: an activation's key is the same in all of its calls, and no other's; its compensation has another one."""
    entries = stage.ledger.entries(run_id)
    assert {entry.activation_id for entry in entries} <= {one["activation_id"] for one in activations}, entries
    pairs = {(entry.activation_id, _is_undo(entry), entry.key) for entry in entries}
    assert len(pairs) == len({key for *_, key in pairs}) == len({pair[:2] for pair in pairs}), pairs
    tries = [(entry.activation_id, entry.try_number) for entry in entries]
    assert same_try_twice or len(tries) == len(set(tries)), f"one try was called twice: {sorted(tries)}"


def _assert_undone(stage: Stage, run: dict[str, Any], activations: list[dict[str, Any]]) -> None:
    """G10: what was undone was undone last first, one at a time, once; of what is compensated nothing is left to undo."""
    undone = sorted((one for one in activations if one["status"] == "compensated"), key=lambda one: -one["finish"])
    ends = [one["finished_at"] for one in undone]
    assert ends == sorted(ends), undone
    assert not undone or run["ending"] is not None
    left = [one["finish"] for one in activations if one["undoable"]]
    assert max(left, default=0) < min((one["finish"] for one in undone), default=1 + max(left, default=0)), activations
    if run["status"] == "compensated":
        assert undone
        assert left == [], activations
    assert all(one["status"] in ("compensated", "failed") for one in activations if one["undo"]), activations
    calls = [entry.activation_id for entry in stage.ledger.entries(run["run_id"]) if _is_undo(entry)]
    assert (
        {one["activation_id"] for one in undone}
        <= set(calls)
        <= {one["activation_id"] for one in activations if one["undo"]}
    ), calls
    finishes = {one["activation_id"]: one["finish"] for one in activations}
    begun = [finishes[number] for number in dict.fromkeys(calls)]
    assert begun == sorted(begun, reverse=True), f"not the last first: {calls}"


def _is_undo(entry: Entry) -> bool:
    return entry.key.endswith(":undo")

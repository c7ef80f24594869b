"""What a handler sees of the shared context, and what becomes of its writes when the hop is settled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cnstra.orchestrator import values
from cnstra.orchestrator.errors import ContextError
from cnstra.orchestrator.run_context import Identity, RunContext, lifeline_of, view_of
from cnstra.orchestrator.slots import EMPTY, WHOLE, OnStale, Slot, Snapshot, local, resolve, shared

WHO = Identity(run_id="018f0000-0000-7000-8000-000000000001", activation_id=7, neuron="bank", attempt=2, try_number=3)


def holding(version: int = 3, **keys: Any) -> Snapshot:
    """A context at ``version`` whose keys were all written by it."""
    return Snapshot(
        version=version,
        slots={
            shared(key): Slot(version, values.dump(value, where=key, error=ContextError)) for key, value in keys.items()
        },
    )


def seen_by(snapshot: Snapshot = EMPTY) -> RunContext[Any, Any]:
    return RunContext(snapshot, WHO)


def written(
    context: RunContext[Any, Any], on_stale: OnStale = OnStale.CONFLICT
) -> dict[str, tuple[str | None, int, OnStale]]:
    return {write.slot: (write.text, write.base, write.on_stale) for write in view_of(context).changes(on_stale).writes}


def test_a_context_without_a_value_is_none_and_has_no_keys() -> None:
    """Nothing was ever written: get() is None, a key has its default, and a subscript raises KeyError."""
    ctx = seen_by()
    assert ctx.get() is None
    assert ctx.get("a") is None
    assert ctx.get("a", 5) == 5
    assert "a" not in ctx
    with pytest.raises(KeyError):
        ctx["a"]
    with pytest.raises(KeyError):
        del ctx["a"]
    assert not view_of(ctx).changes(OnStale.CONFLICT)


def test_a_handler_sees_its_own_writes_at_once() -> None:
    """Read your own writes, before anything is committed; version stays that of the snapshot."""
    ctx = seen_by(holding(a=1))
    ctx["a"] = 2
    ctx["b"] = {"c": []}
    assert ctx.get() == {"a": 2, "b": {"c": []}}
    assert ctx["a"] == 2
    assert ctx.version == 3


def test_a_key_that_holds_null_is_there() -> None:
    """None is a JSON value: a key that holds it is not missing."""
    ctx = seen_by()
    ctx["a"] = None
    assert "a" in ctx
    assert ctx["a"] is None
    assert ctx.get("a", 5) is None
    assert ctx.get() == {"a": None}


def test_deleting_the_last_key_leaves_an_empty_mapping_and_delete_leaves_nothing() -> None:
    """{} is a value; no value is None."""
    ctx = seen_by(holding(a=1))
    del ctx["a"]
    assert ctx.get() == {}
    ctx.delete()
    assert ctx.get() is None


def test_set_writes_every_key_and_removes_the_others() -> None:
    """set() replaces the whole value."""
    ctx = seen_by(holding(a=1, b=2))
    ctx.set({"b": 3, "c": 4})
    assert ctx.get() == {"b": 3, "c": 4}
    changes = view_of(ctx).changes(OnStale.CONFLICT)
    assert changes.replaces is OnStale.CONFLICT
    assert {write.slot: write.text for write in changes.writes} == {
        shared("a"): None,
        shared("b"): "3",
        shared("c"): "4",
    }


@pytest.mark.parametrize("value", [[1, 2], "text", 5, True, {}])
def test_the_whole_value_may_be_any_json(value: Any) -> None:
    """A value that is no mapping, or an empty one, is kept whole."""
    ctx = seen_by(holding(a=1))
    ctx.set(value)
    assert ctx.get() == value
    assert written(ctx)[WHOLE][0] == values.dump(value, where="", error=ContextError)


def test_a_value_that_is_a_list_has_no_keys() -> None:
    """Keys of a value that is no mapping are refused, naming what it is."""
    ctx = seen_by(Snapshot(version=1, slots={WHOLE: Slot(1, "[1]")}))
    for use in (lambda: ctx["a"], lambda: ctx.get("a"), lambda: ctx.update({"a": 1}), lambda: ctx.update("a", abs)):
        with pytest.raises(ContextError, match="is a list, so it has no keys"):
            use()


def test_what_get_returns_is_the_handlers_own_copy() -> None:
    """Only assignment writes: a change in place is noticed, and is no write."""
    ctx = seen_by(holding(a=[1]))
    ctx["a"].append(2)
    assert ctx["a"] == [1, 2]
    assert not view_of(ctx).changes(OnStale.CONFLICT)
    assert view_of(ctx).unassigned() == [f"context of run {WHO.run_id}, activation 7 (bank), key 'a'"]


def test_what_was_assigned_is_kept_as_it_was_at_that_moment() -> None:
    """A later change of the assigned object is not written."""
    ctx = seen_by()
    items = [1]
    ctx["a"] = items
    items.append(2)
    assert ctx["a"] == [1]
    assert written(ctx)[shared("a")][0] == "[1]"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ((1, 2), r"\$ is a builtins.tuple"),
        ({"x": {"y": [0, {1, 2}]}}, r"\$\.x\.y\[1\] is a builtins.set"),
        ({1: "a"}, r"has a key 1 of type int"),
        (float("nan"), r"is nan; JSON has no NaN"),
        ([float("inf")], r"\$\[0\] is inf"),
        ("a\0b", r"U\+0000"),
        ({"a\0": 1}, r"U\+0000"),
        ("\ud800", r"lone surrogate at position 0"),
        (b"bytes", r"is a builtins.bytes"),
    ],
)
def test_a_value_that_is_not_exactly_json_is_refused_naming_its_path(value: Any, problem: str) -> None:
    """The assignment fails, names run, key and path, and changes nothing."""
    ctx = seen_by(holding(a=1))
    with pytest.raises(ContextError, match=problem) as caught:
        ctx["a"] = value
    assert str(caught.value).startswith(f"context of run {WHO.run_id}, activation 7 (bank), key 'a': ")
    assert ctx["a"] == 1
    assert not view_of(ctx).changes(OnStale.CONFLICT)


def test_a_value_that_contains_itself_and_one_that_is_too_large_are_refused() -> None:
    """Neither blows the stack, nor reaches the database."""
    ctx = seen_by()
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ContextError, match="nested too deeply, or contains itself"):
        ctx["a"] = endless
    with pytest.raises(ContextError, match=r"above the limit of 4,194,304"):
        ctx["a"] = "x" * values.MAX_VALUE_BYTES


@pytest.mark.parametrize("key", [5, None, "a\0", "k" * 501])
def test_a_key_that_cannot_be_stored_is_refused(key: Any) -> None:
    """Keys are strings that Postgres can hold and index."""
    with pytest.raises(ContextError):
        seen_by()[key] = 1


def test_writes_carry_the_version_that_was_read_and_the_policy() -> None:
    """What the conflict check needs: a base of 0 for a key that was not there."""
    ctx = seen_by(holding(4, a=1))
    ctx["a"] = 2
    ctx["b"] = 3
    assert written(ctx, OnStale.OVERWRITE) == {
        shared("a"): ("2", 4, OnStale.OVERWRITE),
        shared("b"): ("3", 0, OnStale.OVERWRITE),
    }


def test_an_update_is_applied_to_what_others_wrote_meanwhile() -> None:
    """update(key, fn) never conflicts: it is reported, rebased, and its functions run again in order."""
    ctx = seen_by(holding(1, n=10))
    ctx.update("n", lambda n: n + 1)
    ctx.update("n", lambda n: n * 2)
    assert written(ctx)[shared("n")] == ("22", 1, OnStale.REPORT)
    view_of(ctx).rebase({shared("n"): Slot(5, "100")})
    assert written(ctx)[shared("n")] == ("202", 5, OnStale.REPORT)


def test_an_update_of_a_missing_key_is_given_none() -> None:
    """fn(None) when missing, also when somebody removed it meanwhile."""
    ctx = seen_by()
    ctx.update("n", lambda n: (n or 0) + 1)
    view_of(ctx).rebase({shared("n"): Slot(2, None)})
    assert written(ctx)[shared("n")] == ("1", 2, OnStale.REPORT)


@pytest.mark.parametrize("read", [lambda ctx: ctx["n"], lambda ctx: ctx.get("n"), lambda ctx: ctx.get()])
def test_a_key_that_is_read_after_an_update_is_checked_for_conflicts(read: Any) -> None:
    """What the handler saw may have steered it: then the key is like any other write."""
    ctx = seen_by(holding(1, n=10))
    ctx.update("n", lambda n: n + 1)
    assert read(ctx) in (11, {"n": 11})
    assert written(ctx)[shared("n")] == ("11", 1, OnStale.CONFLICT)
    assert view_of(ctx).rebase({shared("n"): Slot(2, "5")})


def test_a_key_that_is_assigned_or_deleted_after_an_update_is_a_plain_write() -> None:
    """The last word counts: the function is applied to nothing of others any more, in whose place it would put its own."""
    ctx = seen_by(holding(1, n=10, m=10))
    for key in ("n", "m"):
        ctx.update(key, lambda n: n + 1)
    ctx["n"] = 5
    del ctx["m"]
    assert written(ctx)[shared("n")] == ("5", 1, OnStale.CONFLICT)
    assert written(ctx)[shared("m")] == (None, 1, OnStale.CONFLICT)
    fresh = {shared("n"): Slot(2, "7"), shared("m"): Slot(2, "7")}
    assert view_of(ctx).rebase(fresh) == fresh


def test_an_update_of_a_key_that_was_assigned_is_a_plain_write() -> None:
    """The assignment alone decides; there is nothing of others to apply the function to."""
    ctx = seen_by(holding(1, n=10))
    ctx["n"] = 5
    ctx.update("n", lambda n: n + 1)
    assert written(ctx)[shared("n")] == ("6", 1, OnStale.CONFLICT)


def test_an_update_whose_function_gives_no_json_is_refused() -> None:
    """The same rule as for an assignment."""
    with pytest.raises(ContextError, match=r"key 'n': \$ is a builtins.set"):
        seen_by().update("n", lambda _: {1})


def test_merge_settles_each_conflicting_slot_from_mine_theirs_and_base() -> None:
    """A merge function sees three values and its result is written over the newest version."""
    base = holding(1, n=[1])
    ctx = seen_by(base)
    ctx["n"] = [1, 2]
    view_of(ctx).merge({shared("n"): Slot(4, "[1,3]")}, lambda mine, theirs, was: [was, mine, theirs], base)
    assert written(ctx)[shared("n")][:2] == ("[[1],[1,2],[1,3]]", 4)


def test_a_merge_that_gives_what_the_slot_cannot_have_is_refused() -> None:
    """By whoever knows what it may have; the value of mine stays."""
    ctx = seen_by(holding(1, n=1))
    ctx["n"] = 2

    def fits(slot: str, value: Any) -> None:
        raise ContextError(f"{slot} cannot have {value}")

    with pytest.raises(ContextError, match="cannot have 5"):
        view_of(ctx).merge({shared("n"): Slot(4, "3")}, lambda mine, theirs, was: 5, holding(1, n=1), fits)
    assert written(ctx)[shared("n")][:2] == ("2", 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda ctx: ctx.set({"b": 1}),
        lambda ctx: ctx.__setitem__("b", 1),
        lambda ctx: ctx.__delitem__("a"),
        lambda ctx: ctx.update({"b": 1}),
        lambda ctx: ctx.update("a", lambda _: 5),
        lambda ctx: ctx.delete(),
        lambda ctx: ctx.local.set(1),
    ],
)
def test_a_handler_that_has_ended_writes_nothing(write: Any) -> None:
    """A task or a thread that it left behind is told, as the hop is settled without it; conflicts are settled all the same."""
    ctx = seen_by(holding(a=1))
    ctx["a"] = 2
    view_of(ctx).close()
    with pytest.raises(ContextError, match="the handler has ended, and what is written now would be part of no hop"):
        write(ctx)
    view_of(ctx).merge({shared("a"): Slot(4, "3")}, lambda mine, theirs, was: mine + theirs, holding(a=1))
    assert {slot: text for slot, (text, *_) in written(ctx).items()} == {shared("a"): "5"}
    assert ctx.get() == {"a": 5}


def test_the_local_slot_is_the_neurons_own() -> None:
    """ctx.local is no part of the shared value."""
    ctx = seen_by()
    assert ctx.local.get() is None
    ctx.local.set({"calls": 1})
    assert ctx.local.get() == {"calls": 1}
    assert ctx.get() is None
    assert written(ctx) == {local("bank"): ('{"calls":1}', 0, OnStale.CONFLICT)}
    ctx.local.delete()
    assert ctx.local.get() is None


def test_who_a_try_is() -> None:
    """The key of side effects does not depend on attempt or try."""
    ctx = seen_by()
    assert (ctx.run_id, ctx.activation_id, ctx.attempt, ctx.try_number) == (WHO.run_id, 7, 2, 3)
    assert ctx.idempotency_key == f"{WHO.run_id}:7:do"


# -- conflicts ---------------------------------------------------------------------------------------------------------


def test_writes_to_different_keys_both_survive() -> None:
    """A conflict is by key."""
    ctx = seen_by(holding(1, a=1, b=1))
    ctx["a"] = 2
    resolution = resolve(view_of(ctx).changes(OnStale.CONFLICT), {shared("a"): 1, shared("b"): 9}, read=1)
    assert resolution.entries == ((shared("a"), "2"),)


@pytest.mark.parametrize("head", [2, -2])
def test_a_key_that_has_a_newer_version_is_in_conflict(head: int) -> None:
    """Whether somebody wrote it, or removed it."""
    ctx = seen_by(holding(1, a=1))
    ctx["a"] = 2
    assert resolve(view_of(ctx).changes(OnStale.CONFLICT), {shared("a"): head}, read=1).conflict == (shared("a"),)
    assert resolve(view_of(ctx).changes(OnStale.REPORT), {shared("a"): head}, read=1).stale == (shared("a"),)
    assert resolve(view_of(ctx).changes(OnStale.OVERWRITE), {shared("a"): head}, read=1).entries


def test_set_is_in_conflict_with_a_key_that_it_never_saw() -> None:
    """set() writes every key: one that appeared meanwhile would be lost."""
    ctx = seen_by()
    ctx.set({"a": 1})
    heads = {shared("new"): 1}
    assert resolve(view_of(ctx).changes(OnStale.CONFLICT), heads, read=0).conflict == (shared("new"),)
    entries = dict(resolve(view_of(ctx).changes(OnStale.OVERWRITE), heads, read=0).entries)
    assert entries == {shared("a"): "1", shared("new"): None}


def test_a_key_is_in_conflict_with_a_value_that_became_a_list() -> None:
    """Writing a key relies on the value being a mapping."""
    ctx = seen_by()
    ctx["a"] = 1
    assert resolve(view_of(ctx).changes(OnStale.CONFLICT), {WHOLE: 1}, read=0).conflict == (WHOLE,)


def test_a_key_that_was_removed_from_a_value_that_has_no_keys_any_more_is_a_conflict() -> None:
    """The hop saw a value with keys, and would be refused the removal now; who overwrites has nothing to remove."""
    ctx = seen_by()
    ctx["a"] = 1
    del ctx["a"]
    heads = {WHOLE: 1}
    assert resolve(view_of(ctx).changes(OnStale.CONFLICT), heads, read=0).conflict == (WHOLE,)
    assert resolve(view_of(ctx).changes(OnStale.OVERWRITE), heads, read=0).entries == ((shared("a"), None),)


# -- time ----------------------------------------------------------------------------------------------------------


def test_a_handler_reads_what_was_reported_last() -> None:
    """An earlier try's at first, then its own; each time a copy of its own, and None before there was any."""
    assert seen_by().progress is None
    ctx = RunContext[Any, Any](EMPTY, WHO, progress='{"rows":[1]}')
    ctx.progress["rows"].append(2)
    assert ctx.progress == {"rows": [1]}
    ctx.heartbeat({"rows": [3]})
    ctx.heartbeat()
    assert ctx.progress == {"rows": [3]}


def test_heartbeats_go_to_whoever_listens() -> None:
    """With the text of the progress, if they have one; before anybody listens they go nowhere."""
    heard: list[str | None] = []
    ctx = seen_by()
    ctx.heartbeat("before")
    lifeline_of(ctx).heard_by(heard.append)
    ctx.heartbeat()
    ctx.heartbeat({"done": 0.5})
    assert heard == [None, '{"done":0.5}']


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"a": [1, (2,)]}, "$.a[1] is a builtins.tuple"),
        (float("nan"), "$ is nan"),
        ({1: 2}, "$ has a key 1 of type int"),
        ("a\0b", "U+0000"),
        ("x" * 65_536, "65,538 bytes of JSON, above the limit of 65,536"),
        ("é" * 32_768, "65,538 bytes of JSON, above the limit of 65,536"),
    ],
)
def test_bad_progress_is_refused_with_its_path_and_type(bad: Any, says: str) -> None:
    """Nobody hears of it, and what was reported before stays."""
    heard: list[str | None] = []
    ctx = seen_by()
    ctx.heartbeat("good")
    lifeline_of(ctx).heard_by(heard.append)
    with pytest.raises(ContextError) as refusal:
        ctx.heartbeat(bad)
    assert f"progress of run {WHO.run_id}, activation 7 (bank): " in str(refusal.value)
    assert says in str(refusal.value)
    assert (heard, ctx.progress) == ([], "good")


def test_a_progress_of_64_kb_is_taken() -> None:
    """The limit counts bytes of its text."""
    ctx = seen_by()
    ctx.heartbeat("é" * 32_767)
    assert len(ctx.progress) == 32_767


def test_a_handler_knows_its_deadline_and_whether_it_is_wanted() -> None:
    """The run's; None where nobody said. Cancelled from the moment on at which the worker is told."""
    at = datetime(2030, 1, 1, tzinfo=UTC)
    ctx = RunContext[Any, Any](EMPTY, WHO, deadline=at)
    assert (ctx.deadline, seen_by().deadline) == (at, None)
    assert ctx.cancelled is False
    lifeline_of(ctx).cancelled = True
    assert ctx.cancelled is True

"""Turns: who is told, of what, how often and in which order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from cnstra import ReactiveError
from cnstra.stores.reactive import (
    Collection,
    Database,
    DerivedOrderedIndex,
    DerivedSetIndex,
    ImmediateScheduler,
    ManualScheduler,
    OrderedIndex,
    Scheduler,
    SetIndex,
)


def item(key: int, **fields: Any) -> dict[str, Any]:
    return {"id": key, "team": "red", "at": key, **fields}


class Told(list[tuple[Any, ...]]):
    """What a subscriber was told, call by call."""

    def __call__(self, keys: tuple[Any, ...]) -> None:
        self.append(keys)


@pytest.fixture
def turn() -> ManualScheduler:
    return ManualScheduler()


@pytest.fixture
def items(turn: ManualScheduler) -> Collection[int, dict[str, Any]]:
    return Collection("id", database=Database(turn), name="items")


Items = Collection[int, dict[str, Any]]


# -- who is told of what -------------------------------------------------------------------------------------------


def test_many_changes_of_a_key_in_one_turn_are_told_once(items: Items, turn: ManualScheduler) -> None:
    """By key, by several keys and of everything; in the order in which the keys first changed."""
    by_key, by_keys, everything = Told(), Told(), Told()
    items.subscribe_key(1, by_key)
    items.subscribe_keys([1, 2, 1], by_keys)
    items.subscribe(everything)

    items.upsert_one(item(3))
    items.upsert_one(item(2))
    items.upsert_many([item(1), item(2)])
    items.upsert_one(item(1))
    items.remove(1)
    assert by_key == by_keys == everything == []
    turn.flush()

    assert by_key == [(1,)]
    assert by_keys == [(2, 1)]
    assert everything == [(3, 2, 1)]
    turn.flush()
    assert by_key == [(1,)]


def test_removals_and_clearing_are_told(items: Items, turn: ManualScheduler) -> None:
    """What was not there is not told: nothing happened."""
    items.upsert_many([item(1), item(2), item(3)])
    told = Told()
    items.subscribe(told)

    items.remove(1)
    items.remove(7)
    items.remove_many([2, 8])
    turn.flush()
    items.clear()
    items.clear()
    turn.flush()

    assert told == [(1, 2), (3,)]


def test_each_subscription_is_its_own_and_has_its_own_remover(items: Items, turn: ManualScheduler) -> None:
    """The same function twice is told twice; removing one leaves the other, and may be repeated."""
    told = Told()
    remove_first = items.subscribe_key(1, told)
    items.subscribe_key(1, told)
    items.upsert_one(item(1))
    turn.flush()
    assert told == [(1,), (1,)]

    remove_first()
    remove_first()
    items.upsert_one(item(1))
    turn.flush()
    assert told == [(1,)] * 3


def test_who_subscribes_is_told_of_later_changes_only(items: Items, turn: ManualScheduler) -> None:
    """Also when the turn of an earlier change is still to come."""
    items.subscribe_key(1, lambda _: None)
    items.upsert_one(item(1))
    told = Told()
    items.subscribe_key(1, told)
    turn.flush()
    assert told == []


def test_an_index_key_is_told_when_what_stands_under_it_changes(items: Items, turn: ManualScheduler) -> None:
    """An entity that moves changes two keys; one that only changes itself is told to who follows entities, too."""
    by_team: DerivedSetIndex[str, int, dict[str, Any]] = DerivedSetIndex(items, "team")
    items.upsert_many([item(1), item(2)])
    keys, entities, everything = Told(), Told(), Told()
    by_team.subscribe_key("red", keys)
    by_team.subscribe_key("red", entities, entities=True)
    by_team.subscribe(everything)

    items.upsert_one(item(1, name="Ann"))
    turn.flush()
    assert (keys, entities, everything) == ([], [("red",)], [])

    items.upsert_one(item(1, team="blue"))
    turn.flush()
    assert (keys, entities, everything) == ([("red",)], [("red",)] * 2, [("red", "blue")])

    items.remove_many([1, 2])
    turn.flush()
    assert (keys, everything) == ([("red",)] * 2, [("red", "blue"), ("blue", "red")])


def test_a_key_that_an_entity_keeps_is_told_to_who_follows_entities(items: Items, turn: ManualScheduler) -> None:
    """Of several keys one may go, one come and one stay: the last has not changed, but its entity has."""
    by_tag: DerivedSetIndex[str, int, dict[str, Any]] = DerivedSetIndex(items, keys="tags")
    items.upsert_one(item(1, tags=["gone", "kept"]))
    keys, entities = Told(), Told()
    by_tag.subscribe(keys)
    by_tag.subscribe(entities, entities=True)

    items.upsert_one(item(1, tags=["kept", "new"]))
    turn.flush()

    assert [set(told) for told in keys] == [{"gone", "new"}]
    assert [set(told) for told in entities] == [{"gone", "new", "kept"}]


def test_an_order_is_told_when_a_place_changes(items: Items, turn: ManualScheduler) -> None:
    """What is sorted by may change without anybody changing places: then the order is as it was."""
    in_order: DerivedOrderedIndex[str, int, dict[str, Any]] = DerivedOrderedIndex(items, "team", order_by="at")
    items.upsert_many([item(10), item(20), item(30)])
    keys, entities = Told(), Told()
    in_order.subscribe_keys(["red", "blue"], keys)
    in_order.subscribe_keys(["red", "blue"], entities, entities=True)

    items.upsert_one(item(10, at=15))
    items.upsert_many([item(20, at=21), item(30, at=31)])
    turn.flush()
    assert (keys, entities) == ([], [("red",)])

    items.upsert_one(item(10, at=25))
    turn.flush()
    assert keys == [("red",)]
    items.upsert_many([item(10), item(20)])
    turn.flush()
    assert keys == [("red",)] * 2
    items.upsert_many([item(40, team="blue"), item(50, team="blue")])
    turn.flush()
    assert keys == [("red",), ("red",), ("blue",)]


@pytest.mark.parametrize("kind", [SetIndex, OrderedIndex])
def test_an_index_that_is_filled_tells_what_was_filled_in(kind: Any, items: Items, turn: ManualScheduler) -> None:
    """And what left it with its entity; what changes nothing is not told."""
    index = kind(items)
    items.upsert_many([item(1), item(2)])
    keys, entities = Told(), Told()
    index.subscribe(keys)
    index.subscribe(entities, entities=True)

    index.replace("home", [1, 2])
    index.replace("search", [3])
    turn.flush()
    index.replace("home", [1, 2])
    items.upsert_one(item(1))
    items.upsert_one(item(3))
    turn.flush()
    assert keys == [("home", "search")]
    assert entities == [("home", "search"), ("home", "search")]

    items.remove(1)
    turn.flush()
    assert keys[1:] == entities[2:] == [("home",)]


def test_two_collections_of_one_database_share_their_turns(turn: ManualScheduler) -> None:
    """One flush tells of both, in the order of subscribing, whichever was written first."""
    database = Database(turn)
    users: Items = Collection("id", database=database)
    posts: Items = Collection("id", database=database)
    order = []
    posts.subscribe(lambda _: order.append("posts"))
    users.subscribe(lambda _: order.append("users"))
    posts.subscribe_key(1, lambda _: order.append("post 1"))

    users.upsert_one(item(1))
    posts.upsert_one(item(1))
    turn.flush()

    assert order == ["posts", "users", "post 1"]


# -- during a turn -------------------------------------------------------------------------------------------------


def test_who_is_removed_during_a_turn_is_not_called_any_more(items: Items, turn: ManualScheduler) -> None:
    """Even though its change was due."""
    told = Told()
    removers: list[Callable[[], None]] = []
    items.subscribe_key(1, lambda _: removers[0]())
    removers.append(items.subscribe_key(1, told))

    items.upsert_one(item(1))
    turn.flush()

    assert told == []


def test_who_is_added_during_a_turn_waits_for_the_next_change(items: Items, turn: ManualScheduler) -> None:
    """Not for the next turn: it has seen what this one is about."""
    told = Told()
    items.subscribe_key(1, lambda _: items.subscribe_key(1, told) if not told else None)
    items.upsert_one(item(1))
    turn.flush()
    turn.flush()
    assert told == []

    items.upsert_one(item(1))
    turn.flush()
    assert told == [(1,)]


def test_what_a_subscriber_writes_is_told_in_the_next_turn(items: Items, turn: ManualScheduler) -> None:
    """Not in this one, also to those who are yet to be called in it; and it is not lost."""
    told = Told()
    items.subscribe_key(1, lambda _: items.upsert_many([item(1), item(2)]) if not items.has(2) else None)
    items.subscribe(told)

    items.upsert_one(item(1))
    turn.flush()
    assert told == [(1,)]
    assert turn.pending

    turn.flush()
    assert told == [(1,), (1, 2)]
    assert not turn.pending


def test_a_flush_within_a_turn_does_nothing(items: Items, turn: ManualScheduler) -> None:
    """A subscriber that ends a turn of its own does not get the others out of order."""
    order = []

    def flush(_: object) -> None:
        order.append("flushing")
        turn.flush()
        items.database.flush()

    items.subscribe(flush)
    items.subscribe(lambda _: order.append("second"))
    items.upsert_one(item(1))
    turn.flush()

    assert order == ["flushing", "second"]


def test_a_subscriber_that_fails_is_logged_and_the_others_are_told(
    items: Items, turn: ManualScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names it and its collection, and neither the key nor the entity."""
    told = Told()

    def fragile(_: object) -> None:
        raise ValueError("broken")

    items.subscribe(fragile)
    items.subscribe(told)
    items.upsert_one(item(4711, name="Ann"))
    with caplog.at_level(logging.ERROR, "cnstra.reactive"):
        turn.flush()

    assert told == [(4711,)]
    [record] = caplog.records
    assert "items: the subscriber" in record.message
    assert "fragile" in record.message
    assert "4711" not in caplog.text
    assert "Ann" not in caplog.text
    items.upsert_one(item(1))
    turn.flush()
    assert told == [(4711,), (1,)]


def test_what_ends_a_program_comes_out_and_the_rest_stays_due(items: Items, turn: ManualScheduler) -> None:
    """Whoever goes on all the same flushes again; nobody is told twice, and who left is not told."""
    first, last = Told(), Told()
    items.subscribe(first)
    breaking = [True]

    def breaks(_: object) -> None:
        if breaking:
            breaking.clear()
            items.upsert_one(item(2))
            raise KeyboardInterrupt

    items.subscribe(breaks)
    items.subscribe(last)
    items.upsert_one(item(1))
    with pytest.raises(KeyboardInterrupt):
        turn.flush()
    assert (first, last) == ([(1,)], [])
    assert items.database.pending

    items.database.flush()
    assert (first, last) == ([(1,), (2,)], [(1, 2)])


@pytest.mark.parametrize("wrong", [None, "print", 7])
def test_a_subscriber_must_be_callable(items: Items, wrong: Any) -> None:
    """Said when it subscribes."""
    with pytest.raises(ReactiveError, match="must be callable"):
        items.subscribe(wrong)


def test_an_async_subscriber_is_refused(items: Items) -> None:
    """Nobody would await what it gives, and nothing would happen, silently."""

    async def later(_: object) -> None: ...

    class Later:
        async def __call__(self, _: object) -> None: ...

    for subscriber in (later, Later()):
        with pytest.raises(ReactiveError, match="async function"):
            items.subscribe(subscriber)


# -- at once -------------------------------------------------------------------------------------------------------


def test_without_a_scheduler_a_write_is_told_before_it_returns() -> None:
    """Each write by itself, a write of many as one."""
    items: Items = Collection("id")
    told = Told()
    items.subscribe(told)

    items.upsert_one(item(1))
    assert told == [(1,)]
    items.upsert_many([item(1), item(2)])
    assert told == [(1,), (1, 2)]


def test_subscribers_that_answer_writes_with_writes_do_not_recurse() -> None:
    """A hundred thousand turns follow one another on a flat stack, each after the one before it."""
    items: Items = Collection("id", database=Database(ImmediateScheduler()))
    most = 100_000
    order: list[int] = []

    def answer(keys: tuple[int, ...]) -> None:
        [key] = keys
        order.append(key)
        if key < most:
            items.upsert_one({"id": key + 1})

    items.subscribe(answer)
    items.upsert_one({"id": 1})

    assert order == list(range(1, most + 1))


def test_subscribers_of_two_databases_do_not_recurse_either() -> None:
    """They share a scheduler; each answers the other."""
    scheduler = ImmediateScheduler()
    left: Items = Collection("id", database=Database(scheduler))
    right: Items = Collection("id", database=Database(scheduler))
    left.subscribe(lambda keys: right.upsert_one({"id": keys[0] + 1}) if keys[0] < 10_000 else None)
    right.subscribe(lambda keys: left.upsert_one({"id": keys[0] + 1}))

    left.upsert_one({"id": 0})

    assert len(left) + len(right) == 10_001


# -- batches -------------------------------------------------------------------------------------------------------


def test_a_batch_is_told_as_one_turn() -> None:
    """However many writes it has; reads see them at once; batches nest."""
    items: Items = Collection("id")
    by_team: DerivedSetIndex[str, int, dict[str, Any]] = DerivedSetIndex(items, "team")
    told, teams = Told(), Told()
    items.subscribe(told)
    by_team.subscribe(teams)

    with items.database.batch():
        items.upsert_one(item(1))
        with items.database.batch():
            items.upsert_one(item(2))
        items.database.flush()
        assert by_team.primary_keys("red") == {1, 2}
        assert told == []

    assert (told, teams) == ([(1, 2)], [("red",)])


def test_a_batch_that_raises_has_written_what_it_wrote() -> None:
    """It is told, too: subscribers must not go on with what is no longer so."""
    items: Items = Collection("id")
    told = Told()
    items.subscribe(told)

    with pytest.raises(ValueError, match="no more"), items.database.batch():
        items.upsert_one(item(1))
        raise ValueError("no more")

    assert told == [(1,)]


def test_a_function_of_the_users_that_writes_elsewhere_is_not_overtaken_by_its_turn() -> None:
    """No subscriber is called before the write that asked the function is through."""
    database = Database()
    items: Items = Collection("id", database=database)
    log: Items = Collection("id", database=database)
    seen = []
    log.subscribe(lambda _: seen.append(items.select_by_primary_key(1)))

    def change(old: dict[str, Any] | None) -> dict[str, Any]:
        log.upsert_one(item(1))
        return item(1, name="Ann")

    items.update_one(1, change)

    assert seen == [item(1, name="Ann")]


# -- the end of a turn elsewhere -----------------------------------------------------------------------------------


def test_a_manual_scheduler_may_serve_several_databases(turn: ManualScheduler) -> None:
    """One flush tells of all of them: a listener at the end of a CNS's turn needs no list."""
    collections: list[Items] = [Collection("id", database=Database(turn)) for _ in range(3)]
    told = Told()
    for number, collection in enumerate(collections):
        collection.subscribe(told)
        collection.upsert_one(item(number))

    listener: Callable[[object], None] = lambda _drain: turn.flush()  # noqa: E731 - as a drain listener is written
    listener(None)
    listener(None)

    assert told == [(0,), (1,), (2,)]


def test_a_flush_that_was_broken_off_goes_on_with_the_other_databases(turn: ManualScheduler) -> None:
    """What ends a program comes out of the first; the next flush finds the second."""
    first: Items = Collection("id", database=Database(turn))
    second: Items = Collection("id", database=Database(turn))
    told = Told()

    def breaks(_: object) -> None:
        raise KeyboardInterrupt

    first.subscribe(breaks)
    second.subscribe(told)
    first.upsert_one(item(1))
    second.upsert_one(item(2))
    with pytest.raises(KeyboardInterrupt):
        turn.flush()
    assert turn.pending

    turn.flush()
    assert told == [(2,)]


def test_a_scheduler_of_ones_own_needs_one_method() -> None:
    """Here: a list that somebody else works off, such as the event loop of a window system."""
    waiting: list[Callable[[], None]] = []

    class Window:
        def schedule(self, deliver: Callable[[], None], /) -> None:
            waiting.append(deliver)

    scheduler: Scheduler = Window()
    items: Items = Collection("id", database=Database(scheduler))
    told = Told()
    items.subscribe(told)
    items.upsert_one(item(1))
    items.upsert_one(item(2))
    for deliver in waiting:
        deliver()

    assert told == [(1, 2)]

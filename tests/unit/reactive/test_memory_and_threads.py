"""Nothing is left behind of what is gone, and threads do not get in each other's way."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from cnstra.stores.reactive import (
    Collection,
    Database,
    DerivedOrderedIndex,
    DerivedSetIndex,
    ManualScheduler,
    OrderedIndex,
    SetIndex,
)

Items = Collection[int, dict[str, Any]]


def sizes(root: object) -> dict[str, int]:
    """How much each container holds that an object reaches through the classes of the reactive database."""
    found: dict[str, int] = {}
    seen: set[int] = set()

    def look(thing: object, path: str) -> None:
        if id(thing) in seen:
            return
        seen.add(id(thing))
        if isinstance(thing, dict | list | set):
            found[path] = len(thing)
            for part in thing.values() if isinstance(thing, dict) else thing:
                look(part, f"{path}[]")
        elif type(thing).__module__.startswith("cnstra.stores.reactive"):
            names = list(getattr(thing, "__dict__", ()))
            names += [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
            for name in names:
                look(getattr(thing, name, None), f"{path}.{name}")

    look(root, "")
    return found


def test_nothing_is_left_of_what_came_and_went() -> None:
    """Ten thousand index keys, subscribers and due changes later every container is as large as at the beginning."""
    turn = ManualScheduler()
    items: Items = Collection("id", database=Database(turn))
    whole: list[Any] = [
        items,
        shown := SetIndex[int, int, dict[str, Any]](items),
        page := OrderedIndex[int, int, dict[str, Any]](items),
        by_team := DerivedSetIndex[int, int, dict[str, Any]](items, "team"),
        by_tag := DerivedSetIndex[int, int, dict[str, Any]](items, keys="tags"),
        in_order := DerivedOrderedIndex[int, int, dict[str, Any]](items, "team", order_by="id"),
        turn,
    ]
    holder = {"all": whole}
    before = [sizes(part) for part in holder["all"]]

    for key in range(10_000):
        removers: list[Callable[[], None]] = [items.subscribe_key(key, print), items.subscribe(print)]
        for index in (shown, page, by_team, by_tag, in_order):
            removers += [
                index.subscribe_key(key, print),
                index.subscribe(print, entities=True),
                index.subscribe_keys([key, key + 1], print, entities=True),
            ]
        items.upsert_one({"id": key, "team": key, "tags": [key, key + 1]})
        shown.add(key, key, key + 7)
        page.append(key, key, key + 7)
        items.upsert_one({"id": key, "team": key + 1, "tags": [key + 2]})
        for remove in removers:
            remove()
        shown.discard(key, key + 7)
        page.remove(key, key + 7)
        items.remove(key)
        _ = shown.primary_keys(-key), page.select(-key), by_team.count(-key), in_order.primary_keys(-key)
    turn.flush()

    assert [sizes(part) for part in holder["all"]] == before


def test_a_removed_subscriber_is_let_go_at_once() -> None:
    """Also when it had something coming, and the remover is kept: whatever the subscriber holds can be collected."""

    class Screen:
        def show(self, keys: object) -> None: ...

    turn = ManualScheduler()
    items: Items = Collection("id", database=Database(turn))
    screen = Screen()
    remove = items.subscribe_key(1, screen.show)
    items.upsert_one({"id": 1})
    gone = weakref.ref(screen)

    remove()
    del screen
    gc.collect()

    assert gone() is None
    remove()


def test_a_collection_that_nobody_holds_is_let_go() -> None:
    """With its indexes and subscribers: there is no list of all collections anywhere."""
    items: Items = Collection("id")
    index = DerivedSetIndex[int, int, dict[str, Any]](items, "id")
    index.subscribe(lambda _: None)
    items.upsert_one({"id": 1})
    gone = weakref.ref(items)

    del items, index
    gc.collect()

    assert gone() is None


# -- threads -------------------------------------------------------------------------------------------------------


@contextmanager
def switching_often() -> Iterator[None]:
    """Threads take turns after a few instructions: what may interleave, does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def together(*functions: Callable[[], Any]) -> None:
    """Run them at the same time; raises what one of them raises."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> None:
        start.wait()
        function()

    with switching_often(), ThreadPoolExecutor(len(functions)) as pool:
        for done in [pool.submit(run, function) for function in functions]:
            done.result()


def test_writers_on_several_threads_lose_nothing() -> None:
    """Four count in the same entities, with indexes and subscribers; each step is in the sum, and indexes agree."""
    items: Items = Collection("id")
    by_count: DerivedSetIndex[int, int, dict[str, Any]] = DerivedSetIndex(items, "count")
    in_order = DerivedOrderedIndex(items, lambda _: "all", order_by="count")
    told: list[tuple[int, ...]] = []
    items.subscribe(told.append)

    def count() -> None:
        for step in range(500):
            items.update_one(step % 5, lambda old, key=step % 5: {"id": key, "count": old["count"] + 1 if old else 1})

    together(count, count, count, count)

    assert [item["count"] for item in items] == [400] * 5
    assert by_count.keys() == [400]
    assert set(in_order.primary_keys("all")) == set(range(5))
    assert {key for keys in told for key in keys} == set(range(5))
    assert not items.database.pending


def test_readers_see_whole_writes_only() -> None:
    """While one thread moves all entities from team to team, others never see them in two teams, or a part of them."""
    items: Items = Collection("id")
    by_team: DerivedSetIndex[int, int, dict[str, Any]] = DerivedSetIndex(items, "team")
    many = range(300)
    items.upsert_many({"id": key, "team": 0} for key in many)
    writing = threading.Event()
    writing.set()

    def write() -> None:
        for step in range(60):
            items.upsert_many({"id": key, "team": step % 2} for key in many)
        items.clear()
        items.upsert_many({"id": key, "team": 0} for key in many)
        writing.clear()

    def reading(read: Callable[[], object], *right: object) -> Callable[[], None]:
        def read_on() -> None:
            while writing.is_set():
                assert read() in right

        return read_on

    together(
        write,
        reading(lambda: len({item["team"] for item in items}), 0, 1),
        reading(lambda: len({item["team"] for item in items.select_present(many)}), 0, 1),
        reading(lambda: by_team.count(1), 0, 300),
        reading(lambda: len(items), 0, 300),
    )


def test_subscribers_are_called_one_at_a_time_and_without_the_lock() -> None:
    """While one is being called, another thread can write; that thread's change is told by the one that delivers."""
    items: Items = Collection("id")
    calls: list[tuple[threading.Thread, tuple[int, ...]]] = []

    def write_elsewhere(keys: tuple[int, ...]) -> None:
        calls.append((threading.current_thread(), keys))
        if keys == (1,):
            other = threading.Thread(target=lambda: items.upsert_one({"id": 2}))
            other.start()
            other.join()  # returns: it waits neither for the lock nor for this call
            assert items.has(2)
            assert len(calls) == 1

    items.subscribe(write_elsewhere)
    items.upsert_one({"id": 1})

    assert [keys for _, keys in calls] == [(1,), (2,)]
    assert {thread for thread, _ in calls} == {threading.current_thread()}


def test_every_change_is_told_while_threads_come_and_go() -> None:
    """Subscribing, removing, writing and flushing at the same time: who stays is told of every last change."""
    turn = ManualScheduler()
    items: Items = Collection("id", database=Database(turn))
    last: dict[int, Any] = {}
    items.subscribe(lambda keys: last.update((key, items.select_by_primary_key(key)) for key in keys))

    def write(first: int) -> None:
        for step in range(300):
            items.upsert_one({"id": first + step % 10, "step": step})

    def come_and_go() -> None:
        for key in range(300):
            items.subscribe_key(key % 20, lambda _: None)()

    def flush() -> None:
        for _ in range(300):
            turn.flush()

    together(lambda: write(0), lambda: write(10), come_and_go, flush, flush)
    turn.flush()

    assert not items.database.pending
    assert last == {item["id"]: item for item in items}

"""The reactive database's types: keys and entities are known wherever a function says them.

Nothing in this file runs; ``test_types.py`` has mypy and pyright read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, assert_type

from cnstra import AsyncMirror, AsyncOrchestrator, Mirror, Orchestrator
from cnstra.orchestrator.contexts import VersionedContextStore
from cnstra.stores.reactive import (
    AsyncioScheduler,
    Collection,
    ContextRecord,
    Database,
    DerivedOrderedIndex,
    DerivedSetIndex,
    ImmediateScheduler,
    ManualScheduler,
    OrderedIndex,
    ReactiveContextStore,
    Scheduler,
    SetIndex,
)


@dataclass(frozen=True)
class User:
    id: int
    team: str | None
    tags: frozenset[str]


def user_id(user: User) -> int:
    return user.id


def team(user: User) -> str | None:
    return user.team


def tags(user: User) -> frozenset[str]:
    return user.tags


def with_new_team(old: User, new: User) -> User:
    return replace(old, team=new.team)


ann = User(1, "red", frozenset())

# A collection: from a function, or from what it is declared as.
users = Collection(user_id)
assert_type(users, Collection[int, User])
declared: Collection[int, User] = Collection("id")
composite: Collection[tuple[int, str], User] = Collection(("id", "team"), name="composite")
merged = Collection(user_id, merge=with_new_team, database=Database())
assert_type(merged, Collection[int, User])

assert_type(users.upsert_one(ann), User)
assert_type(users.select_by_primary_key(1), User | None)
assert_type(users.select_by_primary_keys([1]), list[User | None])
assert_type(users.select_present([1]), list[User])
assert_type(users.remove(1), User | None)
assert_type(list(users), list[User])
assert_type(users.update_one(1, lambda old: old and replace(old, team="blue")), User | None)

# Indexes.
by_team = DerivedSetIndex(users, team)
assert_type(by_team.primary_keys("red"), frozenset[int])
assert_type(by_team.select("red"), list[User])
by_tag = DerivedSetIndex(users, keys=tags)
assert_type(by_tag.keys(), list[str])
by_field = DerivedSetIndex(users, "team")
assert_type(by_field, DerivedSetIndex[Any, int, User])
by_field_declared: DerivedSetIndex[str, int, User] = DerivedSetIndex(users, "team")
in_order = DerivedOrderedIndex(users, team, order_by="id", descending=True)
assert_type(in_order.primary_keys("red"), tuple[int, ...])
in_order_by_field: DerivedOrderedIndex[str, int, User] = DerivedOrderedIndex(users, keys="tags", order_by=user_id)
shown: SetIndex[str, int, User] = SetIndex(users)
page: OrderedIndex[str, int, User] = OrderedIndex(users)
shown.add("home", 1, 2)
page.insert("home", 0, 1)


# Subscribers: anything that takes the keys, whatever it returns.
def on_users(keys: tuple[int, ...]) -> None: ...


seen: list[tuple[int, ...]] = []
assert_type(users.subscribe(on_users), Callable[[], None])
users.subscribe_key(1, seen.append)
users.subscribe_keys({1, 2}, lambda keys: keys[0] + 1)
by_team.subscribe_key("red", lambda keys: keys[0].upper(), entities=True)

# Schedulers.
schedulers: list[Scheduler] = [ImmediateScheduler(), ManualScheduler(), AsyncioScheduler(asyncio.new_event_loop())]

# The context store.
contexts: Collection[str, ContextRecord] = Collection("run_id")
store: VersionedContextStore = ReactiveContextStore(contexts, "run-789")
assert_type(store.update(lambda value: 1), int)

# Mirrors of durable runs.
orchestrator = Orchestrator()
assert_type(orchestrator.mirror(contexts, runs=["0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10"], keep_ended=False), Mirror)
assert_type(AsyncOrchestrator().mirror(contexts, graph="shop", tag=("to", "Lisbon"), status="paused"), AsyncMirror)

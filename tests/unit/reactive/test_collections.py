"""Collections: what goes in comes out, under its key, whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from cnstra import ReactiveError
from cnstra.stores.reactive import Collection, DerivedOrderedIndex, DerivedSetIndex


@dataclass(frozen=True)
class User:
    id: str
    team: str = "red"
    age: int = 30


ANN, BOB, EVE = User("ann"), User("bob", "blue"), User("eve")


def test_what_was_upserted_is_read_as_the_very_same_object() -> None:
    """Entities are kept as they are given: no copy, no wrapper."""
    users: Collection[str, User] = Collection("id")

    assert users.upsert_one(ANN) is ANN
    assert users.select_by_primary_key("ann") is ANN
    assert users.select_by_primary_key("bob") is None


def test_an_upsert_replaces_the_whole_entity() -> None:
    """Nothing of the old one shines through, and there is still one."""
    users: Collection[str, dict[str, Any]] = Collection("id")
    users.upsert_one({"id": "ann", "age": 30})

    users.upsert_one({"id": "ann", "team": "blue"})

    assert users.select_all() == [{"id": "ann", "team": "blue"}]


def test_a_merge_sees_the_old_and_the_new_entity() -> None:
    """With merge= an upsert may be partial, also twice in one write; the first upsert of a key merges with nothing."""
    users: Collection[str, dict[str, Any]] = Collection("id", merge=lambda old, new: {**old, **new})
    users.upsert_one({"id": "ann", "age": 30})

    kept = users.upsert_one({"id": "ann", "team": "blue"})
    users.upsert_many([{"id": "ann", "age": 31}, {"id": "ann", "city": "Rome"}])

    assert kept == {"id": "ann", "age": 30, "team": "blue"}
    assert users.select_by_primary_key("ann") == {"id": "ann", "age": 31, "team": "blue", "city": "Rome"}


@pytest.mark.parametrize(
    ("primary_key", "entity", "key"),
    [
        pytest.param("id", ANN, "ann", id="attribute"),
        pytest.param("id", {"id": 7}, 7, id="item of a dict"),
        pytest.param(("team", "id"), BOB, ("blue", "bob"), id="several attributes"),
        pytest.param(["team", "id"], {"id": 7, "team": "red"}, ("red", 7), id="several items"),
        pytest.param(lambda entity: entity.id.upper(), ANN, "ANN", id="function"),
    ],
)
def test_a_primary_key_is_a_field_several_or_a_function(primary_key: Any, entity: Any, key: Any) -> None:
    """Keys of several fields are tuples, and found by an equal one that was made anew."""
    collection: Collection[Any, Any] = Collection(primary_key)

    collection.upsert_one(entity)

    assert collection.select_by_primary_key(key) is entity
    assert collection.primary_keys() == [key]


def test_a_read_of_several_keys_has_a_place_for_each() -> None:
    """The answer can be zipped with the question; the other read leaves out what is not there."""
    users: Collection[str, User] = Collection("id")
    users.upsert_many([ANN, BOB])

    assert users.select_by_primary_keys(["bob", "nobody", "ann", "bob"]) == [BOB, None, ANN, BOB]
    assert users.select_present(["bob", "nobody", "ann"]) == [BOB, ANN]


def test_entities_come_in_the_order_in_which_their_keys_first_came() -> None:
    """An upsert of one that is there leaves it in its place; iterating is not disturbed by writes."""
    users: Collection[str, User] = Collection("id")
    users.upsert_many([BOB, ANN])
    older = replace(BOB, age=31)

    for user in users:
        users.upsert_one(older)
        users.upsert_one(replace(EVE, age=user.age))

    assert [user.id for user in users] == ["bob", "ann", "eve"]
    assert len(users) == 3
    assert users.has("eve")


def test_what_was_removed_is_given_back_and_gone() -> None:
    """Removing what is not there is no error: it says so."""
    users: Collection[str, User] = Collection("id")
    users.upsert_many([ANN, BOB, EVE])

    assert users.remove("ann") is ANN
    assert users.remove("ann") is None
    assert users.remove_many(["bob", "bob", "nobody"]) == 1
    assert users.select_all() == [EVE]
    users.clear()
    assert not users.has("eve")
    assert len(users) == 0


def test_an_update_is_a_function_of_what_is_there() -> None:
    """It gets None where nothing is, and gives None to leave things as they are."""
    users: Collection[str, User] = Collection("id")

    assert users.update_one("ann", lambda old: ANN if old is None else None) is ANN
    assert users.update_one("ann", lambda old: replace(old, age=31) if old else None) == replace(ANN, age=31)
    assert users.update_one("ann", lambda _: None) == replace(ANN, age=31)
    assert users.update_one("bob", lambda _: None) is None
    assert users.primary_keys() == ["ann"]


REFUSED = [
    pytest.param(lambda users: users.upsert_one({"name": "x"}), "a dict has no field 'id'", id="no field"),
    pytest.param(lambda users: users.upsert_one({"id": None}), "a dict has no primary key: it is None", id="None"),
    pytest.param(lambda users: users.upsert_one({"id": []}), "type list cannot be hashed", id="unhashable"),
    pytest.param(lambda users: users.upsert_many([{"id": 1}, {"id": {}}]), "type dict cannot be hashed", id="many"),
    pytest.param(lambda users: users.select_by_primary_key([]), "type list cannot be hashed", id="read"),
    pytest.param(lambda users: users.remove(([],)), "type tuple cannot be hashed", id="remove"),
    pytest.param(lambda users: users.select_by_primary_keys("ann"), "not one str", id="letters"),
    pytest.param(lambda users: users.update_one(0, lambda _: {"id": 1}), "another primary key", id="other key"),
    pytest.param(lambda users: users.subscribe_key([], print), "type list cannot be hashed", id="subscribe"),
    pytest.param(lambda users: users.subscribe_keys("ann", print), "not one str", id="subscribe letters"),
]


@pytest.mark.parametrize(("use", "said"), REFUSED)
def test_what_cannot_work_is_refused_and_changes_nothing(use: Any, said: str) -> None:
    """The error names the collection and what is wrong; nothing is half done."""
    users: Collection[Any, Any] = Collection("id", name="users")
    users.upsert_one({"id": 0})

    with pytest.raises(ReactiveError, match=said) as refused:
        use(users)

    assert str(refused.value).startswith("users: ")
    assert users.select_all() == [{"id": 0}]


def test_a_merge_that_changes_the_key_is_refused() -> None:
    """Else an entity would stand under a key that it does not have."""
    users: Collection[str, User] = Collection("id", merge=lambda _old, _new: BOB)
    users.upsert_one(ANN)

    with pytest.raises(ReactiveError, match="merge= gave a User with another primary key"):
        users.upsert_one(ANN)


@pytest.mark.parametrize("primary_key", ["not a name", "", (), 7, ("id", 7), None])
def test_what_cannot_be_a_primary_key_is_refused_when_the_collection_is_made(primary_key: Any) -> None:
    """Not with the first entity, hours later."""
    with pytest.raises(ReactiveError):
        Collection(primary_key)


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param(User("eve", team=None), id="keys that cannot be counted"),  # type: ignore[arg-type]
        pytest.param(User("eve", age="old"), id="an order that cannot be compared"),  # type: ignore[arg-type]
        pytest.param(User("eve", age=float("nan")), id="an order that is none"),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("before", [[], [User("bob", "green", 7)]], ids=["alone", "among others"])
def test_a_write_that_one_index_refuses_happens_nowhere(spoiled: User, before: list[User]) -> None:
    """Neither in the collection nor in the indexes that were asked before, nor for the entities before it; nobody is told."""
    users: Collection[str, User] = Collection("id")
    by_team = DerivedSetIndex(users, lambda user: user.team)
    by_letter = DerivedSetIndex(users, keys=lambda user: list(user.team))
    by_age = DerivedOrderedIndex(users, lambda _: "all", order_by="age")
    users.upsert_many([ANN, BOB])
    told: list[tuple[str, ...]] = []
    users.subscribe(told.append)
    by_team.subscribe(told.append)

    with pytest.raises((ReactiveError, TypeError)):
        users.upsert_many([*before, spoiled])

    assert users.select_all() == [ANN, BOB]
    assert by_team.keys() == ["red", "blue"]
    assert set(by_letter.keys()) == set("redblue")
    assert by_age.primary_keys("all") == ("ann", "bob")
    assert told == []
    users.upsert_one(EVE)
    assert by_age.primary_keys("all") == ("ann", "bob", "eve")


def test_a_function_that_gives_keys_may_not_write() -> None:
    """The write that asks it has been planned for what is there."""
    users: Collection[str, User] = Collection("id", name="users")
    naughty = [False]

    def team(user: User) -> str:
        if naughty[0]:
            users.upsert_one(BOB)
        return user.team

    by_team = DerivedSetIndex(users, team)
    naughty[0] = True
    with pytest.raises(ReactiveError, match="it must not"):
        users.upsert_one(ANN)

    naughty[0] = False
    users.upsert_one(EVE)
    assert users.select_all() == by_team.select("red") == [EVE]

"""Indexes: what stands under a key, when it moves, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from cnstra import ReactiveError
from cnstra.stores.reactive import Collection, DerivedOrderedIndex, DerivedSetIndex, OrderedIndex, SetIndex


@dataclass
class Post:
    id: int
    author: str | None = "ann"
    tags: tuple[str, ...] = ()
    at: int = 0


def posts_of(*entities: Post) -> Collection[int, Post]:
    posts: Collection[int, Post] = Collection("id", name="posts")
    posts.upsert_many(entities)
    return posts


# -- filled by the user --------------------------------------------------------------------------------------------


def test_a_set_index_has_what_was_put_there() -> None:
    """Each primary key once, however often it comes; what is not there can be discarded."""
    posts = posts_of(Post(1), Post(2), Post(3))
    shown: SetIndex[str, int, Post] = SetIndex(posts)

    shown.add("home", 1, 2, 1)
    shown.add("home", 2)
    shown.discard("home", 1, 7, 1)
    shown.replace("search", [3, 1, 3])

    assert shown.primary_keys("home") == {2}
    assert shown.primary_keys("search") == {3, 1}
    assert shown.primary_keys("nowhere") == frozenset()
    assert [post.id for post in shown.select("search")] == [3, 1]
    assert shown.keys() == ["home", "search"]
    assert (shown.count("search"), shown.count("nowhere")) == (2, 0)
    shown.replace("search", [])
    assert shown.keys() == ["home"]


def test_an_ordered_index_has_the_order_that_it_was_given() -> None:
    """At the end, at a place, all anew; a primary key that comes again moves, or stays for append."""
    posts = posts_of(*(Post(number) for number in range(6)))
    page: OrderedIndex[str, int, Post] = OrderedIndex(posts)

    page.replace("home", [3, 1])
    page.append("home", 2, 1)
    page.insert("home", 0, 2)
    page.insert("home", 1, 5)

    assert page.primary_keys("home") == (2, 5, 3, 1)
    assert [post.id for post in page.select("home")] == [2, 5, 3, 1]
    page.remove("home", 5, 4, 2)
    assert page.primary_keys("home") == (3, 1)
    page.remove("home", 3, 1)
    assert page.keys() == []


@pytest.mark.parametrize("kind", [SetIndex, OrderedIndex])
def test_a_primary_key_may_be_filled_in_before_its_entity_comes(kind: Any) -> None:
    """A list may arrive before what it lists: reading entities passes over what is not there yet."""
    posts = posts_of(Post(1))
    index = kind(posts)

    index.replace("home", [2, 1])

    assert [post.id for post in index.select("home")] == [1]
    assert index.count("home") == 2
    posts.upsert_one(Post(2))
    assert [post.id for post in index.select("home")] == [2, 1]


@pytest.mark.parametrize("kind", [SetIndex, OrderedIndex])
def test_an_entity_that_is_removed_leaves_the_indexes_that_were_filled(kind: Any) -> None:
    """Under every key; when it comes again, it is for the user to say where."""
    posts = posts_of(Post(1), Post(2), Post(3))
    index = kind(posts)
    index.replace("home", [1, 2])
    index.replace("search", [2, 3])

    posts.remove(2)
    posts.remove_many([3])
    posts.upsert_one(Post(2))

    assert index.keys() == ["home"]
    assert set(index.primary_keys("home")) == {1}
    posts.clear()
    assert index.keys() == []


def test_an_order_with_the_same_primary_key_twice_is_refused() -> None:
    """It stands once under a key: which place would it be?"""
    page: OrderedIndex[str, int, Post] = OrderedIndex(posts_of(Post(1)), name="page")
    page.replace("home", [1])

    with pytest.raises(ReactiveError, match=r"posts\.page: a primary key comes twice"):
        page.replace("home", [1, 2, 1])

    assert page.primary_keys("home") == (1,)


@pytest.mark.parametrize("kind", [SetIndex, OrderedIndex])
def test_keys_that_cannot_be_looked_up_are_refused(kind: Any) -> None:
    """In writes and in reads, for index keys and for primary keys."""
    index = kind(posts_of(Post(1)))
    uses = [
        lambda: index.replace([], [1]),
        lambda: index.replace("home", [[]]),
        lambda: index.replace("home", "1"),
        lambda: index.primary_keys({}),
        lambda: index.select([]),
        lambda: index.count([]),
    ]

    for use in uses:
        with pytest.raises(ReactiveError):
            use()
    assert index.keys() == []


# -- derived -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["author", lambda post: post.author], ids=["field", "function"])
def test_a_derived_index_begins_with_what_is_there_and_keeps_up(key: Any) -> None:
    """An entity that changes its key moves, one that goes leaves, one without a key stands nowhere."""
    posts = posts_of(Post(1), Post(2, "bob"), Post(3, None))
    by_author: DerivedSetIndex[str, int, Post] = DerivedSetIndex(posts, key)

    assert (by_author.primary_keys("ann"), by_author.primary_keys("bob")) == ({1}, {2})
    posts.upsert_many([Post(1, "bob"), Post(3, "eve")])
    assert by_author.primary_keys("bob") == {1, 2}
    assert by_author.keys() == ["bob", "eve"]
    posts.remove(2)
    posts.upsert_one(Post(3, None))
    assert by_author.keys() == ["bob"]
    assert [post.id for post in by_author.select("bob")] == [1]


def test_a_derived_index_of_several_fields_has_tuples_for_keys() -> None:
    """Equal by content, like composite primary keys."""
    posts = posts_of(Post(1, "ann", at=1), Post(2, "ann", at=2))
    index: DerivedSetIndex[tuple[str, int], int, Post] = DerivedSetIndex(posts, ("author", "at"))

    assert index.primary_keys(("ann", 2)) == {2}


@pytest.mark.parametrize("keys", ["tags", lambda post: iter(post.tags)], ids=["field", "function"])
def test_an_entity_with_several_keys_stands_under_each(keys: Any) -> None:
    """And moves from those that it loses to those that it gains."""
    posts = posts_of(Post(1, tags=("a", "b", "a")), Post(2, tags=("b",)), Post(3))
    by_tag: DerivedSetIndex[str, int, Post] = DerivedSetIndex(posts, keys=keys)

    assert {tag: by_tag.primary_keys(tag) for tag in by_tag.keys()} == {"a": {1}, "b": {1, 2}}  # noqa: SIM118 - no dict
    posts.upsert_one(Post(1, tags=("b", "c")))
    assert {tag: by_tag.primary_keys(tag) for tag in by_tag.keys()} == {"b": {1, 2}, "c": {1}}  # noqa: SIM118


def test_an_entity_changed_in_place_leaves_the_places_that_it_had() -> None:
    """The index remembers them; it does not ask the old entity, which is the new one."""
    post = Post(1, tags=("a",), at=1)
    posts = posts_of(post, Post(2, at=2))
    by_author: DerivedSetIndex[str, int, Post] = DerivedSetIndex(posts, "author")
    in_time = DerivedOrderedIndex(posts, lambda _: "all", order_by="at")

    post.author, post.at = "bob", 3
    posts.upsert_one(post)

    assert (by_author.primary_keys("ann"), by_author.primary_keys("bob")) == ({2}, {1})
    assert in_time.primary_keys("all") == (2, 1)


def test_an_order_that_was_changed_in_place_does_not_lose_its_entity() -> None:
    """The list is out of order then, and its entry is found all the same; with the upsert it is in order again."""
    entities = [{"id": number, "at": [number]} for number in range(1, 5)]
    posts: Collection[int, dict[str, Any]] = Collection("id")
    posts.upsert_many(entities)
    in_time = DerivedOrderedIndex(posts, lambda _: "all", order_by="at")

    entities[1]["at"][0] = 9
    posts.upsert_one(entities[1])

    assert in_time.primary_keys("all") == (1, 3, 4, 2)


@pytest.mark.parametrize(
    ("descending", "order"),
    [pytest.param(False, (3, 1, 4, 2), id="ascending"), pytest.param(True, (2, 1, 4, 3), id="descending")],
)
def test_a_derived_order_is_kept_and_equal_ones_stand_as_they_came(descending: bool, order: tuple[int, ...]) -> None:
    """In both directions, whether they came one by one or many at once."""
    entities = [Post(1, at=5), Post(2, at=9), Post(3, at=1), Post(4, at=5)]
    at_once, one_by_one = posts_of(), posts_of()
    indexes = [
        DerivedOrderedIndex(posts, "author", order_by="at", descending=descending) for posts in (at_once, one_by_one)
    ]

    at_once.upsert_many(entities)
    for post in entities:
        one_by_one.upsert_one(post)

    for index in indexes:
        assert index.primary_keys("ann") == order
        assert [post.id for post in index.select("ann")] == list(order)


def test_an_entity_whose_order_changes_finds_its_new_place() -> None:
    """Up, down, to the same place, and under another key; alone and with others."""
    posts = posts_of(*(Post(number, at=number * 10) for number in range(1, 6)))
    index: DerivedOrderedIndex[str, int, Post] = DerivedOrderedIndex(posts, "author", order_by=lambda post: post.at)

    posts.upsert_one(Post(1, at=35))
    assert index.primary_keys("ann") == (2, 3, 1, 4, 5)
    posts.upsert_one(Post(5, at=5))
    assert index.primary_keys("ann") == (5, 2, 3, 1, 4)
    posts.upsert_one(Post(2, at=21))
    assert index.primary_keys("ann") == (5, 2, 3, 1, 4)
    posts.upsert_many([Post(3, "bob", at=1), Post(2, at=99)])
    assert (index.primary_keys("ann"), index.primary_keys("bob")) == ((5, 1, 4, 2), (3,))
    posts.remove_many([5, 1, 4, 2])
    assert index.keys() == ["bob"]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="neither"),
        pytest.param({"key": "author", "keys": "tags"}, id="both"),
        pytest.param({"keys": ("a", "b")}, id="keys of fields"),
        pytest.param({"keys": "author"}, id="keys of a str"),
        pytest.param({"keys": "at"}, id="keys of an int"),
        pytest.param({"key": "nothing"}, id="no such field"),
        pytest.param({"key": lambda _: []}, id="unhashable"),
    ],
)
def test_an_index_that_cannot_be_built_does_not_follow(options: dict[str, Any]) -> None:
    """The error says so at once; the collection goes on without it."""
    posts = posts_of(Post(1))

    with pytest.raises(ReactiveError, match=r"posts\.odd: "):
        DerivedSetIndex(posts, **options, name="odd")

    posts.upsert_one(Post(2))
    assert len(posts) == 2


def test_two_indexes_of_one_collection_do_not_disturb_each_other() -> None:
    """Each has its own keys, and both follow one write."""
    posts = posts_of(Post(1, tags=("a",)))
    by_author: DerivedSetIndex[str, int, Post] = DerivedSetIndex(posts, "author")
    by_tag: DerivedSetIndex[str, int, Post] = DerivedSetIndex(posts, keys="tags")

    posts.upsert_one(replace(Post(1), author="bob", tags=("b",)))

    assert (by_author.keys(), by_tag.keys()) == (["bob"], ["b"])

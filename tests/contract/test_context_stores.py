"""The port of context stores: every test once over each store, on real servers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from cnstra import CNS, collateral, neuron
from cnstra.orchestrator.codecs import JsonCodec
from cnstra.orchestrator.contexts import (
    MOST_RACES,
    ContextStore,
    Versioned,
    VersionedContextStore,
    updated,
)
from cnstra.orchestrator.errors import ConfigurationError, ContextConflict, ContextError
from cnstra.orchestrator.values import MAX_VALUE_BYTES
from support.context_stores import HOMES, LOCAL, Broken, Home, Meeting, Money, Zipped
from support.waiting import eventually

_SERVERS = dict.fromkeys(("redis", "redis, decoding", "redis, sealed"), "broker_url")


_RUNS = ("a run's own", "a run's own, sealed")  # live as long as their run, and are JSON


def home_of(kind: str, request: pytest.FixtureRequest) -> Home:
    if kind in LOCAL:
        return LOCAL[kind]()
    return HOMES[kind](request.getfixturevalue(_SERVERS.get(kind, "database_url")))


@pytest.fixture(params=[*LOCAL, *HOMES])
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    """A context that nobody has written yet, of each kind."""
    with closing(home_of(request.param, request)) as found:
        yield found


@pytest.fixture(params=[kind for kind in [*LOCAL, *HOMES] if kind not in _RUNS and "sealed" not in kind])
def codec_home(request: pytest.FixtureRequest) -> Iterator[Home]:
    """Of each kind that takes codecs."""
    with closing(home_of(request.param, request)) as found:
        yield found


@pytest.fixture(params=[kind for kind in HOMES if kind not in _RUNS])
def mortal(request: pytest.FixtureRequest) -> Iterator[Home]:
    """Of each kind that expires."""
    with closing(home_of(request.param, request)) as found:
        yield found


@pytest.fixture(scope="module")
def meeting() -> Iterator[Meeting]:
    with closing(Meeting(WRITERS)) as found:
        yield found


@pytest.fixture
def store(home: Home) -> VersionedContextStore:
    return home.open()


VALUES: list[Any] = [
    {},
    {"a": 1},
    {"a": {"b": [1, 2.5, None, True, "text", {"c": []}]}, "empty": {}, "": 0},
    [],
    [1, [2, [3]]],
    "text",
    "",
    'ünï © 漢字 🎈 \x01 \\ " \n',
    0,
    -(2**70),
    1.5,
    1e-300,
    True,
    False,
    {"null": None},
]


# -- one user ------------------------------------------------------------------------------------------------------


def test_it_is_both_protocols(store: VersionedContextStore) -> None:
    """What is here passes where any store, and where a versioned one, is asked for."""
    assert isinstance(store, ContextStore)
    assert isinstance(store, VersionedContextStore)


def test_a_context_that_nobody_wrote_is_missing(store: VersionedContextStore) -> None:
    """None, at version 0."""
    assert store.get() is None
    assert store.version == 0
    assert store.get_versioned() == Versioned(value=None, version=0)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_was_set_comes_back(home: Home, value: Any) -> None:
    """Equal and of the same type, for everybody who opens the context, over whatever was there before."""
    home.open().set({"before": [1]})
    home.open().set(value)
    found = home.open().get()
    assert found == value
    assert type(found) is type(value)


def test_what_get_gives_is_the_callers_own(home: Home) -> None:
    """Neither changing what was set nor changing what was read changes what is stored."""
    value: dict[str, Any] = {"list": [1], "dict": {"k": 1}}
    home.open().set(value)
    value["list"].append(2)
    found = home.open().get()
    found["dict"]["k"] = 2
    del found["list"]
    home.open().get_versioned().value["more"] = True
    assert home.open().get() == {"list": [1], "dict": {"k": 1}}


def test_one_list_that_is_mentioned_twice_comes_back_as_two(store: VersionedContextStore) -> None:
    """As in JSON: no store keeps who is identical with whom."""
    shared = [1]
    store.set({"a": shared, "b": shared})
    found = store.get()
    found["a"].append(2)
    assert found == {"a": [1, 2], "b": [1]}


def test_every_write_raises_the_version_by_one(home: Home) -> None:
    """A set, an overwrite with the same value, a compare-and-set, an update, a deletion; reads and refusals do not."""
    store = home.open()
    store.set({"n": 1})
    first = store.version
    assert first > 0
    store.set({"n": 1})
    assert store.compare_and_set([2], first + 1)
    assert not store.compare_and_set([3], first + 1)
    store.get()
    assert store.update(lambda value: [*value, 3]) == [2, 3]
    with pytest.raises(ContextError):
        store.set({"n": {1}})
    assert store.get_versioned() == Versioned(value=[2, 3], version=first + 3)
    store.delete()
    store.delete()
    store.set(None)
    assert store.get_versioned() == Versioned(value=None, version=first + 6)
    store.set("again")
    assert home.open().get_versioned() == Versioned(value="again", version=first + 7)


def test_compare_and_set_with_0_makes_what_is_not_there(store: VersionedContextStore) -> None:
    """And nothing that is there, or was deleted since."""
    assert store.compare_and_set("first", 0)
    assert not store.compare_and_set("second", 0)
    store.delete()
    assert not store.compare_and_set("third", 0)
    assert store.get() is None
    assert store.compare_and_set("fourth", store.version)
    assert store.get() == "fourth"


def test_compare_and_set_refuses_every_other_version(store: VersionedContextStore) -> None:
    """Those before, those to come, and 0 or another one where nothing is."""
    assert not store.compare_and_set("early", 1)
    assert not store.compare_and_set("early", 2**62)
    store.set("there")
    version = store.version
    for other in (0, version - 1, version + 1, 2**62):
        if other != version:
            assert not store.compare_and_set("other", other)
    assert store.get_versioned() == Versioned(value="there", version=version)


def test_compare_and_set_of_none_deletes(store: VersionedContextStore) -> None:
    """None is no value."""
    store.set("there")
    version = store.version
    assert not store.compare_and_set(None, version + 1)
    assert store.compare_and_set(None, version)
    assert store.get_versioned() == Versioned(value=None, version=version + 1)


@pytest.mark.parametrize("version", [-1, 1.0, "1", None, True])
def test_what_is_no_version_is_refused(store: VersionedContextStore, version: Any) -> None:
    """Rather than compared, and found to be another one."""
    with pytest.raises(ContextError, match="expected_version"):
        store.compare_and_set("value", version)
    assert store.version == 0


def test_update_is_given_the_newest_value(home: Home) -> None:
    """None where there is none; what it returns is stored and returned; None deletes."""
    seen: list[Any] = []

    def plus(value: Any) -> Any:
        seen.append(value)
        return {"n": (value or {"n": 0})["n"] + 1}

    assert home.open().update(plus) == {"n": 1}
    home.open().set({"n": 5})
    assert home.open().update(plus) == {"n": 6}
    assert home.open().update(lambda value: None) is None
    assert home.open().get() is None
    assert seen == [None, {"n": 5}]


def test_update_begins_again_when_another_was_first(home: Home) -> None:
    """The function sees what the other has written; nothing of both is lost."""
    store = home.open()
    store.set(["one"])
    others = iter(["two", "three"])

    def add(value: Any) -> Any:
        if (other := next(others, None)) is not None:
            home.open().set([*value, other])
        return [*value, "mine"]

    assert store.update(add) == ["one", "two", "three", "mine"]
    assert store.get() == ["one", "two", "three", "mine"]


def test_an_update_that_raises_writes_nothing(store: VersionedContextStore) -> None:
    """The function's own error comes through."""
    store.set([1])
    version = store.version
    with pytest.raises(ZeroDivisionError):
        store.update(lambda value: value[0] / 0)
    with pytest.raises(ContextError, match=r"\$\[0\] is a builtins.set"):
        store.update(lambda value: [set(value)])
    assert store.get_versioned() == Versioned(value=[1], version=version)


def test_an_update_that_always_loses_ends(store: VersionedContextStore) -> None:
    """With an error that says so, after pauses that grow up to a bound: it neither spins nor goes on for ever."""
    pauses: list[float] = []
    numbers = itertools.count(1)

    def lose(value: Any) -> str:
        store.set(next(numbers))
        return "mine"

    with pytest.raises(ContextConflict, match="20 races"):
        updated(store, lose, "the context", races=20, sleep=pauses.append, chance=lambda: 1.0)
    assert store.get() == 20
    assert len(pauses) == 19
    assert pauses == sorted(pauses)
    assert max(pauses) == 0.05
    assert MOST_RACES * max(pauses) < 60


def test_contexts_do_not_meet(home: Home) -> None:
    """What is written to one is seen in no other, also where its name is a part of the other's."""
    other = home.another()
    try:
        home.open().set({"mine": 1})
        assert other.open().get_versioned() == Versioned(value=None, version=0)
        other.open().set({"other": 2})
        other.open().delete()
        assert home.open().get() == {"mine": 1}
    finally:
        other.close()


# -- what is refused -----------------------------------------------------------------------------------------------


class Strange(dict[str, Any]):
    """Equal to a dict, and no dict."""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": {"b": [0, {1, 2}]}}, r"\$\.a\.b\[1\] is a builtins\.set"),
        ({"when": timedelta(1)}, r"\$\.when is a datetime\.timedelta"),
        ((1, 2), r"\$ is a builtins\.tuple"),
        ({"a b": {1: 2}}, r"\$\['a b'\] has a key 1 of type int"),
        ([float("nan")], r"\$\[0\] is nan"),
        (float("inf"), r"\$ is inf"),
        ({"t": "\0"}, r"\$\.t holds the character U\+0000"),
        pytest.param("\ud800", r"\$ holds a lone surrogate", id="half a character"),
        (b"bytes", r"\$ is a builtins\.bytes"),
        ([Strange()], r"\$\[0\] is a .*Strange"),
        pytest.param(2**20_000, r"\$ is an integer of 20,001 bits", id="a huge integer"),
    ],
)
def test_what_is_not_json_is_refused_and_the_old_value_stays(
    store: VersionedContextStore, value: Any, said: str
) -> None:
    """By every way of writing, naming the path and the type."""
    store.set({"old": True})
    before = store.get_versioned()
    with pytest.raises(ContextError, match=said):
        store.set(value)
    with pytest.raises(ContextError, match=said):
        store.compare_and_set(value, before.version)
    with pytest.raises(ContextError, match=said):
        store.update(lambda old: value)
    assert store.get_versioned() == before


def test_g15_what_is_no_codec_is_refused_when_the_store_is_made(codec_home: Home) -> None:
    """G15: not at the first write."""
    with pytest.raises(ConfigurationError, match="codec=int: it has no method encode"):
        codec_home.open(codec=5)


def test_what_contains_itself_is_refused(store: VersionedContextStore) -> None:
    """As nested too deeply."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ContextError, match="nested too deeply"):
        store.set(value)
    assert store.version == 0


@pytest.mark.parametrize("text", ["a", "é", "🎈", "\x01"])
def test_values_up_to_the_limit_are_kept_and_none_above(store: VersionedContextStore, text: str) -> None:
    """The limit counts bytes of JSON, whatever the characters are; one byte more is refused, and the old value stays."""
    each = {"a": 1, "é": 2, "🎈": 4, "\x01": 6}[text]
    frame = len('{"big":""}')
    many, left = divmod(MAX_VALUE_BYTES - frame, each)
    value = {"big": text * many + "." * left}
    store.set(value)
    assert store.get() == value
    with pytest.raises(ContextError, match="above the limit of 4,194,304"):
        store.set({"big": value["big"] + "."})
    with pytest.raises(ContextError, match="above the limit of 4,194,304"):
        store.compare_and_set(value["big"] + "." * frame, store.version)
    assert store.get() == value


# -- codecs --------------------------------------------------------------------------------------------------------


def test_a_codec_takes_what_is_not_json(codec_home: Home) -> None:
    """A value that JSON has no word for comes back through a codec that compresses."""
    codec = Zipped()
    store = codec_home.open(codec=codec)
    value = {"price": Money(5), "many": ["x" * 1000] * 10}
    store.set(value)
    assert store.get() == value
    assert store.update(lambda old: {**old, "price": Money(old["price"].amount + 1)})["price"] == Money(6)
    assert store.get_versioned().value["price"] == Money(6)
    assert store.compare_and_set({"price": Money(7)}, store.version)
    assert store.get() == {"price": Money(7)}
    store.delete()
    assert store.get() is None
    assert set(codec.calls) == {"encode", "decode"}


def test_what_a_codec_gives_is_the_callers_own(codec_home: Home) -> None:
    """Each read decodes anew."""
    store = codec_home.open(codec=Zipped())
    store.set({"list": [1]})
    store.get()["list"].append(2)
    assert store.get() == {"list": [1]}


def test_the_default_codec_can_be_named(codec_home: Home) -> None:
    """Who passes it has what everybody has."""
    store = codec_home.open(codec=JsonCodec())
    store.set({"a": 1})
    assert codec_home.open().get() == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [None, "text", bytearray(b"x"), b"x" * (MAX_VALUE_BYTES + 1)],
    ids=["raises", "text", "bytearray", "big"],
)
def test_what_a_codec_refuses_is_not_written(codec_home: Home, answer: Any) -> None:
    """An error of its own, something that is no bytes, too many bytes: refused, and the value is not quoted."""
    store = codec_home.open(codec=Broken(answer))
    with pytest.raises(ContextError) as refused:
        store.set({"card": "hush"})
    assert "hush" not in str(refused.value)
    assert store.version == 0
    assert store.get() is None


def test_what_a_codec_cannot_read_is_an_error_that_does_not_quote_it(codec_home: Home) -> None:
    """Bytes of another codec are neither guessed at nor shown; deleting them works."""
    store = codec_home.open(codec=Broken(b"card hush"))
    store.set({"card": "hush"})
    with pytest.raises(ContextError) as refused:
        store.get()
    assert "hush" not in str(refused.value)
    assert "Broken" in str(refused.value)
    store.delete()
    assert store.get() is None


# -- several at once -----------------------------------------------------------------------------------------------

WRITERS = 4
TURNS = 25


def add_each(store: VersionedContextStore) -> int:
    """Count up by one, turn after turn."""
    for _ in range(TURNS):
        store.update(lambda value: {"n": (value or {"n": 0})["n"] + 1})
    return TURNS


def claim_once(store: VersionedContextStore) -> list[int]:
    """Try to be the one who makes each next version; the versions that it made."""
    made: list[int] = []
    while len(made) < TURNS:
        read = store.get_versioned()
        if store.compare_and_set(f"after {read.version}", read.version):
            made.append(read.version + 1)
    return made


def create(store: VersionedContextStore) -> bool:
    """Try to be the one who makes it."""
    return store.compare_and_set("made", 0)


def test_updates_that_meet_lose_nothing(home: Home, meeting: Meeting) -> None:
    """Several processes (threads, where nobody else reaches the store) count up at the same time: every one counts."""
    assert meeting.at_once(home, add_each) == [TURNS] * WRITERS
    assert home.open().get() == {"n": WRITERS * TURNS}


def test_of_compare_and_sets_that_meet_one_wins(home: Home, meeting: Meeting) -> None:
    """Several processes expect the same version, again and again: each version has exactly one who made it."""
    home.open().set("begun")
    begun = home.open().version
    answers = meeting.at_once(home, claim_once)
    made = sorted(version for versions in answers for version in versions)
    assert made == list(range(begun + 1, begun + 1 + WRITERS * TURNS))
    assert home.open().get_versioned() == Versioned(value=f"after {made[-1] - 1}", version=made[-1])


def test_of_creators_that_meet_one_wins(home: Home, meeting: Meeting) -> None:
    """Several processes find nothing, and make it: it is made once."""
    assert sorted(meeting.at_once(home, create)) == [False] * (WRITERS - 1) + [True]
    assert home.open().get() == "made"


# -- expiry --------------------------------------------------------------------------------------------------------


def test_an_expired_context_is_missing_at_once(mortal: Home) -> None:
    """None at version 0, as if nobody had written it; nobody needs to sweep first."""
    mortal.open(ttl=3600).set({"n": 1})
    mortal.expire()
    assert mortal.open().get_versioned() == Versioned(value=None, version=0)
    assert mortal.open().version == 0
    assert mortal.open().update(lambda value: [value]) == [None]


def test_a_version_from_before_the_expiry_is_never_met_again(mortal: Home) -> None:
    """Whoever read a context that has expired since, and was written anew, cannot take the new one for what it read."""
    store = mortal.open(ttl=3600)
    store.set("old")
    store.set("older")
    read = store.version
    mortal.expire()
    assert not store.compare_and_set("stale", read)
    for _ in range(5):
        store.set("new")
        assert store.version > read
        assert not store.compare_and_set("stale", read)
    assert store.get() == "new"


def test_an_expired_context_is_made_by_one(mortal: Home) -> None:
    """Compare-and-set with 0 makes it anew, once."""
    store = mortal.open(ttl=3600)
    store.set("old")
    mortal.expire()
    assert store.compare_and_set("new", 0)
    assert not store.compare_and_set("newer", 0)
    assert store.get() == "new"


def test_time_goes_by_on_the_server(mortal: Home) -> None:
    """A context of 50 ms is gone some time later, without anybody's doing."""
    store = mortal.open(ttl=timedelta(milliseconds=50))
    store.set("short")
    eventually(lambda: store.get() is None, what="it has expired")
    assert store.version == 0


def test_every_write_begins_the_time_anew_and_none_ends_it(mortal: Home) -> None:
    """A set, a compare-and-set, an update and a deletion give the whole ttl again; ttl=None takes it away."""
    store, lasting = mortal.open(ttl=3600), mortal.open(ttl=None)
    writes = [
        lambda: store.set(1),
        lambda: store.compare_and_set(2, store.version),
        lambda: store.update(lambda value: 3),
        lambda: store.delete(),
    ]
    for write in writes:
        lasting.set("lasting")
        assert mortal.lifetime() is None
        write()
        assert 3500 < (mortal.lifetime() or 0) <= 3600
        mortal.open(ttl=10).get()
        assert 3500 < (mortal.lifetime() or 0) <= 3600


def test_a_deleted_context_is_forgotten_in_the_end(mortal: Home) -> None:
    """Also one that would have been kept for ever: what is left of it expires."""
    store = mortal.open(ttl=None)
    store.set(1)
    store.delete()
    assert 0 < (mortal.lifetime() or 0) <= 3600


def test_local_contexts_stay_beside_the_store(home: Home) -> None:
    """Another stimulation that is given the same store finds what neurons kept for themselves."""
    seen: list[int | None] = []
    go = collateral("go")
    counter = neuron("counter", local=int)

    @counter.dendrite(go)
    def count(payload: None, axon: Any, ctx: Any) -> None:
        seen.append(ctx.local.get())
        ctx.local.set((ctx.local.get() or 0) + 1)

    cns = CNS([counter])
    store = home.open()
    for _ in range(3):
        cns.run(go.create_signal(), ctx=store)

    assert seen == [None, 1, 2]

"""The context store in a collection: the rules of the port, and records that others can follow."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from cnstra import ConfigurationError, ContextError, ReactiveError
from cnstra.orchestrator.codecs import JsonCodec
from cnstra.orchestrator.contexts import ContextStore, Versioned, VersionedContextStore
from cnstra.stores import ReactiveContextStore
from cnstra.stores.reactive import Collection, ContextRecord, Database, DerivedSetIndex, ManualScheduler

Contexts = Collection[str, ContextRecord]


@pytest.fixture
def contexts() -> Contexts:
    return Collection("run_id", name="contexts")


def test_it_is_a_versioned_context_store(contexts: Contexts) -> None:
    """It passes where one is asked for."""
    store = ReactiveContextStore(contexts, "run-789")

    assert isinstance(store, ContextStore)
    assert isinstance(store, VersionedContextStore)


def test_each_write_raises_the_version_by_one(contexts: Contexts) -> None:
    """Version 0 was never written; a deletion is a write, and no value."""
    store = ReactiveContextStore(contexts, "run-789")
    assert store.get_versioned() == Versioned(value=None, version=0)

    store.set({"a": 1})
    assert store.get_versioned() == Versioned(value={"a": 1}, version=1)
    assert store.update(lambda value: {**value, "b": 2}) == {"a": 1, "b": 2}
    store.delete()
    assert (store.get(), store.version) == (None, 3)
    store.set(None)
    assert store.version == 4
    assert store.update(lambda value: [value]) == [None]
    assert store.get_versioned() == Versioned(value=[None], version=5)


def test_a_compare_and_set_writes_at_the_expected_version_only(contexts: Contexts) -> None:
    """Whether it wrote is its answer; two stores of one run are the same context."""
    one, two = ReactiveContextStore(contexts, "run-789"), ReactiveContextStore(contexts, "run-789")

    assert one.compare_and_set("first", 0)
    assert not two.compare_and_set("second", 0)
    assert two.compare_and_set(None, 1)
    assert one.get_versioned() == Versioned(value=None, version=2)
    for wrong in (-1, None, True, "1"):
        with pytest.raises(ContextError, match="expected_version"):
            one.compare_and_set("third", wrong)  # type: ignore[arg-type]


def test_runs_do_not_see_each_other(contexts: Contexts) -> None:
    """And a run's id may be given as UUID or as str."""
    run_id = UUID("0192f0c1-2c3d-7000-8000-000000000001")
    ReactiveContextStore(contexts, run_id).set(1)
    ReactiveContextStore(contexts, "another").set(2)

    assert ReactiveContextStore(contexts, str(run_id)).get() == 1
    assert contexts.primary_keys() == [str(run_id), "another"]


def test_what_is_read_and_what_was_given_are_copies(contexts: Contexts) -> None:
    """Changing either in place changes nothing that is stored."""
    store = ReactiveContextStore(contexts, "run-789")
    given = {"items": [{"id": 1}]}
    store.set(given)
    given["items"].append({"id": 2})
    store.get()["items"][0]["id"] = 3

    assert store.get() == {"items": [{"id": 1}]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param({"a": [1, (2,)]}, r"\$\.a\[1\] is a builtins\.tuple", id="tuple"),
        pytest.param({1: 2}, r"\$ has a key 1 of type int", id="key"),
        pytest.param([float("nan")], r"\$\[0\] is nan", id="nan"),
        pytest.param("\0", r"U\+0000", id="nul"),
    ],
)
def test_what_is_not_exactly_json_is_refused_naming_path_and_type(contexts: Contexts, value: Any, said: str) -> None:
    """In every way to write; nothing is written, and nobody is told."""
    store = ReactiveContextStore(contexts, "run-789")
    told: list[Any] = []
    contexts.subscribe(told.append)

    for write in (
        store.set,
        lambda value: store.compare_and_set(value, 0),
        lambda value: store.update(lambda _: value),
    ):
        with pytest.raises(ContextError, match=said) as refused:
            write(value)
        assert "the context of run run-789 in contexts" in str(refused.value)

    assert (store.version, told, len(contexts)) == (0, [], 0)


class Pickled:
    """Takes anything."""

    def encode(self, value: Any, /) -> bytes:
        return pickle.dumps(value)

    def decode(self, data: bytes, /) -> Any:
        return pickle.loads(data)


def test_a_codec_takes_what_json_does_not(contexts: Contexts) -> None:
    """It is never given None; the record has its bytes; what it cannot take is a ContextError."""
    store = ReactiveContextStore(contexts, "run-789", codec=Pickled())

    store.set({1, 2})
    assert store.get() == {1, 2}
    assert type(contexts.select_present(["run-789"])[0].data) is bytes
    store.delete()
    assert store.get() is None
    with pytest.raises(ContextError, match="codec Pickled refused a lock"):
        store.set(threading.Lock())
    assert store.version == 2


def test_the_codec_of_json_is_as_none(contexts: Contexts) -> None:
    """Records can be read either way."""
    ReactiveContextStore(contexts, "run-789", codec=JsonCodec()).set({"a": 1})

    assert ReactiveContextStore(contexts, "run-789").get() == {"a": 1}


def test_others_follow_a_run_by_its_key() -> None:
    """A subscriber of the run's record is told once a turn, and reads value and version there; indexes follow, too."""
    turn = ManualScheduler()
    contexts: Contexts = Collection("run_id", database=Database(turn))
    stage: DerivedSetIndex[str, str, ContextRecord] = DerivedSetIndex(
        contexts, lambda record: record.data["stage"] if record.data else None
    )
    store = ReactiveContextStore(contexts, "run-789")
    seen: list[ContextRecord | None] = []
    contexts.subscribe_key("run-789", lambda _: seen.append(contexts.select_by_primary_key("run-789")))

    store.set({"stage": "paid"})
    store.update(lambda value: {**value, "stage": "sent"})
    ReactiveContextStore(contexts, "another").set({"stage": "paid"})
    turn.flush()

    assert seen == [ContextRecord(run_id="run-789", data={"stage": "sent"}, version=2)]
    assert (stage.primary_keys("sent"), stage.primary_keys("paid")) == ({"run-789"}, {"another"})
    store.delete()
    turn.flush()
    assert seen[1:] == [ContextRecord(run_id="run-789", data=None, version=3)]
    assert stage.keys() == ["paid"]


def test_a_record_that_was_removed_was_never_written(contexts: Contexts) -> None:
    """How a context is forgotten, with its version."""
    store = ReactiveContextStore(contexts, "run-789")
    store.set(1)
    contexts.remove("run-789")

    assert store.get_versioned() == Versioned(value=None, version=0)
    assert store.compare_and_set(2, 0)


def test_updates_of_several_threads_all_count(contexts: Contexts) -> None:
    """Whoever was second is called again on what the first wrote."""

    def count() -> None:
        store = ReactiveContextStore(contexts, "run-789")
        for _ in range(200):
            store.update(lambda value: (value or 0) + 1)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(count) for _ in range(4)]:
            done.result()

    assert ReactiveContextStore(contexts, "run-789").get_versioned() == Versioned(value=800, version=800)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((5, "run-789"), "is of type int; give it a Collection of ContextRecord"),
        ((Collection("run_id"), None), "run_id is None; it is a text"),
        ((Collection("run_id"), ""), "run_id is ''; it is a text that is not empty"),
    ],
)
def test_g15_what_it_cannot_use_is_refused_when_it_is_made(arguments: Any, problem: str) -> None:
    """G15: no record of a run that is called None."""
    with pytest.raises(ConfigurationError, match=problem):
        ReactiveContextStore(*arguments)


def test_a_collection_with_another_primary_key_is_refused() -> None:
    """Every version would be a record of its own."""
    contexts: Collection[tuple[str, int], ContextRecord] = Collection(("run_id", "version"))

    with pytest.raises(ReactiveError, match='primary key must be "run_id"'):
        ReactiveContextStore(contexts, "run-789")  # type: ignore[arg-type]

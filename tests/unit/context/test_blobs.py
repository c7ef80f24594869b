"""Blobs of contexts that are kept elsewhere: their names, their form, and that nothing is taken for another."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from cnstra import ConfigurationError, ContextLost, DataRefused, StoreUnavailable
from cnstra.orchestrator.blobs import Blob, Blobs, blob_of, key_of, keys_of, referring
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.slots import Changes, OnStale, Slot, SlotWrite, Snapshot
from cnstra.orchestrator.view import View
from support.blob_stores import AwayError, GetsMany, MemoryBlobStore

RUN = UUID("0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10")
FENCE = Claimed(activation_id=7, epoch=2, nonce=255)


def changes(**texts: str | None) -> Changes:
    """Writes of keys, as JSON texts."""
    return Changes(
        writes=tuple(
            SlotWrite(slot=f"s:{key}", text=text, base=0, on_stale=OnStale.CONFLICT) for key, text in texts.items()
        )
    )


def blob(fence: Claimed = FENCE, turn: int = 0, **texts: str | None) -> Blob:
    """The blob of a hop that wrote these keys."""
    made = blob_of(RUN, fence, turn, changes(**texts))
    assert made is not None
    return made


def slots_of(made: Blob) -> dict[str, Slot]:
    """The slots that refer to a blob, as a store of runs has them."""
    return {slot: Slot(1, json.dumps(made.key)) for slot in made.delta}


# -- names and form --------------------------------------------------------------------------------------------


def test_a_key_begins_with_its_run_and_activation() -> None:
    """So a person, or a listing by prefix, finds what belongs to a run."""
    assert blob(a="1").key.startswith(f"{RUN}/7-2-ff-0-")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(blob(a="2"), id="content"),
        pytest.param(blob(turn=1, a="1"), id="turn"),
        pytest.param(blob(Claimed(activation_id=8, epoch=2, nonce=255), a="1"), id="activation"),
        pytest.param(blob(Claimed(activation_id=7, epoch=3, nonce=255), a="1"), id="epoch"),
        pytest.param(blob(Claimed(activation_id=7, epoch=2, nonce=254), a="1"), id="nonce"),
    ],
)
def test_a_key_stands_for_one_settlement_and_one_content(other: Blob) -> None:
    """An epoch may come twice after a failover, and a claim be settled anew with other content: never under one name."""
    assert blob(a="1").key != other.key
    assert blob(a="1").key == blob(a="1").key


def test_a_blob_is_json_that_a_person_can_read() -> None:
    """Values as they are, what was removed by name."""
    made = blob(a='{"n":[1,"\\u00e9",null]}', gone=None)
    assert json.loads(made.data) == {"cnstra": 1, "set": {"s:a": {"n": [1, "é", None]}}, "removed": ["s:gone"]}


def test_a_hop_that_only_removes_needs_no_blob() -> None:
    """That something is not there is known without it."""
    assert blob_of(RUN, FENCE, 0, changes(a=None)) is None


def test_what_is_no_text_is_refused() -> None:
    """Half a character, which the door lets nobody bring in: all the same it must not leave a hop unsettled."""
    with pytest.raises(DataRefused, match="activation 7: its context is no valid text"):
        blob(a='"\ud800"')


def test_changes_refer_to_their_blob() -> None:
    """A reference in the place of each value; what was removed stays so; bases and policies stay."""
    made = blob(a="1", gone=None)
    referred = referring(changes(a="1", gone=None), made)
    assert [(write.slot, write.text and key_of(write.text)) for write in referred.writes] == [
        ("s:a", made.key),
        ("s:gone", None),
    ]
    assert keys_of(slots_of(made)) == {made.key}


def test_a_view_refuses_references() -> None:
    """No handler can ever be shown a key in the place of a value."""
    with pytest.raises(RuntimeError, match="not taken from the store 'context'"):
        View(Snapshot(version=1, slots=slots_of(blob(a="1")), place="context"), "here")


# -- reading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["0", "-0.0", "1e-300", "12345678901234567890123", '"é\\n\\"/"', "[]", '{"":{}}', "null"]
)
def test_values_come_back_as_they_were(text: str) -> None:
    """Whatever JSON there is, also numbers that a database would write otherwise."""
    store = MemoryBlobStore()
    made = blob(a=text)
    Blobs(store).put(made)
    found = Blobs(store).fetch([made.key]).values(slots_of(made), "here")
    assert json.loads(str(found["s:a"].text)) == json.loads(text)
    assert repr(json.loads(str(found["s:a"].text))) == repr(json.loads(text))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(None, "is gone", id="gone"),
        pytest.param(b"", "holds other bytes than were put", id="empty"),
        pytest.param(blob(a="2").data, "holds other bytes than were put", id="another blob"),
        pytest.param(blob(a="1").data[:-1], "holds other bytes than were put", id="cut off"),
    ],
)
def test_a_blob_that_is_not_what_was_put_is_lost(content: bytes | None, problem: str) -> None:
    """The error names whose context it is, the blob, and the store."""
    store, made = MemoryBlobStore(), blob(a="1")
    if content is not None:
        store.put(made.key, content)
    with pytest.raises(ContextLost, match=problem) as caught:
        Blobs(store, "archive").fetch([made.key]).values(slots_of(made), "run 5")
    assert all(part in str(caught.value) for part in ("run 5", made.key, "'archive'"))


def test_a_slot_that_its_blob_does_not_have_is_lost() -> None:
    """Whatever brought that about, nothing is made up."""
    store, made = MemoryBlobStore(), blob(a="1")
    Blobs(store).put(made)
    with pytest.raises(ContextLost, match="has no slot 's:b'"):
        Blobs(store).fetch([made.key]).values({"s:b": Slot(1, json.dumps(made.key))}, "run 5")


def test_what_was_removed_needs_no_blob() -> None:
    """It is known to be missing, at its version."""
    assert Blobs(MemoryBlobStore()).fetch([]).values({"s:a": Slot(3, None)}, "") == {"s:a": Slot(3, None)}


# -- calls -----------------------------------------------------------------------------------------------------


def test_a_store_that_gets_many_is_asked_once() -> None:
    """For all keys that the cache does not know, in the order in which they are answered."""
    store = GetsMany()
    made = [blob(turn=turn, a=str(turn)) for turn in range(5)]
    for one in made:
        store.blobs[one.key] = one.data
    fetched = Blobs(store).fetch([one.key for one in made] * 2)
    assert {key: delta["s:a"] for key, delta in fetched.deltas.items()} == {
        one.key: str(turn) for turn, one in enumerate(made)
    }
    assert store.asked == {"get_many": 1}


def test_what_was_put_or_read_is_not_asked_for_again() -> None:
    """Blobs never change, so a cache by key is right for ever."""
    store, made = MemoryBlobStore(), blob(a="1")
    blobs, others = Blobs(store), Blobs(store)
    assert others.cached([made.key]) is None
    blobs.put(made)
    others.fetch([made.key])
    store.away = True
    for each in (blobs, others):
        assert each.fetch([made.key]).deltas == {made.key: {"s:a": "1"}}
        assert each.cached([made.key]) is not None
    assert store.asked == {"put": 1, "get": 1}


def test_the_cache_is_bounded_and_keeps_what_was_used_last() -> None:
    """By bytes; a blob that is larger than all of it is not kept at all."""
    store = MemoryBlobStore()
    blobs = Blobs(store, cache_bytes=4_000)
    first, second, third = (blob(turn=turn, a=json.dumps("x" * 1_000)) for turn in range(3))
    blobs.put(first)
    blobs.put(second)
    assert blobs.cached([first.key]) is not None
    blobs.put(third)
    assert blobs.cached([second.key]) is None
    assert blobs.cached([first.key, third.key]) is not None
    blobs.put(blob(a=json.dumps("x" * 4_000)))
    assert blobs.cached([first.key, third.key]) is not None


@pytest.mark.parametrize("what", ["put", "get", "delete"])
def test_a_store_that_raises_is_away(what: str) -> None:
    """Whatever it raises; the cause stays with it."""
    store, made = MemoryBlobStore(), blob(a="1")
    store.away = True
    blobs = Blobs(store)
    calls = {
        "put": lambda: blobs.put(made),
        "get": lambda: blobs.fetch([made.key]),
        "delete": lambda: blobs.delete([made.key]),
    }
    with pytest.raises(StoreUnavailable, match=f"the store of contexts 'context', {what}: AwayError") as caught:
        calls[what]()
    assert isinstance(caught.value.__cause__, AwayError)
    assert blobs.cached([made.key]) is None


def test_a_store_may_refuse_data_for_good() -> None:
    """That is the hop's own failure, and not an outage."""

    class Small(MemoryBlobStore):
        def put(self, key: str, data: bytes) -> None:
            raise DataRefused("too large for me")

    with pytest.raises(DataRefused, match="too large for me"):
        Blobs(Small()).put(blob(a="1"))


@pytest.mark.parametrize("answer", ["text", 5, [b"x"]])
def test_a_store_that_answers_no_bytes_is_not_believed(answer: Any) -> None:
    """A client that decodes, say: its mistake must not look like a loss, which would fail the run for good."""

    class Odd(MemoryBlobStore):
        def get(self, key: str) -> Any:
            return answer

    with pytest.raises(StoreUnavailable, match=f"it answered {type(answer).__name__}"):
        Blobs(Odd()).fetch(["k"])


def test_a_get_many_that_leaves_one_out_is_not_believed() -> None:
    """Its answers could not be told apart."""

    class Short(GetsMany):
        def get_many(self, keys: Any) -> Any:
            return [None]

    with pytest.raises(StoreUnavailable, match="1 values for 2 keys"):
        Blobs(Short()).fetch(["j", "k"])


# -- what may be a store ---------------------------------------------------------------------------------------


class _NoDelete:
    def put(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes | None: ...


class _Async(MemoryBlobStore):
    async def get(self, key: str) -> bytes | None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("store", "problem"),
    [
        ({}, "no method put"),
        (_NoDelete(), "no method delete"),
        (_Async(), "its get is async"),
        ("redis://h", "str.*RedisBlobStore"),
    ],
)
def test_what_cannot_be_a_store_is_refused_at_once(store: Any, problem: str) -> None:
    """Before anything is submitted or claimed with it."""
    with pytest.raises(ConfigurationError, match=problem):
        Blobs(store)


@pytest.mark.parametrize("name", ["", "a=b", "x" * 101, "a\nb", None])
def test_what_cannot_be_a_name_is_refused(name: Any) -> None:
    """It stands in SQL, logs and command lines."""
    with pytest.raises(ConfigurationError, match="context_name"):
        Blobs(MemoryBlobStore(), name)

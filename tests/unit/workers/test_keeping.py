"""A worker's keeper of contexts: what it does while its store is away, slow, or knows only a part."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from queue import Queue
from typing import Any
from uuid import UUID

import pytest

from cnstra import ContextLost, DataRefused, StoreUnavailable
from cnstra.orchestrator.blobs import Blob, Blobs, blob_of
from cnstra.orchestrator.machine.records import BlobRef, Claimed
from cnstra.orchestrator.slots import Changes, OnStale, Slot, SlotWrite
from cnstra.stores.memory import MemoryStore
from cnstra.workers import keeping
from cnstra.workers.keeping import Keeper
from support.blob_stores import AwayError, GetsMany
from support.clocks import ManualClock
from support.waiting import eventually

RUN = UUID("0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10")
PATIENCE = 60.0


def blob(number: int) -> Blob:
    """A blob of its own for each number, with one slot."""
    write = SlotWrite(slot="s:k", text=str(number), base=0, on_stale=OnStale.CONFLICT)
    made = blob_of(RUN, Claimed(activation_id=number, epoch=1, nonce=1), 0, Changes(writes=(write,)))
    assert made is not None
    return made


def slots(made: Blob) -> dict[str, Slot]:
    """The slot that refers to it."""
    return {"s:k": Slot(1, json.dumps(made.key))}


class Held(GetsMany):
    """A store that answers when it is told to, and can be poisoned for one key."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()
        self.entered = threading.Semaphore(0)
        self.poisoned: str | None = None

    def get_many(self, keys: Any) -> list[bytes | None]:
        self.entered.release()
        assert self.go_on.wait(PATIENCE)
        if self.poisoned in keys:
            raise AwayError("not this one")
        return super().get_many(keys)


class Desk:
    """A keeper over such a store, and what it tells."""

    def __init__(self) -> None:
        self.store = Held()
        self.told: Queue[Any] = Queue()
        self.keeper = Keeper(
            Blobs(self.store), litter_after=timedelta(0), back=lambda: self.told.put("the store is back")
        )

    def load(self, made: Blob, *, patient: bool = False) -> None:
        number = int(made.key.partition("/")[2].partition("-")[0])
        self.keeper.load(
            slots(made),
            f"number {number}",
            lambda found: self.told.put((number, found)),
            waits=lambda: self.told.put((number, "waits")),
            patient=patient,
        )

    def put(self, made: Blob) -> None:
        self.keeper.put(
            made, "", lambda refusal: self.told.put(refusal or "kept"), waits=lambda: self.told.put("put waits")
        )

    def next(self) -> Any:
        return self.told.get(timeout=PATIENCE)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The pauses are short: these tests wait for what happens, not for how long it takes."""
    monkeypatch.setattr(keeping, "_SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr(keeping, "_LONGEST_PAUSE", 0.002)
    desk = Desk()
    desk.keeper.start()
    yield desk
    desk.store.go_on.set()
    desk.keeper.stop()


def keep(desk: Desk, *numbers: int) -> list[Blob]:
    """Blobs that are in the store, and in no cache."""
    made = [blob(number) for number in numbers]
    desk.store.blobs |= {one.key: one.data for one in made}
    return made


def test_what_is_asked_for_while_the_store_is_busy_is_fetched_in_one_call(desk: Desk) -> None:
    """However many runs a claim has brought."""
    first, *rest = keep(desk, 1, 2, 3, 4)
    desk.store.go_on.clear()
    desk.load(first)
    desk.store.entered.acquire(timeout=PATIENCE)
    for one in rest:
        desk.load(one)
    desk.store.go_on.set()
    assert sorted(desk.next()[0] for _ in range(4)) == [1, 2, 3, 4]
    assert desk.store.asked["get_many"] == 2


def test_what_is_at_hand_needs_neither_the_store_nor_another_thread(desk: Desk) -> None:
    """A successor of the hop that put it goes on at once."""
    made = blob(1)
    desk.put(made)
    assert desk.next() == "kept"
    desk.store.away = True
    desk.load(made)
    assert desk.told.get_nowait() == (1, {"s:k": Slot(1, "1")})


def test_a_blob_that_is_gone_is_lost_for_its_own_run_alone(desk: Desk) -> None:
    """Those that were fetched with it have theirs."""
    (there,) = keep(desk, 1)
    desk.store.go_on.clear()
    desk.load(blob(9))
    desk.store.entered.acquire(timeout=PATIENCE)
    desk.load(there)
    desk.load(blob(8))
    desk.store.go_on.set()
    found = dict(desk.next() for _ in range(3))
    assert found[1] == {"s:k": Slot(1, "1")}
    assert all(isinstance(found[number], ContextLost) for number in (8, 9))


def test_a_store_that_is_away_is_told_of_once_and_asked_seldom(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """What was not called goes back; two calls find out, however much there is."""
    caplog.set_level(logging.INFO)
    made = keep(desk, *range(1, 20))
    desk.store.go_on.clear()
    desk.load(made[0])
    desk.store.entered.acquire(timeout=PATIENCE)
    desk.store.away = True
    for one in made[1:]:
        desk.load(one)
    desk.store.go_on.set()
    found = [desk.next() for _ in made]
    assert all(isinstance(what, StoreUnavailable) for _, what in found)
    assert desk.store.asked["get_many"] <= 4  # the first; then all together, and two of them alone
    desk.store.away = False
    desk.load(made[0])
    assert {str(desk.next()) for _ in range(2)} == {"the store is back", str((1, {"s:k": Slot(1, "1")}))}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_one_that_cannot_be_read_does_not_hold_up_the_others(desk: Desk) -> None:
    """Those that came with it are tried alone, and have theirs."""
    made = keep(desk, 1, 2, 3)
    desk.store.poisoned = made[1].key
    desk.store.go_on.clear()
    desk.load(blob(9))
    desk.store.entered.acquire(timeout=PATIENCE)
    for one in made:
        desk.load(one)
    desk.store.go_on.set()
    told = [desk.next() for _ in range(4)]
    found = dict(one for one in told if isinstance(one, tuple))
    assert (found[1], found[3]) == ({"s:k": Slot(1, "1")}, {"s:k": Slot(1, "3")})
    assert isinstance(found[2], StoreUnavailable)


def test_who_is_patient_waits_until_the_store_is_back(desk: Desk) -> None:
    """A handler that was called already must not be called again."""
    (made,) = keep(desk, 1)
    desk.store.away = True
    desk.load(made, patient=True)
    assert desk.next() == (1, "waits")
    desk.store.away = False
    told = [desk.next() for _ in range(2)]
    while told[-1] != (1, {"s:k": Slot(1, "1")}) and told[-2] != (1, {"s:k": Slot(1, "1")}):
        told.append(desk.next())
    assert set(map(str, told)) >= {"the store is back", str((1, {"s:k": Slot(1, "1")}))}


def test_a_blob_waits_until_the_store_is_back_and_is_put_once(desk: Desk) -> None:
    """Whoever waits for it is told that it takes longer, and then that it is kept."""
    desk.store.away = True
    desk.put(blob(1))
    assert desk.next() == "put waits"
    desk.store.away = False
    told: list[Any] = []
    while "kept" not in told:
        told.append(desk.next())
    assert set(told) <= {"put waits", "the store is back", "kept"}
    assert desk.store.blobs == {blob(1).key: blob(1).data}


def test_a_blob_that_the_store_refuses_is_no_outage(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to whom it belongs, and others are put."""

    def put(key: str, data: bytes) -> None:
        if key == blob(1).key:
            raise DataRefused("too large for me")

    monkeypatch.setattr(desk.store, "put", put)
    desk.put(blob(1))
    assert str(desk.next()) == "too large for me"
    desk.put(blob(2))
    assert desk.next() == "kept"
    assert desk.keeper.reachable


def test_a_store_that_hangs_is_not_asked_for_more_and_who_waits_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any error: what takes that long takes no room, and no more work of it is claimed."""
    (made,) = keep(desk, 1)
    desk.store.go_on.clear()
    desk.load(made)
    desk.store.entered.acquire(timeout=PATIENCE)
    assert desk.keeper.reachable
    monkeypatch.setattr(keeping, "_LONG", 0.0)
    assert not desk.keeper.reachable
    desk.keeper.renewed(MemoryStore(ManualClock().now))
    assert desk.next() == (1, "waits")
    desk.store.go_on.set()
    assert desk.next() == (1, {"s:k": Slot(1, "1")})


def test_what_could_not_be_read_at_all_is_still_answered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left waiting by a mistake of ours or of the store's."""
    (made,) = keep(desk, 1)
    fetch: Callable[..., Any] = desk.keeper._blobs.fetch

    def broken(keys: Any) -> Any:
        monkeypatch.setattr(desk.keeper._blobs, "fetch", fetch)
        raise RuntimeError("a mistake")

    monkeypatch.setattr(desk.keeper._blobs, "fetch", broken)
    desk.load(made)
    number, found = desk.next()
    assert (number, type(found)) == (1, StoreUnavailable)


def test_litter_is_deleted_and_forgotten(desk: Desk) -> None:
    """And not while the store is away: then it stays known."""
    clock = ManualClock()
    store = MemoryStore(clock.now)
    (made,) = keep(desk, 1)
    store._state.litter[BlobRef(place="context", key=made.key)] = clock.now()
    clock.advance(1)
    desk.store.away = True
    desk.keeper.renewed(store)
    desk.put(blob(2))  # on its way behind the litter, or beside it
    assert desk.next() == "put waits"
    assert store._state.litter
    desk.store.away = False
    while desk.next() != "kept":
        pass

    def tidied() -> bool:
        desk.keeper.renewed(store)
        return not store._state.litter

    eventually(tidied, PATIENCE, what="the litter is deleted")
    assert desk.store.blobs.keys() == {blob(2).key}

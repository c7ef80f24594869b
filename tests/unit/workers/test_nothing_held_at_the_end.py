"""Whatever becomes of claims, what was counted for them is given back: a worker whose counts drift claims less and less."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from tenacity import Retrying, stop_after_attempt

from cnstra import CNS, Axon, Context, collateral, neuron
from cnstra.orchestrator.errors import DataRefused, StoreUnavailable
from cnstra.orchestrator.machine.events import FailedTry, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.store import AppliedBatch, RunEvent
from cnstra.stores.memory import MemoryStore
from cnstra.stores.memory.operations import MemoryOperation
from cnstra.stores.memory.state import State
from cnstra.workers import calling, committing
from cnstra.workers.holding import Holdings
from support.quiet import kept, serving
from support.waiting import eventually

begin = collateral("begin", str)
PARTS = 40


class SourceAxon(Axon):
    part = collateral("part", str)


class PartAxon(Axon):
    follows = collateral("follows", str)
    hangs = collateral("hangs", str)


ONCE = Retrying(stop=stop_after_attempt(1))
source, part, rest = neuron("source", SourceAxon), neuron("part", PartAxon), neuron("rest", {})
released = threading.Event()


@source.dendrite(begin, retry=ONCE)
def scatter(kind: str, axon: SourceAxon) -> Any:
    return axon.part.scatter([kind] * (1 if kind == "hangs" else PARTS))


@part.dendrite(SourceAxon.part, retry=ONCE, on_conflict="retry")
def each(kind: str, axon: PartAxon, ctx: Context) -> Any:
    if kind == "raises":
        raise ValueError(kind)
    if kind == "updates":
        ctx.update("total", lambda total: (total or 0) + 1)
    if kind == "sets":
        ctx["latest"] = ctx.get("latest", 0) + 1
    if kind == "is too much":
        return axon.follows.create_signal(kind * 1_000)
    return (axon.hangs if kind == "hangs" else axon.follows).create_signal(kind)


@rest.dendrite(PartAxon.follows, retry=ONCE)
async def follow(kind: str) -> None:
    if kind == "raises late":
        raise ValueError(kind)


@rest.dendrite(PartAxon.hangs, retry=ONCE, max_duration=timedelta(milliseconds=20))
def hang(_kind: str) -> None:
    released.wait(60)


cns = CNS([source, part, rest], name="parts")


class Moody(MemoryStore):
    """A store that is away at times, that loses replies, and that refuses some of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = count()
        self.verdicts: set[Verdict] = set()
        self.refused: set[str] = set()

    def apply(self, events: Sequence[RunEvent]) -> MemoryOperation[AppliedBatch]:
        asked, carried = next(self._asked), super().apply(events)

        def carry_out(state: State) -> AppliedBatch:
            if asked % 7 == 3:
                raise StoreUnavailable("it is away")
            for event in events:
                self._refuse(event)
            applied = carried.carry_out(state)
            self.verdicts |= {answer.verdict for answer in applied.answers}
            if asked % 31 == 5:
                raise StoreUnavailable("its reply was lost")
            return applied

        return MemoryOperation("apply", carry_out)

    def _refuse(self, event: RunEvent) -> None:
        kind = "" if event.work is None else event.work.payload.strip('"')
        never = kind == "is refused for ever" and isinstance(event.event, FailedTry)
        if never or (kind.startswith("is refused") and isinstance(event.event, Succeeded)):
            self.refused.add(kind)
            raise DataRefused("no")


@pytest.fixture
def all_holdings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Holdings]]:
    """Those that are made."""
    made: list[Holdings] = []
    initialise = Holdings.__init__

    def spied(self: Holdings, *, threads: int, coroutines: int) -> None:
        initialise(self, threads=threads, coroutines=coroutines)
        made.append(self)

    monkeypatch.setattr(Holdings, "__init__", spied)
    released.clear()
    yield made
    released.set()


def counted(holdings: Holdings) -> dict[str, object]:
    return {
        "held": len(holdings._held),
        "waiting": len(holdings._waiting),
        "settling": holdings._settling,
        "bytes": holdings._bytes,
        "taken": holdings._taken,
        "promised": holdings._promised,
    }


NOTHING = {
    "held": 0,
    "waiting": 0,
    "settling": 0,
    "bytes": 0,
    "taken": {False: 0, True: 0},
    "promised": {False: 0, True: 0},
}
ENDS = {Verdict.APPLIED, Verdict.REPEATED, Verdict.STALE, Verdict.CONFLICTED}


def test_whatever_a_claim_comes_to_nothing_is_counted_in_the_end(
    all_holdings: list[Holdings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settled, stale and settled again, in conflict, failed, too large, refused, lost to its time, and answered in vain."""
    monkeypatch.setattr(calling, "MOST_PER_HOP", 8_000)
    monkeypatch.setattr(committing, "_PAUSE", 0.001)
    store = Moody()
    kinds = (
        "",
        "raises",
        "raises late",
        "updates",
        "sets",
        "is too much",
        "is refused",
        "is refused for ever",
        "hangs",
    )
    kept(store, cns, [begin.create_signal(kind) for kind in kinds for _ in range(10)])
    with serving(store, cns):
        (holdings,) = all_holdings
        eventually(lambda: holdings.is_empty and store.verdicts >= ENDS and len(store.refused) == 2)
        assert counted(holdings) == NOTHING
        released.set()


def test_nor_where_what_waits_is_given_back(all_holdings: list[Holdings]) -> None:
    """At a drain, thousands of members may wait for a thread."""
    store = MemoryStore()
    kept(store, cns, [begin.create_signal("") for _ in range(500)])
    with serving(store, cns):
        (holdings,) = all_holdings
        eventually(lambda: holdings._bytes > 1_000)
    assert counted(holdings) == NOTHING

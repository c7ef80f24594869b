"""The store port, read by clients: what the retention takes between two of their looks is gone, and never an empty value."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.blobs import Blobs, blob_of, referring
from cnstra.orchestrator.errors import ContextExpired, ContextLost, RunNotFound
from cnstra.orchestrator.flows import Flows, RunResult, drive
from cnstra.orchestrator.machine.events import Succeeded
from cnstra.orchestrator.machine.records import BlobRef
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.retention import FINAL_STATUSES
from cnstra.orchestrator.slots import EMPTY
from cnstra.orchestrator.store import Portion, RunEvent, Work
from support.blob_stores import MemoryBlobStore
from support.worlds import World, failed, hop, target

PLACE = "archive"
DAY = 86_400.0


class Between:
    """A store of runs to which something happens right before one of its operations is made."""

    def __init__(self, store: Any, operation: str, happens: Callable[[], object]) -> None:
        self._store, self._operation, self._happens = store, operation, happens

    def __getattr__(self, name: str) -> Any:
        if name == self._operation:
            self._happens()
        return getattr(self._store, name)


class Here:
    """Where the flows of these tests run."""

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self, operation: Any, /) -> Any:
        return self._world.store.run(operation)

    def call(self, blocking: Callable[[], Any], /) -> Any:
        return blocking()

    def sleep(self, seconds: float, /) -> None:
        raise AssertionError(f"waits for {seconds} s, though the run has ended")

    def ring(self, rings: Any, /) -> None:
        raise AssertionError(f"rings {rings}, though it only reads")

    def monotonic(self) -> float:
        return 0.0


class Kept:
    """Runs, and their contexts in a store of the user's own (``place``), or with the runs."""

    def __init__(self, world: World, place: str | None) -> None:
        self.world, self.place = world, place
        self.blobs = Blobs(MemoryBlobStore(), PLACE, cache_bytes=0)

    def run(self, *, fails: bool = False) -> UUID:
        """A run that wrote one version, and then completed or failed."""
        run_id = self.world.submit("stock", place=self.place)
        places = () if self.place is None else (self.place,)
        worker = self.world.worker(places=places)
        work = worker.claim_one(places=places)
        empty = replace(work, snapshot=EMPTY)
        written = hop(empty, lambda ctx: ctx.set({"k": 1}), targets=[target("bank")] if fails else [])
        self.world.settle(self._put(written.event(), work))
        if fails:
            self.world.settle(failed(worker.claim_one(places=places)))
        assert self.world.status(run_id) == ("failed" if fails else "completed")
        return run_id

    def _put(self, event: RunEvent, work: Work) -> RunEvent:
        if self.place is None:
            return event
        assert isinstance(event.event, Succeeded)
        blob = blob_of(work.run_id, work.fence, 0, event.event.changes)
        assert blob is not None
        self.blobs.put(blob)
        changes, reference = referring(event.event.changes, blob), BlobRef(place=self.place, key=blob.key)
        return replace(event, event=replace(event.event, changes=changes, blob=reference))

    def flows(self, operation: str = "", happens: Callable[[], object] = lambda: None) -> Flows:
        store: Any = Between(self.world.store, operation, happens)
        return Flows(None, store, Here(self.world), SystemEntropy(), self.blobs)

    def expire(self) -> None:
        self.world.store.run(self.world.store.set_retention({"context": timedelta(days=1)}))
        self.world.clock.advance(2 * DAY)
        assert len(self.world.store.run(self.world.store.expire(Portion())).contexts) == 1

    def prune(self) -> None:
        before = self.world.clock.now() + timedelta(seconds=1)
        self.world.store.run(self.world.store.prune(FINAL_STATUSES, before, Portion()))


@pytest.fixture(params=[None, PLACE])
def kept(request: pytest.FixtureRequest, world: World) -> Kept:
    return Kept(world, request.param)


@pytest.mark.parametrize("between", ["run_row", "history", "references"])
def test_a_history_whose_context_goes_meanwhile_is_expired_or_whole(kept: Kept, between: str) -> None:
    """Nobody is told that a version wrote nothing."""
    run_id = kept.run()
    happened: list[None] = []

    def happens() -> None:
        if not happened:
            happened.append(None)
            kept.expire()

    try:
        history = drive(kept.flows(between, happens).history(run_id))
    except ContextExpired:
        return
    assert [one.written for one in history] == [{"k": 1}]
    assert not happened


@pytest.mark.parametrize("between", ["run_row", "history", "references"])
def test_a_history_whose_run_goes_meanwhile_is_not_found_or_whole(kept: Kept, between: str) -> None:
    """A run that was there at the first look, and is pruned before the last, is one that is not stored."""
    run_id = kept.run()
    looks = iter([False, True] if between == "run_row" else [True])

    def happens() -> None:
        if next(looks, False):
            kept.prune()

    try:
        history = drive(kept.flows(between, happens).history(run_id))
    except RunNotFound:
        return
    assert [one.written for one in history] == [{"k": 1}]


def test_the_result_of_a_run_whose_context_has_gone_has_none(kept: Kept) -> None:
    """Waiting for it says how it ended; asking for the context says that it has gone."""
    run_id = kept.run()
    kept.expire()
    ended = RunResult(status="completed", outputs=(), context=None, error=None)
    assert drive(kept.flows().wait(run_id, None)) == ended
    for ask in (lambda: kept.flows().context(run_id, None), lambda: kept.flows().history(run_id)):
        with pytest.raises(ContextExpired, match=str(run_id)):
            drive(ask())


def test_waiting_for_a_failed_run_says_how_it_failed_though_a_part_of_its_context_is_lost(world: World) -> None:
    """It may have failed for that very loss: the loss is its error, and not the waiting's."""
    kept = Kept(world, PLACE)
    run_id = kept.run(fails=True)
    kept.blobs.delete([str(one.text)[1:-1] for one in world.store.run(world.store.references(run_id))])
    result = drive(kept.flows().wait(run_id, None))
    assert (result.status, result.error_type, result.context) == ("failed", "shop.Boom", None)
    with pytest.raises(ContextLost, match="is gone"):
        drive(kept.flows().context(run_id, None))


def test_a_completed_runs_lost_context_is_no_empty_one(world: World) -> None:
    """Whoever waits for a result that was there, and is lost, hears that."""
    kept = Kept(world, PLACE)
    run_id = kept.run()
    kept.blobs.delete([str(one.text)[1:-1] for one in world.store.run(world.store.references(run_id))])
    with pytest.raises(ContextLost, match="is gone"):
        drive(kept.flows().wait(run_id, None))

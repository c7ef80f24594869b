"""The async store port: the same operations, awaited on one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any, TypeVar, cast

import pytest

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.store import AsyncStore, Operation, Store
from cnstra.stores.memory import AsyncMemoryStore
from cnstra.stores.postgres import AsyncPostgresStore
from support.clocks import DATABASE_CLOCK, DatabaseClock, ManualClock
from support.worlds import World, failed, succeeded, target

T = TypeVar("T")


class Awaited:
    """An async store on a loop of its own, for the blocking words of a ``World``."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._store, operation)

    def run(self, operation: Operation[T]) -> T:
        return self.gather(operation)[0]

    def gather(self, *operations: Operation[T]) -> list[T]:
        """Carry out all of them, each as a task."""

        async def together() -> list[T]:
            return list(await asyncio.gather(*(self._store.run(one) for one in operations)))

        return asyncio.run_coroutine_threadsafe(together(), self.loop).result()

    def close(self) -> None:
        for _ in range(2):  # idempotent
            asyncio.run_coroutine_threadsafe(self._store.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """As for blocking callers, over the async stores."""
    if request.param == "memory":
        clock = ManualClock()
        with closing(Awaited(AsyncMemoryStore(clock.now))) as store:
            yield World(cast("Store", store), clock)
        return
    url = request.getfixturevalue("database_url")
    with closing(DatabaseClock(url)) as moved, closing(Awaited(AsyncPostgresStore(url, clock=DATABASE_CLOCK))) as store:
        yield World(cast("Store", store), moved)


def test_a_run_goes_from_submit_to_its_end(world: World) -> None:
    """Submit, claim, settle, go on in the same worker, fail, retry, end, and read: each awaited."""
    world.store.run(world.store.check_schema())
    run_id = world.submit("stock")
    worker = world.worker()
    settled = world.settle(
        succeeded(worker.claim_one(), lambda ctx: ctx.set({"a": 1}), targets=[target("bank", here=True)])
    )
    (kept,) = settled.kept
    assert kept.snapshot.slots["s:a"].text == "1"
    world.apply(failed(kept, retry_after=5.0))
    world.clock.advance(5)
    assert world.look(worker).due == ((run_id, 2),)
    world.fire(run_id, 2)
    assert world.settle(succeeded(worker.claim_one())).verdict is Verdict.APPLIED
    assert world.row(run_id)["status"] == "completed"
    assert world.values(run_id) == {"a": 1}


def test_tasks_of_one_loop_share_a_store(world: World) -> None:
    """More tasks than connections settle the branches of one run at once: none is lost, and the run ends."""
    run_id = world.submit(*["stock"] * 10)
    works = world.worker().claim()
    operations = [world.store.apply([succeeded(work, lambda ctx: ctx.update({"n": 1}))]) for work in works]
    verdicts = [batch.answers[0].verdict for batch in cast("Awaited", world.store).gather(*operations)]
    assert verdicts.count(Verdict.APPLIED) == 1
    assert verdicts.count(Verdict.CONFLICTED) == 9
    world.apply(*(succeeded(work) for work in world.worker().claim()))
    assert (world.status(run_id), world.row(run_id)["context_version"]) == ("completed", 1)

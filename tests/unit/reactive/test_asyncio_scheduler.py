"""Turns on an event loop: when, and on which loop, wherever the writes come from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from cnstra.stores.reactive import AsyncioScheduler, Collection, Database

Items = Collection[int, dict[str, int]]


def items_with(scheduler: AsyncioScheduler) -> Items:
    return Collection("id", database=Database(scheduler))


def in_a_thread(function: Callable[[], Any]) -> None:
    """Run it elsewhere, and wait for its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_what_is_written_between_two_awaits_is_told_in_one_turn() -> None:
    """Not before the writer awaits, and then once."""

    async def main() -> None:
        items, told = items_with(AsyncioScheduler()), []
        items.subscribe(told.append)
        items.upsert_one({"id": 1})
        items.upsert_one({"id": 2})
        assert told == []
        await asyncio.sleep(0)
        assert told == [(1, 2)]
        items.upsert_one({"id": 3})
        await asyncio.sleep(0)
        assert told == [(1, 2), (3,)]

    asyncio.run(main())


def test_what_a_subscriber_writes_is_told_in_the_next_iteration() -> None:
    """So subscribers that answer each other let others have the loop in between."""

    async def main() -> None:
        items, told = items_with(AsyncioScheduler()), []
        items.subscribe(told.append)
        items.subscribe(lambda keys: items.upsert_one({"id": keys[0] + 1}) if keys[0] < 3 else None)
        items.upsert_one({"id": 1})
        for wanted in ([(1,)], [(1,), (2,)], [(1,), (2,), (3,)], [(1,), (2,), (3,)]):
            await asyncio.sleep(0)
            assert told == wanted

    asyncio.run(main())


def test_a_write_of_another_thread_is_told_on_the_loop() -> None:
    """It wakes a loop that sleeps, and the subscriber runs in the loop's thread."""

    async def main() -> None:
        items = items_with(AsyncioScheduler())
        told: asyncio.Future[tuple[tuple[int, ...], int]] = asyncio.get_running_loop().create_future()
        items.subscribe(lambda keys: told.set_result((keys, threading.get_ident())))
        threading.Thread(target=lambda: items.upsert_many([{"id": 1}, {"id": 2}])).start()
        async with asyncio.timeout(60):
            assert await told == ((1, 2), threading.get_ident())

    asyncio.run(main(), debug=True)  # which objects to what is not safe between threads


def test_a_write_on_another_loop_is_told_on_the_one_of_the_scheduler() -> None:
    """Where a scheduler was made is where its subscribers live."""

    async def main() -> None:
        items = items_with(AsyncioScheduler())
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        items.subscribe(lambda _: told.set_result(threading.get_ident()))

        async def write() -> None:
            items.upsert_one({"id": 1})

        threading.Thread(target=lambda: asyncio.run(write())).start()
        async with asyncio.timeout(60):
            assert await told == threading.get_ident()

    asyncio.run(main(), debug=True)  # which objects to what is not safe between threads


def test_a_loop_may_be_given_before_it_runs() -> None:
    """What was written by then is told when it does."""
    loop = asyncio.new_event_loop()
    try:
        items, told = items_with(AsyncioScheduler(loop)), []
        items.subscribe(told.append)
        items.upsert_one({"id": 1})
        in_a_thread(lambda: items.upsert_one({"id": 2}))
        assert told == []
        loop.run_until_complete(asyncio.sleep(0))
        assert told == [(1, 2)]
    finally:
        loop.close()


def test_what_was_written_before_there_was_a_loop_is_told_on_the_first() -> None:
    """A scheduler made at the top of a module waits for the first write on a loop, and loses nothing until then."""
    items, told = items_with(AsyncioScheduler()), []
    items.subscribe(told.append)
    items.upsert_one({"id": 1})
    in_a_thread(lambda: items.upsert_one({"id": 2}))
    assert told == []

    async def main() -> None:
        items.upsert_one({"id": 3})
        await asyncio.sleep(0)

    asyncio.run(main())
    assert told == [(1, 2, 3)]


def test_a_scheduler_outlives_its_loop() -> None:
    """What a loop's end cut off is told on the next one; nothing gets stuck, and a flush needs no loop."""

    async def make() -> AsyncioScheduler:
        return AsyncioScheduler()

    loop = asyncio.new_event_loop()
    items, told = items_with(loop.run_until_complete(make())), []
    items.subscribe(told.append)
    items.upsert_one({"id": 1})  # asks that loop, which never runs again
    loop.close()
    items.upsert_one({"id": 2})
    assert told == []

    async def write_and_wait() -> None:
        items.upsert_one({"id": 3})
        await asyncio.sleep(0)

    asyncio.run(write_and_wait())
    assert told == [(1, 2, 3)]
    items.upsert_one({"id": 4})
    items.database.flush()
    assert told == [(1, 2, 3), (4,)]


def test_a_given_loop_that_was_closed_keeps_what_is_due_for_a_flush() -> None:
    """It is not exchanged for another one, where nobody expects subscribers to run."""
    loop = asyncio.new_event_loop()
    loop.close()
    items, told = items_with(AsyncioScheduler(loop)), []
    items.subscribe(told.append)

    async def write() -> None:
        items.upsert_one({"id": 1})
        await asyncio.sleep(0)

    asyncio.run(write())
    assert told == []
    assert items.database.pending
    items.database.flush()
    assert told == [(1,)]


def test_a_cancellation_that_a_subscriber_meets_does_not_keep_the_others_from_being_told() -> None:
    """``Future.result()`` of a cancelled future raises what no ``except Exception`` catches."""

    async def main() -> None:
        items, told = items_with(AsyncioScheduler()), []
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        items.subscribe(lambda _: cancelled.result())
        items.subscribe(told.append)
        items.upsert_one({"id": 1})
        await asyncio.sleep(0)
        assert told == [(1,)]

    asyncio.run(main())

"""The pace of commits: at once where somebody waits for the successors, and otherwise such that they are worth it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import Queue
from typing import Any
from uuid import UUID

import pytest

from cnstra.orchestrator.errors import StoreUnavailable
from cnstra.orchestrator.machine.events import Returned
from cnstra.orchestrator.store import AppliedBatch
from cnstra.workers.committing import IN_FLIGHT, MOST_PER_COMMIT, Committer, Settlement
from support.waiting import eventually
from support.works import work

PATIENCE = 60.0
NEVER = 3600.0


class CountingStore:
    """Settles nothing, and tells how much it was to settle at once, and on which thread."""

    def __init__(self) -> None:
        self.batches: Queue[int] = Queue()
        self.threads: list[int] = []
        self.away = False

    def apply(self, events: list[Any]) -> int:
        return len(events)

    def run(self, count: int) -> AppliedBatch:
        self.threads.append(threading.get_ident())
        if self.away:
            self.away = False
            raise StoreUnavailable("just for once")
        self.batches.put(count)
        answers: Any = (None,) * count
        return AppliedBatch(answers=answers, rings=(), left=())

    def next(self) -> int:
        return self.batches.get(timeout=PATIENCE)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def committer_of(store: CountingStore) -> Iterator[Callable[[bool], Committer]]:
    """Makes committers, by whether nobody waits for them; these would wait an hour from one commit to the next."""
    with ExitStack() as stack:

        def make(unhurried: bool) -> Committer:
            nothing: Any = lambda *_: None  # noqa: E731
            committer = Committer(
                store,  # type: ignore[arg-type]
                nothing,
                before=nothing,
                settled=nothing,
                refused=nothing,
                rung=nothing,
                unhurried=lambda: unhurried,
                pace=NEVER,
            )
            committer.start()
            stack.callback(committer.stop, 1.0)
            return committer

        yield make


def settlement(number: int) -> Settlement:
    """Of a run that goes the first way."""
    one = work(run_id=UUID(int=number * IN_FLIGHT))
    return Settlement(work=one, event=Returned(fence=one.fence))


def test_where_somebody_waits_each_commit_follows_the_last_at_once(
    store: CountingStore, committer_of: Callable[[bool], Committer]
) -> None:
    """A thread is free: what a step leaves is to be called now."""
    committer = committer_of(False)

    for number in range(3):
        committer.put(settlement(number))
        assert store.next() == 1


def test_where_nobody_waits_commits_keep_their_pace_or_are_full(
    store: CountingStore, committer_of: Callable[[bool], Committer]
) -> None:
    """The first begins at once, as none was before it; the next has the hour, and takes all that comes until it is full."""
    committer = committer_of(True)
    committer.put(settlement(0))
    assert store.next() == 1

    committer.put(settlement(1))
    eventually(committer._lanes[0].pending.empty, what="the second is waited with")
    for number in range(2, MOST_PER_COMMIT + 1):
        committer.put(settlement(number))

    assert store.next() == MOST_PER_COMMIT


def test_what_is_pending_at_the_end_is_committed_without_waiting(
    store: CountingStore, committer_of: Callable[[bool], Committer]
) -> None:
    """A worker that drains has no time for a pace."""
    committer = committer_of(True)
    committer.put(settlement(0))
    assert store.next() == 1
    committer.put(settlement(1))

    committer.stop(PATIENCE)

    assert store.next() == 1


def test_a_caller_with_nothing_better_to_do_commits_by_itself(
    store: CountingStore, committer_of: Callable[[bool], Committer]
) -> None:
    """Where nothing is on its way, and no call waits for a thread: nobody has to wake."""
    committer_of(False).settle(settlement(0))

    assert store.next() == 1
    assert store.threads == [threading.get_ident()]


def test_a_caller_that_is_needed_elsewhere_does_not(
    store: CountingStore, committer_of: Callable[[bool], Committer]
) -> None:
    """Calls wait for a thread: the committer settles, and the caller goes on."""
    committer_of(True).settle(settlement(0))

    assert store.next() == 1
    assert store.threads != [threading.get_ident()]


def test_what_a_caller_could_not_commit_is_the_committers_to_try_again(
    store: CountingStore, committer_of: Callable[[bool], Committer]
) -> None:
    """The store is away: the thread goes on to its next call, and the settlement is not lost."""
    store.away = True

    committer_of(False).settle(settlement(0))

    assert store.next() == 1
    first, second = store.threads
    assert first == threading.get_ident() != second


def test_one_that_comes_while_another_is_committed_waits_for_its_turn(
    store: CountingStore, committer_of: Callable[[bool], Committer]
) -> None:
    """Two commits of one way would wait for each other in the database: the second goes with whatever comes beside it."""
    committer = committer_of(False)
    run, inside, go_on = store.run, threading.Event(), threading.Event()

    def slowly(count: int) -> AppliedBatch:
        inside.set()
        assert go_on.wait(PATIENCE)
        return run(count)

    store.run = slowly  # type: ignore[method-assign]
    leader = threading.Thread(target=committer.settle, args=(settlement(0),))
    leader.start()
    assert inside.wait(PATIENCE)

    committer.settle(settlement(1))  # returns
    eventually(committer._lanes[0].pending.empty, what="the committer has it in its hands")
    committer.put(settlement(2))
    go_on.set()
    leader.join(PATIENCE)

    assert [store.next(), store.next()] == [1, 2]
    assert threading.get_ident() not in store.threads

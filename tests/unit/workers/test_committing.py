"""The pace of commits: at once where somebody waits for the successors, and otherwise such that they are worth it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from queue import Queue
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.errors import StoreUnavailable
from cnstra.orchestrator.machine.events import Returned
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.store import AppliedBatch
from cnstra.workers.committing import IN_FLIGHT, MOST_PER_COMMIT, Committer, Settlement
from support.ringing import ring_of
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
        self.rings: tuple[Ring, ...] = ()
        self.footholds: list[Any] = []

    def apply(self, events: list[Any]) -> int:
        self.footholds += [event.work.foothold for event in events]
        return len(events)

    def run(self, count: int) -> AppliedBatch:
        self.threads.append(threading.get_ident())
        if self.away:
            self.away = False
            raise StoreUnavailable("just for once")
        self.batches.put(count)
        if self.footholds[-1] is not None:  # somebody else has moved the run
            return AppliedBatch(answers=(), rings=(), left=(0,))
        answers: Any = (None,) * count
        return AppliedBatch(answers=answers, rings=self.rings, left=())

    def next(self) -> int:
        return self.batches.get(timeout=PATIENCE)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


class Bell:
    """Notes what was rung, and on which thread."""

    def __init__(self) -> None:
        self.rung: Queue[tuple[list[Ring], int]] = Queue()

    def ring(self, rings: Sequence[Ring]) -> None:
        self.rung.put((list(rings), threading.get_ident()))


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def committer_of(store: CountingStore, bell: Bell) -> Iterator[Callable[[bool], Committer]]:
    """Makes committers, by whether nobody waits for them; these would wait an hour from one commit to the next."""
    with ExitStack() as stack:

        def make(unhurried: bool) -> Committer:
            nothing: Any = lambda *_: None  # noqa: E731
            committer = Committer(
                store,  # type: ignore[arg-type]
                bell,  # type: ignore[arg-type]
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


def test_what_a_callers_commit_makes_ready_is_rung_for_and_not_by_the_caller(
    store: CountingStore, bell: Bell, committer_of: Callable[[bool], Committer]
) -> None:
    """A broker that hangs would hold up a thread that has calls to make."""
    store.rings = (ring_of(1),)

    committer_of(False).settle(settlement(0))

    rung, thread = bell.rung.get(timeout=PATIENCE)
    assert rung == [*store.rings]
    assert thread != threading.get_ident() == store.threads[0]


def test_what_a_callers_commit_leaves_is_settled_as_any_other(
    store: CountingStore, committer_of: Callable[[bool], Committer]
) -> None:
    """Its foothold is gone: the committer settles it again, without one."""
    one = settlement(0)
    on_a_foothold = replace(one, work=replace(one.work, foothold="a foothold"))  # type: ignore[arg-type]

    committer_of(False).settle(on_a_foothold)

    assert [store.next(), store.next()] == [1, 1]
    assert store.footholds == ["a foothold", None]

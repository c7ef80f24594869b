"""How much a process may claim, and who is told when there is room again."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.machine.records import Target
from cnstra.workers import holding
from cnstra.workers.holding import MOST_AHEAD, MOST_BYTES, MOST_SETTLING, MOST_STAYING, Holdings, Job
from support.works import work

SYNC, ASYNC = False, True
MEMBER = Target(ordinal=0, neuron="bank", dendrite="book", collateral="order", queue="default", payload="1")
"""Of the dendrite that all jobs here are of."""


class Times:
    """The monotonic clock of the module, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(holding.time, "monotonic", lambda: self.now)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def job(number: int, *, is_async: bool = False) -> Job:
    return Job(work=work(run_id=UUID(int=number)), claimed=0.0, streak=0, is_async=is_async)


def jobs(count: int, **options: Any) -> list[Job]:
    return [job(number, **options) for number in range(1, count + 1)]


def call(holdings: Holdings, times: Times, of: list[Job], seconds: float) -> None:
    """Claim these, and call them one after the other, each for so long; their settlements wait."""
    holdings.take(of, waiting=True)
    for one in of:
        assert holdings.begin(one)
        times.now += seconds
        holdings.set_down(one.work)


def test_as_many_as_there_are_threads_may_wait_for_one_at_first(times: Times) -> None:
    """Nobody knows yet how long calls take; async handlers wait for nothing."""
    holdings = Holdings(threads=4, coroutines=10)
    assert holdings.room({SYNC}) == 8
    assert holdings.room({ASYNC}) == 10
    assert holdings.room({SYNC, ASYNC}) == 8
    assert holdings.room(set()) == 0


def test_a_call_that_has_ended_takes_no_room_before_it_is_settled(times: Times) -> None:
    """Its settlement may wait; it is held until then."""
    holdings = Holdings(threads=2, coroutines=1)
    first, second = jobs(2)
    holdings.take([first, second], waiting=True)
    assert holdings.room({SYNC}) == 2
    assert holdings.begin(first)
    assert holdings.room({SYNC}) == 2
    holdings.set_down(first.work)
    assert holdings.room({SYNC}) == 3
    assert holdings.holds(first.work.run_id, first.work.fence)
    holdings.let_go([first.work])
    assert holdings.room({SYNC}) == 3
    assert not holdings.holds(first.work.run_id, first.work.fence)
    holdings.let_go([second.work])
    assert holdings.room({SYNC}) == 4
    assert holdings.is_empty


def test_quick_calls_are_claimed_ahead_and_one_slow_call_ends_that(times: Times) -> None:
    """As many as the threads work off in a moment, and never more than the most."""
    holdings = Holdings(threads=4, coroutines=1)
    call(holdings, times, jobs(300), 0.000_1)
    assert holdings.room({SYNC}) == 4 + MOST_AHEAD
    call(holdings, times, [job(1000)], 5.0)
    assert holdings.room({SYNC}) == 8


def test_handlers_that_take_longer_than_a_moment_are_not_claimed_ahead(times: Times) -> None:
    """Others may have a thread for them."""
    holdings = Holdings(threads=4, coroutines=1)
    call(holdings, times, jobs(300), 0.05)
    assert holdings.room({SYNC}) == 8


def test_as_many_calls_may_stay_as_there_are_threads_for(times: Times) -> None:
    """What is held counts, and what was promised, until the work that it was promised to is settled."""
    holdings = Holdings(threads=4, coroutines=10)
    first, second = jobs(2)
    holdings.take([first, second], waiting=True)
    assert holdings.promise(first.work, MEMBER, 1, is_async=False) == 1
    assert holdings.promise(second.work, MEMBER, 5, is_async=False) == 1
    assert holdings.promise(second.work, MEMBER, 5, is_async=True) == 5
    assert (holdings.room({SYNC}), holdings.room({ASYNC})) == (8 - 2 - 2, 10 - 5)
    holdings.let_go([second.work])
    assert holdings.room({SYNC}) == 8 - 1 - 1
    holdings.let_go([first.work])
    assert holdings.promise(first.work, MEMBER, 1, is_async=False) == 0, "it is not held any more"
    assert holdings.room({SYNC}) == 8


def test_quick_calls_stay_beyond_what_would_be_claimed(times: Times) -> None:
    """They would be over before anybody else could have claimed them; but for a bound, and not where threads hang."""
    holdings = Holdings(threads=4, coroutines=1)
    call(holdings, times, jobs(300), 0.000_1)
    holdings.take([job(1000)], waiting=True)
    given = holdings.promise(job(1000).work, MEMBER, 10_000, is_async=False)
    assert MOST_AHEAD < given < int(4 * 0.02 / 0.000_1)
    assert holdings.room({SYNC}) == 0
    holdings.overdue()
    holdings.overdue()
    assert holdings.promise(job(1000).work, MEMBER, 1, is_async=False) == 0


def test_where_there_is_plenty_all_that_are_quick_stay(times: Times) -> None:
    """Up to a bound; of those that are not quick as many as there are threads for."""
    holdings = Holdings(threads=4, coroutines=1)
    call(holdings, times, jobs(300), 0.000_9)
    holdings.take([job(1000)], waiting=True)
    assert holdings.promise(job(1000).work, MEMBER, 10_000, is_async=False) < 4 * 0.02 / 0.000_9
    assert (
        holdings.promise(job(1000).work, MEMBER, 10_000, is_async=False, plenty=True)
        > MOST_STAYING - 4 * 0.02 / 0.000_9
    )
    slow = Holdings(threads=4, coroutines=1)
    call(slow, times, jobs(300), 0.011)
    slow.take([job(1000)], waiting=True)
    assert slow.promise(job(1000).work, MEMBER, 10_000, is_async=False, plenty=True) == 7 - 1


def test_how_long_members_take_is_known_by_their_dendrite(times: Times) -> None:
    """Slow ones among many that are quick are left to others; those that were never called count as what calls usually take."""
    holdings = Holdings(threads=4, coroutines=1)
    slow, unknown = replace(MEMBER, neuron="slow"), replace(MEMBER, neuron="unknown")
    call(holdings, times, [replace(one, work=replace(one.work, neuron="slow")) for one in jobs(300)], 0.05)
    holdings.let_go([one.work for one in jobs(300)])
    call(holdings, times, jobs(600)[300:], 0.000_9)
    holdings.take([job(1000)], waiting=True)
    assert holdings.promise(job(1000).work, slow, 10_000, is_async=False, plenty=True) == 4 - 1
    few = holdings.promise(job(1000).work, unknown, 10_000, is_async=False, plenty=True)
    assert 50 < few < 4 * 0.02 / 0.000_9
    assert holdings.promise(job(1000).work, MEMBER, 10_000, is_async=False, plenty=True) > 3_000


def test_even_then_no_more_stays_than_is_worked_off_in_a_while(times: Times) -> None:
    """Whatever else this process could do waits for that: work of a higher priority, or of the other kind."""
    holdings = Holdings(threads=1, coroutines=1)
    call(holdings, times, jobs(300), 0.009)
    holdings.take([job(1000)], waiting=True)
    assert 90 < holdings.promise(job(1000).work, MEMBER, 10_000, is_async=False, plenty=True) < 1 / 0.009


def test_nothing_stays_where_threads_hang(times: Times) -> None:
    """Though there would be room: what waited was given back."""
    holdings = Holdings(threads=4, coroutines=1)
    scatters, waits = jobs(2)
    holdings.take([scatters, waits], waiting=True)
    assert holdings.begin(scatters)
    assert holdings.promise(scatters.work, MEMBER, 1, is_async=False) == 1
    holdings.overdue()
    assert holdings.overdue() == [waits]
    assert holdings.promise(scatters.work, MEMBER, 1, is_async=False) == 0


def test_a_store_that_is_slow_is_given_no_more(times: Times) -> None:
    """By number: what is settled still is bounded, however quick the handlers are."""
    holdings = Holdings(threads=4, coroutines=1)
    all_of_them = jobs(MOST_SETTLING)
    call(holdings, times, all_of_them, 0.000_1)
    assert holdings.room({SYNC}) == 0
    assert holdings.lacks({SYNC}) > 0
    holdings.let_go([one.work for one in all_of_them[:5]])
    assert holdings.room({SYNC}) == 5


def test_nor_is_one_that_is_to_take_very_much(times: Times) -> None:
    """By size."""
    holdings = Holdings(threads=4, coroutines=1)
    big, small = jobs(2)
    holdings.take([big, small], waiting=True)
    for one, size in ((big, MOST_BYTES), (small, 1)):
        assert holdings.begin(one)
        holdings.set_down(one.work, size=size)
    assert holdings.room({SYNC}) == 0
    holdings.let_go([big.work])
    assert holdings.room({SYNC}) == 8


def test_nor_may_what_waits_here_be_very_much(times: Times) -> None:
    """Nothing is claimed, nor stays, until some of it is settled: a payload counts from the claim on."""
    holdings = Holdings(threads=4, coroutines=1)
    big, small = job(1), job(2)
    big = replace(big, work=replace(big.work, payload="x" * MOST_BYTES))
    holdings.take([small, big], waiting=True)
    assert holdings.room({SYNC}) == 0
    assert holdings.promise(small.work, MEMBER, 1, is_async=False, plenty=True) == 0
    assert holdings.begin(big)
    holdings.set_down(big.work, size=1)
    assert holdings.room({SYNC}) == 8 - 1, "what it came to counts in the place of its payload"
    holdings.let_go([big.work])
    assert holdings.promise(small.work, MEMBER, 1, is_async=False) == 1


def test_what_has_waited_through_two_looks_is_given_back_and_nothing_more_is_to_wait(times: Times) -> None:
    """Until a thread is free: then as many as before may."""
    holdings = Holdings(threads=1, coroutines=1)
    busy, waits, follows = jobs(3)
    holdings.take([busy, waits], waiting=True)
    assert holdings.begin(busy)
    assert holdings.overdue() == []
    assert holdings.overdue() == [waits]
    assert not holdings.begin(waits)
    holdings.let_go([waits.work])
    assert holdings.room({SYNC}) == 0
    holdings.take([follows], waiting=True)
    assert holdings.begin(follows)
    holdings.let_go([follows.work])
    assert holdings.room({SYNC}) == 1


def test_who_waits_for_room_is_told_when_it_is_worth_a_claim(times: Times) -> None:
    """Not by each claim that goes: he would be woken for each."""
    holdings = Holdings(threads=16, coroutines=1)
    held = jobs(32)
    holdings.take(held, waiting=True)
    told = threading.Event()
    waits = threading.Event()

    def wait() -> None:
        with holdings.change:
            holdings.wants_kinds = {SYNC}
            holdings.wants_room = holdings.lacks({SYNC})
            waits.set()
            holdings.change.wait_for(lambda: not holdings.lacks({SYNC}))
            told.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert waits.wait(60)
    for one in held[:3]:
        holdings.let_go([one.work])
    with holdings.change:
        assert holdings.wants_room == 1
        assert not told.is_set()
    holdings.let_go([held[3].work])
    waiter.join(60)
    assert told.is_set()


def test_he_is_told_when_room_is_made_that_was_promised_to_one_claim(times: Times) -> None:
    """Its members did not stay after all: there will be no claims of theirs to make that room, one by one."""
    holdings = Holdings(threads=4, coroutines=1)
    quick = jobs(300)
    call(holdings, times, quick, 0.000_1)
    holdings.let_go([one.work for one in quick])
    (scatters,) = jobs(1)
    holdings.take([scatters], waiting=True)
    assert holdings.promise(scatters.work, MEMBER, 10_000, is_async=False, plenty=True) > 1_000
    holdings.wants_kinds = {SYNC}
    holdings.wants_room = holdings.lacks({SYNC})
    assert holdings.wants_room > 1_000

    holdings.let_go([scatters.work])

    assert (holdings.lacks({SYNC}), holdings.wants_room) == (0, 0)


@pytest.mark.parametrize("is_settled", [False, True])
def test_he_is_told_when_one_claim_leaves_that_alone_was_too_much(times: Times, *, is_settled: bool) -> None:
    """By its size: there may be no others to make room, one by one."""
    holdings = Holdings(threads=4, coroutines=1)
    quick = jobs(300)
    call(holdings, times, quick, 0.000_1)
    holdings.let_go([one.work for one in quick])
    big = job(1000)
    big = replace(big, work=replace(big.work, payload="x" * MOST_BYTES))
    holdings.take([big], waiting=True)
    holdings.wants_kinds = {SYNC}
    holdings.wants_room = holdings.lacks({SYNC})
    assert holdings.wants_room > 10

    if is_settled:
        holdings.let_go([big.work])
    else:
        holdings.set_down(big.work, size=1)

    assert (holdings.lacks({SYNC}), holdings.wants_room) == (0, 0)


def test_who_waits_for_nothing_to_be_held_is_told(times: Times) -> None:
    """At the end of a drain."""
    holdings = Holdings(threads=1, coroutines=1)
    (one,) = jobs(1)
    holdings.take([one], waiting=True)
    assert not holdings.wait_for_none(0.0)
    letting = threading.Timer(0.0, holdings.let_go, [[one.work]])
    letting.start()
    assert holdings.wait_for_none(60.0)
    letting.join()


def test_a_claim_that_was_given_back_before_it_came_is_not_taken(times: Times) -> None:
    """Others may have it by then. What had come is not to be given back; a later claim of the same work is another one."""
    holdings = Holdings(threads=2, coroutines=1)
    here, late, other = jobs(3)
    holdings.take([here], waiting=True)
    assert not holdings.disown(here.work.run_id, here.work.fence)

    assert holdings.disown(late.work.run_id, late.work.fence)

    assert holdings.take([late, other], waiting=True) == [other]
    assert not holdings.begin(late)
    assert not holdings.holds(late.work.run_id, late.work.fence)
    assert holdings.room({SYNC}) == 2
    again = replace(late, work=replace(late.work, fence=replace(late.work.fence, epoch=late.work.fence.epoch + 1)))
    assert holdings.take([again], waiting=True) == [again]


def test_only_so_many_claims_are_remembered_that_were_given_back(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest: what was given back long ago does not come any more."""
    monkeypatch.setattr(holding, "MOST_DISOWNED", 2)
    holdings = Holdings(threads=2, coroutines=1)
    all_of_them = jobs(3)
    for one in all_of_them:
        holdings.disown(one.work.run_id, one.work.fence)

    assert holdings.take(all_of_them, waiting=True) == all_of_them[:1]

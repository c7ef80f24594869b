"""The threads on which sync handlers are called: one that is stuck is replaced, and ends once it comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue

import pytest

from cnstra.workers.threads import Seat, Threads
from support.waiting import eventually

PATIENCE = 60.0


class Stuck:
    """A job that does not end until it is let go; it tells who does it."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._told: Queue[tuple[Seat, threading.Thread]] = Queue()
        self.let_go = threading.Event()

    def __call__(self) -> None:
        self._told.put((self._threads.seat(), threading.current_thread()))
        assert self.let_go.wait(PATIENCE)

    def begun(self) -> tuple[Seat, threading.Thread]:
        return self._told.get(timeout=PATIENCE)


@pytest.fixture
def one() -> Iterator[Threads]:
    threads = Threads(1)
    threads.start()
    yield threads
    threads.stop()


def test_a_stuck_thread_is_replaced_and_ends_with_its_job(one: Threads) -> None:
    """The one that came in its place does what waits; the one that comes back takes no other job."""
    stuck, following = Stuck(one), Stuck(one)
    one.put([stuck])
    seat, thread = stuck.begun()
    one.put([following])

    one.replace(seat)

    _, other = following.begun()
    assert other is not thread
    stuck.let_go.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    following.let_go.set()
    last = Stuck(one)
    last.let_go.set()
    one.put([last])
    assert last.begun()[1] is other


def test_a_thread_that_has_come_back_meanwhile_is_not_replaced(one: Threads) -> None:
    """Its seat is left: it has gone on to other jobs, and there must not be one thread too many."""
    quick, slow, waiting = Stuck(one), Stuck(one), Stuck(one)
    quick.let_go.set()
    one.put([quick])
    seat, thread = quick.begun()
    one.put([slow])
    assert slow.begun()[1] is thread
    before = threading.active_count()

    one.replace(seat)

    assert threading.active_count() == before
    one.put([waiting])
    slow.let_go.set()
    assert waiting.begun()[1] is thread
    waiting.let_go.set()


def test_a_seat_says_where_its_thread_is(one: Threads) -> None:
    """Whoever reads why a handler failed sees the line in which it is stuck."""
    stuck = Stuck(one)
    one.put([stuck])
    seat, _ = stuck.begun()
    assert "self.let_go.wait(PATIENCE)" in seat.stack()
    stuck.let_go.set()
    following = Stuck(one)
    following.let_go.set()
    one.put([following])
    following.begun()
    assert seat.stack() == ""


def test_a_job_that_raises_takes_no_thread_along(one: Threads, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next job is done."""

    def broken() -> None:
        raise ValueError("broken")

    one.put([broken])
    following = Stuck(one)
    following.let_go.set()
    one.put([following])
    following.begun()
    assert "a call's end could not be taken in" in caplog.text


def test_a_thread_that_puts_a_job_comes_for_it_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call leads to is begun on the thread that has just made it: nobody is woken for it, although another is idle."""
    threads = Threads(2)
    threads.start()
    begun: Queue[int] = Queue()
    woken: list[str] = []

    def chain(left: int) -> None:
        if left == 200:  # whoever was woken for the first is here
            monkeypatch.setattr(threads._change, "notify", lambda: woken.append("one"))
        begun.put(threading.get_ident())
        if left:
            threads.put([lambda: chain(left - 1)])

    threads.put([lambda: chain(200)])

    assert len({begun.get(timeout=PATIENCE) for _ in range(201)}) == 1
    assert woken == []
    monkeypatch.undo()
    threads.stop()


def test_what_a_replaced_thread_puts_is_done_by_another(one: Threads) -> None:
    """It ends with its job, and does not come for the next one: the thread in its place, which is idle, is woken."""
    stuck, before, following = Stuck(one), Stuck(one), Stuck(one)

    def be_stuck_and_put() -> None:
        stuck()
        one.put([following])

    one.put([be_stuck_and_put])
    seat, thread = stuck.begun()
    one.replace(seat)
    before.let_go.set()
    one.put([before])
    _, other = before.begun()
    eventually(lambda: one._idle == 1, what="the thread in its place has nothing to do")

    stuck.let_go.set()

    assert following.begun()[1] is other is not thread
    following.let_go.set()

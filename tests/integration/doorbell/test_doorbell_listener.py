"""The listener: woken at once, idle at next to no cost, unmoved by garbage, and quick to stop.

Where nothing else is said, these listeners wait an hour for one doorbell: what happens, happens because a ring or a stop
woke them.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import dramatiq
import pytest

from cnstra.workers.doorbell import DramatiqBell, DramatiqListener
from support.ringing import ring_of
from support.waiting import eventually


def test_a_ring_wakes_an_idle_listener_at_once(server: Any, bell: DramatiqBell, listen: Any, answers: Any) -> None:
    """The listener waits, and would for an hour; the ring ends it."""
    listen(answers, "default", "other")
    eventually(lambda: server.listening("default", "other"))
    ring = ring_of(3, "other")

    bell.ring([ring])

    assert answers.next() == ("other", ring.activations)


def test_bell_and_listener_meet_at_the_broker_that_the_project_starts(broker_url: str, answers: Any) -> None:
    """The URL of the development servers, with its password and database, is understood by both sides."""
    bell, listener = DramatiqBell(broker_url), DramatiqListener(broker_url, ["default"], answers)
    listener.start()
    ring = ring_of(2)

    bell.ring([ring])

    assert answers.next() == ("default", ring.activations)
    listener.stop()
    bell.close()


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_an_idle_listener_costs_one_command_a_queue_and_wait(
    server: Any, valkey: Any, listen: Any, answers: Any
) -> None:
    """Over many cycles of waiting, nothing but the blocking command itself reaches the server."""
    listen(answers, "default", wait=0.05)
    eventually(lambda: valkey.calls("blpop") > 0)
    valkey.ask("CONFIG", "RESETSTAT")

    eventually(lambda: valkey.calls("blpop") >= 10)

    with valkey.client() as client:
        asked = set(client.info("commandstats"))
    ours = {"blpop"}
    questions_of_the_test = {"auth", "hello", "info", "config|resetstat", "client|setinfo", "command"}
    assert {name.removeprefix("cmdstat_") for name in asked} <= ours | questions_of_the_test


def test_one_ring_wakes_one_of_many_idle_listeners(server: Any, bell: DramatiqBell, listen: Any, answers: Any) -> None:
    """However many workers wait, a doorbell is one's; the others sleep on."""
    for _ in range(4):
        listen(answers)
    eventually(lambda: server.listening(*["default"] * 4))

    rings = [ring_of(1) for _ in range(8)]
    for ring in rings:
        bell.ring([ring])

    assert sorted(answers.next()[1] for _ in rings) == sorted(ring.activations for ring in rings)
    eventually(lambda: server.listening(*["default"] * 4))
    assert answers.heard.empty()


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_a_ring_costs_the_listeners_of_a_list_one_command(
    server: Any, valkey: Any, bell: Any, listen: Any, answers: Any
) -> None:
    """Of four that wait, one gets an answer to its blocking command, and asks again."""
    for _ in range(4):
        listen(answers)
    eventually(lambda: valkey.blocked() == 4)

    bell.ring([ring_of(1)])
    answers.next()
    eventually(lambda: valkey.blocked() == 4)

    assert valkey.calls("blpop") == 1  # a blocking command counts when it ends


def test_two_listeners_on_one_queue_each_get_work(server: Any, bell: DramatiqBell, listen: Any) -> None:
    """Two doorbells meet at a barrier that opens only when both are being answered at the same time."""
    both = threading.Barrier(2)
    met: list[int] = []

    def meet(queue: str, activations: Any) -> None:
        met.append(both.wait(timeout=30))

    listen(meet)
    listen(meet)

    bell.ring([ring_of(1)])
    bell.ring([ring_of(1)])

    eventually(lambda: sorted(met) == [0, 1])


def test_a_busy_listener_leaves_doorbells_to_others(server: Any, bell: DramatiqBell, listen: Any, answers: Any) -> None:
    """While the one thread answers, the rest stays in the broker; another listener gets all of it."""
    busy, free = threading.Event(), threading.Event()

    def answer(queue: str, activations: Any) -> None:
        busy.set()
        free.wait(timeout=30)

    listen(answer)
    bell.ring([ring_of(1)])
    assert busy.wait(timeout=30)
    rings = [ring_of(1), ring_of(1)]
    for ring in rings:
        bell.ring([ring])
    eventually(lambda: bell.qsize("default") == 2)

    listen(answers)

    assert [answers.next()[1], answers.next()[1]] == [ring.activations for ring in rings]
    free.set()


def test_an_answer_that_raises_is_logged_and_the_next_doorbell_is_answered(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The doorbell that failed does not come back: what it told of is in Postgres."""
    failed = threading.Event()

    def answer(queue: str, activations: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("no claim today")
        answers(queue, activations)

    listen(answer)
    bell.ring([ring_of(1)])
    assert failed.wait(timeout=30)
    second = ring_of(1)

    bell.ring([second])

    assert answers.next() == ("default", second.activations)
    assert bell.qsize("default") == 0
    [record] = [record for record in caplog.records if record.exc_info]
    assert "'default'" in record.getMessage()
    assert "no claim today" in str(record.exc_info)


def doorbell(**changes: Any) -> bytes:
    """The JSON of a doorbell in order, but for the changes."""
    message = {
        "queue_name": "default",
        "actor_name": "cnstra_ring",
        "args": [],
        "kwargs": {"activations": [[str(uuid4()), 1]]},
        "options": {},
        "message_id": str(uuid4()),
        "message_timestamp": 0,
    }
    return json.dumps(message | changes).encode()


GARBAGE = {
    "nothing": b"",
    "no JSON": b"garbage",
    "no text": b"\xff\x00\x80",
    "nested too deeply": b"[" * 100_000,
    "no object": b"[1, 2, 3]",
    "a field is missing": b'{"queue_name": "default"}',
    "another actor": doorbell(actor_name="send_money"),
    "another queue": doorbell(queue_name="elsewhere"),
    "a queue that is no name": doorbell(queue_name=["default"]),
    "no arguments": doorbell(kwargs={}),
    "wrong arguments": doorbell(kwargs={"activations": "all of them"}),
    "a hint without a run": doorbell(kwargs={"activations": [[None, 1]]}),
    "a hint that is no id": doorbell(kwargs={"activations": [["not-a-uuid", 1]]}),
    "an activation that is true": doorbell(kwargs={"activations": [[str(uuid4()), True]]}),
    "an id that Postgres cannot hold": doorbell(kwargs={"activations": [[str(uuid4()), 2**63]]}),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_in_the_queue_is_dropped_with_a_word_and_stops_nothing(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, garbage: bytes, caplog: Any
) -> None:
    """Garbage before a doorbell: the doorbell is answered, the queue is empty, one line of log says why."""
    server.put("default", garbage)
    ring = ring_of(1)
    bell.ring([ring])

    listen(answers)

    assert answers.next() == ("default", ring.activations)
    assert answers.heard.empty()
    assert bell.qsize("default") == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.messages[0].startswith(f"Dropped a message of {len(garbage)} bytes from queue 'default'")


def test_a_doorbell_that_asks_for_a_delay_is_answered_now(server: Any, listen: Any, answers: Any) -> None:
    """Options come from the broker's queue, too, and are not obeyed: a far date would keep it in memory."""
    server.put("default", doorbell(options={"eta": 2**53, "pipe_target": {"actor_name": "send_money"}}))

    listen(answers)

    assert answers.next()[0] == "default"


def test_stop_ends_a_listener_that_waits(server: Any, listen: Any, answers: Any, ends: Any) -> None:
    """The wait of an hour ends with the stop; no thread is left over, and nobody listens."""
    threads = threading.active_count()
    listener = listen(answers, "default", "other")
    eventually(lambda: server.listening("default", "other"))

    ends(lambda: listener.stop(timeout=600))

    eventually(lambda: threading.active_count() == threads)
    eventually(lambda: server.listening())


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_a_listener_leaves_no_key_behind(server: Any, valkey: Any, listen: Any, answers: Any, ends: Any) -> None:
    """Nor does its stop, which wakes those that wait by a key."""
    listener = listen(answers, "default", "other")
    eventually(lambda: valkey.blocked() == 2)

    ends(lambda: listener.stop(timeout=600))

    assert valkey.ask("KEYS", "*") == []


def test_start_returns_when_its_threads_would_notice_a_stop(
    server: Any, listen: Any, answers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dramatiq's threads overlook a stop that comes before they run; these are late, and start waits for them."""
    returned, too_early = threading.Event(), []

    def late(run: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
        def run_late(thread: threading.Thread) -> None:
            too_early.append(returned.wait(timeout=0.1))
            run(thread)

        return run_late

    for kind in (dramatiq.ConsumerThread, dramatiq.WorkerThread):
        monkeypatch.setattr(kind, "run", late(kind.run))

    listen(answers, "default", "other", threads=2)
    returned.set()

    assert too_early == [False] * 4


def test_stop_lets_a_running_answer_end(server: Any, bell: DramatiqBell, listen: Any, answers: Any, ends: Any) -> None:
    """The claim that has begun is finished before stop returns; it ends only when the stop is under way."""
    busy, free = threading.Event(), threading.Event()

    def answer(queue: str, activations: Any) -> None:
        busy.set()
        assert free.wait(timeout=30)
        answers(queue, activations)

    listener = listen(answer, wait=0.05)
    bell.ring([ring_of(1)])
    assert busy.wait(timeout=30)
    stopping = threading.Thread(target=listener.stop, kwargs={"timeout": 600})
    stopping.start()
    assert listener._broker.stopping.wait(timeout=30)

    free.set()
    ends(stopping.join)

    assert not answers.heard.empty()


def test_stop_puts_back_what_was_taken_and_not_begun(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, ends: Any
) -> None:
    """One thread is stuck in an answer, a doorbell waits behind it: another worker gets that one."""
    busy, free = threading.Event(), threading.Event()

    def answer(queue: str, activations: Any) -> None:
        busy.set()
        free.wait(timeout=30)

    stuck = listen(answer, "a", "b", wait=0.05)
    bell.ring([ring_of(1, "a")])
    assert busy.wait(timeout=30)
    waiting = ring_of(1, "b")
    bell.ring([waiting])
    eventually(lambda: bell.qsize("b") == 0)

    ends(lambda: stuck.stop(timeout=0.1))

    listen(answers, "b")
    assert answers.next() == ("b", waiting.activations)
    free.set()


def test_a_listener_starts_once_and_leaves_signals_alone(server: Any, listen: Any, answers: Any) -> None:
    """Whoever owns the process decides what SIGTERM does; a second start would hear everything twice."""
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    listener = listen(answers)

    with pytest.raises(RuntimeError, match="starts once"):
        listener.start()

    assert [signal.getsignal(number) for number in signal.valid_signals()] == before


def test_stopping_a_listener_that_never_started_does_nothing(server: Any, answers: Any) -> None:
    """A worker that fails while it is built can clean up without asking how far it came."""
    listener = DramatiqListener(server.url, ["default"], answers)

    listener.stop()
    listener.stop()

    assert server.listening()

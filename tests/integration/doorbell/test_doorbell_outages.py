"""Bell and listener while the broker is killed, emptied, cut off, spoiled, or not there yet."""

from __future__ import annotations

import logging
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from cnstra.workers.doorbell import DramatiqBell
from cnstra.workers.doorbell.quorum_queues import QuorumDoorbells
from cnstra.workers.doorbell.redis_lists import RedisDoorbells
from support.ringing import ring_of
from support.waiting import eventually


def lines(caplog: pytest.LogCaptureFixture, level: int, logger: str = "cnstra.listener") -> list[str]:
    """What was logged at a level; Dramatiq's own loggers must have said nothing of the kind."""
    assert not [r for r in caplog.records if r.name.startswith("dramatiq") and r.levelno >= logging.WARNING]
    assert not [r for r in caplog.records if r.exc_info]
    return [r.getMessage() for r in caplog.records if r.levelno == level and r.name == logger]


def hears(bell: DramatiqBell, answers: Any) -> None:
    """A ring from now on is answered; perhaps after one from before, that some brokers keep."""
    ring = ring_of(1)
    bell.ring([ring])
    while answers.next() != ("default", ring.activations):
        pass


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_listener_hears_again_after_the_broker_was_killed_and_started_again(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, caplog: Any
) -> None:
    """SIGKILL and a restart on the same port: one line for the outage, one for its end, no traceback."""
    listen(answers, wait=0.05)
    hears(bell, answers)
    server.kill()
    server.turn_away(connections=4)
    server.start()
    eventually(lambda: len(lines(caplog, logging.INFO)) >= 1)

    hears(bell, answers)

    [went] = lines(caplog, logging.WARNING)
    assert f"127.0.0.1:{server.port}" in went
    assert "'default'" in went
    assert "open-sesame" not in caplog.text


def test_a_listener_starts_without_a_broker_and_hears_once_there_is_one(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, caplog: Any
) -> None:
    """A worker that boots before its broker is up needs no restart."""
    server.kill()
    listen(answers)
    eventually(lambda: len(lines(caplog, logging.WARNING)) == 1)

    server.start()
    eventually(lambda: server.listening("default"))

    hears(bell, answers)


def test_a_broker_that_forgets_costs_the_doorbells_in_it_and_nothing_more(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, caplog: Any
) -> None:
    """Emptied while a listener waits in it, the broker goes on to carry rings to the same listener."""
    listen(answers)
    eventually(lambda: server.listening("default"))

    server.forget("default")
    eventually(lambda: server.listening("default"))

    hears(bell, answers)
    assert lines(caplog, logging.WARNING) == []


def test_a_listener_whose_connections_are_cut_is_back_without_a_word(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, caplog: Any
) -> None:
    """All of them, as a proxy does with idle connections: reconnected at once, not reported."""
    listen(answers, "default", "other")
    hears(bell, answers)
    eventually(lambda: server.listening("default", "other"))

    server.cut()
    eventually(lambda: server.listening("default", "other"))

    hears(bell, answers)
    assert lines(caplog, logging.WARNING) == []


def test_stop_does_not_wait_for_a_broker_that_is_away(
    server: Any, listen: Any, answers: Any, ends: Any, caplog: Any
) -> None:
    """A worker can leave during an outage: its threads end, although nobody can be told."""
    threads = threading.active_count()
    listener = listen(answers)
    eventually(lambda: server.listening("default"))
    server.kill()
    eventually(lambda: len(lines(caplog, logging.WARNING)) == 1)

    ends(lambda: listener.stop(timeout=600))

    eventually(lambda: threading.active_count() == threads)


def test_stop_does_not_wait_for_a_broker_that_hangs(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, ends: Any
) -> None:
    """With many queues: that each of them is left takes no time of its own."""
    queues = [f"q{number}" for number in range(20)]
    bell.ring([ring_of(1, queue) for queue in queues])
    listener = listen(answers, *queues, wait=0.05)
    assert {answers.next()[0] for _ in queues} == set(queues)

    server.signal(signal.SIGSTOP)
    try:
        ends(lambda: listener.stop(timeout=1.0))
    finally:
        server.signal(signal.SIGCONT)


def test_stop_does_not_wait_for_who_is_reaching_for_a_silent_broker(
    server: Any, listen: Any, answers: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt lasts for seconds, in which a worker that shall drain would go on claiming."""
    reaching, silence = threading.Event(), threading.Event()

    def reach() -> None:
        reaching.set()
        silence.wait()

    for kind in (QuorumDoorbells, RedisDoorbells):
        monkeypatch.setattr(kind, "source", lambda *_: SimpleNamespace(take=reach, close=lambda: None))
    listener = listen(answers)
    assert reaching.wait(timeout=30)

    ends(lambda: listener.stop(timeout=600))

    silence.set()


def test_an_answer_ends_normally_while_the_broker_is_away(
    server: Any, bell: DramatiqBell, listen: Any, answers: Any, caplog: Any
) -> None:
    """The broker dies under a claim: the claim's end waits for nobody, and the next doorbell is heard."""
    busy, free = threading.Event(), threading.Event()

    def answer(queue: str, activations: Any) -> None:
        busy.set()
        assert free.wait(timeout=30)
        answers(queue, activations)

    listen(answer, wait=0.05)
    first = ring_of(1)
    bell.ring([first])
    assert busy.wait(timeout=30)
    server.kill()
    free.set()
    assert answers.next() == ("default", first.activations)
    server.start()

    hears(bell, answers)


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_a_key_of_another_kind_spoils_one_queue_until_it_is_gone(
    server: Any, valkey: Any, bell: DramatiqBell, listen: Any, answers: Any, caplog: Any
) -> None:
    """A string stands where the list belongs: both sides say so once, and recover when it is deleted."""
    key = "cnstra:doorbells:default"
    valkey.ask("SET", key, "surprise")
    listen(answers, "default")
    bell.ring([ring_of(1)])
    bell.ring([ring_of(1)])
    eventually(lambda: len(lines(caplog, logging.WARNING)) == 1)
    assert "WRONGTYPE" in lines(caplog, logging.WARNING)[0]
    assert len(lines(caplog, logging.WARNING, "cnstra.bell")) == 1

    valkey.ask("DEL", key)
    eventually(lambda: server.listening("default"))

    hears(bell, answers)


def test_a_bell_reports_each_outage_once_and_shows_no_secret(server: Any, bell: DramatiqBell, caplog: Any) -> None:
    """Many rings into a dead broker from many threads make one line; the next outage makes another."""
    for outage in (1, 2):
        server.kill()
        threads = [threading.Thread(target=bell.ring, args=([ring_of(1)],)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(lines(caplog, logging.WARNING, "cnstra.bell")) == outage

        server.start()
        eventually(lambda: bell.ring([ring_of(1)]) is None and server.take("default"))
        assert len(lines(caplog, logging.INFO, "cnstra.bell")) == outage

    assert server.shown in caplog.text
    assert "open-sesame" not in caplog.text


def test_a_wrong_password_is_an_outage_that_shows_none(server: Any, caplog: Any) -> None:
    """A bell that is refused tells of it once, and its caller goes on."""
    bell = DramatiqBell(server.url.replace("open-sesame", "wrong-word"))

    bell.ring([ring_of(1)])

    [said] = lines(caplog, logging.WARNING, "cnstra.bell")
    assert "Authentication" in said
    assert "wrong-word" not in caplog.text
    bell.close()

"""The bell: what it puts into the broker, how little of it, and what its caller may rely on."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import dramatiq
import pytest
import redis

from cnstra.orchestrator.ports import Ring
from cnstra.workers.doorbell import DramatiqBell
from cnstra.workers.doorbell.messages import unpack
from cnstra.workers.doorbell.redis_line import _LOOKED, RedisLines, _Line, command
from cnstra.workers.doorbell.redis_servers import client_of
from support.ringing import ring_of
from support.waiting import eventually


def taken(server: Any, queue: str, count: int) -> list[bytes]:
    """So many messages, once they are there."""
    return [eventually(lambda: server.take(queue)) for _ in range(count)]


def test_ids_of_many_rings_share_few_messages(server: Any, bell: DramatiqBell) -> None:
    """120 ids in two rings of a queue travel in three messages of at most 50, in order and complete."""
    rings = [ring_of(70), ring_of(50)]

    bell.ring(rings)

    messages = [unpack(body, "default") for body in taken(server, "default", 3)]
    carried = [message.kwargs["activations"] for message in messages]
    assert [len(ids) for ids in carried] == [50, 50, 20]
    assert sum(carried, ()) == rings[0].activations + rings[1].activations
    assert bell.qsize("default") == 0


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_who_rings_does_not_wait_for_the_server(
    server: Any, bell: DramatiqBell, caplog: pytest.LogCaptureFixture
) -> None:
    """While it is stopped nobody is answered: three queues are rung all the same, once the first ring has been answered."""
    bell.ring([ring_of(1, "a")])
    server.signal(signal.SIGSTOP)

    bell.ring([ring_of(1, "a"), ring_of(120, "b"), ring_of(1, "c")])

    assert caplog.messages == []
    server.signal(signal.SIGCONT)
    assert [bell.qsize(queue) for queue in "abc"] == [2, 3, 1]


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_what_the_server_has_refused_is_told_by_the_next_ring_which_arrives(
    server: Any, valkey: Any, bell: DramatiqBell, caplog: pytest.LogCaptureFixture, *, prepared: bool
) -> None:
    """That one pays for nothing: it goes over a connection of its own. With the one after it all is well again. On a connection
    that is new it is told at once. Who makes ready for a ring, and hears of it then, is told of nothing yet.
    """
    caplog.set_level(logging.INFO)
    bell.ring([ring_of(1, "fine")])
    valkey.ask("SET", "cnstra:doorbells:spoiled", "surprise")
    bell.ring([ring_of(1, "spoiled")])
    if prepared:
        assert eventually(lambda: bell.prepare([]) is None and the_line_of(bell)._failed)
        bell.prepare([ring_of(1, "fine")])
    assert told(caplog) == []

    bell.ring([ring_of(1, "fine")])

    [refused] = told(caplog)
    assert "WRONGTYPE" in refused
    assert valkey.ask("LLEN", "cnstra:doorbells:fine") == 2
    bell.ring([ring_of(1, "fine")])
    assert len(told(caplog)) == 2
    assert bell.qsize("fine") == 3

    server.cut()
    bell.ring([ring_of(1, "spoiled")])
    assert "WRONGTYPE" in told(caplog)[2]


def the_line_of(bell: DramatiqBell) -> _Line:
    """The one on which it rings."""
    [line] = bell._broker._connected().lines._free  # type: ignore[attr-defined]
    assert isinstance(line, _Line)
    return line


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_what_was_prepared_is_heard_and_made_and_not_rung(
    server: Any, valkey: Any, bell: DramatiqBell, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it is rung; and who rings others instead rings those. While the server is stopped nobody waits for it."""
    bell.ring([ring_of(1)])
    bell.ring([ring_of(1)])
    rings, others = [ring_of(2)], [ring_of(3)]

    def is_heard() -> bool:
        bell.prepare(rings)
        return the_line_of(bell)._unheard == 0

    assert eventually(is_heard)
    assert bell.qsize("default") == 2
    bell.ring(others)
    bell.prepare(others)
    bell.prepare(rings)
    bell.ring(rings)
    assert bell.qsize("default") == 4
    rung = [unpack(body, "default").kwargs["activations"] for body in taken(server, "default", 4)[2:]]
    assert rung == [others[0].activations, rings[0].activations]

    bell.ring(rings)
    assert eventually(is_heard)
    server.signal(signal.SIGSTOP)
    bell.ring(rings)
    bell.prepare(others)
    assert the_line_of(bell)._unheard > 0
    assert the_line_of(bell)._failed is None  # nor was an answer waited for in vain
    server.signal(signal.SIGCONT)
    assert caplog.messages == []


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_a_look_spares_the_next_ring_one_and_is_soon_too_old(
    server: Any, bell: DramatiqBell, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is fresh nobody looks again. Once it is not, a connection that was cut after it is replaced: no ring is lost."""
    bell.ring([ring_of(1)])
    line = the_line_of(bell)
    monkeypatch.setattr("cnstra.workers.doorbell.redis_line._LOOKED", 60.0)
    bell.prepare([ring_of(1)])
    with monkeypatch.context() as looking:
        looking.setattr(line._connection, "can_read", lambda: pytest.fail("somebody looked"))
        bell.ring([ring_of(1)])
    assert bell.qsize("default") == 2
    server.cut()
    bell.ring([ring_of(1)])  # a look is for one ring
    assert bell.qsize("default") == 3

    bell.prepare([ring_of(1)])
    assert line._looked_at > 0
    server.cut()
    monkeypatch.undo()
    line._looked_at -= _LOOKED
    bell.ring([ring_of(1)])
    assert bell.qsize("default") == 4
    bell.prepare([])
    server.cut()
    assert eventually(lambda: bell.prepare([]) is None and not line._trusted)
    assert bell.qsize("default") == 4  # that it was cut is nobody's failure
    assert caplog.messages == []


def test_a_broker_that_begins_to_hang_is_told_of_once(server: Any, bell: DramatiqBell, caplog: Any) -> None:
    """Its answers to what was rung before are waited for, at the latest at the second ring, and then nothing is for a while."""
    bell.ring([ring_of(1, "default")])
    server.signal(signal.SIGSTOP)
    for _ in range(3):
        bell.ring([ring_of(1, "a")])
    server.signal(signal.SIGCONT)

    assert len(told(caplog)) == 1
    eventually(lambda: bell.ring([ring_of(1, "b")]) is None and server.take("b"))


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_a_bell_that_is_closed_under_those_who_ring_leaves_nothing_behind(server: Any, valkey: Any) -> None:
    """Neither an error in their threads nor a connection."""
    errors: list[BaseException] = []

    def ring(bell: DramatiqBell, closed: threading.Event) -> None:
        try:
            while not closed.is_set():
                bell.ring([ring_of(50, "a"), ring_of(50, "b")])
        except BaseException as error:
            errors.append(error)

    for _ in range(10):
        bell, closed = DramatiqBell(server.url), threading.Event()
        threads = [threading.Thread(target=ring, args=(bell, closed)) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: bells_at(valkey) >= 2)
        bell.close()
        closed.set()
        for thread in threads:
            thread.join()
        eventually(lambda: bells_at(valkey) == 0)
    assert errors == []


def bells_at(valkey: Any) -> int:
    """How many connections of bells there are."""
    with valkey.client() as client:
        return sum(one["name"] == "cnstra-bell" for one in client.client_list())


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_lines_are_let_go_each_by_itself(server: Any, valkey: Any) -> None:
    """One that has been refused takes no other along. One that is spoken on when all are let go ends after that."""
    client = client_of(server.url, {"client_name": "cnstra-bell"})
    lines = RedisLines(client)
    valkey.ask("SET", "text", "x")
    for key, line in [(key, _Line(client)) for key in (b"list", b"list", b"text", b"list")]:
        line.say([command(b"PING")])
        line.say([command(b"RPUSH", key, b"x")])
        lines._put_back(line, lines._generation)
    assert bells_at(valkey) == 4

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        lines.hear()
    assert eventually(lambda: bells_at(valkey) == 3)
    generation, line = lines._generation, lines._taken()
    lines.hang_up()
    assert eventually(lambda: bells_at(valkey) == 1)
    assert line is not None
    lines._put_back(line, generation)
    assert eventually(lambda: bells_at(valkey) == 0)
    lines.say([command(b"PING")])
    assert bells_at(valkey) == 1
    lines.close()
    assert eventually(lambda: bells_at(valkey) == 0)
    lines.say([command(b"PING")])
    eventually(lambda: bells_at(valkey) == 0)


def test_g14_a_queue_holds_no_more_doorbells_than_set_however_many_ring(server: Any) -> None:
    """Eight threads that ring at once leave exactly the bound; what is taken out makes room for more."""
    bell = DramatiqBell(server.url, ids_per_message=1, outstanding=4)
    threads = [threading.Thread(target=bell.ring, args=([ring_of(3, "bounded")],)) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    eventually(lambda: bell.qsize("bounded") == 4)
    bell.ring([ring_of(1000, "bounded")])
    eventually(lambda: bell.qsize("bounded") == 4)
    assert server.take("bounded")
    assert server.take("bounded")
    bell.ring([ring_of(1, "bounded")])
    eventually(lambda: bell.qsize("bounded") == 3)
    bell.close()


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_a_list_that_nobody_hears_expires(server: Any, valkey: Any, bell: DramatiqBell) -> None:
    """Every key that a bell leaves behind has an end, so a queue that was renamed does not stay for ever."""
    bell.ring([ring_of(1)])

    [key] = valkey.ask("KEYS", "*")
    assert key == b"cnstra:doorbells:default"
    assert valkey.ask("TTL", key) > 0


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the bell has logged."""
    return [record.getMessage() for record in caplog.records if record.name == "cnstra.bell"]


def test_a_ring_without_ids_asks_the_broker_nothing(server: Any, bell: DramatiqBell, caplog: Any) -> None:
    """Nothing became ready, so nobody is woken, and no connection is opened for it: nobody notices that the broker is away."""
    server.kill()

    bell.ring([])
    bell.ring([Ring(door="default", activations=())])

    assert told(caplog) == []
    bell.ring([ring_of(1)])
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("rings", [1, 2])
def test_a_bell_outlives_a_restart_of_the_broker_without_a_word(
    server: Any, bell: DramatiqBell, caplog: pytest.LogCaptureFixture, rings: int, *, prepared: bool
) -> None:
    """A connection that died while the bell was idle is replaced before the next ring, which is not lost."""
    for _ in range(rings):
        bell.ring([ring_of(1)])
    server.kill()
    server.start()
    while server.take("default"):  # some brokers keep what was rung
        pass

    ring = ring_of(1)
    if prepared:
        bell.prepare([ring])
    bell.ring([ring])

    eventually(lambda: bell.qsize("default") == 1)
    assert caplog.messages == []


def test_after_a_fork_parent_and_child_ring_over_connections_of_their_own(server: Any) -> None:
    """Both ring 100 times at once over what was one connection; shared, it would mix up their answers."""
    script = f"""
import os, uuid
from cnstra.orchestrator.ports import Ring
from cnstra.workers.doorbell import DramatiqBell

def ring(times):
    for _ in range(times):
        bell.ring([Ring(door="forked", activations=((uuid.uuid4(), 1),))])

bell = DramatiqBell({server.url!r}, outstanding=1000)
ring(1)
child = os.fork()
ring(100)
if child == 0:
    bell.close()  # what was rung has arrived then
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
while bell.qsize("forked") < 201:
    pass
assert bell.qsize("forked") == 201
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ), timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_bell_is_silent(server: Any, bell: DramatiqBell, caplog: Any) -> None:
    """A ring that comes while a process shuts down opens no new connection, and says nothing; closing twice is fine."""
    bell.ring([ring_of(1)])
    assert eventually(lambda: server.take("default"))
    bell.close()
    bell.close()

    bell.ring([ring_of(1)])

    assert server.take("default") is None
    assert caplog.messages == []


def test_neither_bell_nor_listener_becomes_the_global_broker(bell: DramatiqBell, listen: Callable[..., Any]) -> None:
    """An application that uses Dramatiq itself keeps its own broker and actors."""
    before = dramatiq.broker.global_broker

    listen(lambda queue, ids: None)
    bell.ring([ring_of(1)])

    assert dramatiq.broker.global_broker is before


class SteppingClock:
    """Seconds as an iterator gives them."""

    def __init__(self, seconds: Iterator[float]) -> None:
        self._seconds = seconds

    def __call__(self) -> float:
        return next(self._seconds)


def test_a_broker_that_hangs_takes_no_more_than_half_of_a_callers_time(server: Any) -> None:
    """After a ring that took a second to fail, the bell asks nothing for a second, and then rings again."""
    # When built; then silent?, started, failed; silent?; silent?, started.
    bell = DramatiqBell(server.url, clock=SteppingClock(iter([0.0, 0.0, 0.0, 1.0, 1.9, 2.0, 2.0])))
    server.signal(signal.SIGSTOP)
    bell.ring([ring_of(1, "while-it-hangs")])
    server.signal(signal.SIGCONT)

    bell.ring([ring_of(1, "too-early")])
    bell.ring([ring_of(1, "afterwards")])

    eventually(lambda: bell.qsize("afterwards") == 1)
    assert bell.qsize("too-early") == 0
    bell.close()


def test_hints_arrive_as_they_were_rung(bell: DramatiqBell, server: Any) -> None:
    """The largest id that Postgres has, and run ids with their version, come out as they went in."""
    hints = ((UUID("0190163d-8694-739b-aea5-966c26f8ad91"), 2**63 - 1), (UUID(int=0), 0))

    bell.ring([Ring(door="default", activations=hints)])

    assert unpack(eventually(lambda: server.take("default")), "default").kwargs["activations"] == hints

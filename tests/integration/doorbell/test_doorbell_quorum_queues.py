"""What RabbitMQ alone has: queues with arguments, acknowledgements, alarms, nodes of a cluster."""

from __future__ import annotations

import itertools
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pika
import pytest

from cnstra.orchestrator.errors import BrokerAway, ConfigurationError
from cnstra.workers.doorbell import DramatiqBell, DramatiqListener
from cnstra.workers.doorbell.brokers import open_broker
from support.brokers import fresh_broker
from support.rabbitmq_server import RabbitMQ
from support.ringing import ring_of
from support.waiting import eventually


@pytest.fixture
def server(rabbitmq: RabbitMQ) -> RabbitMQ:
    return rabbitmq


def hears(bell: DramatiqBell, answers: Any, queue: str = "default") -> None:
    """A ring from now on is answered."""
    ring = ring_of(1, queue)
    bell.ring([ring])
    assert answers.next() == (queue, ring.activations)


def test_g14_a_queue_is_a_bounded_quorum_queue_that_expires(server: RabbitMQ, bell: DramatiqBell) -> None:
    """Other members of a cluster have it, too; what a renamed queue leaves behind goes after a day."""
    bell.ring([ring_of(1)])
    bell.qsize("default")

    [line] = [
        line
        for line in server.control("list_queues", "name", "arguments").splitlines()
        if server.name("default") in line
    ]

    assert '{"x-queue-type","quorum"}' in line
    assert '{"x-max-length",64}' in line
    assert '{"x-expires",86400000}' in line


def test_a_doorbell_is_acknowledged_when_it_has_been_answered(
    server: RabbitMQ, bell: DramatiqBell, listen: Any, answers: Any
) -> None:
    """While the claim goes on the server holds the message, for another worker if this one dies; then no more."""
    busy, free = threading.Event(), threading.Event()

    def unacknowledged() -> int:
        return sum(map(int, server.control("list_channels", "messages_unacknowledged").split()[1:]))

    def answer(queue: str, activations: Any) -> None:
        busy.set()
        assert free.wait(timeout=30)

    listen(answer)
    bell.ring([ring_of(1)])
    assert busy.wait(timeout=30)
    eventually(lambda: unacknowledged() == 1)

    free.set()

    eventually(lambda: unacknowledged() == 0)
    assert bell.qsize("default") == 0


def test_what_a_dead_worker_had_in_its_hands_is_rung_again(
    server: RabbitMQ, bell: DramatiqBell, listen: Any, answers: Any
) -> None:
    """A process is killed in the middle of an answer: the next one hears the same doorbell, and waits for no sweep."""
    script = f"""
import threading
from cnstra.workers.doorbell import DramatiqListener

def answer(queue, activations):
    print("busy", flush=True)
    threading.Event().wait()

DramatiqListener({server.url!r}, ["default"], answer).start()
threading.Event().wait()
"""
    ring = ring_of(1)
    bell.ring([ring])
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline() == "busy\n"
        listen(answers)

        doomed.kill()

    assert answers.next() == ("default", ring.activations)


def test_a_queue_that_was_declared_otherwise_is_used_as_it_is(
    server: RabbitMQ, listen: Any, answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A classic queue, made by hand: bell and listener meet at it, without a word."""
    with server.channel() as channel:
        channel.queue_declare(server.name("by-hand"), durable=True)
    listen(answers, "by-hand")
    bell = DramatiqBell(server.url, outstanding=3)

    hears(bell, answers, "by-hand")
    hears(bell, answers, "by-hand")

    assert caplog.messages == []
    bell.close()


def test_a_long_name_is_shortened_and_stays_its_own(bell: DramatiqBell, listen: Any, answers: Any) -> None:
    """AMQP has 255 bytes for a name. Of two that differ at the end only, each hears what is meant for it."""
    one, other = "ü" * 200 + "@one", "ü" * 200 + "@other"
    listen(answers, one, other, threads=2)
    heard: list[tuple[str, Any]] = []
    rung = {}

    def both() -> bool:
        for queue in (one, other):
            ring = ring_of(1, queue)
            rung[ring.activations] = queue
            bell.ring([ring])
        while not answers.heard.empty():
            heard.append(answers.next())
        return {queue for queue, _ in heard} == {one, other}

    eventually(both)

    assert all(rung[activations] == queue for queue, activations in heard)


def test_namespaces_do_not_hear_each_other(
    server: RabbitMQ, bell: DramatiqBell, listen: Any, answers: Any, tmp_path: Path
) -> None:
    """Deployments of one graph, or tests of it, share a broker: what is rung in one wakes nobody in another."""
    listen(answers)
    with fresh_broker(server.url, tmp_path) as one, fresh_broker(server.url, tmp_path) as other:
        bells = [DramatiqBell(one), DramatiqBell(other)]
        for elsewhere in bells:
            elsewhere.ring([ring_of(1)])
        eventually(lambda: [elsewhere.qsize("default") for elsewhere in bells] == [1, 1])
        for elsewhere in bells:
            elsewhere.close()

    hears(bell, answers)


def test_of_several_nodes_the_first_that_answers_is_used(server: RabbitMQ, answers: Any) -> None:
    """The URLs stand side by side, as in Dramatiq; nobody is at the first."""
    urls = f"amqp://cnstra:open-sesame@127.0.0.1:1/;{server.url.partition('?')[0]}"
    bell, listener = DramatiqBell(urls), DramatiqListener(urls, [f"q-{uuid4()}"], answers)
    listener.start()

    [queue] = listener._queues
    eventually(lambda: bell.ring([ring_of(1, queue)]) is None and not answers.heard.empty())

    listener.stop()
    bell.close()


@pytest.fixture
def alarm(server: RabbitMQ) -> Iterator[None]:
    """The server has no memory left, and takes nothing any more."""
    before = server.control("eval", "vm_memory_monitor:get_vm_memory_high_watermark().").strip()
    server.control("set_vm_memory_high_watermark", "0.000001")
    yield
    server.control("set_vm_memory_high_watermark", before)


def test_a_server_without_memory_does_not_hold_up_who_rings(server: RabbitMQ, bell: DramatiqBell, alarm: None) -> None:
    """It stops reading, and a megabyte of rings does not block their caller for good; once it has memory, all is well."""
    for _ in range(4):
        bell.ring([ring_of(3200)])

    before = server.control("eval", "vm_memory_monitor:get_vm_memory_high_watermark().").strip()
    assert float(before) < 0.001
    server.control("set_vm_memory_high_watermark", "0.4")

    eventually(lambda: bell.ring([ring_of(1)]) is None and server.take("default"))


def test_a_doctor_is_told_what_it_is(server: RabbitMQ) -> None:
    """Product and version; it keeps its queues by itself, so there is nothing to find about that."""
    broker = open_broker(server.url, client_name="cnstra-doctor")

    facts = broker.facts()
    broker.close()

    assert (facts.kind, facts.keeping) == ("RabbitMQ", None)
    assert facts.version == server.control("version").strip()


def test_what_the_application_does_with_pika_is_still_logged(
    server: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    """Of its own outages, bell and listener say so once; pika's many lines about them are left out, and only about them."""
    caplog.set_level(logging.INFO, logger="pika")
    server.kill()
    bell = DramatiqBell(server.url)
    bell.ring([ring_of(1)])
    bell.close()
    assert [record.name for record in caplog.records] == ["cnstra.bell"]

    with pytest.raises(pika.exceptions.AMQPConnectionError):
        pika.BlockingConnection(pika.URLParameters(server.url.partition("?")[0]))

    assert "pika.adapters.blocking_connection" in {record.name for record in caplog.records}


def test_without_pika_the_url_is_refused_naming_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of RabbitMQ is an extra: who uses Redis has no need of it."""
    for module in [name for name in sys.modules if name.partition(".")[0] == "pika" or "quorum_queues" in name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pika", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'cnstra\[rabbitmq\]'"):
        DramatiqBell("amqp://host")


@pytest.fixture
def limited(server: RabbitMQ) -> Iterator[tuple[str, Callable[[str], None]]]:
    """The URL of a user with the rights that the page names, and what takes the right to publish away, or gives it back."""
    name = f"limited-{uuid4()}"
    parts = urlsplit(server.url)
    ours = f"^{re.escape(parts.query.partition('=')[2])}:"

    def may_write(what: str) -> None:
        server.control("set_permissions", name, ours, what, ours)

    server.control("add_user", name, "open-sesame")
    may_write(f"^amq\\.default$|{ours}")
    yield parts._replace(netloc=f"{name}:open-sesame@{parts.netloc.rpartition('@')[2]}").geturl(), may_write
    server.control("delete_user", name)


def test_a_user_of_few_rights_rings_and_listens(limited: Any, listen: Any, answers: Any) -> None:
    """To publish is to write to the exchange that has no name, which is called ``amq.default`` where permissions are."""
    url, _ = limited
    listener = DramatiqListener(url, ["default"], answers)
    bell = DramatiqBell(url)
    listener.start()

    hears(bell, answers)
    broker = open_broker(url, client_name="cnstra-doctor")
    broker.facts()

    broker.close()
    bell.close()
    listener.stop()


def test_a_bell_that_may_not_publish_says_so(
    server: RabbitMQ, limited: Any, answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The server drops what it refuses without a word to who sent it. Bell and doctor find out all the same: the bell says so
    once, not at each ring, and says when it works.
    """
    url, may_write = limited
    may_write(f"^{url.partition('=')[2]}:")
    caplog.set_level(logging.INFO)
    bell = DramatiqBell(url, clock=itertools.count().__next__)

    for _ in range(3):
        bell.ring([ring_of(1)])

    assert ["amq.default" in line for line in caplog.messages] == [True]
    broker = open_broker(url, client_name="cnstra-doctor")
    with pytest.raises(BrokerAway, match=r"amq\.default"):
        broker.facts()
    broker.close()

    may_write(".*")
    eventually(lambda: bell.ring([ring_of(1)]) is None and "is back" in caplog.text)
    bell.close()
    assert "open-sesame" not in caplog.text

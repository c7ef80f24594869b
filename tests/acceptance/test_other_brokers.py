"""The whole command line over the brokers that ``cnstra up`` does not start: RabbitMQ, and a Redis that Sentinels watch."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support.commands import Servers, cnstra
from support.rabbitmq_server import RabbitMQ
from support.sentinels import watched


@pytest.fixture(params=["rabbitmq", "sentinels"])
def both(request: pytest.FixtureRequest, database_url: str) -> Iterator[Servers]:
    """A new database, and each of these brokers in turn."""
    if request.param == "rabbitmq":
        node: RabbitMQ = request.getfixturevalue("rabbitmq_node")
        node.begin()
        yield Servers(database_url=database_url, broker_url=node.url)
    else:
        with watched() as servers:
            yield Servers(database_url=database_url, broker_url=servers.url)


def test_a_worker_serves_runs_and_the_doctor_is_content(start_worker, both: Servers) -> None:
    """Submit, wait, examine, stop: nobody is told a password, and the worker drains."""
    worker = start_worker("sagas:cns", "--processes", "2").ready()

    ended = cnstra("submit", "sagas:cns", "begin", "{}", "--wait", "--json", servers=both)
    doctor = cnstra("doctor", "--json", servers=both)

    assert ended.json["status"] == "completed"
    assert doctor.code == 0
    assert {check["check"]: check["level"] for check in doctor.json["checks"]}["broker"] == "ok"
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    assert "open-sesame" not in ended.err + doctor.err + doctor.out + worker.log

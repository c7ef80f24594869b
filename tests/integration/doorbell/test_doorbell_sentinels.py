"""Bell and listener at a Redis that Sentinels watch: through a failover that loses what the old master had taken."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cnstra.orchestrator.errors import BrokerAway
from cnstra.workers.doorbell import DramatiqBell
from cnstra.workers.doorbell.brokers import open_broker
from support.ringing import ring_of
from support.sentinels import Watched, watched
from support.tls import Authority, behind_tls
from support.waiting import eventually


@pytest.fixture
def server() -> Iterator[Watched]:
    with watched() as servers:
        yield servers


def test_bell_and_listener_follow_the_master(
    server: Watched, bell: DramatiqBell, listen: Any, answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The first Sentinel of the URL is away, the second names the master. What the master took and the replica never saw is
    lost; what is rung after the failover is heard, by who listened before it.
    """
    caplog.set_level(logging.INFO)
    listen(answers, wait=0.05)
    first = ring_of(1)
    bell.ring([first])
    assert answers.next() == ("default", first.activations)

    server.lose_writes()
    server.fail_over()

    eventually(lambda: bell.ring([ring_of(1)]) is None and not answers.heard.empty(), what="a ring is heard again")
    assert len([line for line in caplog.messages if "does not serve" in line]) <= 2  # the bell once, the listener once
    assert "open-sesame" not in caplog.text


def test_what_the_new_master_never_saw_is_lost_and_nothing_else_is(server: Watched, bell: DramatiqBell) -> None:
    """A replica that was behind becomes the master: doorbells of which it knew are there, later ones are not."""
    bell.ring([ring_of(1)])
    eventually(lambda: server.replica.ask("LLEN", "cnstra:doorbells:default") == 1, what="the replica has the first")

    server.lose_writes()
    bell.ring([ring_of(1)])
    assert bell.qsize("default") == 2
    server.fail_over()

    def waiting() -> int | None:
        with suppress(BrokerAway):  # of the connection to the old one, once
            return bell.qsize("default")
        return None

    assert eventually(waiting, what="the new master is asked") == 1


def _refusal(url: str) -> str:
    doorbells = open_broker(url, client_name="test")
    try:
        with pytest.raises(BrokerAway) as refused:
            doorbells.facts()
    finally:
        doorbells.close()
    assert "open-sesame" not in str(refused.value)
    return str(refused.value)


def test_who_asks_for_another_service_is_told_so(server: Watched) -> None:
    """The one Sentinel cannot be reached, the other has never heard of it: both are said, in one line."""
    said = _refusal(server.url.replace("the-broker", "the-brocker"))

    assert "no Sentinel names the master of 'the-brocker': 127.0.0.1:1: Error 111" in said
    assert said.count("knows no such service") == 1
    assert "\n" not in said


def test_sentinels_that_cannot_be_trusted_are_not_asked_and_it_is_said_why(server: Watched, tmp_path: Path) -> None:
    """Their certificate is of another authority."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    with behind_tls(server.sentinel_port, ours.sign("sentinel", address="127.0.0.1")) as port:
        url = f"rediss+sentinel://:open-sesame@127.0.0.1:{port}/the-broker/0"
        assert "CERTIFICATE_VERIFY_FAILED" in _refusal(f"{url}?ssl_ca_certs={theirs.file}")

"""Bell and listener at a Redis that Sentinels watch: through a failover that loses what the old master had taken."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from cnstra.orchestrator.errors import BrokerAway
from cnstra.workers.doorbell import DramatiqBell
from support.ringing import ring_of
from support.sentinels import Watched, watched
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

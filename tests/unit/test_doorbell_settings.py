"""What bell and listener refuse when they are built, and what messages must not show. Nothing connects."""

from __future__ import annotations

import itertools
import logging
import socket
from typing import Any

import pytest

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.workers.doorbell import DramatiqBell, DramatiqListener
from cnstra.workers.doorbell.brokers import shown
from cnstra.workers.doorbell.rabbit_line import servers_of
from support.ringing import ring_of


def nobody(queue: str, activations: Any) -> None:
    """Never called: no listener of this module starts."""


@pytest.mark.parametrize("url", ["kafka://user:sesame@host", "host:6379", "", "http://host"])
def test_a_broker_of_another_kind_is_refused_naming_those_there_are(url: str) -> None:
    """The message says which schemes would do, and does not repeat the password."""
    for build in (lambda: DramatiqBell(url), lambda: DramatiqListener(url, ["default"], nobody)):
        with pytest.raises(ConfigurationError, match=r"redis://, rediss://, unix://, .*amqp://, amqps://") as refused:
            build()
        assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sesame@host:port/0",
        "redis://:ses/ame@host/0",
        "redis://:sesame@host/0?no_such_option=1",
        "redis://:sesame@host/0?socket_keepalive=true&db=many",
        "redis://:sesame@host/0?namespace=",
        "redis://:sesame@host/0?namespace=a&namespace=b",
        "redis+sentinel://:sesame@host",
        "redis+sentinel://:sesame@host:port/service",
        "redis+sentinel://:sesame@host/service/0?no_such_option=1",
        "amqp://user:sesame@host:port/",
        "amqp://user:sesame@host/?no_such_option=1",
        "amqp://user:sesame@host/?heartbeat=often",
        "amqp://user:sesame@host/?client_properties={",
        "amqps://user:sesame@host/?ssl_options={'cafile':'/no/such/file'}",
        "amqps://user:sesame@host/?ssl_ca_certs=/no/such/file",
        "amqps://user:sesame@host/?ssl_keyfile=/no/such/file",
        "amqp://user:sesame@host/?ssl_ca_certs=/no/such/file",
        "amqp://user:sesame@host/?namespace=a;amqp://user:sesame@other/?namespace=b",
    ],
)
def test_a_url_that_its_client_refuses_is_refused_at_once_and_shows_no_secret(url: str) -> None:
    """A wrong port or option is found when the program starts, not at the first ring."""
    with pytest.raises(ConfigurationError) as refused:
        DramatiqBell(url)

    assert "ses" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "for_people"),
    [
        ("redis://host", "redis://host"),
        ("redis://:sesame@host:6379/2", "redis://host:6379/2"),
        ("rediss://user:sesame@[::1]:6379", "rediss://[::1]:6379"),
        ("redis://host/0?password=sesame", "redis://host/0"),
        ("redis://:ses?ame@host", "redis://…"),
        ("redis://:ses/ame@host", "redis://…"),
        ("redis://:ses#ame@host", "redis://…"),
        ("redis://:ses@ame@host", "redis://…"),
        ("redis://host/0?password=ses@ame", "redis://…"),
        ("redis://:sesame@host/0?namespace=staging", "redis://host/0"),
        ("redis+sentinel://:sesame@one:26379,two/service/0", "redis+sentinel://one:26379,two/service/0"),
        ("amqp://user:sesame@host/a%2Fb?heartbeat=60", "amqp://host/a%2Fb"),
        ("amqp://user:sesame@one/;amqp://user:sesame@two/", "amqp://one/;amqp://two/"),
        ("amqp://user:ses;ame@one/", "amqp://one/"),
        ("unix:///run/redis.sock?password=sesame", "unix:///run/redis.sock"),
        (":sesame@host", "…"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, for_people: str) -> None:
    """Where a password with unescaped characters blurs the parts, only the scheme is shown."""
    assert shown(url) == for_people


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
def test_a_line_to_rabbitmq_that_falls_silent_is_given_up_within_seconds_unless_its_url_says_otherwise() -> None:
    """Heartbeats alone take up to forty of them."""
    plain, patient = servers_of(
        ["amqp://host/", "amqp://host/?heartbeat=60&tcp_options={'TCP_USER_TIMEOUT':30000}"], client_name="somebody"
    )

    assert (plain.heartbeat, plain.tcp_options["TCP_USER_TIMEOUT"], plain.tcp_options["TCP_KEEPIDLE"]) == (15, 5_000, 3)
    assert (patient.heartbeat, patient.tcp_options) == (60, {"TCP_USER_TIMEOUT": 30_000})


@pytest.mark.parametrize("numbers", [{"ids_per_message": 0}, {"outstanding": 0}, {"outstanding": -1}])
def test_a_bell_that_could_not_ring_is_refused(numbers: dict[str, int]) -> None:
    """No ids in a message, or no room in a queue, would silence the bell for good."""
    with pytest.raises(ConfigurationError, match="at least 1"):
        DramatiqBell("redis://host", **numbers)


@pytest.mark.parametrize(("queues", "numbers"), [([], {}), (["default"], {"threads": 0}), (["default"], {"wait": 0.0})])
def test_a_listener_that_could_not_hear_is_refused(queues: list[str], numbers: dict[str, Any]) -> None:
    """No queue or no thread would wait for ever, no time to wait would ask the broker without pause."""
    with pytest.raises(ConfigurationError, match="needs a queue, a thread and time"):
        DramatiqListener("redis://host", queues, nobody, **numbers)


def test_a_broker_whose_name_is_nobodys_is_an_outage_like_any_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, by the bell, and by no library beside it."""

    def nobody_knows(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    caplog.set_level(logging.INFO)
    bell = DramatiqBell("amqp://user:sesame@broker.internal/", clock=itertools.count(step=10).__next__)

    for _ in range(3):
        bell.ring([ring_of(1)])
    bell.close()

    [said] = caplog.messages
    assert "amqp://broker.internal/" in said
    assert "Name or service not known" in said

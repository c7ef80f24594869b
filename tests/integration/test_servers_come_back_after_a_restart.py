"""Restarting and stopping held servers: what clients see, and what is kept."""

from __future__ import annotations

import socket
from typing import Literal
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from cnstra.orchestrator.errors import ServersError
from cnstra.servers import HeldServers, hold
from support.folders import temporary_home
from support.holders import listens


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_postgres_keeps_its_url_and_what_was_committed(
    own_servers: HeldServers, mode: Literal["immediate", "fast"]
) -> None:
    """Clients lose their connections, never a commit that was confirmed, also though nothing is synced for
    tests.
    """
    url = own_servers.database_url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table kept (number int)")
        for number in range(500):
            connection.execute("insert into kept values (%s)", [number])

        own_servers.restart_postgres(mode)

        assert own_servers.database_url == url
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*), sum(number) from kept").fetchone() == (500, 124750)


def test_an_open_transaction_does_not_hold_up_a_restart(own_servers: HeldServers) -> None:
    """What was not committed is gone; what was locked is free."""
    with psycopg.connect(own_servers.database_url) as connection:
        connection.execute("create table kept (number int)")
        connection.commit()
        connection.execute("insert into kept values (1)")

        own_servers.restart_postgres("fast")

        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    with psycopg.connect(own_servers.database_url) as connection:
        connection.execute("lock table kept in access exclusive mode nowait")
        assert connection.execute("select count(*) from kept").fetchone() == (0,)


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_valkey_for_tests_comes_back_empty_at_its_url(
    own_servers: HeldServers, mode: Literal["immediate", "fast"]
) -> None:
    """The hardest restart there is: everything that was in the broker is lost."""
    with redis.Redis.from_url(own_servers.broker_url) as client:
        client.set("gone", "soon")
        (before,) = (client.info("server")["run_id"],)

        own_servers.restart_valkey(mode)

        assert client.info("server")["run_id"] != before
        assert client.get("gone") is None


def test_durable_valkey_comes_back_with_all_that_it_confirmed(no_servers_given: None) -> None:
    """Its log survives SIGKILL: only a crash of the whole machine could lose the last second."""
    with temporary_home() as home, hold(home) as held, redis.Redis.from_url(held.broker_url) as client:
        for number in range(1000):
            client.rpush("kept", number)

        held.restart_valkey("immediate")

        assert client.llen("kept") == 1000


def test_a_stopped_server_stays_away_until_it_is_started(own_servers: HeldServers) -> None:
    """Both can be taken away for as long as a test likes, one by one."""
    own_servers.stop_postgres()
    assert not listens(own_servers.database_url)
    assert listens(own_servers.broker_url)
    own_servers.stop_valkey()
    own_servers.stop_valkey()
    assert not listens(own_servers.broker_url)

    own_servers.start_postgres()
    own_servers.start_postgres()
    own_servers.start_valkey()

    psycopg.connect(own_servers.database_url).close()
    with redis.Redis.from_url(own_servers.broker_url) as client:
        assert client.ping()


def test_a_port_that_somebody_took_meanwhile_is_named(own_servers: HeldServers) -> None:
    """A server does not move to another port behind the back of its clients."""
    port = urlsplit(own_servers.broker_url).port or 0
    own_servers.stop_valkey()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with pytest.raises(ServersError, match=f"Valkey did not start on port {port}"):
            own_servers.start_valkey()

    own_servers.start_valkey()
    assert listens(own_servers.broker_url)

"""Who can reach development servers: their owner, from this machine, with a password."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from cnstra.orchestrator.errors import ServersError
from cnstra.servers import HeldServers, Servers, hold, up
from support.databases import fresh_database
from support.folders import temporary_home
from support.holders import processes_of

pytestmark = pytest.mark.usefixtures("no_servers_given")


@pytest.fixture(scope="module")
def home(no_servers_given: None) -> Iterator[Path]:
    """The home of the servers under test."""
    with temporary_home() as path:
        yield path


@pytest.fixture(scope="module")
def held(home: Path) -> Iterator[HeldServers]:
    """Servers that this test may look into but not change."""
    with hold(home) as servers:
        yield servers


def passwords(held: HeldServers) -> list[str]:
    """The two passwords of the URLs."""
    found = [urlsplit(held.database_url).password or "", urlsplit(held.broker_url).password or ""]
    assert all(len(password) >= 24 for password in found)
    return found


@pytest.mark.parametrize("password", ["", "wrong"])
@pytest.mark.parametrize("role", ["cnstra", "postgres"])
def test_postgres_refuses_who_does_not_know_the_password(held: HeldServers, role: str, password: str) -> None:
    """Neither its role nor the superuser can log in without their password, also from the same machine."""
    port = urlsplit(held.database_url).port
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=port, user=role, password=password, dbname="cnstra")


def test_postgres_keeps_no_password_in_clear(held: HeldServers) -> None:
    """What it stores, and asks for, is scram."""
    with psycopg.connect(held.database_url) as connection:
        assert connection.execute("show password_encryption").fetchone() == ("scram-sha-256",)
        assert connection.pgconn.used_password


def test_valkey_refuses_who_does_not_know_the_password(held: HeldServers) -> None:
    """Without a password it answers nothing at all; a wrong one does not help."""
    port = urlsplit(held.broker_url).port
    assert port is not None
    for password in (None, "wrong"):
        once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        client = redis.Redis(port=port, password=password, retry=once)
        with client, pytest.raises(redis.AuthenticationError):
            client.ping()


@pytest.mark.skipif(not Path("/proc/net").exists(), reason="other addresses of the loopback answer on Linux only")
def test_servers_listen_on_one_loopback_address_only(held: HeldServers) -> None:
    """127.0.0.2 is this machine, too: a server that listened on all addresses would answer there."""
    for url in (held.database_url, held.broker_url):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", urlsplit(url).port or 0), timeout=5)


def test_no_file_that_others_can_read_holds_a_password(held: HeldServers, home: Path) -> None:
    """Every file below the home is the owner's alone, whoever may pass through its folders; one file has the
    passwords.
    """
    holding = []
    for folder, _, files in os.walk(home):
        for path in (Path(folder, name) for name in files):
            mode = stat.S_IMODE(path.lstat().st_mode)
            text = path.read_bytes()
            if any(password.encode() in text for password in passwords(held)):
                holding.append(path.name)
                assert mode & 0o077 == 0, f"{path} has the mode {mode:o}"
            assert mode & 0o077 == 0 or path.name == ".gitignore", f"{path} has the mode {mode:o}"
    assert "secrets.json" in holding


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try to read as somebody else")
def test_another_user_cannot_read_the_secrets(held: HeldServers, home: Path) -> None:
    """The account that runs the servers for root is somebody else as well."""
    nobody = pwd.getpwnam("nobody").pw_uid
    tried = subprocess.run(
        ["cat", str(home / "secrets.json")], user=nobody, extra_groups=[], capture_output=True, check=False
    )
    assert tried.returncode != 0
    assert b"Permission denied" in tried.stderr


def test_no_command_line_and_no_repr_shows_a_password(held: HeldServers, home: Path) -> None:
    """Every user of a machine sees its command lines, and logs are full of reprs."""
    commands = [" ".join(process.cmdline()) for process in processes_of(home)]
    assert len(commands) >= 3, "the supervisor and two servers at least"
    servers = Servers(database_url=held.database_url, broker_url=held.broker_url)
    shown = [*commands, repr(held), repr(servers), str(servers)]

    assert not [text for text in shown for password in passwords(held) if password in text]
    assert "cnstra:***@127.0.0.1" in repr(servers)


def test_a_password_in_the_query_of_a_url_is_not_shown_either() -> None:
    """Users write their own URLs in the ways that Postgres allows."""
    servers = Servers(
        database_url="postgresql://db.example/shop?user=me&password=s3cret&sslmode=require",
        broker_url="redis://me:p@ss:word@broker.example:6379/1",
    )
    assert "s3cret" not in repr(servers)
    assert "word" not in repr(servers).replace("password=", "")
    assert "sslmode=require" in repr(servers)
    assert "broker.example:6379/1" in repr(servers)


def test_the_role_owns_its_database_and_is_no_superuser(held: HeldServers) -> None:
    """It can do all that a product needs, and what it could do to the machine a superuser could alone."""
    with psycopg.connect(held.database_url) as connection:
        owner = connection.execute(
            "select pg_get_userbyid(datdba) = current_user from pg_database where datname = current_database()"
        )
        assert owner.fetchone() == (True,)
        rights = connection.execute(
            "select rolsuper, rolcreatedb, rolcreaterole from pg_roles where rolname = current_user"
        )
        assert rights.fetchone() == (False, True, True)
        connection.execute("create schema mine")
        connection.rollback()


def test_postgres_is_ready_for_many_clients_and_counts_their_statements(held: HeldServers) -> None:
    """pg_stat_statements can be read and reset by the role, in its own database and in those it makes."""
    with fresh_database(held.database_url) as url, psycopg.connect(url) as connection:
        (connections,) = connection.execute("show max_connections").fetchone() or ("",)
        assert int(connections) >= 200
        connection.execute("select pg_stat_statements_reset()")
        connection.execute("select 1 as counted")
        found = connection.execute("select calls from pg_stat_statements where query like 'select % as counted%'")
        assert found.fetchall() == [(1,)]


def test_a_home_that_others_may_write_to_is_refused() -> None:
    """Whoever can write there could put programs and passwords of their own in it."""
    with temporary_home() as home:
        home.chmod(0o777)
        with pytest.raises(ServersError, match="chmod go-w"):
            up(home)
        home.chmod(0o711)


def test_a_file_in_the_place_of_the_home_is_left_alone(tmp_path: Path) -> None:
    """The error names it; nothing is overwritten."""
    file = tmp_path / "home"
    file.write_text("mine")
    with pytest.raises(ServersError, match="is not a folder"):
        up(file)
    assert file.read_text() == "mine"

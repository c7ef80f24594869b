"""How long development servers live: with their holders, or until `down`; whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from cnstra.orchestrator.errors import ServersError
from cnstra.servers import down, hold, up
from support.folders import temporary_home
from support.holders import (
    Holder,
    both_listen,
    listens,
    neither_listens,
    processes_of,
    supervisor_of,
)
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_servers_given")


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty ``$CNSTRA_HOME``."""
    with temporary_home() as path:
        yield path


def test_processes_that_start_at_once_share_one_set_of_servers(home: Path) -> None:
    """Four processes that begin together get the same URLs, and one supervisor serves them all."""
    with Holder(home) as a, Holder(home) as b, Holder(home) as c, Holder(home) as d:
        found = {holder.servers() for holder in (a, b, c, d)}

        assert len(found) == 1
        assert both_listen(found.pop())
        assert supervisor_of(home).is_running()


def test_servers_stop_with_their_last_holder(home: Path) -> None:
    """They stay while anybody holds them; after the last one no process is left, and no data that were for a
    test.
    """
    with Holder(home) as first, Holder(home) as last:
        servers = first.servers()
        last.servers()

        first.release()
        assert both_listen(servers)

        last.release()
        eventually(lambda: not processes_of(home), what="no process of the servers is left")
        assert neither_listens(servers)
        assert not (home / "data").exists()
        assert not (home / "secrets.json").exists()


def test_servers_stop_when_all_holders_are_killed(home: Path) -> None:
    """SIGKILL gives nobody the time to say goodbye; the kernel says it for them."""
    with Holder(home) as first, Holder(home) as second:
        servers = first.servers()
        second.servers()

        first.kill()
        second.kill()

        eventually(lambda: not processes_of(home), what="no process of the servers is left")
        assert neither_listens(servers)


def test_servers_outlive_a_kill_of_the_process_that_started_them(home: Path) -> None:
    """The supervisor is no child of the process that happened to be first, nor in its process group."""
    with Holder(home) as starter:
        servers = starter.servers()
        with Holder(home) as other:
            assert other.servers() == servers

            starter.kill()

            with hold(home, durable=False) as held:
                assert held.database_url == servers.database_url
            assert both_listen(servers)


def test_a_process_that_was_killed_while_it_started_servers_leaves_none_behind(home: Path) -> None:
    """The supervisor finds out by itself that nobody waits for it any more."""
    with Holder(home) as starter:
        eventually(lambda: (home / "control").exists(), what="the supervisor has begun")
        starter.kill()

        eventually(lambda: not processes_of(home), what="no process of the servers is left")


def test_a_forked_child_does_not_hold_the_servers(home: Path) -> None:
    """A forked child inherits every open file; it must not keep the servers once its parent let go."""
    held = hold(home, durable=False)
    waiting, go_on = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_on)
        os.read(waiting, 1)
        os._exit(0)
    try:
        held.close()
        eventually(lambda: not processes_of(home), what="no process of the servers is left")
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child was to be alive all that time"
    finally:
        os.close(waiting)
        os.close(go_on)
        os.waitpid(child, 0)


def test_servers_that_are_kept_run_until_down(home: Path) -> None:
    """`up` returns and its process ends; the servers stay, also after a holder came and went."""
    code = "import sys; from pathlib import Path; from cnstra.servers import up; up(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(home)], check=True)
    servers = up(home)
    assert both_listen(servers)
    with hold(home) as held:
        assert held.database_url == servers.database_url
    supervisor = supervisor_of(home)

    assert down(home)

    assert neither_listens(servers)
    assert not processes_of(home)
    assert not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE
    assert not down(home), "there was nothing left to stop"


def test_what_was_kept_is_there_after_down_and_up(home: Path) -> None:
    """Kept servers come back at the same URLs, with the same data, durable by Postgres' own defaults."""
    before = up(home)
    with psycopg.connect(before.database_url) as connection:
        connection.execute("create table kept (word text)")
        connection.execute("insert into kept values ('here')")
    with redis.Redis.from_url(before.broker_url) as client:
        client.set("kept", "here")
    down(home)

    after = up(home)

    assert after == before
    with psycopg.connect(after.database_url) as connection:
        assert connection.execute("select word from kept").fetchall() == [("here",)]
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert connection.execute(f"show {setting}").fetchone() == ("on",)
    with redis.Redis.from_url(after.broker_url) as client:
        assert client.get("kept") == b"here"


def test_servers_that_are_held_can_be_kept_after_all(home: Path) -> None:
    """`up` while somebody holds durable servers keeps those."""
    with Holder(home, durable=True) as holder:
        servers = holder.servers()
        assert up(home) == servers
        supervisor = supervisor_of(home)

        holder.kill()

        # The supervisor looks at its holders each time that it has answered: after two answers it has looked.
        assert up(home) == servers
        assert up(home) == servers
        assert supervisor.is_running()
        assert both_listen(servers)


def test_servers_for_tests_cannot_be_kept(home: Path) -> None:
    """Nobody gets servers whose data will be thrown away who has asked for ones that keep them."""
    with hold(home, durable=False), pytest.raises(ServersError, match="thrown away"):
        up(home)


def test_data_that_were_kept_are_not_thrown_away_by_a_test(home: Path) -> None:
    """A home is durable or not from its making on: `durable=False` never deletes what somebody wanted to
    keep.
    """
    servers = up(home)
    down(home)

    with hold(home, durable=False) as held:
        assert held.database_url == servers.database_url
    eventually(lambda: not processes_of(home), what="no process of the servers is left")

    assert (home / "data" / "postgres" / "PG_VERSION").exists()


def test_the_next_start_cleans_up_after_a_killed_supervisor(home: Path) -> None:
    """The servers that it left are stopped, and new ones stand in their place, with their data and at their
    URLs.
    """
    before = up(home)
    with psycopg.connect(before.database_url) as connection:
        connection.execute("create table kept (word text)")
    left = processes_of(home)
    supervisor_of(home).send_signal(signal.SIGKILL)

    after = up(home)

    assert after == before
    with psycopg.connect(after.database_url) as connection:
        connection.execute("select from kept")
    assert not [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert supervisor_of(home) not in left


def test_down_stops_what_a_killed_supervisor_left(home: Path) -> None:
    """`down` needs no supervisor to find the servers."""
    servers = up(home)
    supervisor_of(home).send_signal(signal.SIGKILL)

    assert down(home)

    assert neither_listens(servers)
    assert not processes_of(home)


def test_servers_end_when_their_home_is_taken_away(home: Path) -> None:
    """`git clean` takes the home of kept servers: they end by themselves, and spare what takes their place."""
    old = up(home / "home")
    supervisor = supervisor_of(home / "home")
    (home / "home").rename(home / "gone")

    new = up(home / "home")

    eventually(lambda: not supervisor.is_running(), what="the supervisor of the old home is gone")
    assert new != old
    assert both_listen(new)
    assert up(home / "home") == new
    assert down(home / "home")


def test_joining_brings_back_a_server_that_died(home: Path) -> None:
    """Whoever gets URLs gets servers that run; the one that died comes back at its old URL."""
    servers = up(home)
    for process in processes_of(home):
        if "valkey" in process.name():
            process.kill()
    eventually(lambda: not listens(servers.broker_url), what="Valkey is gone")

    assert up(home) == servers
    assert both_listen(servers)


def test_a_holder_that_let_go_cannot_restart_servers(home: Path) -> None:
    """Only who holds servers may stop them."""
    held = hold(home, durable=False)
    held.close()
    held.close()

    with pytest.raises(ServersError, match="holds no servers"):
        held.restart_postgres()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Postgres keeps no shared memory as files")
def test_servers_that_keep_nothing_leave_no_shared_memory_behind(home: Path) -> None:
    """What Postgres shares among its processes is in the folder, so that it goes with that when it was killed."""
    with hold(home, durable=False) as held, psycopg.connect(held.database_url) as connection:
        mapped = Path(f"/proc/{connection.info.backend_pid}/maps").read_text()
        assert "/dev/shm/PostgreSQL." not in mapped
        assert "pg_dynshmem/" in mapped

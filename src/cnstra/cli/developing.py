"""``cnstra migrate``, ``up``, ``down`` and ``demo``: from nothing to something that runs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import psycopg
import typer

import cnstra
from cnstra import servers
from cnstra.cli import places
from cnstra.cli.options import AsJson, DatabaseUrl, HomeFolder
from cnstra.cli.printing import note, say, say_json
from cnstra.exits import Exit
from cnstra.orchestrator.errors import ConfigurationError, SchemaError
from cnstra.servers.home import Home
from cnstra.stores.postgres import migrate as apply
from cnstra.stores.postgres.granting import groups, script
from cnstra.stores.postgres.reaching import reach


def migrate(
    roles: Annotated[
        str | None,
        typer.Option(
            "--roles",
            envvar="CNSTRA_MIGRATE_ROLES",
            metavar="PREFIX",
            help="Make the roles PREFIX_worker, PREFIX_client and PREFIX_reader, and give them the rights that each needs.",
        ),
    ] = None,
    print_roles: Annotated[
        bool,
        typer.Option(
            "--print-roles",
            envvar="CNSTRA_MIGRATE_PRINT_ROLES",
            help="Print the SQL that --roles would carry out, for somebody who may, and do nothing.",
        ),
    ] = False,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> Exit:
    """Bring the database's schema to this release's.

    May be repeated. Workers of the release before go on while and after it runs. Roles that --roles has made get what is new by
    each later migration, too. --json gives the names of the migrations taken, and of the roles asked for.
    """
    if print_roles:
        if roles is None or as_json:
            raise typer.BadParameter("--print-roles needs --roles PREFIX, and prints SQL alone")
        say(script(roles).rstrip())
        return Exit.DONE
    made = [] if roles is None else list(groups(roles).values())
    taken = _migrated(places.database(database_url), roles)
    if as_json:
        say_json({"migrations": taken} | ({"roles": made} if made else {}))
    else:
        say("\n".join(taken) or "nothing to do: the schema is that of this release")
        if made:
            say(f"roles: {', '.join(made)}")
    return Exit.DONE


def up(as_json: AsJson = False, home: HomeFolder = None) -> Exit:
    """Start servers for development, and migrate.

    Private Postgres and Valkey, which run until cnstra down; those that run already are joined. In the same folder the
    other commands find them by themselves. What CNSTRA_DATABASE_URL or CNSTRA_BROKER_URL names is used in place of a
    server of its own. Prints what to set in a shell: eval "$(cnstra up)".
    """
    folder = None if home is None else Path(home)
    running = servers.up(folder)
    _migrated(running.database_url)
    if as_json:
        say_json({"database_url": running.database_url, "broker_url": running.broker_url})
    else:
        say(f"export CNSTRA_DATABASE_URL={shlex.quote(running.database_url)}")
        say(f"export CNSTRA_BROKER_URL={shlex.quote(running.broker_url)}")
        note(f"the servers in {Home.at(folder).path} run until: cnstra down")
    return Exit.DONE


def down(as_json: AsJson = False, home: HomeFolder = None) -> Exit:
    """Stop the development servers.

    They stop whoever uses them, and their data stay for the next cnstra up. --json says whether any ran.
    """
    stopped = servers.down(None if home is None else Path(home))
    if as_json:
        say_json({"stopped": stopped})
    else:
        note("stopped" if stopped else "no servers ran")
    return Exit.DONE


def demo() -> Exit:
    """Run the order saga, through the crash of a worker.

    It is the example that comes with a checkout of the project, and brings servers of its own.
    """
    examples = Path(cnstra.__file__).resolve().parents[2] / "examples"
    if not (examples / "order_saga" / "demo.py").is_file():
        raise ConfigurationError(
            f"there is no demo in {examples}: it comes with a checkout of the project, and runs there by make demo"
        )
    path = os.pathsep.join(part for part in (str(examples), os.environ.get("PYTHONPATH")) if part)
    command = [sys.executable, "-P", "-m", "order_saga.demo"]
    os.execve(sys.executable, command, os.environ | {"PYTHONPATH": path})  # noqa: S606 - no shell is wanted


def _migrated(database_url: str, roles: str | None = None) -> list[str]:
    reach(database_url)
    try:
        return apply(database_url, roles=roles)
    except psycopg.Error as error:
        text = error.diag.message_primary or " ".join(str(error).split())
        raise SchemaError(f"the migration was undone: {text}") from error

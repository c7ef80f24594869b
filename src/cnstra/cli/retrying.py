"""``cnstra retry``."""

from __future__ import annotations

from typing import Annotated

import typer

from cnstra.cli import choosing, places
from cnstra.cli.options import AsJson, BrokerUrl, DatabaseUrl
from cnstra.client import Orchestrator
from cnstra.exits import Exit
from cnstra.stores.postgres.reaching import reach


def retry(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The failed run's id.")] = None,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed", envvar="CNSTRA_RETRY_FAILED", help="Every run that is failed now; the options below say which."
        ),
    ] = False,
    graph: Annotated[str | None, choosing.graph_option("CNSTRA_RETRY_GRAPH")] = None,
    tag: Annotated[str | None, choosing.tag_option("CNSTRA_RETRY_TAG")] = None,
    since: Annotated[str | None, choosing.since_option("CNSTRA_RETRY_SINCE")] = None,
    older_than: Annotated[str | None, choosing.older_than_option("CNSTRA_RETRY_OLDER_THAN")] = None,
    dry_run: Annotated[bool, choosing.dry_run_option("CNSTRA_RETRY_DRY_RUN")] = False,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
) -> Exit:
    """Begin the next attempt of a failed run, or of all.

    What failed runs again, on the saved context; what is done is not called again. Of a run that was being undone, the
    compensation that failed runs again. Prints the ids of the runs.
    """
    if (run is None) != failed:
        raise typer.BadParameter("give either a RUN or --failed")
    if run is not None:
        choosing.refuse_beside_run(
            {"--graph": graph, "--tag": tag, "--since": since, "--older-than": older_than, "--dry-run": dry_run}
        )
    which = choosing.choice(graph, tag, since, older_than)
    database, broker = places.database(database_url), places.broker(broker_url)
    reach(database)
    with Orchestrator(database=database, broker=broker) as orchestrator:
        if run is not None:
            found = orchestrator.get_run(run)
            found.retry()
            retried = [found.id]
        else:
            retried = [found.id for found in orchestrator.retry_failed(dry_run=dry_run, **which)]
    choosing.tell("retried", retried, as_json=as_json, dry_run=dry_run)
    return Exit.DONE

"""``cnstra retry``."""

from __future__ import annotations

from typing import Annotated

import typer

from cnstra.cli import places
from cnstra.cli.options import AsJson, BrokerUrl, DatabaseUrl
from cnstra.cli.printing import note, say, say_json
from cnstra.client import Orchestrator
from cnstra.exits import Exit
from cnstra.stores.postgres.reaching import reach


def retry(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The failed run's id.")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", envvar="CNSTRA_RETRY_FAILED", help="Every run that is failed now.")
    ] = False,
    graph: Annotated[
        str | None,
        typer.Option(envvar="CNSTRA_RETRY_GRAPH", metavar="NAME", help="With --failed: only runs of this graph."),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(envvar="CNSTRA_RETRY_TAG", metavar="KEY[=VALUE]", help="With --failed: only runs with this tag."),
    ] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
) -> Exit:
    """Begin the next attempt of a failed run, or of all.

    What failed runs again, on the saved context; what is done is not called again. Prints the ids of the runs.
    """
    if (run is None) != failed:
        raise typer.BadParameter("give either a RUN or --failed")
    if not failed and (graph is not None or tag is not None):
        raise typer.BadParameter("--graph and --tag go with --failed")
    database, broker = places.database(database_url), places.broker(broker_url)
    reach(database)
    with Orchestrator(database=database, broker=broker) as orchestrator:
        if run is not None:
            found = orchestrator.get_run(run)
            found.retry()
            retried = [found.id]
        else:
            retried = [found.id for found in orchestrator.retry_failed(graph=graph, tag=tag)]
    if as_json:
        say_json({"retried": retried})
    else:
        for run_id in retried:
            say(str(run_id))
        note(f"{len(retried)} {'run' if len(retried) == 1 else 'runs'} retried")
    return Exit.DONE

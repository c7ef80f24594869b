"""``cnstra cancel``, ``pause`` and ``resume``: stopping runs, for good or for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from cnstra.cli import choosing, places
from cnstra.cli.options import AsJson, BrokerUrl, DatabaseUrl, RunId
from cnstra.cli.printing import note, say, say_json
from cnstra.client import Orchestrator, Run
from cnstra.exits import Exit
from cnstra.orchestrator.choosing import OpenChoiceOptions
from cnstra.orchestrator.machine.states import ENDED, RunStatus
from cnstra.stores.postgres.reaching import reach


def cancel(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run's id. Without it, the options say which runs.")
    ] = None,
    compensate: Annotated[
        bool,
        typer.Option(
            "--compensate", envvar="CNSTRA_CANCEL_COMPENSATE", help="Undo what is done, where it has a compensation."
        ),
    ] = False,
    status: Annotated[str | None, choosing.status_option("CNSTRA_CANCEL_STATUS")] = None,
    graph: Annotated[str | None, choosing.graph_option("CNSTRA_CANCEL_GRAPH")] = None,
    tag: Annotated[str | None, choosing.tag_option("CNSTRA_CANCEL_TAG")] = None,
    since: Annotated[str | None, choosing.since_option("CNSTRA_CANCEL_SINCE")] = None,
    older_than: Annotated[str | None, choosing.older_than_option("CNSTRA_CANCEL_OLDER_THAN")] = None,
    dry_run: Annotated[bool, choosing.dry_run_option("CNSTRA_CANCEL_DRY_RUN")] = False,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
) -> Exit:
    """End a run, or many, before they are through.

    What is open is cancelled, and no handler is called any more; those that run may come to their end. With --compensate what
    is done is undone then, in reverse order of finishing. Prints the ids of the runs. Many are cancelled in short transactions,
    so that it can be stopped and repeated at any time; those that are ending already are left alone.
    """
    chosen = {"--status": status, "--graph": graph, "--tag": tag, "--since": since, "--older-than": older_than}
    if run is not None:
        choosing.refuse_beside_run(chosen | {"--dry-run": dry_run})
    elif all(value is None for value in chosen.values()):
        raise typer.BadParameter(f"give a RUN, or say which runs: {', '.join(chosen)}")
    which = OpenChoiceOptions(status=choosing.statuses(status), **choosing.choice(graph, tag, since, older_than))
    database, broker = places.database(database_url), places.broker(broker_url)
    reach(database)
    with Orchestrator(database=database, broker=broker) as orchestrator:
        if run is not None:
            found = orchestrator.get_run(run)
            found.cancel(compensate=compensate)
            cancelled = [found.id]
            stands = RunStatus(found.status())
            left = "" if stands in ENDED else f"it is {stands}, and ends when what runs of it has ended"
        else:
            many = orchestrator.cancel_runs(compensate=compensate, dry_run=dry_run, **which)
            cancelled, left = [found.id for found in many], ""
    choosing.tell("cancelled", cancelled, as_json=as_json, dry_run=dry_run)
    if left and not as_json:
        note(f"{left}; see cnstra show {run}")
    return Exit.DONE


def pause(run: RunId, as_json: AsJson = False, database_url: DatabaseUrl = None, broker_url: BrokerUrl = None) -> Exit:
    """Call no handler of a run until cnstra resume.

    Those that run come to their end. Its timers, its next attempt and its deadline wait, too. Prints how it stands.
    """
    return _done(run, Run.pause, as_json=as_json, database_url=database_url, broker_url=broker_url)


def resume(run: RunId, as_json: AsJson = False, database_url: DatabaseUrl = None, broker_url: BrokerUrl = None) -> Exit:
    """Let a paused run go on.

    What came due meanwhile begins at once, and a deadline that has passed ends the run. Prints how it stands.
    """
    return _done(run, Run.resume, as_json=as_json, database_url=database_url, broker_url=broker_url)


def _done(
    run: str, what: Callable[[Run], None], *, as_json: bool, database_url: str | None, broker_url: str | None
) -> Exit:
    database, broker = places.database(database_url), places.broker(broker_url)
    reach(database)
    with Orchestrator(database=database, broker=broker) as orchestrator:
        found = orchestrator.get_run(run)
        what(found)
        status = found.status()
    say_json({"run_id": found.id, "status": status}) if as_json else say(status)
    return Exit.DONE

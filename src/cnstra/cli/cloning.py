"""``cnstra clone``."""

from __future__ import annotations

from typing import Annotated

import typer

from cnstra.cli import places
from cnstra.cli.ages import limit
from cnstra.cli.options import App, AsJson, BrokerUrl, DatabaseUrl, RunId, SealingCodec
from cnstra.cli.printing import say, say_json
from cnstra.cli.submitting import tags_of
from cnstra.client import Orchestrator
from cnstra.exits import Exit
from cnstra.loading import load
from cnstra.orchestrator.cloning import CloneOptions
from cnstra.stores.postgres.reaching import reach

_NONE = "none"


def clone(
    app: App,
    run: RunId,
    priority: Annotated[
        int | None, typer.Option(envvar="CNSTRA_CLONE_PRIORITY", metavar="N", help="Without it: that of RUN.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            envvar="CNSTRA_CLONE_TAG",
            metavar="KEY=VALUE",
            help="A tag of the clone; may be given repeatedly. Without any: those of RUN.",
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            envvar="CNSTRA_CLONE_DEADLINE",
            metavar="WHEN",
            help="As of cnstra submit, or none. Without it: that of RUN, if it was given as a length of time.",
        ),
    ] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
    codec: SealingCodec = None,
) -> Exit:
    """Start a new run from the same signal as an old one.

    It repeats all that the graph does, side effects included, under keys of its own. It has the priority, the tags, the policy
    and the context store of RUN, and neither its context nor its idempotency key. Prints the clone's id.
    """
    cns = load(app)
    options = CloneOptions()
    if priority is not None:
        options["priority"] = priority
    if tag:
        options["tags"] = tags_of(tag)
    if deadline is not None:
        options["deadline"] = None if deadline == _NONE else limit(deadline)
    database, broker = places.database(database_url), places.broker(broker_url)
    reach(database)
    with Orchestrator(cns, database=database, broker=broker, codec=places.codec(codec)) as orchestrator:
        original = orchestrator.get_run(run)
        cloned = original.clone(**options)
        if as_json:
            say_json({"run_id": cloned.id, "status": cloned.status(), "cloned_from": original.id})
        else:
            say(str(cloned.id))
    return Exit.DONE

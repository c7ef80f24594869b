"""``cnstra watch``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from cnstra.cli import places
from cnstra.cli.options import AsJson, BrokerUrl, Contexts, DatabaseUrl, ReplicaUrls, RunId, SealingCodec
from cnstra.cli.printing import say, say_json, when
from cnstra.client import Orchestrator
from cnstra.exits import Exit
from cnstra.orchestrator.machine.states import ENDED, RunStatus
from cnstra.orchestrator.sealing import envelope_of
from cnstra.orchestrator.watching import Change
from cnstra.stores.postgres.reaching import reach


def watch(
    run: RunId,
    after: Annotated[
        int,
        typer.Option(
            envvar="CNSTRA_WATCH_AFTER", min=0, metavar="VERSION", help="Only versions of its context after this one."
        ),
    ] = 0,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
    replica_url: ReplicaUrls = None,
    context: Contexts = None,
    codec: SealingCodec = None,
) -> Exit:
    """Follow a run until it has ended.

    Prints a line for each version of its context, and for each change of its status. With --json each line is a JSON document.
    Outlives a database that is away for a while.
    """
    database, replicas = places.database(database_url), places.replicas(replica_url)
    if not replicas:  # they may answer though it is away
        reach(database)
    store, name = places.contexts(context)
    with Orchestrator(
        database=database,
        broker=places.broker(broker_url),
        replica=replicas,
        context=store,
        context_name=name,
        codec=places.codec(codec),
    ) as orchestrator:
        status = ""
        for change in orchestrator.watch(run, after=after):
            if as_json:
                say_json(asdict(change))
            else:
                _tell(change, status)
            sys.stdout.flush()
            status = change.status
        if not as_json:
            say(status)
    return Exit.DONE if status == "completed" else Exit.NOT_COMPLETED


def _tell(change: Change, before: str) -> None:
    written = change.written
    if written is not None:
        who = "from outside" if written.neuron is None else f"{written.neuron}, activation {written.activation_id}"
        by_key = isinstance(written.written, dict) and envelope_of(written.written) is None
        keys = [*written.written] if by_key else ["the value"] if written.written else []
        parts = [f"wrote {', '.join(keys)}"] if keys else []
        parts += [f"removed {', '.join(written.removed)}"] if written.removed else []
        say(f"{when(written.at)} version {written.version}: {who} {' and '.join(parts) or 'wrote its local context'}")
    if change.status != before and RunStatus(change.status) not in ENDED:  # an end is told when all before it has been
        say(change.status)

"""``cnstra submit``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cnstra.cli import places
from cnstra.cli.ages import limit
from cnstra.cli.options import App, AsJson, BrokerUrl, Contexts, DatabaseUrl, SealingCodec
from cnstra.cli.printing import compact, note, say, say_json
from cnstra.cli.signals import signal_of
from cnstra.client import Orchestrator, Run, until_ended
from cnstra.exits import Exit
from cnstra.loading import load
from cnstra.orchestrator.errors import SubmitError
from cnstra.stores.postgres.reaching import reach


def submit(
    app: App,
    collateral: Annotated[str, typer.Argument(metavar="COLLATERAL", help="The name of the collateral to begin with.")],
    payload: Annotated[
        str, typer.Argument(metavar="[JSON]", help="Its payload, as JSON; - reads it from standard input.")
    ] = "null",
    wait: Annotated[bool, typer.Option("--wait", envvar="CNSTRA_SUBMIT_WAIT", help="Wait until the run ends.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            envvar="CNSTRA_SUBMIT_TIMEOUT", min=0.0, metavar="SECONDS", help="Wait no longer; the run goes on."
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            envvar="CNSTRA_SUBMIT_IDEMPOTENCY_KEY",
            metavar="KEY",
            help="A second submit under the same key answers the same run.",
        ),
    ] = None,
    priority: Annotated[
        int, typer.Option(envvar="CNSTRA_SUBMIT_PRIORITY", metavar="N", help="Higher ones are claimed first.")
    ] = 0,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            envvar="CNSTRA_SUBMIT_TAG", metavar="KEY=VALUE", help="A tag to find the run by; may be given repeatedly."
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            envvar="CNSTRA_SUBMIT_DEADLINE",
            metavar="WHEN",
            help="It fails, and is undone, unless it has ended by then: 90s, 15m, 1h, 7d, 2w from now, or 2026-01-31, or "
            "2026-01-31T12:00+01:00. UTC where it does not say.",
        ),
    ] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
    context: Contexts = None,
    codec: SealingCodec = None,
) -> Exit:
    """Start a run.

    When this returns, the run is kept, whatever dies. Prints the run's id; with --wait, also how it ended and what came
    out of it. With --context the run keeps its context in that store, in the first where several are given.
    """
    cns = load(app)
    signal = signal_of(cns, collateral, payload, SubmitError)
    tags, until = tags_of(tag or []), None if deadline is None else limit(deadline)
    database, broker = places.database(database_url), places.broker(broker_url)
    reach(database)
    store, name = places.contexts(context)
    seals = places.codec(codec)
    with Orchestrator(
        cns, database=database, broker=broker, context=store, context_name=name, codec=seals
    ) as orchestrator:
        run = orchestrator.submit(signal, idempotency_key=idempotency_key, priority=priority, tags=tags, deadline=until)
        if not wait:
            say_json({"run_id": run.id, "status": run.status()}) if as_json else say(str(run.id))
            return Exit.DONE
        if not as_json:
            say(str(run.id))
            sys.stdout.flush()
        return _await(run, timeout, as_json=as_json)


def _await(run: Run, timeout: float | None, *, as_json: bool) -> Exit:
    late = ""
    try:
        until_ended(run, timeout)
    except TimeoutError as error:
        late = str(error)
    found = run.describe()
    if as_json:
        shown = ("run_id", "status", "attempt", "outputs", "error", "error_type")
        say_json({name: found[name] for name in shown})
    else:
        say(found["status"])
        for output in found["outputs"]:
            say(f"{output['collateral']} {compact(output['payload'])}")
    if late:
        note(f"cnstra: {late}")
    elif found["status"] != "completed":
        why = f": {found['error_type']}: {found['error']}" if found["error_type"] else ""
        note(f"cnstra: run {run.id} is {found['status']}{why}; see cnstra show {run.id}")
    return Exit.DONE if found["status"] == "completed" else Exit.NOT_COMPLETED


def tags_of(given: list[str]) -> dict[str, str]:
    """``KEY=VALUE``, each, as tags. Raises ``SubmitError``."""
    tags = {}
    for tag in given:
        key, equals, value = tag.partition("=")
        if not key or not equals:
            raise SubmitError(f"tag {tag!r} is no KEY=VALUE")
        tags[key] = value
    return tags

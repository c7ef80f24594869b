"""``cnstra send``."""

from __future__ import annotations

from typing import Annotated

import typer

from cnstra.cli import places
from cnstra.cli.options import AsJson, BrokerUrl, DatabaseUrl, SealingCodec
from cnstra.cli.printing import note, say, say_json
from cnstra.cli.signals import signal_of, unchecked_signal_of
from cnstra.client import Orchestrator
from cnstra.exits import Exit
from cnstra.loading import load
from cnstra.orchestrator.errors import SendError
from cnstra.stores.postgres.reaching import reach


def send(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="The id of the run that it is sent to; left out with --key.")
    ],
    collateral: Annotated[
        str | None, typer.Argument(metavar="COLLATERAL", help="The name of the signal's collateral.")
    ] = None,
    payload: Annotated[
        str | None,
        typer.Argument(metavar="[JSON]", help="Its payload, as JSON; - reads it from standard input. By default null."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="CNSTRA_SEND_KEY",
            metavar="KEY",
            help="Instead of a RUN: send it to whichever run expects it by this key, now or later.",
        ),
    ] = None,
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            envvar="CNSTRA_SEND_APP",
            metavar="APP",
            help="The graph, module:attribute of a CNS: the signal is checked against it. Needed with --key.",
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            envvar="CNSTRA_SEND_IDEMPOTENCY_KEY",
            metavar="KEY",
            help="A second send under the same key sends nothing again.",
        ),
    ] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
    codec: SealingCodec = None,
) -> Exit:
    """Send a signal to a run that waits for it, or will.

    With --key it needs no RUN: send --key KEY --app APP COLLATERAL [JSON]. Prints the id of the run that has it; nothing, where
    it is kept for a run that does not expect it yet.

    Without --app a signal to a RUN is taken as it is: a wrong name is never expected, and a wrong payload fails in its handler.
    """
    run_id, name, text = _named(run, collateral, payload, by_key=key is not None)
    if key is not None and app is None:
        raise typer.BadParameter("--key needs --app: keys are those of a graph")
    cns = None if app is None else load(app)
    signal = unchecked_signal_of(name, text, SendError) if cns is None else signal_of(cns, name, text, SendError)
    database, broker = places.database(database_url), places.broker(broker_url)
    reach(database)
    with Orchestrator(cns, database=database, broker=broker, codec=places.codec(codec)) as orchestrator:
        if key is not None:
            taker = orchestrator.send(signal, key=key, idempotency_key=idempotency_key)
        else:
            taker = orchestrator.get_run(run_id)
            taker.send(signal, idempotency_key=idempotency_key)
    if as_json:
        say_json({"run_id": None if taker is None else taker.id, "collateral": name, "key": key})
    elif taker is not None:
        say(str(taker.id))
    else:
        note(f"no run expects {name!r} by key {key!r} yet; it is kept for the next one that does")
    return Exit.DONE


def _named(run: str, collateral: str | None, payload: str | None, *, by_key: bool) -> tuple[str, str, str]:
    """The run, the collateral and the payload that the words mean: with a key the first one is not there."""
    if by_key:
        if payload is not None:
            raise typer.BadParameter("with --key no RUN is given: send --key KEY --app APP COLLATERAL [JSON]")
        return "", run, "null" if collateral is None else collateral
    if collateral is None:
        raise typer.BadParameter("give a RUN and a COLLATERAL, or --key and a COLLATERAL")
    return run, collateral, "null" if payload is None else payload

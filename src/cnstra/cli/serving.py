"""``cnstra worker``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cnstra.cli import places
from cnstra.cli.debugging import debugging
from cnstra.cli.options import App, BrokerUrl, Contexts, DatabaseUrl, Health, SealingCodec
from cnstra.exits import Exit
from cnstra.running.orders import Orders
from cnstra.workers.settings import WorkerSettings

_USUAL = WorkerSettings()


def worker(
    app: App,
    processes: Annotated[
        int, typer.Option(envvar="CNSTRA_PROCESSES", min=1, metavar="N", help="How many processes serve.")
    ] = 1,
    threads: Annotated[
        int,
        typer.Option(
            envvar="CNSTRA_THREADS", min=1, metavar="M", help="How many sync handlers a process runs at the same time."
        ),
    ] = _USUAL.threads,
    coroutines: Annotated[
        int,
        typer.Option(
            envvar="CNSTRA_COROUTINES",
            min=1,
            metavar="K",
            help="How many async handlers a process runs at the same time.",
        ),
    ] = _USUAL.coroutines,
    transactions: Annotated[
        int | None,
        typer.Option(
            envvar="CNSTRA_TRANSACTIONS",
            min=1,
            metavar="N",
            help="How many handlers with transaction=True have a connection at the same time, in each process: so many sync "
            "ones, and so many async ones. Without it: as many as threads.",
        ),
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option(
            envvar="CNSTRA_QUEUES", metavar="A,B", help="Serve only the neurons on these queues. Without it: on all."
        ),
    ] = None,
    lease: Annotated[
        float,
        typer.Option(
            envvar="CNSTRA_LEASE",
            min=0.1,
            metavar="SECONDS",
            help="A worker that is not heard of for so long is taken for lost, and its work is done by others.",
        ),
    ] = _USUAL.lease.total_seconds(),
    drain: Annotated[
        float,
        typer.Option(
            envvar="CNSTRA_DRAIN",
            min=0.0,
            metavar="SECONDS",
            help="How long running handlers may go on after SIGTERM or SIGINT; a second signal ends them at once.",
        ),
    ] = _USUAL.drain.total_seconds(),
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(
            envvar="CNSTRA_LOG_LEVEL", metavar="debug|info|warning|error", help="What is logged, to standard error."
        ),
    ] = "info",
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            envvar="CNSTRA_LOG_FORMAT",
            metavar="text|json",
            help="Lines for people, or one JSON object a line, in which run_id and activation_id are fields.",
        ),
    ] = "text",
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
    context: Contexts = None,
    codec: SealingCodec = None,
    health: Health = None,
) -> Exit:
    """Carry out the runs of a graph, until told to stop.

    Prints one line, ready, when it takes work.
    """
    orders = Orders(
        app=app,
        database_url=places.database(database_url),
        broker_url=places.broker(broker_url),
        processes=processes,
        threads=threads,
        coroutines=coroutines,
        transactions=transactions,
        queues=None if queues is None else _names(queues),
        lease=lease,
        drain=drain,
        log_level=log_level,
        log_format=log_format,
        contexts=tuple(context or ()),
        codec=codec,
        debug=debugging(),
        health=health,
    )
    # What serves is loaded by who serves: to load it takes as long as a quarter of what other commands do.
    from cnstra.running.command import run

    return run(orders)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))

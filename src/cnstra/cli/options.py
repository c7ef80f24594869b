"""The options that several commands share. Each names its environment twin: ``CNSTRA_`` and the option's name; those of
one command alone have the command's name in between where a forgotten variable could do harm.
"""

from __future__ import annotations

from typing import Annotated

import typer

App = Annotated[
    str,
    typer.Argument(metavar="APP", help="The graph: module:attribute of a CNS, found from the current folder."),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="CNSTRA_DATABASE_URL",
        metavar="URL",
        help="The Postgres database. Without it: the one that cnstra up started.",
    ),
]
BrokerUrl = Annotated[
    str | None,
    typer.Option(
        "--broker-url",
        envvar="CNSTRA_BROKER_URL",
        metavar="URL",
        help="The Redis, Valkey or RabbitMQ that rings the workers. Without it: the one that cnstra up started.",
    ),
]
ReplicaUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--replica-url",
        "--replica",
        envvar="CNSTRA_REPLICA_URL",
        metavar="URL",
        help="A streaming standby of the database, to read from. May be given repeatedly; in the variable with spaces between.",
    ),
]
Contexts = Annotated[
    list[str] | None,
    typer.Option(
        "--context",
        envvar="CNSTRA_CONTEXT",
        metavar="[NAME=]STORE",
        help="A store of your own that keeps contexts: a redis:// URL, or module:attribute. May be given repeatedly; "
        "in the variable with spaces between.",
    ),
]
SealingCodec = Annotated[
    str | None,
    typer.Option(
        "--codec",
        envvar="CNSTRA_CODEC",
        metavar="CODEC",
        help="What seals the data of runs, and opens it: module:attribute of a codec, found from the current folder.",
    ),
]
Health = Annotated[
    str | None,
    typer.Option(
        "--health",
        envvar="CNSTRA_HEALTH",
        metavar="[HOST:]PORT",
        help="Where a worker answers the probes /live and /ready over HTTP; a port alone is for this machine only. Without it: "
        "nowhere.",
    ),
]
HomeFolder = Annotated[
    str | None,
    typer.Option(
        "--home", envvar="CNSTRA_HOME", metavar="FOLDER", help="Where the servers live. Without it: ./.cnstra."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", envvar="CNSTRA_JSON", help="Print one JSON document, and nothing else, on stdout.")
]

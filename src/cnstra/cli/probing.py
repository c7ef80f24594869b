"""``cnstra health``: asks a worker's endpoint for probes, for who can only run a command."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Annotated, Any, Literal

import typer

from cnstra.cli.options import AsJson, Health
from cnstra.cli.printing import say, say_json
from cnstra.exits import EndedWith, Exit
from cnstra.orchestrator.errors import ConfigurationError
from cnstra.running.endpoint import address_of

_PATIENCE = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where one listens, and where one asks then


def health(
    question: Annotated[
        Literal["live", "ready"],
        typer.Argument(metavar="[live|ready]", help="live: it need not be started again. ready: it takes work."),
    ] = "live",
    health: Health = None,
    as_json: AsJson = False,
) -> Exit:
    """Ask a worker whether it lives, or takes work.

    The worker has to be started with the same --health. With a no the exit code is 1, and the reasons are printed.
    """
    if health is None:
        raise ConfigurationError("no worker is given: pass --health, or set CNSTRA_HEALTH, as the worker has it")
    host, port = address_of(health)
    answer = _asked(_EVERYWHERE.get(host, host), port, question)
    if as_json:
        say_json(answer)
    else:
        say(question if answer[question] else f"not {question}: {'; '.join(answer['reasons'])}")
    return Exit.DONE if answer[question] else Exit.FAILED


def _asked(host: str, port: int, question: str) -> dict[str, Any]:
    connection = HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", f"/{question}")
        answer = json.loads(connection.getresponse().read(65536))
        if isinstance(answer, dict) and isinstance(answer.get(question), bool):
            return answer
        problem = "something else answers"
    except (OSError, HTTPException) as error:
        problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
    except ValueError:
        problem = "something else answers"
    finally:
        connection.close()
    raise EndedWith(f"no worker answers probes at {host}:{port}: {problem}", Exit.AWAY)

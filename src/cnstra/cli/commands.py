"""Which commands there are, in the order of the help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from cnstra.cli.asking import sql
from cnstra.cli.cloning import clone
from cnstra.cli.debugging import with_debug
from cnstra.cli.developing import demo, down, migrate, up
from cnstra.cli.doctoring import doctor
from cnstra.cli.drawing import graph
from cnstra.cli.ending import cancel, pause, resume
from cnstra.cli.looking import runs, show
from cnstra.cli.probing import health
from cnstra.cli.pruning import prune, retention
from cnstra.cli.retrying import retry
from cnstra.cli.sending import send
from cnstra.cli.serving import worker
from cnstra.cli.submitting import submit
from cnstra.cli.watching import watch

_COMMANDS: tuple[Callable[..., Any], ...] = (
    worker, submit, send, runs, show, watch, retry, cancel, pause, resume, clone, prune, retention, sql, graph, migrate, doctor,
    health, up, down, demo,
)  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Make the commands those of ``app``, each under its function's name."""
    for command in _COMMANDS:
        app.command(command.__name__)(with_debug(command))

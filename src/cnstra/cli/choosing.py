"""Which of many runs a command means: the options that ``cancel`` and ``retry`` share, under variables of their own.

Owns how they are said, and that they are not mixed with one RUN. What a run can be is checked by the library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import typer

from cnstra.cli.ages import AGES, age, moment
from cnstra.cli.printing import note, say, say_json
from cnstra.orchestrator.choosing import CANCELLABLE, ChoiceOptions


def status_option(variable: str) -> Any:
    """``--status``, of runs that have not ended."""
    return typer.Option(
        envvar=variable,
        metavar="A,B",
        help=f"Only runs that are so: {', '.join(CANCELLABLE)}. Without it: all of these.",
    )


def graph_option(variable: str) -> Any:
    """``--graph``."""
    return typer.Option(envvar=variable, metavar="NAME", help="Only runs of this graph.")


def tag_option(variable: str) -> Any:
    """``--tag``."""
    return typer.Option(envvar=variable, metavar="KEY[=VALUE]", help="Only runs with this tag.")


def since_option(variable: str) -> Any:
    """``--since``."""
    return typer.Option(
        envvar=variable, metavar="WHEN", help="Only runs submitted since then: 1h, 7d ago, or 2026-01-31T12:00+01:00."
    )


def older_than_option(variable: str) -> Any:
    """``--older-than``."""
    return typer.Option(
        "--older-than", envvar=variable, metavar="AGE", help=f"Only runs submitted longer ago than this: {AGES}."
    )


def dry_run_option(variable: str) -> Any:
    """``--dry-run``."""
    return typer.Option("--dry-run", envvar=variable, help="Only say which runs it would be.")


def choice(graph: str | None, tag: str | None, since: str | None, older_than: str | None) -> ChoiceOptions:
    """What these options say, as the library takes it."""
    old = None if older_than is None else age(older_than)
    if older_than is not None and old is None:
        raise typer.BadParameter(f"--older-than {older_than!r} is no length of time such as {AGES}")
    return ChoiceOptions(
        graph=graph, tag=tag, since=None if since is None else moment(since, datetime.now(UTC)), older_than=old
    )


def statuses(text: str | None) -> list[str] | None:
    """What ``--status`` says."""
    found = None if text is None else [part.strip() for part in text.split(",") if part.strip()]
    if found is not None and (not found or not set(found) <= set(CANCELLABLE)):
        raise typer.BadParameter(f"--status {text!r}: what can be cancelled is {', '.join(CANCELLABLE)}")
    return found


def refuse_beside_run(options: Mapping[str, object]) -> None:
    """A RUN says which; an option that says it, too, could be meant otherwise. ``options`` are by their names."""
    given = [name for name, value in options.items() if value not in (None, False)]
    if given:
        raise typer.BadParameter(f"{' and '.join(given)} say which of many runs are meant, and a RUN is given")


def tell(what: str, run_ids: Sequence[UUID], *, as_json: bool, dry_run: bool) -> None:
    """The runs to which something was done, or would be."""
    if as_json:
        say_json({what: run_ids, "dry_run": True} if dry_run else {what: run_ids})
        return
    for run_id in run_ids:
        say(str(run_id))
    note(f"{len(run_ids)} {'run' if len(run_ids) == 1 else 'runs'} {'would be ' if dry_run else ''}{what}")

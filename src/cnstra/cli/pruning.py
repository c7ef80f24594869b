"""``cnstra prune`` and ``cnstra retention``: deleting what has ended, now and by rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, cast

import typer

from cnstra.cli import places
from cnstra.cli.ages import AGES, age, written
from cnstra.cli.options import AsJson, DatabaseUrl
from cnstra.cli.printing import note, say, say_json, table
from cnstra.exits import Exit
from cnstra.orchestrator.flows import Flows, drive
from cnstra.orchestrator.ports import Ring, SystemEntropy
from cnstra.orchestrator.retention import CONTEXT, ENDED_STATUSES, FINAL_STATUSES, RULES, KeepOptions
from cnstra.orchestrator.store import Operation
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.reaching import reach

_FOREVER = "forever"


def prune(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            envvar="CNSTRA_PRUNE_OLDER_THAN",
            metavar="AGE",
            help=f"Only runs that ended longer ago than this: {AGES}.",
        ),
    ],
    status: Annotated[
        str | None,
        typer.Option(
            envvar="CNSTRA_PRUNE_STATUS",
            metavar="A,B",
            help=f"Only runs that ended so: {', '.join(ENDED_STATUSES)}. Without it: {', '.join(FINAL_STATUSES)}.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(envvar="CNSTRA_PRUNE_LIMIT", min=1, metavar="N", help="Delete no more than so many.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", envvar="CNSTRA_PRUNE_DRY_RUN", help="Only count what would be deleted.")
    ] = False,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> Exit:
    """Delete runs that ended long ago, with all of theirs.

    Activations, tries, context and idempotency keys go with them, for good. A failed run could still be retried: those go only
    where --status names them. Deletes in short transactions of whole runs, so that it can be stopped at any time. Prints how
    many, by status.
    """
    long = age(older_than)
    if long is None:
        raise typer.BadParameter(f"--older-than {older_than!r} is no length of time such as {AGES}")
    statuses = None if status is None else _statuses(status)
    with _flows(database_url) as flows:
        pruned = drive(flows.prune(long, statuses, dry_run, limit))
    if as_json:
        say_json({"dry_run": dry_run, "pruned": pruned})
    else:
        say(table(("status", "runs"), pruned.items()))
        note(f"{sum(pruned.values())} in all {'would be deleted' if dry_run else 'are deleted'}")
    return Exit.DONE


def retention(
    keep: Annotated[
        list[str] | None,
        typer.Option(
            envvar="CNSTRA_RETENTION_KEEP",
            metavar="RULE=AGE",
            help=f"Keep what ended so for this long from its end, or {_FOREVER}: {', '.join(RULES)}. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> Exit:
    """Show how long what has ended is kept, or change it.

    The workers delete, in the background, what is older. Context is for the contexts of runs that stay themselves; failed runs
    keep theirs. --json gives seconds by rule, null for ever.
    """
    rules = _rules(keep or [])
    with _flows(database_url) as flows:
        before = drive(flows.retention())
        drive(flows.set_retention(rules))
        kept = drive(flows.retention())
        due = {what: _due(flows, what, kept[what]) for what in rules if kept[what] != before[what] and what != CONTEXT}
    if as_json:
        say_json(kept)
    else:
        say(table(("rule", "kept for"), ((what, _said(what, long)) for what, long in kept.items())))
    if rules.get("failed") is not None:
        note("failed runs are deleted from now on, too; none of those can be retried any more")
    for what, count in due.items():
        if count:
            runs = "run is" if count == 1 else "runs are"
            note(f"{count} {what} {runs} older than that: the workers begin to delete within about a minute")
    return Exit.DONE


def _said(what: str, keep: timedelta | None) -> str:
    if keep is not None:
        return written(keep)
    return "as long as its run" if what == CONTEXT else _FOREVER


def _due(flows: Flows, status: str, keep: timedelta | None) -> int:
    return 0 if keep is None else sum(drive(flows.prune(keep, (status,), True, None)).values())


def _statuses(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    for status in found:
        if status not in ENDED_STATUSES:
            raise typer.BadParameter(f"--status {status!r}: only runs that have ended go: {', '.join(ENDED_STATUSES)}")
    if not found:
        raise typer.BadParameter("--status names nothing")
    return found


def _rules(given: Sequence[str]) -> KeepOptions:
    rules: dict[str, timedelta | None] = {}
    for text in given:
        what, separator, length = (part.strip() for part in text.partition("="))
        if what not in RULES or not separator:
            raise typer.BadParameter(f"--keep {text!r} is no rule such as completed=30d; there are {', '.join(RULES)}")
        rules[what] = None if length == _FOREVER else age(length)
        if rules[what] is None and length != _FOREVER:
            raise typer.BadParameter(f"--keep {text!r}: {length!r} is neither {_FOREVER} nor a time such as {AGES}")
    return cast("KeepOptions", rules)


class _Quiet:
    """Where the flows of this command run: no doorbell is rung by who only deletes."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def run(self, operation: Operation[Any], /) -> Any:
        return self._store.run(operation)

    def run_in(self, connection: Any, operation: Operation[Any], /) -> Any:
        return self._store.run_in(connection, operation)

    def ring(self, rings: Sequence[Ring], /) -> None:
        raise RuntimeError(f"deleting made something ready: {rings}")

    def call(self, blocking: Callable[[], Any], /) -> Any:
        return blocking()

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)

    def monotonic(self) -> float:
        return time.monotonic()


@contextmanager
def _flows(given: str | None) -> Iterator[Flows]:
    database_url = places.database(given)
    reach(database_url)
    store = PostgresStore(database_url, connections=1)
    try:
        yield Flows(None, store, _Quiet(store), SystemEntropy())
    finally:
        store.close()

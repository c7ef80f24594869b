"""``cnstra runs`` and ``cnstra show``: looking at runs, without their graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from cnstra.cli import places
from cnstra.cli.ages import moment
from cnstra.cli.options import AsJson, Contexts, DatabaseUrl, ReplicaUrls, RunId, SealingCodec
from cnstra.cli.printing import note, say, say_json, table
from cnstra.cli.story import told
from cnstra.exits import Exit, line_of
from cnstra.loading import load_context
from cnstra.orchestrator.blobs import USUAL_PLACE, Blobs, keys_of
from cnstra.orchestrator.errors import ContextLost, SealError, StoreUnavailable
from cnstra.orchestrator.flows import not_found, whole
from cnstra.orchestrator.machine.states import RunStatus
from cnstra.orchestrator.sealed_rows import Rows
from cnstra.orchestrator.sealed_store import sealed_store
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.slots import Snapshot
from cnstra.orchestrator.store import RunFilter
from cnstra.orchestrator.submitting import run_uuid, tag_filter
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.diagnosing import Diagnosing, Row, Story
from cnstra.stores.postgres.reaching import reach

_SHORT = ("run_id", "graph", "status", "blocked", "attempt", "submitted_at", "finished_at", "error")


def runs(
    status: Annotated[
        RunStatus | None,
        typer.Option(
            envvar="CNSTRA_RUNS_STATUS", metavar="STATUS", help=f"Only runs that are so: {', '.join(RunStatus)}."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            envvar="CNSTRA_RUNS_SINCE",
            metavar="WHEN",
            help="Only runs submitted since then: 90s, 15m, 1h, 7d, 2w ago, or 2026-01-31, or 2026-01-31T12:00+01:00. "
            "UTC where it does not say.",
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(envvar="CNSTRA_RUNS_TAG", metavar="KEY[=VALUE]", help="Only runs with this tag."),
    ] = None,
    limit: Annotated[int, typer.Option(envvar="CNSTRA_RUNS_LIMIT", min=1, metavar="N", help="Only so many.")] = 100,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    replica_url: ReplicaUrls = None,
    codec: SealingCodec = None,
) -> Exit:
    """List runs, the newest first.

    Blocked says of a run why nobody may take it up: unknown, as no worker is up that has the code for what comes next;
    limited, as something waits for a place within its neuron's concurrency. --json gives a list of all columns of the view
    cnstra.runs.
    """
    which = RunFilter(
        status=None if status is None else status.value,
        tag=tag_filter(tag),
        since=None if since is None else moment(since, datetime.now(UTC)),
        limit=limit,
    )
    with _store(database_url, places.replicas(replica_url), places.vault(codec)) as store:
        found = store.run(store.run_rows(which))
    if as_json:
        say_json(found)
    elif found:
        say(table(_SHORT, ([row[column] for column in _SHORT] for row in found)))
    else:
        note("no runs fit")
    return Exit.DONE


def show(
    run: RunId,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    replica_url: ReplicaUrls = None,
    context: Contexts = None,
    codec: SealingCodec = None,
) -> Exit:
    """Tell everything about one run.

    How it stands and why, what is left to do, what it waits for, how far its scatters are, each try's error, its context:
    where a store of your own keeps that, with --context. What is sealed is shown as it is, or, with --codec, opened.

    --json gives the columns of the view cnstra.runs, with lists activations, expectations and scatters of those of the views
    of these names.
    """
    run_id = run_uuid(run)
    vault = places.vault(codec)
    with _store(database_url, places.replicas(replica_url), vault) as store:
        story = store.run(Diagnosing().story(run_id))
        if story is not None and vault is not None:
            story = _opened(story, vault)
        if story is not None and not as_json and story.context["context_place"] is not None:
            stores = [load_context(given, vault) for given in context or ()]
            story = replace(story, context=_elsewhere(store, story, stores))
    if story is None:
        raise not_found(run_id)
    if as_json:
        say_json(
            {
                **story.run,
                "activations": story.activations,
                "expectations": story.expectations,
                "scatters": story.scatters,
            }
        )
    else:
        say(told(story))
    return Exit.DONE


def _elsewhere(store: PostgresStore, story: Story, given: list[Blobs]) -> Row:
    """A context that a store of the user's own keeps, read from there; or a note why that could not be."""
    run_id, place = story.run["run_id"], story.context["context_place"]
    blobs = next((blobs for blobs in given if blobs.place == place), None)
    if blobs is None:
        named = "" if place == USUAL_PLACE else f"{place}="
        return {**story.context, "note": f"is kept in the store {place!r}; see it with --context {named}STORE"}
    snapshot = store.run(store.context_at(run_id, None))
    if snapshot is None:
        return story.context
    try:
        found = blobs.fetch(keys_of(snapshot.slots)).values(snapshot.slots, f"run {run_id}")
    except (ContextLost, SealError, StoreUnavailable) as error:
        return {**story.context, "note": line_of(error)}
    shared, local = whole(Snapshot(version=snapshot.version, slots=found))
    return {**story.context, "version": snapshot.version, "data": shared, "local": local}


def _opened(story: Story, vault: Vault) -> Story:
    """What is sealed of a run, as far as it can be opened."""
    rows, run_id = Rows(vault), story.run["run_id"]
    return replace(
        story,
        run=rows.run(story.run),
        activations=list(map(rows.activation, story.activations)),
        tries=list(map(rows.tried, story.tries)),
        context=rows.context(story.context, run_id),
    )


@contextmanager
def _store(given: str | None, replica_urls: Sequence[str], vault: Vault | None) -> Iterator[PostgresStore]:
    database_url = places.database(given)
    if not replica_urls:  # they may answer though it is away
        reach(database_url)
    store = sealed_store(PostgresStore(database_url, connections=1, replicas=replica_urls), vault)
    try:
        store.run(store.check_schema())
        yield store
    finally:
        store.close()

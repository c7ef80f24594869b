"""``cnstra watch``: a run, followed on the command line."""

from __future__ import annotations

import json

import psycopg

from cnstra import Orchestrator
from cnstra.stores import PostgresContextStore
from support.apps.sagas import Job, begin
from support.commands import Servers, cnstra


def test_a_run_is_followed_to_its_end(start_worker, client: Orchestrator, both: Servers) -> None:
    """A line for each version, and for each status; with --json a document each; the exit code says how it ended."""
    start_worker("sagas:cns").ready()
    run = client.submit(begin.create_signal(Job()))

    watched = cnstra("watch", str(run.id), servers=both)
    as_json = cnstra("watch", str(run.id), "--json", servers=both)

    assert watched.code == 0
    assert "version 1: first, activation 1 wrote done by" in watched.out
    assert watched.out.splitlines()[-1] == "completed"
    said = [json.loads(line) for line in as_json.out.splitlines()]
    assert [one["version"] for one in said if one["written"]] == [1]
    assert set(said[0]["written"]["written"]) == {"done by"}
    assert said[-1]["status"] == "completed"


def test_how_a_run_ended_is_told_after_all_that_it_wrote(start_worker, client: Orchestrator, both: Servers) -> None:
    """Also where it has ended before: the end is the last line, and stands there once."""
    run = client.submit(begin.create_signal(Job()))
    with psycopg.connect(both.database_url, autocommit=True) as connection:
        PostgresContextStore(connection, run.id).set({"from": "outside"})
    start_worker("sagas:cns").ready()
    run.wait(60)

    watched = cnstra("watch", str(run.id), servers=both)

    first, second, end = watched.out.splitlines()
    assert "version 1: from outside wrote from" in first
    assert "version 2: first, activation 1 wrote done by" in second
    assert end == "completed"


def test_what_is_known_is_left_out(start_worker, client: Orchestrator, both: Servers) -> None:
    """--after: only what came since."""
    start_worker("sagas:cns").ready()
    run = client.submit(begin.create_signal(Job()))

    watched = cnstra("watch", str(run.id), "--after", "1", servers=both)

    assert (watched.code, watched.out) == (0, "completed\n")


def test_a_run_that_fails_ends_with_another_code(start_worker, client: Orchestrator, both: Servers) -> None:
    """3 is for a run that has not completed; 4 for one that there is not."""
    start_worker("sagas:cns").ready()
    run = client.submit(begin.create_signal(Job("fail once")))

    assert cnstra("watch", str(run.id), servers=both).code == 3
    assert cnstra("watch", "0190163d-8694-739b-aea5-966c26f8ad91", servers=both).code == 4

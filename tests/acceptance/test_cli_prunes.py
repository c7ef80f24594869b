"""Deleting what has ended, from the command line: by hand, by rules, and with the hand killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import psycopg
import pytest

from cnstra import Orchestrator
from support.apps.sagas import Job, begin
from support.commands import APPS, Servers, cnstra, command_line, environment_of
from support.waiting import eventually

PATIENCE = 60.0


@pytest.fixture
def ended(client: Orchestrator, start_worker) -> dict[str, Any]:
    """Two runs that have completed and one that has failed, 40 days ago, and one that nobody has begun."""
    worker = start_worker("sagas:cns").ready()
    runs = {
        "done": client.submit(begin.create_signal(Job()), idempotency_key="o-17"),
        "also": client.submit(begin.create_signal(Job())),
        "failed": client.submit(begin.create_signal(Job("fail once"))),
    }
    for run in runs.values():
        run.wait(PATIENCE)
    worker.send(signal.SIGTERM)
    worker.ended()
    return runs | {"new": client.submit(begin.create_signal(Job()))}


@pytest.fixture
def long_ago(ended: dict[str, Any], database_url: str) -> dict[str, Any]:
    """The same, as if it had been 40 days ago."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update cnstra.run set finished_at = finished_at - interval '40 days'")
    return ended


def _left(client: Orchestrator) -> set[Any]:
    return {run.id for run in client.list_runs()}


def test_prune_deletes_what_ended_long_ago_and_says_how_many(
    long_ago: dict[str, Any], both: Servers, client: Orchestrator
) -> None:
    """Not what could still be retried, and not what has not ended; the dry run before it deletes nothing."""
    dry = cnstra("prune", "--older-than", "30d", "--dry-run", "--json", servers=both)
    assert dry.json == {"dry_run": True, "pruned": {"completed": 2, "compensated": 0, "cancelled": 0}}
    assert len(_left(client)) == 4

    done = cnstra("prune", "--older-than", "30d", "--json", servers=both)

    assert done.json == {"dry_run": False, "pruned": {"completed": 2, "compensated": 0, "cancelled": 0}}
    assert _left(client) == {long_ago["failed"].id, long_ago["new"].id}
    gone = cnstra("show", str(long_ago["done"].id), servers=both)
    assert gone.code == 4
    assert "it never was, or it was pruned" in gone.complaint
    assert client.submit(begin.create_signal(Job("wait")), idempotency_key="o-17").id != long_ago["done"].id


def test_prune_takes_failed_runs_where_they_are_named(
    long_ago: dict[str, Any], both: Servers, client: Orchestrator
) -> None:
    """By their status, with a limit, as text for people."""
    said = cnstra("prune", "--older-than", "4w", "--status", "failed, completed", "--limit", "2", servers=both)

    assert said.code == 0
    assert [line.split() for line in said.out.splitlines()] == [["status", "runs"], ["failed", "1"], ["completed", "1"]]
    assert len(_left(client)) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--older-than", "30"], "'30' is no length of time"),
        (["--older-than", "30d", "--status", "running"], "'running': only runs that have ended go"),
        (["--older-than", "30d", "--status", ","], "names nothing"),
        (["--older-than", "999999d"], "from nothing to a century"),
        ([], "--older-than"),
    ],
)
def test_prune_refuses_what_it_does_not_understand(
    long_ago: dict[str, Any], both: Servers, client: Orchestrator, options: list[str], said: str
) -> None:
    """Above all an age without a unit, and runs that go on; nothing is deleted."""
    ended = cnstra("prune", *options, servers=both)

    assert ended.code in (2, 5)
    assert said in ended.complaint
    assert len(_left(client)) == 4


def test_prune_needs_no_broker(long_ago: dict[str, Any], both: Servers, client: Orchestrator) -> None:
    """It runs from a timer on some machine that knows the database alone."""
    only = {"CNSTRA_DATABASE_URL": both.database_url}
    assert cnstra("prune", "--older-than", "30d", environment=only).code == 0
    assert len(_left(client)) == 2


def test_a_prune_that_is_killed_leaves_whole_runs_only(ended: dict[str, Any], both: Servers) -> None:
    """With one portion deleted and the next one begun: what that had deleted is there again; the next prune takes the rest."""
    kinds = ("activation", "context_head", "context_entry")
    copy = (
        "insert into cnstra.run select (jsonb_populate_record(r, jsonb_build_object('run_id', i.run_id, "
        "'finished_at', '2020-01-01'::timestamptz + make_interval(secs => i.n), 'idempotency_key', null))).* "
        "from ids i, cnstra.run r where r.run_id = %(run_id)s"
    )
    with psycopg.connect(both.database_url, autocommit=True) as connection:
        connection.execute(
            "create temporary table ids as select n, gen_random_uuid() as run_id from generate_series(1, 250) n"
        )
        connection.execute(copy.encode(), {"run_id": ended["done"].id})
        for kind in kinds:
            rows = f"select (jsonb_populate_record(t, jsonb_build_object('run_id', i.run_id))).* from ids i, cnstra.{kind} t"
            connection.execute(
                f"insert into cnstra.{kind} {rows} where t.run_id = %(run_id)s".encode(), {"run_id": ended["done"].id}
            )

        def counted() -> dict[str, int]:
            return {
                table: connection.execute(
                    f"select count(distinct run_id) from cnstra.{table} join ids using (run_id)".encode()
                ).fetchall()[0][0]
                for table in ("run", *kinds)
            }

        assert set(counted().values()) == {250}
        with psycopg.connect(both.database_url) as holder:
            [(last,)] = connection.execute("select run_id from ids where n = 250").fetchall()
            holder.execute("select from cnstra.activation where run_id = %s for update", [last])
            process = subprocess.Popen(
                command_line(["prune", "--older-than", "1d"]),
                cwd=APPS,
                env=environment_of(both),
                stdout=subprocess.DEVNULL,
            )
            try:
                eventually(
                    lambda: (
                        connection.execute(
                            "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
                        ).rowcount
                    ),
                    PATIENCE,
                    what="the prune is in the middle of its second portion",
                )
            finally:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            assert set(counted().values()) == {50}
        eventually(
            lambda: (
                not connection.execute(
                    "select from pg_stat_activity where datname = current_database() and application_name = 'cnstra' "
                    "and state <> 'idle'"
                ).rowcount
            ),
            PATIENCE,
            what="the server has noticed",
        )
        left = set(counted().values())
        assert left in ({50}, {0}), "whole runs: the portion that was under way happened, or it did not"
        assert cnstra("prune", "--older-than", "1d", servers=both).code == 0
        assert set(counted().values()) == {0}


def test_retention_shows_the_rules_and_changes_them(both: Servers, client: Orchestrator) -> None:
    """As a table for people, in seconds for programs; what is not named stays."""
    shown = cnstra("retention", servers=both)
    assert shown.code == 0
    assert [line.split(maxsplit=1) for line in shown.out.splitlines()][1:] == [
        ["completed", "30d"],
        ["failed", "forever"],
        ["compensated", "90d"],
        ["cancelled", "90d"],
        ["context", "as long as its run"],
        ["sent", "30d"],
    ]

    changed = cnstra("retention", "--keep", "completed=36h", "--keep", "context=1w", "--json", servers=both)

    assert changed.json == {
        "completed": 36 * 3600.0,
        "failed": None,
        "compensated": 90 * 86400.0,
        "cancelled": 90 * 86400.0,
        "context": 7 * 86400.0,
        "sent": 30 * 86400.0,
    }
    assert {what: keep and keep.total_seconds() for what, keep in client.retention().items()} == changed.json


def test_retention_says_what_a_shorter_rule_will_delete(long_ago: dict[str, Any], both: Servers) -> None:
    """Before the workers do, and that failed runs are gone for good."""
    ended = cnstra("retention", "--keep", "failed=30d", servers=both)

    assert "none of those can be retried any more" in ended.err
    assert "1 failed run is older than that" in ended.err


@pytest.mark.parametrize("rule", ["running=1d", "completed", "completed=soon", "completed=1s", "completed=999999d"])
def test_retention_refuses_rules_that_there_are_not(both: Servers, client: Orchestrator, rule: str) -> None:
    """Also one so short that who waits for a run would not find it; the rules stay as they were."""
    before = client.retention()
    ended = cnstra("retention", "--keep", rule, servers=both)

    assert ended.code in (2, 5)
    assert rule.partition("=")[0] in ended.complaint
    assert client.retention() == before


def test_workers_delete_what_is_no_longer_kept(
    long_ago: dict[str, Any], both: Servers, client: Orchestrator, start_worker
) -> None:
    """In the background, by the rules of the database; what they keep, and what goes on, stays."""
    start_worker("sagas:cns").ready()

    eventually(lambda: len(_left(client)) == 2, PATIENCE, what="the workers have deleted what completed 40 days ago")
    assert _left(client) == {long_ago["failed"].id, long_ago["new"].id}
    assert long_ago["new"].wait(PATIENCE).status == "completed"

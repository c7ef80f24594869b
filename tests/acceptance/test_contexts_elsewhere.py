"""Contexts in a store of the user's own, from the command line: ``--context`` of workers, submits and looks at runs."""

from __future__ import annotations

import signal

import psycopg
import pytest
import redis

from cnstra import Orchestrator
from support.apps.sagas import Job, begin, cns
from support.blob_stores import MemoryBlobStore
from support.commands import Servers, cnstra
from support.waiting import eventually

from .conftest import StartWorker

PATIENCE = 60.0
UNKNOWN = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10"


def test_a_run_whose_context_is_in_redis_is_submitted_served_and_shown(
    both: Servers, start_worker: StartWorker
) -> None:
    """By two processes, which are told over a pipe; the variable does for a submit and a look what the option does."""
    url = both.broker_url
    worker = start_worker("sagas:cns", "--processes", "2", "--context", f"archive={url}", "--context", url).ready()
    environment = {"CNSTRA_CONTEXT": f"archive={url} {url}"}
    submitted = cnstra("submit", "sagas:cns", "begin", "{}", "--wait", "--json", servers=both, environment=environment)
    assert (submitted.code, submitted.json["status"]) == (0, "completed")
    run_id = submitted.json["run_id"]

    with redis.Redis.from_url(url) as client:
        assert len(list(client.scan_iter(match=f"cnstra:blob:{run_id}/*"))) == 1
    without = cnstra("show", run_id, servers=both)
    assert "context, version 1:\n  is kept in the store 'archive'; see it with --context archive=STORE" in without.out
    shown = cnstra("show", run_id, "--context", f"archive={url}", servers=both)
    assert '"done by"' in shown.out
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0


def test_a_run_that_waits_for_a_store_is_explained(both: Servers, start_worker: StartWorker) -> None:
    """``show`` and ``doctor`` name the store; nothing has failed, and a worker that has it finishes the run."""
    with Orchestrator(cns, database=both.database_url, broker=both.broker_url, context=MemoryBlobStore()) as client:
        run = client.submit(begin.create_signal(Job()))
        start_worker("sagas:cns").ready()
        eventually(lambda: cnstra("doctor", servers=both).code == 1, PATIENCE, what="the doctor finds the blocked run")
        assert (
            "no worker has the code and the store of contexts 'context' (--context)"
            in cnstra("doctor", servers=both).out
        )
        shown = cnstra("show", str(run.id), servers=both)
        assert "cnstra worker APP --context context=STORE" in shown.out
        start_worker("sagas:cns", "--context", both.broker_url).ready()
        eventually(lambda: run.status() == "completed", PATIENCE, what="the run has completed")


def test_the_doctor_tells_of_blobs_that_nobody_deletes(both: Servers, start_worker: StartWorker) -> None:
    """Because no worker has their store any more; one that comes with it deletes them."""
    with (
        redis.Redis.from_url(both.broker_url) as client,
        psycopg.connect(both.database_url, autocommit=True) as database,
    ):
        client.set(f"cnstra:blob:{UNKNOWN}/1-1-f-0-0", b"")
        database.execute(
            "insert into cnstra.context_litter values ('context', %s, now() - interval '2 hours')",
            [f"{UNKNOWN}/1-1-f-0-0"],
        )
        found = cnstra("doctor", servers=both)
        assert "blobs of no run wait in the store 'context' to be deleted: 1, the oldest for 2" in found.out
        start_worker("sagas:cns", "--lease", "1", "--context", both.broker_url).ready()
        eventually(lambda: not client.keys("cnstra:blob:*"), PATIENCE, what="the blob is deleted")
        left = "select count(*) from cnstra.context_litter"
        eventually(lambda: database.execute(left).fetchone() == (0,), PATIENCE, what="and forgotten")
    assert "blobs of no run" not in cnstra("doctor", servers=both).out


def test_show_tells_the_rest_of_a_run_whose_blob_is_lost(both: Servers, start_worker: StartWorker) -> None:
    """With what is wrong, in the place of the context."""
    start_worker("sagas:cns", "--context", both.broker_url).ready()
    submitted = cnstra(
        "submit", "sagas:cns", "begin", "{}", "--wait", "--json", "--context", both.broker_url, servers=both
    )
    with redis.Redis.from_url(both.broker_url) as client:
        client.delete(*client.scan_iter(match="cnstra:blob:*"))
    shown = cnstra("show", submitted.json["run_id"], "--context", both.broker_url, servers=both)
    assert shown.code == 0
    assert "COMPLETED" in shown.out
    assert "a part of its context is lost" in shown.out


def test_waiting_for_a_run_needs_no_store_of_its_context(both: Servers, start_worker: StartWorker) -> None:
    """A second submit under its key, without the store, is told how the run ended; its context is not printed anyway."""
    start_worker("sagas:cns", "--context", both.broker_url).ready()
    submit = ("submit", "sagas:cns", "begin", "{}", "--wait", "--json", "--idempotency-key", "o-17")
    first = cnstra(*submit, "--context", both.broker_url, servers=both)
    again = cnstra(*submit, servers=both)
    assert (first.code, again.code) == (0, 0)
    assert again.json == first.json


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("nonsense", "--context is module:attribute"),
        ("no_such_module:store", "there is no module 'no_such_module'"),
        ("stores:missing", "stores has no 'missing'"),
        ("stores:a_class", "it is a class; name an object of it"),
        ("stores:nothing", "no method put"),
        ("http://h/0", "the URL of the store of contexts cannot be used"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_at_the_start(
    both: Servers, start_worker: StartWorker, given: str, complaint: str
) -> None:
    """With one line and the exit code of configurations; before any work is taken."""
    ended = cnstra("worker", "sagas:cns", "--context", given, servers=both)
    assert ended.code == 5
    assert complaint in ended.complaint


def test_two_stores_of_one_name_are_refused(both: Servers) -> None:
    """It could not be told which of them has a run's context."""
    ended = cnstra("worker", "sagas:cns", "--context", both.broker_url, "--context", "stores:memory", servers=both)
    assert ended.code == 5
    assert "2 stores are named 'context'; give names: --context NAME=STORE" in ended.complaint

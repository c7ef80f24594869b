"""Sealed data from the command line: ``--codec`` of workers, submits, signals, clones, and of looks at runs."""

from __future__ import annotations

import signal

import psycopg
import pytest

from support.commands import NOWHERE, Servers, cnstra
from support.waiting import eventually

from .conftest import StartWorker

PATIENCE = 60.0
CODEC = {"CNSTRA_CODEC": "seals:codec"}


def test_a_sealed_run_is_submitted_served_shown_watched_and_cloned(both: Servers, start_worker: StartWorker) -> None:
    """By two processes, which are told over a pipe; the variable does for every command what the option does."""
    worker = start_worker("sagas:cns", "--processes", "2", "--codec", "seals:codec").ready()
    job = '{"do": "pass", "gate": "nowhere-7c1e"}'
    submitted = cnstra("submit", "sagas:cns", "begin", job, "--wait", "--json", servers=both, environment=CODEC)
    assert (submitted.code, submitted.json["status"]) == (0, "completed")
    assert submitted.json["outputs"] == [{"payload": "pass", "collateral": "finished"}]
    run_id = submitted.json["run_id"]
    with psycopg.connect(both.database_url) as connection:
        [(stored,)] = connection.execute("select string_agg(r::text, ' ') from cnstra.run r").fetchall()
    assert "nowhere-7c1e" not in stored

    shown = cnstra("show", run_id, "--codec", "seals:codec", servers=both)
    assert '"done by"' in shown.out
    assert "$sealed" not in shown.out
    as_json = cnstra("show", run_id, "--json", servers=both, environment=CODEC).json
    assert as_json["activations"][0]["payload"]["gate"] == "nowhere-7c1e"
    listed = cnstra("runs", "--json", "--codec", "seals:codec", servers=both).json
    assert listed[0]["entry_payload"]["gate"] == "nowhere-7c1e"
    watched = cnstra("watch", run_id, "--codec", "seals:codec", servers=both)
    assert "wrote done by" in watched.out
    cloned = cnstra("clone", "sagas:cns", run_id, "--json", servers=both, environment=CODEC)
    assert cloned.json["cloned_from"] == run_id
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0


def test_without_the_key_commands_show_what_is_sealed_as_it_is(both: Servers, start_worker: StartWorker) -> None:
    """A clone, which has to open it, says which key it needs; keys of the context can be read."""
    start_worker("sagas:cns", "--codec", "seals:codec").ready()
    submitted = cnstra("submit", "sagas:cns", "begin", "{}", "--wait", "--json", servers=both, environment=CODEC)
    run_id = submitted.json["run_id"]
    for environment in ({}, {"CNSTRA_CODEC": "seals:other"}):
        shown = cnstra("show", run_id, servers=both, environment=environment)
        assert (shown.code, '"done by"' in shown.out, "$sealed" in shown.out) == (0, True, True)
        watched = cnstra("watch", run_id, servers=both, environment=environment)
        assert (watched.code, "wrote done by" in watched.out) == (0, True)
        cloned = cnstra("clone", "sagas:cns", run_id, servers=both, environment=environment)
        assert cloned.code != 0
        assert "key 'k1'" in cloned.complaint


def test_a_run_that_waits_for_a_key_is_explained(both: Servers, start_worker: StartWorker) -> None:
    """``show`` and ``doctor`` say so; nothing has failed, and a worker that has the codec finishes the run."""
    submitted = cnstra("submit", "sagas:cns", "begin", "{}", "--json", servers=both, environment=CODEC)
    run_id = submitted.json["run_id"]
    start_worker("sagas:cns", "--codec", "seals:other").ready()
    wanted = "no worker has the code and a codec with key 'k1' (--codec)"
    eventually(lambda: wanted in cnstra("doctor", servers=both).out, PATIENCE, what="the doctor finds the blocked run")
    assert "cnstra worker APP --codec CODEC" in cnstra("show", run_id, servers=both).out
    start_worker("sagas:cns", "--codec", "seals:codec").ready()
    eventually(
        lambda: cnstra("runs", "--status", "completed", "--json", servers=both).json != [],
        PATIENCE,
        what="the run has completed",
    )


def test_a_signal_is_sent_sealed(both: Servers) -> None:
    """To a run; it is the same when it is sent again."""
    submitted = cnstra("submit", "asking:cns", "ask", '"o-17"', "--json", servers=both, environment=CODEC)
    send = ("send", submitted.json["run_id"], "approved", "17", "--idempotency-key", "once")
    for _ in range(2):
        sent = cnstra(*send, servers=both, environment=CODEC)
        assert sent.code == 0, sent.err
    with psycopg.connect(both.database_url) as connection:
        rows = connection.execute("select payload ->> '$sealed' from cnstra.letter").fetchall()
    assert len(rows) == 1
    assert rows[0][0].startswith("k1:")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("nonsense", "--codec is module:attribute"),
        ("no_such_module:codec", "there is no module 'no_such_module'"),
        ("seals:missing", "seals has no 'missing'"),
        ("seals:a_class", "it is a class; name an object of it"),
        ("seals:nothing", "no method encode"),
    ],
)
def test_a_codec_that_cannot_be_used_is_refused_at_the_start(given: str, complaint: str) -> None:
    """With one line and the exit code of configurations; before anything is asked for."""
    ended = cnstra("worker", "sagas:cns", "--codec", given, servers=NOWHERE)
    assert ended.code == 5
    assert complaint in ended.complaint

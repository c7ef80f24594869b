"""Cancelling, pausing, resuming and cloning runs from the command line; and what it tells of runs that were undone."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from cnstra import Orchestrator
from support.apps.undoing import Trip, cns, planned
from support.commands import NOWHERE, Servers, cnstra
from support.gates import Gate
from support.serving import serving

PATIENCE = 60.0
UNKNOWN = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10"
HOUR = timedelta(hours=1)
APP = "undoing:cns"


@pytest.fixture
def agency(both: Servers) -> Iterator[Orchestrator]:
    """A client of the graph ``trips``."""
    with Orchestrator(cns, database=both.database_url, broker=both.broker_url) as orchestrator:
        yield orchestrator


def trip(**what: str) -> Any:
    return planned.create_signal(Trip(**what))


def ids(runs: list[Any]) -> list[str]:
    return sorted(str(run.id) for run in runs)


# -- cancel --------------------------------------------------------------------------------------------------------


def test_cancel_ends_a_run_by_its_id(both: Servers, agency: Orchestrator) -> None:
    """Prints the id; again it changes nothing, and says the same."""
    run = agency.submit(trip(), delay=HOUR)
    ended = cnstra("cancel", str(run.id), servers=both)
    again = cnstra("cancel", str(run.id), "--json", servers=both)
    other = cnstra("cancel", str(agency.submit(trip()).id), "--compensate", "--json", servers=both)

    assert (ended.code, ended.out, ended.complaint) == (0, f"{run.id}\n", "1 run cancelled")
    assert (again.code, again.json) == (0, {"cancelled": [str(run.id)]})
    assert other.code == 0
    assert {found.status() for found in agency.list_runs()} == {"cancelled"}


def test_cancel_says_that_what_runs_comes_to_its_end(
    both: Servers, agency: Orchestrator, start_worker, make_gate: Callable[[], Gate]
) -> None:
    """The run has not ended when the command has; ``show`` tells what is waited for; then it is undone in reverse order."""
    start_worker(APP).ready()
    gate = make_gate()
    run = agency.submit(trip(gate=gate.path))
    gate.reached()

    ended = cnstra("cancel", str(run.id), "--compensate", servers=both)
    shown = cnstra("show", str(run.id), servers=both).out

    assert ended.err.splitlines()[1].startswith(
        "it is compensating, and ends when what runs of it has ended; see cnstra show"
    )
    assert "it waits for:\n  #2 flight on hotel.booked, which runs since" in shown
    gate.open()
    assert run.wait(PATIENCE).status == "compensated"
    shown = cnstra("show", str(run.id), servers=both).out
    assert "COMPENSATED, attempt 1" in shown
    order = [line.split(",")[0] for line in shown.splitlines() if line.strip()[:2] in ("1.", "2.")]
    assert order == ["  1. #2 flight on hotel.booked", "  2. #1 hotel on trip.planned"]
    assert shown.rstrip().endswith(f"cnstra clone APP {run.id}")


def test_who_waits_for_a_run_that_was_cancelled_is_told_so(both: Servers, agency: Orchestrator) -> None:
    """It has no error, and did not complete."""
    run = agency.submit(trip(), idempotency_key="k")
    run.cancel()

    ended = cnstra("submit", APP, "trip.planned", "{}", "--idempotency-key", "k", "--wait", servers=both)

    assert (ended.code, ended.out.split()) == (3, [str(run.id), "cancelled"])
    assert ended.complaint == f"cnstra: run {run.id} is cancelled; see cnstra show {run.id}"


def test_many_are_cancelled_by_what_they_are(both: Servers, agency: Orchestrator) -> None:
    """By status, graph, tag and age; a dry run only says which; a second time there are none left."""
    runs = agency.submit_many([trip(), trip()], tags={"to": "rome"})
    later = agency.submit(trip(), delay=HOUR, tags={"to": "paris"})

    def would(*options: str) -> list[str]:
        document = cnstra("cancel", *options, "--dry-run", "--json", servers=both).json
        assert set(document) == {"cancelled", "dry_run"}
        return sorted(document["cancelled"])

    assert would("--graph", "trips") == would("--older-than", "0s") == ids([*runs, later])
    assert would("--tag", "to=rome") == would("--status", "running", "--since", "1h") == ids(runs)
    assert would("--status", "waiting,paused") == ids([later])
    assert (
        would("--older-than", "1h")
        == would("--graph", "other")
        == would("--tag", "to=rome", "--status", "waiting")
        == []
    )
    said = cnstra("cancel", "--tag", "to=rome", "--dry-run", servers=both)
    assert (sorted(said.out.split()), said.complaint) == (ids(runs), "2 runs would be cancelled")
    assert {run.status() for run in runs} == {"running"}

    done = cnstra("cancel", "--tag", "to=rome", "--json", servers=both)

    assert (done.code, sorted(done.json["cancelled"])) == (0, ids(runs))
    assert ({run.status() for run in runs}, later.status()) == ({"cancelled"}, "waiting")
    assert cnstra("cancel", "--tag", "to=rome", "--json", servers=both).json == {"cancelled": []}


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel"],
        ["cancel", "--compensate"],
        ["cancel", "--dry-run"],
        ["cancel", UNKNOWN, "--graph", "trips"],
        ["cancel", UNKNOWN, "--dry-run"],
        ["cancel", "--status", "failed"],
        ["cancel", "--status", ""],
        ["cancel", "--older-than", "yesterday"],
        ["cancel", "--since", "yesterday"],
        ["retry", UNKNOWN, "--since", "1h"],
        ["retry", UNKNOWN, "--dry-run"],
        ["retry", "--older-than", "1h"],
        ["submit", APP, "trip.planned", "{}", "--deadline", "soon"],
        ["clone", APP, UNKNOWN, "--deadline", "soon"],
    ],
)
def test_a_command_line_that_does_not_say_which_runs_is_none(arguments: list[str]) -> None:
    """A forgotten option, or variable, ends nothing."""
    ended = cnstra(*arguments, servers=NOWHERE)

    assert ended.code == 2
    assert ended.complaint.endswith(f"see cnstra {arguments[0]} --help")


def test_variables_stand_for_options(both: Servers, agency: Orchestrator) -> None:
    """Each option has a twin of its own."""
    run = agency.submit(trip(), tags={"to": "rome"})
    environment = {"CNSTRA_CANCEL_TAG": "to=rome", "CNSTRA_CANCEL_DRY_RUN": "1", "CNSTRA_JSON": "1"}
    ended = cnstra("cancel", servers=both, environment=environment)
    assert ended.json == {"cancelled": [str(run.id)], "dry_run": True}


# -- pause and resume ----------------------------------------------------------------------------------------------


def test_a_run_is_paused_and_resumed(both: Servers, agency: Orchestrator, start_worker) -> None:
    """While it is paused, ``runs`` and ``show`` say so; then it goes on to its end."""
    run = agency.submit(trip())
    paused = cnstra("pause", str(run.id), servers=both)
    again = cnstra("pause", str(run.id), "--json", servers=both)
    shown = cnstra("show", str(run.id), servers=both).out
    listed = cnstra("runs", "--status", "paused", servers=both).out
    start_worker(APP).ready()
    resumed = cnstra("resume", str(run.id), servers=both)

    assert (paused.code, paused.out) == (0, "paused\n")
    assert again.json == {"run_id": str(run.id), "status": "paused"}
    assert "PAUSED" in shown
    assert "somebody to resume it: it is paused, and none of its handlers is called" in shown
    assert f"cnstra resume {run.id}" in shown
    assert str(run.id) in listed
    assert resumed.code == 0
    assert run.wait(PATIENCE).status == "completed"


@pytest.mark.parametrize("command", ["cancel", "pause", "resume"])
def test_a_run_whose_status_forbids_it_is_left_as_it_is(both: Servers, agency: Orchestrator, command: str) -> None:
    """With a line that says how it stands; and a run that is not there is told apart."""
    run = agency.submit(trip(), deadline=timedelta(milliseconds=1), delay=HOUR)
    with serving(cns, both.database_url, both.broker_url):
        assert run.wait(PATIENCE).error_type == "cnstra.DeadlineExceeded"

    ended = cnstra(command, str(run.id), servers=both)
    missing = cnstra(command, UNKNOWN, servers=both)

    assert (ended.code, missing.code) == (6, 4)
    assert f"run {run.id} is failed" in ended.complaint
    assert run.status() == "failed"


# -- deadlines, undoing, retries -----------------------------------------------------------------------------------


def test_a_run_that_missed_its_deadline_is_shown_with_what_can_be_done(
    both: Servers, agency: Orchestrator, start_worker
) -> None:
    """It cannot be retried, and the command says what else to do; a clone can be made."""
    start_worker(APP).ready()
    submitted = cnstra("submit", APP, "trip.planned", '{"fails": "x"}', "--deadline", "2h", "--json", servers=both)
    assert submitted.code == 0
    late = agency.submit(trip(), delay=HOUR, deadline=timedelta(milliseconds=50))
    assert late.wait(PATIENCE).status == "failed"

    shown = cnstra("show", str(late.id), servers=both).out
    retried = cnstra("retry", str(late.id), servers=both)

    assert "cnstra.DeadlineExceeded" in shown
    assert f"cnstra clone APP {late.id}" in shown
    assert (retried.code, "clone it instead" in retried.complaint) == (6, True)
    row = agency.get_run(submitted.json["run_id"]).describe()
    assert row["deadline_at"] - row["submitted_at"] == timedelta(hours=2)


def test_a_deadline_may_be_a_moment(both: Servers, agency: Orchestrator) -> None:
    """With a time zone, or in UTC."""
    options = ["--deadline", "2199-12-31T12:00+01:00", "--json"]
    ended = cnstra("submit", APP, "trip.planned", "{}", *options, servers=both)
    row = agency.get_run(ended.json["run_id"]).describe()
    assert row["deadline_at"].isoformat() == "2199-12-31T11:00:00+00:00"


def test_a_compensation_that_failed_is_shown_and_taken_up_by_a_retry(
    both: Servers, agency: Orchestrator, start_worker
) -> None:
    """Both errors are told apart; what was undone, and what was not; then a retry undoes the rest."""
    start_worker(APP).ready()
    run = agency.submit(trip(fails="the hotel is closed"))
    assert run.wait(PATIENCE).status == "failed"

    shown = cnstra("show", str(run.id), servers=both).out

    assert "error:      ValueError: no car is free\n" in shown
    assert "undoing:    failed for good, with ConnectionError: the hotel does not answer\n" in shown
    assert "  1. #2 flight on hotel.booked, " in shown
    assert "  #1 hotel on trip.planned is not: its compensation has failed for good, after 1 call" in shown
    assert "the compensation of #1 hotel on trip.planned, try 2, " in shown
    assert 'raise ConnectionError("the hotel does not answer")' in shown
    assert cnstra("retry", "--failed", "--since", "1h", "--dry-run", "--json", servers=both).json == {
        "retried": [str(run.id)],
        "dry_run": True,
    }
    assert cnstra("retry", "--failed", "--older-than", "1h", "--json", servers=both).json == {"retried": []}
    assert cnstra("retry", "--failed", "--graph", "trips", "--since", "1h", servers=both).out == f"{run.id}\n"
    assert run.wait(PATIENCE).status == "compensated"


def test_runs_says_what_is_blocked(both: Servers, agency: Orchestrator) -> None:
    """A run for which no worker has the code stands out in the list."""
    agency.submit(trip())
    head, line = cnstra("runs", servers=both).out.splitlines()
    assert head.split()[:5] == ["run_id", "graph", "status", "blocked", "attempt"]
    assert line.split()[1:5] == ["trips", "running", "unknown", "1"]


# -- clone ---------------------------------------------------------------------------------------------------------


def test_a_run_is_cloned(both: Servers, agency: Orchestrator) -> None:
    """Prints the new id; options change what the clone is to have of its own."""
    run = agency.submit(trip(gate="g"), tags={"to": "rome"}, priority=3, deadline=HOUR, idempotency_key="k")

    plain = cnstra("clone", APP, str(run.id), servers=both)
    options = ["--tag", "to=paris", "--tag", "by=air", "--priority", "-1", "--deadline", "none", "--json"]
    changed = cnstra("clone", APP, str(run.id), *options, servers=both)

    row = agency.get_run(plain.out.strip()).describe()
    kept = (row["entry_payload"], row["tags"], row["priority"], row["deadline_at"] - row["submitted_at"])
    assert kept == ({"fails": "", "gate": "g"}, {"to": "rome"}, 3, HOUR)
    assert (row["cloned_from"], row["idempotency_key"]) == (run.id, None)
    assert changed.json == {"run_id": changed.json["run_id"], "status": "running", "cloned_from": str(run.id)}
    row = agency.get_run(uuid.UUID(changed.json["run_id"])).describe()
    assert (row["tags"], row["priority"], row["deadline_at"]) == ({"to": "paris", "by": "air"}, -1, None)
    assert f"clone of:   {run.id}" in cnstra("show", str(row["run_id"]), servers=both).out


def test_a_run_that_cannot_be_cloned_is_refused(both: Servers, agency: Orchestrator) -> None:
    """One of another graph; one that is not there."""
    run = agency.submit(trip())
    other, missing = (
        cnstra("clone", "sagas:cns", str(run.id), servers=both),
        cnstra("clone", APP, UNKNOWN, servers=both),
    )
    assert (other.code, missing.code) == (6, 4)
    assert "is of graph 'trips', and this Orchestrator has 'sagas'" in other.complaint
    assert len(agency.list_runs()) == 1

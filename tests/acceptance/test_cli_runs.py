"""Submitting, looking at and retrying runs, from the command line."""

from __future__ import annotations

import signal
from typing import Any

import psycopg
import pytest

from cnstra import Orchestrator
from support.apps.sagas import Job, begin
from support.commands import NOWHERE, Servers, cnstra

PATIENCE = 60.0
UNKNOWN = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10"


def columns(database_url: str, view: str) -> set[str]:
    """The columns of a view."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute(f"select * from cnstra.{view} limit 0".encode())
        return {column.name for column in cursor.description or ()}


# -- submit --------------------------------------------------------------------------------------------------------


def test_submit_prints_the_runs_id_alone(both: Servers, client: Orchestrator) -> None:
    """So that a script can keep it in a variable."""
    ended = cnstra("submit", "sagas:cns", "begin", '{"do": "pass"}', servers=both)

    assert ended.code == 0
    assert client.get_run(ended.out.strip()).status() == "running"


def test_submit_as_json_is_one_document_with_the_runs_id(both: Servers, client: Orchestrator) -> None:
    """For programs."""
    ended = cnstra("submit", "sagas:cns", "begin", "{}", "--json", servers=both)

    [run] = client.list_runs()
    assert ended.json == {"run_id": str(run.id), "status": "running"}


def test_submit_takes_key_priority_and_tags(both: Servers, client: Orchestrator) -> None:
    """What the library's submit takes; the same key again answers the same run."""
    options = ["--idempotency-key", "o-17", "--priority", "-3", "--tag", "shop=berlin", "--tag", "team=a=b", "--json"]

    first = cnstra("submit", "sagas:cns", "begin", "{}", *options, servers=both)
    again = cnstra("submit", "sagas:cns", "begin", "{}", *options, servers=both)
    other = cnstra("submit", "sagas:cns", "begin", '{"do": "wait"}', *options, servers=both)

    [run] = client.list_runs()
    found = run.describe()
    assert (found["idempotency_key"], found["priority"]) == ("o-17", -3)
    assert found["tags"] == {"shop": "berlin", "team": "a=b"}
    assert first.json["run_id"] == again.json["run_id"] == str(run.id)
    assert other.code == 6
    assert "idempotency_key 'o-17' is that of run" in other.complaint


def test_submit_reads_the_payload_from_standard_input(both: Servers, client: Orchestrator) -> None:
    """For payloads that are too long for a line, or that nobody else is to see."""
    ended = cnstra("submit", "sagas:cns", "begin", "-", servers=both, given='{"do": "wait"}')

    assert ended.code == 0
    [run] = client.list_runs()
    assert run.describe()["entry_payload"] == {"do": "wait", "gate": ""}


REFUSED = {
    '{"do": 17}': "begin",
    "17": "begin",
    "{": "the payload is no JSON: ",
    '{"do": NaN}': "NaN is none of its values",
    "hello": "strings need double quotes",
}


@pytest.mark.parametrize("payload", REFUSED)
def test_a_payload_that_does_not_fit_is_refused(both: Servers, client: Orchestrator, payload: str) -> None:
    """With a line that names what is wrong, and with nothing stored."""
    ended = cnstra("submit", "sagas:cns", "begin", payload, servers=both)

    assert ended.code == 6
    assert REFUSED[payload] in ended.complaint
    assert client.list_runs() == []


def test_a_collateral_that_nobody_hears_is_refused_with_the_likely_one() -> None:
    """A typing error is told from the names that there are."""
    wrong = cnstra("submit", "sagas:cns", "begn", "{}", servers=NOWHERE)
    unheard = cnstra("submit", "sagas:cns", "finished", '"x"', servers=NOWHERE)

    assert (wrong.code, unheard.code) == (6, 6)
    assert "hears a collateral 'begn'; did you mean 'begin'?" in wrong.complaint
    assert "heard are begin, begin.async, first.done" in unheard.complaint


def test_a_waited_for_run_gives_its_end_as_exit_code(start_worker, both: Servers) -> None:
    """Zero only for one that has completed."""
    start_worker("sagas:cns").ready()

    good = cnstra("submit", "sagas:cns", "begin", "{}", "--wait", servers=both)
    bad = cnstra("submit", "sagas:cns", "begin", '{"do": "fail once"}', "--wait", "--json", servers=both)

    assert good.code == 0
    assert good.out.splitlines()[1:] == ["completed", 'finished "pass"']
    assert bad.code == 3
    assert (bad.json["status"], bad.json["error"], bad.json["error_type"]) == ("failed", "card declined", "ValueError")
    assert bad.complaint.endswith(f"ValueError: card declined; see cnstra show {bad.json['run_id']}")


def test_a_run_that_is_not_waited_for_any_longer_goes_on(both: Servers) -> None:
    """The command's patience is no deadline of the run."""
    ended = cnstra("submit", "sagas:cns", "begin", "{}", "--wait", "--timeout", "0", "--json", servers=both)

    assert ended.code == 3
    assert ended.json["status"] == "running"
    assert "it goes on" in ended.complaint


# -- runs and show -------------------------------------------------------------------------------------------------


@pytest.fixture
def three(client: Orchestrator, start_worker) -> list[Any]:
    """A run that has completed, one that has failed, one that nobody has begun; in this order."""
    worker = start_worker("sagas:cns").ready()
    done = client.submit(begin.create_signal(Job()), tags={"kind": "done"})
    failed = client.submit(begin.create_signal(Job("fail once")), tags={"kind": "failed"})
    for run in (done, failed):
        run.wait(PATIENCE)
    worker.send(signal.SIGTERM)
    worker.ended()
    return [done, failed, client.submit(begin.create_signal(Job()))]


def test_runs_lists_what_fits_the_newest_first(three: list[Any], both: Servers) -> None:
    """By status, tag, time and number; as text with a line each."""
    done, failed, new = (str(run.id) for run in three)

    def found(*options: str) -> list[str]:
        return [run["run_id"] for run in cnstra("runs", *options, "--json", servers=both).json]

    assert found() == [new, failed, done]
    assert found("--limit", "2") == [new, failed]
    assert found("--status", "failed") == [failed]
    assert found("--tag", "kind") == [failed, done]
    assert found("--tag", "kind=done") == [done]
    assert found("--since", "1h") == [new, failed, done]
    assert found("--since", "2999-01-01") == []
    lines = cnstra("runs", servers=both).out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [new, "sagas", "running"],
        [failed, "sagas", "failed"],
        [done, "sagas", "completed"],
    ]


def test_runs_as_json_has_the_columns_of_the_view(three: list[Any], both: Servers, database_url: str) -> None:
    """The view is the contract; the command adds nothing and leaves nothing out."""
    document = cnstra("runs", "--json", servers=both).json

    assert {frozenset(run) for run in document} == {frozenset(columns(database_url, "runs"))}


def test_show_as_json_has_the_columns_of_the_views(three: list[Any], both: Servers, database_url: str) -> None:
    """Those of ``cnstra.runs``, and lists of activations, of what it waits for, and of its scatters."""
    document = cnstra("show", str(three[0].id), "--json", servers=both).json

    assert set(document) == columns(database_url, "runs") | {"activations", "expectations", "scatters"}
    assert document["expectations"] == document["scatters"] == []
    assert [found["neuron"] for found in document["activations"]] == ["first", "second"]
    assert set(document["activations"][0]) == columns(database_url, "activations")
    assert document["outputs"] == [{"collateral": "finished", "payload": "pass"}]


def test_show_tells_why_a_run_failed_and_what_to_do(three: list[Any], both: Servers) -> None:
    """To somebody who was woken up: status, error, what is left, each try's error with its traceback, a command."""
    failed = three[1]

    said = cnstra("show", str(failed.id), servers=both).out

    assert said.startswith(f"run {failed.id} of sagas: FAILED, attempt 1\n")
    assert "ValueError: card declined" in said
    assert "#1 first on begin is failed after 1 try" in said
    assert 'raise ValueError("card declined")' in said
    assert said.rstrip().endswith(f"cnstra retry {failed.id}")


def test_show_tells_the_context(three: list[Any], both: Servers) -> None:
    """What the run's neurons share, at its newest version."""
    said = cnstra("show", str(three[0].id), servers=both).out

    assert "context, version 1:" in said
    assert '{"done by":' in said


@pytest.mark.parametrize("command", ["show", "retry"])
@pytest.mark.parametrize("run", [UNKNOWN, "seventeen"])
def test_a_run_that_is_not_there_has_an_exit_code_of_its_own(both: Servers, command: str, run: str) -> None:
    """A script can tell it from everything else."""
    ended = cnstra(command, run, servers=both)

    assert ended.code == 4
    assert run in ended.complaint


# -- retry ---------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_retried_by_its_id(three: list[Any], both: Servers, start_worker) -> None:
    """Its failed step runs again, in the next attempt."""
    ended = cnstra("retry", str(three[1].id), "--json", servers=both)
    start_worker("sagas:cns").ready()

    assert ended.code == 0
    assert ended.json == {"retried": [str(three[1].id)]}
    assert three[1].wait(PATIENCE).status == "completed"
    assert three[1].describe()["attempt"] == 2


def test_all_failed_runs_are_retried_at_once(three: list[Any], both: Servers) -> None:
    """After an outage, say; runs that have not failed are left alone, and so are those of other graphs."""
    others = cnstra("retry", "--failed", "--graph", "another", "--json", servers=both)
    done = cnstra("retry", "--failed", "--tag", "kind=done", "--json", servers=both)
    nothing = cnstra("retry", "--failed", "--tag", "", "--json", servers=both)
    all_of_them = cnstra("retry", "--failed", "--graph", "sagas", "--tag", "kind=failed", servers=both)
    again = cnstra("retry", "--failed", "--json", servers=both)

    assert others.json == done.json == nothing.json == {"retried": []}
    assert all_of_them.out.split() == [str(three[1].id)]
    assert again.json == {"retried": []}


def test_a_run_that_has_not_failed_is_not_retried(three: list[Any], both: Servers) -> None:
    """And nothing about it changes."""
    ended = cnstra("retry", str(three[0].id), servers=both)

    assert ended.code == 6
    assert "is completed; only a failed run can be retried" in ended.complaint
    assert three[0].describe()["attempt"] == 1


@pytest.mark.parametrize(
    "arguments", [[], [UNKNOWN, "--failed"], [UNKNOWN, "--graph", "sagas"], [UNKNOWN, "--tag", "a"]]
)
def test_retry_wants_either_a_run_or_all(arguments: list[str]) -> None:
    """A command line that could be meant in two ways is none."""
    ended = cnstra("retry", *arguments, servers=NOWHERE)

    assert ended.code == 2
    assert ended.complaint.endswith("see cnstra retry --help")

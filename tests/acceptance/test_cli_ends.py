"""How commands end: one line and a code when they cannot do it, one document when that is asked for."""

from __future__ import annotations

import json
import subprocess

import pytest

from cnstra import Orchestrator
from support.apps.sagas import Job, begin
from support.commands import APPS, NOWHERE, Servers, cnstra, command_line, environment_of

UNKNOWN = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10"


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"],
        ["show", UNKNOWN],
        ["retry", UNKNOWN],
        ["submit", "sagas:cns", "begin", "{}"],
        ["sql", "select 1"],
        ["migrate"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_a_database_that_is_away_is_named_in_one_line(arguments: list[str]) -> None:
    """With the reason in the database's own words, and a code that says: later."""
    ended = cnstra(*arguments, servers=NOWHERE)

    assert ended.code == 7
    assert ended.out == ""
    assert "Postgres cannot be reached: " in ended.complaint
    assert "refused" in ended.complaint


@pytest.mark.parametrize("arguments", [["runs"], ["show", UNKNOWN], ["submit", "sagas:cns", "begin", "{}"]])
def test_a_database_without_the_schema_names_the_command(
    empty_database_url: str, broker_url: str, arguments: list[str]
) -> None:
    """That mends it."""
    ended = cnstra(*arguments, servers=Servers(database_url=empty_database_url, broker_url=broker_url))

    assert ended.code == 5
    assert "run `cnstra migrate`" in ended.complaint


USAGE = [["nope"], ["runs", "--since", "yesterday"], ["runs", "--limit", "0"], ["show"], ["runs", "--status", "done"]]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_command_line_that_is_not_understood_is_one_line_too(arguments: list[str]) -> None:
    """And says where the help is."""
    ended = cnstra(*arguments, servers=NOWHERE)

    assert ended.code == 2
    assert ended.complaint.endswith("--help")


def test_options_can_come_from_the_environment(both: Servers) -> None:
    """Every option has its twin."""
    ended = cnstra("runs", servers=both, environment={"CNSTRA_JSON": "1", "CNSTRA_RUNS_LIMIT": "1"})

    assert ended.json == []


def test_who_stops_reading_is_no_error(client: Orchestrator, both: Servers) -> None:
    """``cnstra runs | head`` ends quietly."""
    client.submit(begin.create_signal(Job()))
    with subprocess.Popen(
        command_line(["runs", "--json"]),
        cwd=APPS,
        env=environment_of(both),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (0, b"")


def test_every_json_output_is_one_document(client: Orchestrator, both: Servers) -> None:
    """One, on one line, and nothing around it."""
    run = client.submit(begin.create_signal(Job()))
    for arguments in (["runs"], ["show", str(run.id)], ["sql", "select now(), 1.5::numeric"], ["doctor"]):
        out = cnstra(*arguments, "--json", servers=both).out
        assert len(out.splitlines()) == 1
        json.loads(out)

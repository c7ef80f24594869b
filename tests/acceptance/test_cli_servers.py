"""The commands about servers, schema and graphs."""

from __future__ import annotations

import os
import pty
import select
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from cnstra import Orchestrator
from cnstra.servers import HeldServers
from support.apps.sagas import Job, begin
from support.commands import APPS, NOWHERE, Servers, cnstra, command_line, environment_of
from support.folders import temporary_home
from support.waiting import eventually

# -- up and down ---------------------------------------------------------------------------------------------------


@pytest.fixture
def home() -> Iterator[Path]:
    """A new ``$CNSTRA_HOME``."""
    with temporary_home() as folder:
        yield folder


def test_up_starts_migrates_and_prints_the_urls_and_the_other_commands_find_them(home: Path) -> None:
    """From nothing to a first run, with nothing set but the folder."""
    here = {"CNSTRA_HOME": str(home)}

    started = cnstra("up", "--json", environment=here)
    submitted = cnstra("submit", "sagas:cns", "begin", "{}", "--json", environment=here)
    again = cnstra("up", "--json", environment=here)
    exported = cnstra("up", environment=here)
    stopped = cnstra("down", "--json", environment=here)
    after = cnstra("runs", environment=here)

    assert set(started.json) == {"database_url", "broker_url"}
    assert again.json == started.json
    assert submitted.json["status"] == "running"
    assert started.json["database_url"] in exported.out
    assert all(line.startswith("export CNSTRA_") for line in exported.out.splitlines())
    assert stopped.json == {"stopped": True}
    assert after.code == 5
    assert cnstra("down", "--json", "--home", str(home)).json == {"stopped": False}


def test_up_joins_servers_of_the_users_own_and_migrates_them(
    empty_database_url: str, broker_url: str, home: Path
) -> None:
    """Nothing is started in place of what the environment names."""
    servers = Servers(database_url=empty_database_url, broker_url=broker_url)

    ended = cnstra("up", "--json", servers=servers, environment={"CNSTRA_HOME": str(home)})

    assert ended.json == {"database_url": empty_database_url, "broker_url": broker_url}
    assert cnstra("runs", "--json", servers=servers).json == []


# -- migrate and sql -----------------------------------------------------------------------------------------------


def test_migrate_names_what_it_did_and_may_be_repeated(empty_database_url: str) -> None:
    """It needs the database alone."""
    only = {"CNSTRA_DATABASE_URL": empty_database_url}

    first = cnstra("migrate", "--json", environment=only)
    second = cnstra("migrate", "--json", environment=only)

    assert "0001_runs.sql" in first.json["migrations"]
    assert second.json == {"migrations": []}
    assert "nothing to do" in cnstra("migrate", environment=only).out


def test_sql_prints_a_table_or_a_list_of_objects(both: Servers, client: Orchestrator) -> None:
    """A percent sign is no parameter."""
    run = client.submit(begin.create_signal(Job()))
    query = "select run_id, status, entry_payload from cnstra.runs where status like 'run%'"

    text = cnstra("sql", query, servers=both)
    document = cnstra("sql", query, "--json", servers=both)

    assert text.out.splitlines()[0].split() == ["run_id", "status", "entry_payload"]
    assert text.out.splitlines()[-1] == "(1 row)"
    assert document.json == [{"run_id": str(run.id), "status": "running", "entry_payload": {"do": "pass", "gate": ""}}]


@pytest.mark.parametrize("query", ["delete from cnstra.run", "commit; delete from cnstra.run"])
def test_sql_does_not_write(both: Servers, client: Orchestrator, query: str) -> None:
    """A slip at 3 a.m. costs nothing."""
    client.submit(begin.create_signal(Job()))

    ended = cnstra("sql", query, servers=both)

    assert ended.code == 6
    assert "`cnstra sql` only reads" in ended.complaint
    assert len(client.list_runs()) == 1


def test_a_query_that_is_none_is_refused_in_the_databases_words(both: Servers) -> None:
    """In one line, with the place."""
    ended = cnstra("sql", "select frm", servers=both)

    assert ended.code == 6
    assert ended.complaint == 'cnstra: column "frm" does not exist (at character 8)'


@pytest.mark.past_the_pooler
def test_sql_without_a_query_opens_psql(both: Servers) -> None:
    """Whichever there is, connected to the database, and reading only."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(APPS)
        os.execve(command_line([])[0], command_line(["sql"]), environment_of(both, {"PAGER": "cat", "TERM": "dumb"}))
    said = b""

    def shows(text: bytes) -> bool:
        nonlocal said
        if select.select([terminal], [], [], 0)[0]:
            said += os.read(terminal, 65536)
        return text in said

    try:
        eventually(lambda: shows(b"=> "), what="a prompt")
        os.write(terminal, b"show default_transaction_read_only;\n")
        eventually(lambda: shows(b"(1 row)"), what="an answer")
        assert b" on" in said.rpartition(b"show default_transaction_read_only")[2]
        os.write(terminal, b"\\q\n")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def test_the_schema_of_a_newer_release_is_left_alone(database_url: str) -> None:
    """A migration by an old release says so."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("insert into cnstra.migration (number, name) values (9999, '9999_later.sql')")

    ended = cnstra("migrate", environment={"CNSTRA_DATABASE_URL": database_url})

    assert ended.code == 5
    assert "newer than this release's" in ended.complaint


# -- files ---------------------------------------------------------------------------------------------------------


def test_commands_and_workers_find_their_servers_in_files(start_worker, both: Servers, tmp_path: Path) -> None:
    """As containers mount secrets: no environment and no list of processes shows them."""
    files = {}
    for variable, url in both.environment.items():
        file = tmp_path / variable
        file.write_text(f"{url}\n")
        files[f"{variable}_FILE"] = str(file)
    nothing = dict.fromkeys(both.environment, "")
    start_worker("sagas:cns", environment=nothing | files).ready()

    ended = cnstra("submit", "sagas:cns", "begin", '{"do": "pass"}', "--wait", environment=files)
    refused = cnstra("runs", servers=both, environment=files)

    assert ended.code == 0
    assert (refused.code, refused.complaint.count("are set, and may differ")) == (5, 1)


# -- doctor --------------------------------------------------------------------------------------------------------


def levels(servers: Servers) -> tuple[int, dict[str, str]]:
    """The doctor's exit code, and the level of each of its checks."""
    ended = cnstra("doctor", "--json", servers=servers)
    assert ended.json["healthy"] == (ended.code == 0)
    return ended.code, {check["check"]: check["level"] for check in ended.json["checks"]}


def test_the_doctor_finds_nothing_wrong_with_a_worker_that_serves(start_worker, both: Servers) -> None:
    """Servers, schema, clocks, worker."""
    start_worker("sagas:cns").ready()

    code, found = levels(both)

    assert code == 0
    assert {found[check] for check in ("packages", "broker", "database", "schema", "clocks", "workers")} == {"ok"}
    assert found["durability"] == "warning"  # the tests' own servers are not synced to disk


def test_the_doctor_finds_servers_that_are_away_and_a_missing_schema(empty_database_url: str, broker_url: str) -> None:
    """What rests on something broken is not asked."""
    assert levels(NOWHERE)[1] == {"packages": "ok", "broker": "problem", "database": "problem"}
    code, found = levels(Servers(database_url=empty_database_url, broker_url=broker_url))
    assert (code, found["schema"]) == (1, "problem")
    assert "runs" not in found


def test_the_doctor_finds_a_broker_that_throws_doorbells_away(own_servers: HeldServers) -> None:
    """A full memory and a policy that evicts cost time."""
    with redis.Redis.from_url(own_servers.broker_url) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    servers = Servers(database_url=own_servers.database_url, broker_url=own_servers.broker_url)

    assert levels(servers)[1]["eviction"] == "warning"


STUCK = {
    "a claim whose worker is gone": """
        update cnstra.activation set status = 'running', worker = gen_random_uuid(), nonce = 1, epoch = 1,
                                     started_at = now() - interval '1 hour'""",
    "work that no worker knows": "update cnstra.activation set blocked = 'unknown'",
    "work that nobody claims": "update cnstra.activation set available_at = now() - interval '1 hour'",
    "a deadline that nobody looks at": "update cnstra.run set deadline_at = now() - interval '1 hour'",
    "a timer that nobody fires": """
        update cnstra.activation set status = 'scheduled', available_at = now() - interval '1 hour'""",
}


@pytest.mark.parametrize("what", STUCK)
def test_the_doctor_finds_runs_that_are_stuck(
    both: Servers, client: Orchestrator, database_url: str, what: str
) -> None:
    """And names some of them, where somebody has to look."""
    client.submit(begin.create_signal(Job()))
    before = levels(both)[1]["runs"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(STUCK[what].encode())

    code, found = levels(both)

    assert before == "ok"
    assert (code, found["runs"]) == (1, "problem")


# -- graph, demo, help ---------------------------------------------------------------------------------------------


def test_graph_draws_neurons_and_collaterals() -> None:
    """In the text of either tool; no server is asked."""
    mermaid = cnstra("graph", "sagas:cns")
    dot = cnstra("graph", "sagas:cns", "--format", "dot")

    assert mermaid.out.splitlines()[0] == "flowchart LR"
    assert 'n0 -- "first.done" --> n1' in mermaid.out
    assert '(["begin"]) --> n0' in mermaid.out
    assert 'n0 -> n1 [label="first.done"];' in dot.out


def test_the_command_has_a_version_and_a_help() -> None:
    """Both on standard output; the help lists the exit codes."""
    version, general = cnstra("--version"), cnstra("--help")

    assert version.out.startswith("cnstra 0.")
    assert (version.code, general.code) == (0, 0)
    assert "Exit codes:" in general.out
    assert cnstra().code == 2

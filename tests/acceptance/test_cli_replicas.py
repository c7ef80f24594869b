"""Commands that look at runs, over a replica: also when the primary is away, and told what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cnstra import Orchestrator, Run
from cnstra.servers import HeldServers
from cnstra.stores.postgres import migrate
from support.apps import counting
from support.commands import Servers, cnstra
from support.standby import Standby, standby_of


@pytest.fixture
def servers(own_servers: HeldServers) -> Servers:
    migrate(own_servers.database_url)
    return Servers(database_url=own_servers.database_url, broker_url=own_servers.broker_url)


@pytest.fixture
def standby(own_servers: HeldServers, servers: Servers) -> Iterator[Standby]:
    with standby_of(own_servers) as standby:
        yield standby


def submitted(servers: Servers) -> Run:
    with Orchestrator(counting.cns, database=servers.database_url, broker=servers.broker_url) as client:
        return client.submit(counting.begin.create_signal(1))


def test_runs_are_looked_at_over_a_replica_while_the_primary_is_away(
    own_servers: HeldServers, servers: Servers, standby: Standby
) -> None:
    """By the option or the variable, of which the shorter name is one; without a replica the commands fail."""
    run = submitted(servers)
    standby.catch_up()
    own_servers.stop_postgres()
    there = {"CNSTRA_REPLICA_URL": standby.url}

    listed = cnstra("runs", "--json", "--replica", standby.url, servers=servers)
    assert [row["run_id"] for row in listed.json] == [str(run.id)]
    shown = cnstra("show", str(run.id), "--json", servers=servers, environment=there)
    assert shown.json["status"] == "running"
    asked = cnstra("sql", "select run_id from cnstra.runs", "--json", "--replica-url", standby.url, servers=servers)
    assert asked.json == [{"run_id": str(run.id)}]
    assert cnstra("runs", servers=servers).code != 0
    doctor = cnstra("doctor", "--json", servers=servers, environment=there)
    [finding] = [check for check in doctor.json["checks"] if check["check"] == "replica"]
    assert finding["level"] == "warning"
    assert "can be read; how far it is behind is not known without the primary" in finding["message"]


def test_a_run_is_watched_over_a_replica_that_a_file_names(servers: Servers, standby: Standby, tmp_path: Path) -> None:
    """To its end."""
    run = submitted(servers)
    run_id = str(run.id)
    (tmp_path / "replica").write_text(standby.url)
    file = {"CNSTRA_REPLICA_URL_FILE": str(tmp_path / "replica")}
    cnstra("cancel", run_id, servers=servers)
    watched = cnstra("watch", run_id, servers=servers, environment=file)
    assert watched.out.splitlines()[-1] == "cancelled"
    assert standby.asked("from cnstra.runs") > 0


def test_the_doctor_says_how_far_a_replica_is(servers: Servers, standby: Standby) -> None:
    """And why one is not read: which is no reason to be ill."""
    gone = "postgresql://somebody:very-secret@127.0.0.1:1/cnstra"
    submitted(servers)
    standby.catch_up()
    both = {"CNSTRA_REPLICA_URL": f"{standby.url} {gone}"}

    found = cnstra("doctor", "--json", servers=servers, environment=both)

    well, ill = [check for check in found.json["checks"] if check["check"] == "replica"]
    assert (well["level"], ill["level"], found.json["healthy"]) == ("ok", "warning", True)
    assert "bytes of the log behind" in well["message"]
    assert ill["message"].startswith("127.0.0.1:1/cnstra is not read: ")
    assert "very-secret" not in found.out + found.err


def test_a_promoted_replica_is_not_asked(servers: Servers, standby: Standby) -> None:
    """``sql`` says so, and asks the database."""
    standby.promote()
    run = submitted(servers)

    asked = cnstra("sql", "select run_id from cnstra.runs", "--json", "--replica", standby.url, servers=servers)

    assert asked.json == [{"run_id": str(run.id)}]
    assert "is not read: it is no standby" in asked.err


def test_sql_finds_the_primary_of_two_servers(servers: Servers, standby: Standby) -> None:
    """By a URL that names both and asks for the one that takes writes, though the session itself only reads: for a query, and at
    the prompt."""
    own = urlsplit(standby.url_of_both)
    account, _, hosts = own.netloc.rpartition("@")
    other_way_round = own._replace(netloc=f"{account}@{','.join(reversed(hosts.split(',')))}").geturl()
    asking = "select pg_is_in_recovery() as standby, current_setting('transaction_read_only') as only_reads"

    for url in (standby.url_of_both, other_way_round):
        asked = cnstra("sql", asking, "--json", "--database-url", url, servers=servers)
        assert asked.json == [{"standby": False, "only_reads": "on"}]
        prompt = cnstra("sql", "--database-url", url, servers=servers, given=f"{asking};\n")
        assert "f       | on" in prompt.out, prompt

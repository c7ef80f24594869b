"""Commands of users with few rights: ``migrate --roles``, and what each of the roles can do with the command line."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from support.commands import NOWHERE, Servers, cnstra
from support.least_privilege import Users, forget_roles, users_of


@pytest.fixture
def users(database_url: str) -> Iterator[Users]:
    with users_of(database_url) as users:
        yield users


def _as(url: str, broker_url: str) -> Servers:
    return Servers(database_url=url, broker_url=broker_url)


def _checks(servers: Servers) -> dict[str, tuple[str, str]]:
    ended = cnstra("doctor", "--json", servers=servers)
    return {check["check"]: (check["level"], check["message"]) for check in ended.json["checks"]}


def test_migrate_makes_the_roles_that_it_is_asked_for(empty_database_url: str) -> None:
    """And says which, each time."""
    prefix = f"t{uuid.uuid4().hex[:16]}"
    names = [f"{prefix}_worker", f"{prefix}_client", f"{prefix}_reader"]
    only = {"CNSTRA_DATABASE_URL": empty_database_url}
    try:
        first = cnstra("migrate", "--roles", prefix, "--json", environment=only)
        second = cnstra("migrate", environment=only | {"CNSTRA_MIGRATE_ROLES": prefix})

        assert first.json["roles"] == names
        assert second.out.splitlines()[-1] == f"roles: {', '.join(names)}"
    finally:
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            forget_roles(connection, *names)


def test_the_statements_are_printed_for_somebody_who_may(empty_database_url: str) -> None:
    """No server is asked for that, and nothing but SQL is printed."""
    printed = cnstra("migrate", "--roles", "shop", "--print-roles", servers=NOWHERE)

    assert printed.code == 0
    assert "grant select on cnstra.runs to shop_worker, shop_client, shop_reader;" in printed.out
    assert cnstra("migrate", "--print-roles", servers=NOWHERE).code == 2
    assert cnstra("migrate", "--roles", "Shop", environment={"CNSTRA_DATABASE_URL": empty_database_url}).code == 5


@pytest.mark.past_the_pooler
def test_a_reader_looks_and_does_nothing(users: Users, both: Servers, broker_url: str) -> None:
    """What it may not is refused in one line, without a second try."""
    run = cnstra("submit", "sagas:cns", "begin", '{"do": "pass"}', "--json", servers=both).json["run_id"]
    reader = _as(users.reader, broker_url)

    assert cnstra("runs", "--json", servers=reader).json[0]["run_id"] == run
    assert cnstra("show", run, "--json", servers=reader).json["run_id"] == run
    assert "begin" in cnstra("show", run, servers=reader).out
    assert cnstra("sql", "select count(*) from cnstra.activations", servers=reader).code == 0
    for refused in (["submit", "sagas:cns", "begin", '{"do": "pass"}'], ["cancel", run], ["pause", run]):
        ended = cnstra(*refused, servers=reader)
        assert (ended.code, "permission denied for table" in ended.complaint) == (5, True), refused
    found = _checks(reader)
    assert found["role"] == ("ok", f"{users.named('reader')}, {users.prefix}_reader")
    assert found["runs"][0] == "warning"


@pytest.mark.past_the_pooler
@pytest.mark.parametrize("who", ["worker", "stranger"])
def test_who_does_not_own_the_schema_is_told_who_migrates(users: Users, who: str) -> None:
    """In one line, before anything is changed."""
    ended = cnstra("migrate", environment={"CNSTRA_DATABASE_URL": getattr(users, who)})

    assert ended.code == 5
    assert f"{users.named(who)} may not change the schema: permission denied" in ended.complaint
    assert "migrate as the owner of the schema cnstra" in ended.complaint


@pytest.mark.past_the_pooler
def test_a_client_submits_and_a_worker_serves(users: Users, both: Servers, broker_url: str, start_worker) -> None:
    """The doctor of each says who it is, and looks at everything; the owner is told that it is one."""
    worker, client = _as(users.worker, broker_url), _as(users.client, broker_url)
    start_worker("sagas:cns", servers=worker).ready()

    submitted = cnstra("submit", "sagas:cns", "begin", '{"do": "pass"}', "--wait", "--json", servers=client)

    assert (submitted.code, submitted.json["status"]) == (0, "completed")
    for who, servers in (("worker", worker), ("client", client)):
        found = _checks(servers)
        assert found["role"] == ("ok", f"{users.named(who)}, {users.prefix}_{who}")
        assert found["workers"][0] == "ok"
    assert "owns the schema" in _checks(both)["role"][1]


@pytest.mark.past_the_pooler
@pytest.mark.parametrize("who", ["client", "reader", "stranger"])
def test_a_worker_without_its_role_does_not_start(users: Users, broker_url: str, start_worker, who: str) -> None:
    """It does not wait for a database that is there."""
    worker = start_worker("sagas:cns", servers=_as(getattr(users, who), broker_url))

    assert worker.ended() == 5
    assert "permission denied" in worker.log

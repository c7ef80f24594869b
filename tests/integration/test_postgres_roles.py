"""Group roles of least privilege: what each may do with the schema, and how they are made."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from cnstra import AccessRefused, ConfigurationError, Orchestrator, QueryError, SchemaError
from cnstra.stores.postgres import PostgresStore, migrate
from cnstra.stores.postgres.granting import groups, script
from cnstra.stores.postgres.querying import query
from cnstra.stores.postgres.statements import sql_text
from support.graphs import routes
from support.least_privilege import Users, forget_roles, users_of
from support.pages import ROOT
from support.views import VIEWS

pytestmark = pytest.mark.past_the_pooler

GROUPS = ("WORKER", "CLIENT", "READER")
_DECISION = re.compile(
    r"^(?:grant|revoke) [^;]+? on (?:function )?cnstra\.(\w+) (?:to|from) ([A-Z, ]+);$", re.MULTILINE
)
_OBJECTS = """
    select c.relname from pg_class c
    where c.relnamespace = 'cnstra'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not c.relispartition
      and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i' and c.relkind = 'S')
    union all
    select p.proname from pg_proc p where p.pronamespace = 'cnstra'::regnamespace
"""


@pytest.fixture
def users(database_url: str) -> Iterator[Users]:
    with users_of(database_url) as users:
        yield users


def _tables(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = 'cnstra' order by 1").fetchall()
    return [name for (name,) in rows]


def _refused(url: str, statement: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return True
    return False


def test_each_table_view_sequence_and_function_has_a_line_for_each_role(database_url: str) -> None:
    """Who adds one decides who may use it. An identity's sequence needs no right of its own, and what ``deploy/partitions.sql``
    makes is the owner's."""
    decided = {(name, role) for name, roles in _DECISION.findall(sql_text("roles.sql")) for role in roles.split(", ")}

    with psycopg.connect(database_url) as connection:
        there = {name for (name,) in connection.execute(_OBJECTS.encode()).fetchall()}

    there -= set(re.findall(r"function cnstra\.(\w+)", (ROOT / "deploy" / "partitions.sql").read_text()))
    assert decided == {(name, role) for name in there for role in GROUPS}


def test_readers_see_the_views_and_no_table(users: Users, database_url: str) -> None:
    """So a dashboard rests on nothing that is internal."""
    for view in VIEWS:
        query(users.reader, f"select * from cnstra.{view}")
    for table in _tables(database_url):
        if table != "migration":
            assert _refused(users.reader, f"select from cnstra.{table}"), table
            assert _refused(users.reader, f"delete from cnstra.{table}"), table


@pytest.mark.parametrize("who", ["worker", "client", "reader", "stranger"])
def test_nobody_but_the_owner_changes_the_schema(users: Users, database_url: str, who: str) -> None:
    """Nor empties a table, nor passes rights on, nor says that a migration was taken."""
    url = getattr(users, who)
    for table in _tables(database_url):
        assert _refused(url, f"truncate cnstra.{table}"), table
        assert _refused(url, f"alter table cnstra.{table} add column more int"), table
        assert _refused(url, f"drop table cnstra.{table}"), table
        assert _refused(url, f"create trigger x before insert on cnstra.{table} execute function f()"), table
        if who != "stranger":
            with psycopg.connect(url) as connection:
                found = connection.execute(
                    "select has_table_privilege(%s, 'select with grant option')", [f"cnstra.{table}"]
                ).fetchone()
            assert found == (False,)
    assert _refused(url, "create table cnstra.mine (x int)")
    assert _refused(url, "create or replace view cnstra.runs as select 1 as run_id")
    assert _refused(url, "insert into cnstra.migration (number, name) values (99, 'none')")


def test_who_is_in_no_group_has_nothing(users: Users, broker_url: str) -> None:
    """Of everybody, too. The error says what to do, and is not taken for an outage."""
    with (
        Orchestrator(routes.chain, database=users.stranger, broker=broker_url) as client,
        pytest.raises(AccessRefused, match=r"permission denied for schema cnstra; .*`cnstra migrate --roles`"),
    ):
        client.submit(routes.set_out.create_signal(1))
    with pytest.raises(QueryError, match="permission denied"):
        query(users.stranger, "select * from cnstra.runs")


@pytest.mark.parametrize(
    ("who", "refused"),
    [
        ("client", ["delete from cnstra.run", "delete from cnstra.activation", "delete from cnstra.context_entry",
                    "update cnstra.worker set lost_at = now()", "update cnstra.supervisor set until = now()",
                    "update cnstra.retention set keep = '1 hour'", "update cnstra.submission_key set key = ''"]),
        ("worker", ["update cnstra.retention set keep = '1 hour'", "insert into cnstra.retention (what) values ('x')",
                    "delete from cnstra.supervisor", "update cnstra.context_entry set value = null",
                    "update cnstra.try set error = ''"]),
        ("reader", ["insert into cnstra.run (run_id) values (gen_random_uuid())", "update cnstra.runs set status = 'failed'"]),
    ],
)  # fmt: skip
def test_what_a_role_does_not_need_it_may_not(users: Users, who: str, refused: list[str]) -> None:
    """By the database, whatever the program."""
    for statement in refused:
        assert _refused(getattr(users, who), statement), statement


def test_making_the_roles_again_mends_their_rights(database_url: str, users: Users) -> None:
    """Whatever was added, or taken away, is as it is to be; a plain migration does it, too."""
    for mend in (lambda: migrate(database_url, roles=users.prefix), lambda: migrate(database_url)):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"grant select on cnstra.run to {users.prefix}_reader".encode())
            connection.execute("grant select on cnstra.run to public")
            connection.execute(f"revoke insert on cnstra.run from {users.prefix}_client".encode())

        mend()

        assert _refused(users.reader, "select from cnstra.run")
        assert not _refused(
            users.client, "insert into cnstra.submission_key values (gen_random_uuid()::text, 'b', gen_random_uuid())"
        )
        with Orchestrator(routes.chain, database=users.client, broker="redis://127.0.0.1:1/0") as client:
            client.submit(routes.set_out.create_signal(1))


def test_new_tables_of_a_later_migration_are_granted_without_being_asked(
    database_url: str, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The roles that have rights are found in the schema's own."""
    more = "\ngrant select on cnstra.later to WORKER;\nrevoke all on cnstra.later from CLIENT, READER;\n"
    monkeypatch.setattr("cnstra.stores.postgres.granting.sql_text", lambda name: sql_text(name) + more)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create table cnstra.later (x int)")

    migrate(database_url)

    assert not _refused(users.worker, "select * from cnstra.later")
    assert _refused(users.client, "select * from cnstra.later")


def test_without_being_asked_a_migration_makes_no_roles(empty_database_url: str) -> None:
    """They are the whole server's. Nobody but the owner has anything then."""
    migrate(empty_database_url)

    others = """
        select g.grantee::regrole from pg_namespace n, aclexplode(n.nspacl) g
        where n.nspname = 'cnstra' and g.grantee <> n.nspowner
        union all
        select g.grantee::regrole from pg_class c, aclexplode(c.relacl) g
        where c.relnamespace = 'cnstra'::regnamespace and g.grantee <> c.relowner"""
    assert query(empty_database_url, others).rows == []


def test_an_owner_who_may_not_make_roles_is_told_who_can(empty_database_url: str) -> None:
    """Nothing is half done; with the roles made by another, the owner's migration does the rest."""
    owner, prefix = f"o{uuid.uuid4().hex[:16]}", f"t{uuid.uuid4().hex[:16]}"
    names = list(groups(prefix).values())
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute(f"create role {owner} login password 'secret-word'".encode())
        admin.execute(
            sql.SQL("grant create on database {} to {}").format(
                sql.Identifier(admin.info.dbname), sql.Identifier(owner)
            )
        )
        url = empty_database_url.replace(
            empty_database_url.partition("//")[2].partition("@")[0], f"{owner}:secret-word"
        )
        try:
            with pytest.raises(SchemaError, match=f"cnstra migrate --roles {prefix} --print-roles"):
                migrate(url, roles=prefix)
            assert query(url, "select to_regnamespace('cnstra') is null").rows == [(True,)]

            for name in names:
                admin.execute(f"create role {name} nologin".encode())
            assert migrate(url, roles=prefix)
            assert query(url, f"select has_table_privilege('{prefix}_client', 'cnstra.run', 'insert')").rows == [
                (True,)
            ]
        finally:
            forget_roles(admin, *names, owner)


def test_what_is_printed_is_what_is_done(database_url: str) -> None:
    """An administrator can read it, and carry it out by psql."""
    prefix = f"t{uuid.uuid4().hex[:16]}"
    with psycopg.connect(database_url, autocommit=True) as admin:
        try:
            admin.execute(script(prefix).encode())

            ask = "select has_table_privilege(%s, 'cnstra.run', 'update'), has_table_privilege(%s, 'cnstra.runs', 'select')"
            assert admin.execute(ask, [f"{prefix}_client", f"{prefix}_reader"]).fetchone() == (True, True)
        finally:
            forget_roles(admin, *groups(prefix).values())


@pytest.mark.parametrize("prefix", ["", "Shop", "1shop", "shop-a", "pg_shop", "shop; drop table x", "s" * 57])
def test_a_prefix_that_makes_no_plain_names_is_refused(prefix: str) -> None:
    """Before anything is asked of the database; what is long enough for three names is not cut off."""
    with pytest.raises(ConfigurationError, match="cannot begin the names of roles"):
        groups(prefix)


def test_the_schema_check_of_each_role_is_its_own(users: Users) -> None:
    """It needs no more than the role has."""
    for url in (users.worker, users.client, users.reader):
        store = PostgresStore(url)
        try:
            store.run(store.check_schema())
        finally:
            store.close()

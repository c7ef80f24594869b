"""The schema: migrations, the views that lie over it, and schemas that do not fit."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest

from cnstra.orchestrator.errors import ConfigurationError, SchemaError
from cnstra.orchestrator.machine.events import RetryAsked
from cnstra.orchestrator.store import RunChoice, RunEvent
from cnstra.stores.postgres import PostgresStore, migrate, migrating, reaching
from cnstra.stores.postgres.statements import statements
from support.partitions import partition
from support.plans import numbered
from support.views import VIEWS
from support.waiting import eventually

NOBODY = UUID(int=7)
FOLDER = Path(migrating.__file__).parent / "sql" / "migrations"


def names_of(database_url: str) -> list[str]:
    """The migrations that a database has taken."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select name from cnstra.migration order by number").fetchall()
    return [name for (name,) in rows]


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    """Every file of the folder is a migration, and each number is there once: two branches cannot both add one."""
    files = sorted(path.name for path in FOLDER.iterdir())
    assert [name for _, name in migrating.migrations()] == files
    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))


def test_a_gap_in_the_numbers_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A release with a missing or a doubled number does not migrate at all."""
    monkeypatch.setattr(migrating.resources, "files", lambda package: tmp_path)
    folder = tmp_path / "sql" / "migrations"
    folder.mkdir(parents=True)
    (folder / "0001_one.sql").touch()
    (folder / "0003_three.sql").touch()
    with pytest.raises(SchemaError, match="0003_three"):
        migrating.migrations()


def test_migrating_twice_changes_nothing(empty_database_url: str) -> None:
    """The first call takes every migration, the second none."""
    taken = migrate(empty_database_url)
    assert taken == [name for _, name in migrating.migrations()]
    assert migrate(empty_database_url) == []
    assert names_of(empty_database_url) == taken


@pytest.mark.past_the_pooler
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_of_utf8_is_refused(empty_database_url: str, encoding: str) -> None:
    """Before anything is in it: a payload may have any character, and the first that it does not know would be refused. A server
    that was set up without a locale makes such databases."""
    name = f"cnstra_{encoding.lower()}"
    other = urlsplit(empty_database_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name}".encode())
        connection.execute(
            f"create database {name} encoding '{encoding}' template template0 locale_provider libc locale 'C'".encode()
        )
        try:
            with pytest.raises(ConfigurationError, match=f"{name} is {encoding}, and has to be UTF8"):
                migrate(other)
            with psycopg.connect(other) as connection_of_other:
                found = connection_of_other.execute("select count(*) from pg_namespace where nspname::text like 'cns%'")
                assert found.fetchone() == (0,)
        finally:
            connection.execute(f"drop database {name}".encode())


def test_the_encoding_of_other_programs_is_not_ours(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``PGCLIENTENCODING`` is in the environment for others: text would be refused for its characters, or come as bytes."""
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    migrate(empty_database_url)

    with reaching.connect(empty_database_url) as connection:
        assert connection.execute("select 'ü 日本'::text, name from cnstra.migration where number = 1").fetchone() == (
            "ü 日本",
            migrating.migrations()[0][1],
        )


def test_migrations_at_the_same_time_take_turns(empty_database_url: str) -> None:
    """Of several processes that start on an empty database, one migrates it, and all find it migrated."""
    taken: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: taken.append(migrate(empty_database_url)), daemon=True) for _ in range(3)
    ]
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [migrating._LOCK])
        for thread in threads:
            thread.start()
        waiting = (
            "select count(*) from pg_locks where locktype = 'advisory' and not granted and database = "
            "(select oid from pg_database where datname = current_database())"
        )
        eventually(lambda: connection.execute(waiting).fetchone() == (3,), what="all wait for their turn")
    for thread in threads:
        thread.join()
    assert sorted(taken, key=len) == [[], [], [name for _, name in migrating.migrations()]]


def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All migrations of a call, and the views, come in one transaction."""
    migrate(empty_database_url)
    known, text = migrating.migrations(), migrating.sql_text
    added = {"migrations/0098_good.sql": "create table cnstra.extra ()", "migrations/0099_bad.sql": "create nonsense"}
    monkeypatch.setattr(migrating, "migrations", lambda: [*known, (98, "0098_good.sql"), (99, "0099_bad.sql")])
    monkeypatch.setattr(migrating, "sql_text", lambda name: added.get(name) or text(name))
    with pytest.raises(psycopg.errors.SyntaxError):
        migrate(empty_database_url)
    assert names_of(empty_database_url) == [name for _, name in known]
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("select to_regclass('cnstra.extra')").fetchone() == (None,)


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release with one migration more, which changes the table of runs; locks are waited for very briefly."""
    known, text = migrating.migrations(), migrating.sql_text
    added = {"migrations/0099_more.sql": "alter table cnstra.run add column more integer"}
    monkeypatch.setattr(migrating, "migrations", lambda: [*known, (99, "0099_more.sql")])
    monkeypatch.setattr(migrating, "sql_text", lambda name: added.get(name) or text(name))
    monkeypatch.setattr(migrating, "_WAIT", 0.05)
    monkeypatch.setattr(migrating, "_PAUSE", 0.05)


_READ = "set idle_in_transaction_session_timeout = '20s'; select from cnstra.runs"
"""A report's transaction, which would end by itself where somebody waits for it without a limit."""


@pytest.mark.usefixtures("another")
def test_a_long_report_keeps_a_migration_waiting_and_nobody_else(database_url: str) -> None:
    """Behind a lock that is waited for all others wait: it is given up again and again, and work goes on in between."""
    taken: list[list[str]] = []
    migration = threading.Thread(target=lambda: taken.append(migrate(database_url)), daemon=True)
    waiting = "select count(*) from pg_locks where relation = 'cnstra.run'::regclass and not granted"
    with psycopg.connect(database_url) as report, psycopg.connect(database_url, autocommit=True) as work:
        work.execute("set lock_timeout = '20s'")
        report.execute(_READ)
        migration.start()
        for _ in range(5):
            eventually(lambda: work.execute(waiting).fetchone() == (1,), what="the migration waits for the table")
            work.execute("update cnstra.run set status = status")
        assert taken == []
        report.rollback()
        migration.join()
    assert taken == [["0099_more.sql"]]


@pytest.mark.usefixtures("another")
def test_a_report_that_does_not_end_is_named(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it; the schema is as it was."""
    monkeypatch.setattr(migrating, "_PATIENCE", 0.3)
    before = names_of(database_url)
    with psycopg.connect(database_url, application_name="report") as report:
        report.execute(_READ)
        with pytest.raises(
            SchemaError, match=rf"process {report.info.backend_pid} of Postgres \(report, since .*migrate again"
        ):
            migrate(database_url)
    assert names_of(database_url) == before


def test_a_migration_that_is_given_up_for_a_deadlock_begins_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers go on meanwhile, and lock the tables in another order; what they meet in is undone whole, and done again."""
    known, text = migrating.migrations(), migrating.sql_text
    met = """
        create table cnstra.next (x integer);
        do $$ begin
            if nextval('met') <= 2 then raise exception 'deadlock detected' using errcode = '40P01'; end if;
        end $$
    """
    monkeypatch.setattr(migrating, "_PAUSE", 0.05)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create sequence met")  # no rollback takes it back
        monkeypatch.setattr(migrating, "migrations", lambda: [*known, (98, "0098_next.sql")])
        monkeypatch.setattr(migrating, "sql_text", lambda name: met if name.endswith("0098_next.sql") else text(name))

        assert migrate(database_url) == ["0098_next.sql"]

        assert connection.execute("select last_value from met").fetchone() == (3,)
        assert connection.execute("select * from cnstra.next").fetchall() == []


# -- schemas that do not fit -----------------------------------------------------------------------------------


def test_a_database_without_a_schema_is_refused(empty_database_url: str) -> None:
    """The check, and every other operation, say what is missing and which command mends it."""
    store = PostgresStore(empty_database_url)
    with pytest.raises(SchemaError, match=r"no cnstra schema.*cnstra migrate"):
        store.run(store.check_schema())
    operations = [
        store.run_status(NOBODY),
        store.failed_runs(RunChoice(), None, 1),
        store.renew(NOBODY),
        store.apply([RunEvent(run_id=NOBODY, event=RetryAsked())]),
        store.lost_claims(1),
    ]
    for operation in operations:
        with pytest.raises(SchemaError, match=rf"{operation.name}.*cnstra migrate"):
            store.run(operation)
    store.close()


def test_an_older_schema_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that needs a migration which the database has not says so when it starts."""
    known = migrating.migrations()
    monkeypatch.setattr(migrating, "migrations", lambda: [*known, (len(known) + 1, "9999_next.sql")])
    store = PostgresStore(database_url)
    with pytest.raises(
        SchemaError, match=rf"migration {len(known)}, .*needs migration {len(known) + 1}.*cnstra migrate"
    ):
        store.run(store.check_schema())
    store.close()


def test_a_newer_schema_serves_the_release_before_it(database_url: str) -> None:
    """While a deploy rolls, old workers run on the new schema; but they do not migrate it back."""
    with psycopg.connect(database_url) as connection:
        connection.execute("insert into cnstra.migration (number, name) values (9999, '9999_next.sql')")
    store = PostgresStore(database_url)
    store.run(store.check_schema())
    store.close()
    with pytest.raises(SchemaError, match=r"9999.*upgrade cnstra"):
        migrate(database_url)


def test_tables_on_partitions_take_later_migrations(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were partitioned by an older release: what a later one sets of a table is set of each partition of it."""
    known = migrating.migrations()
    monkeypatch.setattr(migrating, "migrations", lambda: known[:3])
    migrate(empty_database_url)
    partition(empty_database_url)
    monkeypatch.undo()
    assert migrate(empty_database_url) == [name for _, name in known[3:]]
    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute(
            "select w.relname, array_to_string(c.reloptions, ' '), count(*) > 12 "
            "from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class w on w.oid = i.inhparent "
            "where i.inhparent in ('cnstra.activation'::regclass, 'cnstra.run'::regclass) group by 1, 2 order by 1"
        ).fetchall()
    assert rows == [("activation", "fillfactor=50", True), ("run", "fillfactor=60", True)]


def test_an_upgrade_between_partitions_and_their_views_keeps_the_indexes(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older release made what was partitioned, and the migration that lays the views over it is this one's: what is made anew
    of a table is made of each of its partitions."""
    known = migrating.migrations()
    monkeypatch.setattr(migrating, "migrations", lambda: known[:6])
    migrate(empty_database_url)
    monkeypatch.undo()
    partition(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        invalid = connection.execute("select indexrelid::regclass::text from pg_index where not indisvalid").fetchall()
        counts = connection.execute(
            "select distinct (select count(*) from pg_index p where p.indrelid = i.inhrelid), "
            "                (select count(*) from pg_index w where w.indrelid = i.inhparent) "
            "from pg_inherits i where i.inhparent = 'cnstra.activation'::regclass"
        ).fetchall()
    assert invalid == []
    [(of_partition, of_whole)] = counts
    assert of_partition == of_whole


_SHAPE = """
select 'column', a.attname::text,
       format_type(a.atttypid, a.atttypmod) || a.attnotnull || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = 'cnstra.activation'::regclass and a.attnum > 0 and not a.attisdropped
union all
select 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) from pg_index i
where i.indrelid = 'cnstra.activation'::regclass
union all
select 'constraint', conname, replace(pg_get_constraintdef(oid), ' NOT VALID', '') from pg_constraint
where conrelid = 'cnstra.activation'::regclass
union all
select 'option', '', array_to_string(reloptions, ' ') from pg_class where oid = 'cnstra.activation'::regclass
order by 1, 2
"""


def test_what_an_older_release_made_is_what_a_new_database_has(
    empty_database_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the order of columns; and what users built on the views of that release is there still."""
    known = migrating.migrations()
    monkeypatch.setattr(migrating, "migrations", lambda: known[:6])
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("create view public.stuck as select run_id from cnstra.activations where status = 'running'")
    monkeypatch.undo()
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as older, psycopg.connect(database_url) as newer:
        assert older.execute(_SHAPE).fetchall() == newer.execute(_SHAPE).fetchall()
        assert older.execute("select count(*) from public.stuck").fetchone() == (0,)
        last = newer.execute(
            "select attname from pg_attribute where attrelid = 'cnstra.activation'::regclass order by attnum desc limit 1"
        ).fetchone()
        assert last == ("status",), "what ends change is to stand side by side"


# -- what lies over it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_the_columns_that_users_rely_on(database_url: str, view: str) -> None:
    """At least these, first and in this order; a view may have more."""
    with psycopg.connect(database_url) as connection:
        cursor = connection.execute(f"select * from cnstra.{view} limit 0".encode())
        assert cursor.description is not None
        columns = [column.name for column in cursor.description]
    assert columns[: len(VIEWS[view])] == VIEWS[view]


def test_what_users_built_on_the_views_outlives_a_migration(database_url: str) -> None:
    """A dashboard's own view over ours, and what it was granted, are there after the next migration."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create view public.broken_orders as select run_id from cnstra.runs where status = 'failed'")
        connection.execute("grant select on cnstra.runs to public")
        migrate(database_url)
        assert connection.execute("select * from public.broken_orders").fetchall() == []
        granted = (
            "select count(*) from information_schema.role_table_grants "
            "where table_schema = 'cnstra' and table_name = 'runs' and grantee = 'PUBLIC'"
        )
        assert connection.execute(granted).fetchone() == (1,)


QUERIES = [
    name for name, text in statements().items() if text.split()[0] in {"select", "insert", "update", "delete", "with"}
]


@pytest.mark.parametrize("name", QUERIES)
def test_every_statement_fits_the_schema(database_url: str, name: str) -> None:
    """Names and types of each are those of the tables that the migrations make."""
    with psycopg.connect(database_url) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute(f"prepare one as {numbered(statements()[name])}".encode())


def test_every_other_statement_is_of_a_transaction_and_is_carried_out(database_url: str) -> None:
    """They name nothing of the schema, so that there is nothing to prepare; in this order each of them is possible."""
    order = ["begin_step", "begin_settling", "undo_settling", "clean_session", "clean_pooled_session", "undo_step"]
    order.append("begin_with_settings")
    assert set(statements()) - set(QUERIES) == {*order, "ahead"}  # the last is a part of others

    with psycopg.connect(database_url, autocommit=True) as connection, psycopg.ClientCursor(connection) as cursor:
        for name in order:
            given = {"name": "a name", "step": "a step", "names": "{jit}", "values": "{off}"}
            cursor.execute(statements()[name].encode(), given)
        connection.commit()

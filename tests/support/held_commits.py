"""Commits that the server holds: done, and not told of yet, for as long as a test wishes.

Postgres waits for a standby that there is not. Only transactions that ask for one wait, by ``set local synchronous_commit =
remote_write``; all others of the database are told not to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from cnstra.servers import HeldServers
from support.waiting import eventually

_HELD = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'SyncRep'"


class HeldCommits:
    """The careful commits of one database, as long as they are held."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def one_is_held(self) -> None:
        """Wait until there is one."""
        eventually(lambda: self._connection.execute(_HELD).fetchall(), what="a commit that the server holds")

    def let_go(self) -> None:
        """They are through, and told of."""
        self._connection.execute("alter system reset synchronous_standby_names")
        self._connection.execute("select pg_reload_conf()")
        eventually(lambda: not self._connection.execute(_HELD).fetchall(), what="no commit is held")


@contextmanager
def held_commits(servers: HeldServers, database_url: str) -> Iterator[HeldCommits]:
    """Hold them for the length of the block; sessions that were there before must not commit meanwhile."""
    secrets = servers._home.known_secrets()
    assert secrets is not None
    database = urlsplit(database_url).path.lstrip("/")
    with psycopg.connect(
        database_url,
        user="postgres",
        password=secrets.superuser,
        autocommit=True,
        options="-c synchronous_commit=local",
    ) as connection:
        connection.execute(sql.SQL("alter database {} set synchronous_commit = local").format(sql.Identifier(database)))
        connection.execute("alter system set synchronous_standby_names = 'nobody'")
        connection.execute("select pg_reload_conf()")
        commits = HeldCommits(connection)
        try:
            yield commits
        finally:
            commits.let_go()

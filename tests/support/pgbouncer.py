"""A private pgbouncer in transaction mode, with few server connections, and what it says of itself.

There is none in a wheel, so it is the system's (Debian: ``apt-get install pgbouncer``). It does not run as root: it has the
account of the servers.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from cnstra.servers.account import servers_account
from support.doors import free_port
from support.reaping import reap
from support.waiting import eventually

SERVER_CONNECTIONS = 4
"""As many as it makes to a database, for all who are connected to it."""

_DECLARED = "?pooler=transaction"
_MISSING = "no pgbouncer on this machine (Debian: apt-get install pgbouncer): transaction pooling goes untested here"


class PgBouncer:
    """In front of the server that a URL names, for each of its databases."""

    def __init__(self, program: str, server_url: str, **settings: str) -> None:
        given = conninfo_to_dict(server_url)
        account = servers_account()
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="cnstra-pgbouncer-", dir="/tmp"))
        account.give(self._folder)
        self._user = given["user"]
        (self._folder / "users").write_text(f'"{given["user"]}" "{given["password"]}"\n')
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "md5",
            "auth_file": self._folder / "users",
            "admin_users": given["user"],
            "pool_mode": "transaction",
            "default_pool_size": SERVER_CONNECTIONS,
            "max_client_conn": 500,
        } | settings
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={given['host']} port={given['port']}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        for file in self._folder.iterdir():
            account.give(file)
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [program, str(self._folder / "pgbouncer.ini")],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=account.user,
                group=account.group,
                extra_groups=account.extra_groups,
            )
        reap(self._process.pid)
        self._admin_url = self.undeclared(server_url.rpartition("/")[0] + "/pgbouncer")
        eventually(self._is_up, what="pgbouncer takes connections")

    def undeclared(self, database_url: str) -> str:
        """The same database through it, by a URL that says nothing of a pooler."""
        parts = urlsplit(database_url)
        return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}", query="").geturl()

    def url(self, database_url: str) -> str:
        """The same database through it."""
        return self.undeclared(database_url) + _DECLARED

    def ask(self, what: str, database: str) -> list[dict[str, Any]]:
        """``clients`` or ``servers``: its connections of a database, on either side."""
        with psycopg.connect(self._admin_url, autocommit=True) as admin:
            rows = psycopg.ClientCursor(admin, row_factory=dict_row).execute(f"show {what}".encode()).fetchall()
        return [row for row in rows if row["database"] == database]

    def end(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            psycopg.connect(self._admin_url).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def running_pgbouncer(server_url: str, **settings: str) -> Iterator[PgBouncer]:
    """One for a while; the test is skipped, and says why, where there is no pgbouncer."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        pytest.skip(_MISSING)
    pooler = PgBouncer(program, server_url, **settings)
    try:
        yield pooler
    finally:
        pooler.end()


def through(pooler: PgBouncer, database_url: str, patch: pytest.MonkeyPatch) -> str:
    """The database through the pooler, for the product. What the test itself asks there by psycopg goes past the pooler: it says
    ``psycopg.connect`` and means the database."""
    pooled = pooler.url(database_url)

    def directly(connect: Any) -> Any:
        def redirected(_: Any, conninfo: str = "", **given: Any) -> Any:
            if given.pop("pooler", None):  # a library that takes URLs apart: it goes through, as its user would have it
                given["prepare_threshold"] = None
            return connect(database_url if conninfo == pooled else conninfo, **given)

        return redirected

    for kind in (psycopg.Connection, psycopg.AsyncConnection):
        patch.setattr(kind, "connect", classmethod(directly(kind.connect)))
    patch.setattr(psycopg, "connect", psycopg.Connection.connect)
    return pooled

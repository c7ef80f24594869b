"""The private Postgres: made, started, stopped.

Owns its data folder and its settings. The role in the URL owns its database, may create others and roles, and
sees the statistics; it is no superuser, like the role that a managed Postgres hands out, so that nothing we
build comes to need one. Listens on loopback only, and asks everybody for a password (scram).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import psycopg
from psycopg import sql

from cnstra.orchestrator.errors import ServersError
from cnstra.servers.account import Account
from cnstra.servers.home import Home, Secrets, write_private
from cnstra.servers.process import ServerProcess, port_is_free, ports
from cnstra.servers.programs import PostgresPrograms, postgres_programs
from cnstra.servers.server import Stop

_NAME = "postgres"
_ROLE = "cnstra"
_DATABASE = "cnstra"
_SUPERUSER = "postgres"
_SIGNALS = {
    Stop.FAST: (signal.SIGINT, signal.SIGQUIT),
    Stop.IMMEDIATE: (signal.SIGQUIT,),
}
_SMALL_SHM = 256 * 2**20  # bytes; the default of containers is 64 MiB
# Rounds of hashing slow down who guesses passwords. These are of 192 random bits, so that nobody does; and each new connection
# pays for the rounds, on both of its ends.
_QUICK_TO_CHECK = {"scram_iterations": "1"}
_GRANTS = ("pg_monitor", "pg_signal_backend", "pg_checkpoint")


class PostgresServer:
    """Postgres below one data folder."""

    def __init__(self, *, home: Home, data: Path, account: Account, secrets: Secrets) -> None:
        self._home = home
        self._folder = data / _NAME
        self._account = account
        self._secrets = secrets
        self._port: int | None = None
        self._programs: PostgresPrograms | None = None
        self._process = process(home, data)

    @property
    def url(self) -> str:
        return f"postgresql://{_ROLE}:{self._secrets.role}@127.0.0.1:{self._port}/{_DATABASE}"

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self) -> None:
        self._process.stop_leftover()
        if self._programs is None:
            self._programs = postgres_programs(self._account, self._folder.parent)
        self._make_data(self._programs)
        if self._port is not None:
            self._start_on(self._port, self._programs)
            return
        for port in ports(self._home.last_port(_NAME)):
            if self._start_on(port, self._programs):
                self._home.remember_port(_NAME, port)
                self._make_role()
                return
        raise ServersError(f"Postgres found no free port:\n{self._process.log_end()}")

    def stop(self, how: Stop) -> None:
        self._process.stop(_SIGNALS[how])

    def _make_data(self, programs: PostgresPrograms) -> None:
        version = self._folder / "PG_VERSION"
        if version.exists():
            made_by = int(version.read_text())
            if made_by != programs.major:
                raise ServersError(
                    f"the data in {self._folder} were made by Postgres {made_by}, "
                    f"and {programs.folder} has {programs.major}; "
                    f"delete {self._home.path} to begin anew, or set CNSTRA_HOME to another folder"
                )
            return
        new = self._folder.with_name(f"{_NAME}.new")  # an initdb that was killed leaves nothing that looks ready
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._account.give(new)
        password = new.with_name(f"{_NAME}.password")
        write_private(password, self._secrets.superuser, owner=self._account)
        try:
            made = self._account.run(self._initdb(programs, new, password), env=_environment())
        finally:
            password.unlink()
        if made.returncode != 0:
            raise ServersError(f"initdb could not make {self._folder}:\n{made.stdout}{made.stderr}")
        new.rename(self._folder)

    def _initdb(self, programs: PostgresPrograms, folder: Path, password: Path) -> list[str]:
        command = [
            str(programs.folder / "initdb"),
            f"--pgdata={folder}",
            f"--username={_SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]
        if programs.major >= 17:  # the same order and case rules on every machine
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if programs.major >= 16:  # for the superuser's password
            command += [f"--set={name}={value}" for name, value in _QUICK_TO_CHECK.items()]
        if not self._secrets.durable:
            command.append("--no-sync")
        return command

    def _start_on(self, port: int, programs: PostgresPrograms) -> bool:
        """Start on `port`; False when somebody else has taken it meanwhile."""
        command = [str(programs.folder / "postgres"), "-D", str(self._folder)]
        for name, value in self._settings(port, programs).items():
            command += ["-c", f"{name}={value}"]
        self._process.spawn(command, account=self._account, env=_environment())
        if self._process.await_ready(self._is_ready):
            self._port = port
            return True
        if self._port is None and not port_is_free(port):
            return False
        raise ServersError(f"Postgres did not start on port {port}:\n{self._process.log_end()}")

    def _settings(self, port: int, programs: PostgresPrograms) -> dict[str, str]:
        settings = {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
        }
        if programs.major >= 16:
            settings |= _QUICK_TO_CHECK
        if programs.has_statements:
            settings["shared_preload_libraries"] = "pg_stat_statements"
        if _shared_memory_is_small() or not self._secrets.durable:
            # Its segments are files of the data folder then, and go with that, however Postgres ended.
            settings["dynamic_shared_memory_type"] = "mmap"
        if not self._secrets.durable:
            # Safe against a crash of Postgres, not of the machine. `synchronous_commit` stays on: without it
            # a crash of Postgres loses commits that it has confirmed, and tests of durability would lie.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return settings

    def _is_ready(self) -> bool:
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"

    def _make_role(self) -> None:
        """Create, once, what the URL names: the role and its database."""
        try:
            with self._superuser("template1") as connection:
                self._create_role(connection)
                self._show_statements(connection)
            with self._superuser("postgres") as connection:
                found = connection.execute("select from pg_database where datname = %s", [_DATABASE])
                if found.rowcount == 0:
                    statement = sql.SQL("create database {} owner {}")
                    connection.execute(statement.format(sql.Identifier(_DATABASE), sql.Identifier(_ROLE)))
        except psycopg.Error as error:
            raise ServersError(f"Postgres runs, and its role {_ROLE!r} could not be made: {error}") from error

    def _create_role(self, connection: psycopg.Connection) -> None:
        role = sql.Identifier(_ROLE)
        if connection.execute("select from pg_roles where rolname = %s", [_ROLE]).rowcount:
            return
        with connection.transaction():
            password = sql.Literal(self._secrets.role)
            connection.execute(sql.SQL("create role {} login createdb createrole password {}").format(role, password))
            connection.execute(sql.SQL("grant {} to {}").format(sql.SQL(", ").join(map(sql.Identifier, _GRANTS)), role))

    def _show_statements(self, connection: psycopg.Connection) -> None:
        """Give every database to come ``pg_stat_statements``, for the role to read and to reset."""
        if self._programs is None or not self._programs.has_statements:
            return
        with connection.transaction():
            connection.execute("create extension if not exists pg_stat_statements")
            functions = connection.execute(
                "select oid::regprocedure::text from pg_proc where proname = 'pg_stat_statements_reset'"
            )
            for (function,) in functions.fetchall():
                statement = sql.SQL("grant execute on function {} to {}")
                connection.execute(statement.format(sql.SQL(function), sql.Identifier(_ROLE)))

    def _superuser(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self._port,
            user=_SUPERUSER,
            password=self._secrets.superuser,
            dbname=database,
            autocommit=True,
        )


def process(home: Home, data: Path) -> ServerProcess:
    """The process of the Postgres in `data`, to start one or to find one that was left behind."""
    return ServerProcess(
        name="Postgres",
        alive=data / f"{_NAME}.alive",
        pid_file=data / _NAME / "postmaster.pid",
        log=home.path / f"{_NAME}.log",
        signals=_SIGNALS[Stop.FAST],
    )


def _environment() -> dict[str, str]:
    """Our environment without what would set up Postgres in some other way than we do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def _shared_memory_is_small() -> bool:
    if sys.platform != "linux":
        return False
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108 - looked at, not written to
    except OSError:
        return True
    return found.f_bavail * found.f_frsize < _SMALL_SHM

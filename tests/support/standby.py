"""A streaming standby of a test's own Postgres, from the same programs: made by pg_basebackup, held back, promoted, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest

from cnstra.servers import HeldServers
from cnstra.servers.account import Account, servers_account
from cnstra.servers.process import ports
from cnstra.servers.programs import PostgresPrograms, postgres_programs
from support.reaping import reap
from support.waiting import eventually

_SUPERUSER = "postgres"


class Standby:
    """One server, always on the same port. It ends with this process, also when that is killed."""

    def __init__(self, primary: HeldServers, folder: Path, account: Account, programs: PostgresPrograms) -> None:
        parts = urlsplit(primary.database_url)
        secrets = primary._home.known_secrets()
        assert secrets is not None
        self._password = secrets.superuser
        self._primary_port = parts.port
        self.port = next(ports(None))
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{self.port}")))
        account_and_at = parts.netloc.rpartition("@")[0] + "@"
        both = f"{account_and_at}127.0.0.1:{parts.port},127.0.0.1:{self.port}"
        self.url_of_both = urlunsplit(parts._replace(netloc=both, query="target_session_attrs=read-write"))
        """By which a client finds whichever of the two takes writes."""
        self._database = parts.path.lstrip("/")
        self._data, self._log = folder / "data", folder / "log"
        self._account, self._programs = account, programs
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Copy the primary, to be followed from then on."""
        shutil.rmtree(self._data, ignore_errors=True)
        command = [str(self._programs.folder / "pg_basebackup"), "-D", str(self._data), "-R", "-X", "stream"]
        command += ["-h", "127.0.0.1", "-p", str(self._primary_port), "-U", _SUPERUSER, "-c", "fast", "--no-sync"]
        made = self._account.run(command, env=_environment() | {"PGPASSWORD": self._password})
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        """Start, and return when it can be read."""
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        settings |= {"max_connections": self._primarys("max_connections"), "wal_receiver_timeout": "5s"}
        settings |= {"dynamic_shared_memory_type": "mmap", "wal_retrieve_retry_interval": "100ms"}
        settings |= {"log_statement": "all"}
        command = [str(self._programs.folder / "postgres"), "-D", str(self._data)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=_environment(),
                user=self._account.user,
                group=self._account.group,
                extra_groups=self._account.extra_groups,
            )
        self.pid = self._process.pid
        reap(self.pid)
        eventually(self._is_ready, what="the standby can be read")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def hold_back(self) -> None:
        """From now on it receives, and replays nothing."""
        self.ask("select pg_wal_replay_pause()")
        eventually(
            lambda: self.ask("select pg_get_wal_replay_pause_state()") == [("paused",)],
            what="the standby replays nothing",
        )

    def let_go(self) -> None:
        """It replays again."""
        self.ask("select pg_wal_replay_resume()")

    def make_synchronous(self) -> None:
        """From now on the primary answers a commit when this standby has it, too."""
        with self._superuser(self._primary_port) as primary:
            primary.execute("alter system set synchronous_standby_names = '*'")
            primary.execute("select pg_reload_conf()")
            eventually(
                lambda: primary.execute("select sync_state from pg_stat_replication").fetchall() == [("sync",)],
                what="the standby is synchronous",
            )

    def cut_off(self) -> None:
        """From now on it receives nothing, and the primary goes on without it."""
        self.ask("alter system set primary_conninfo = ''")
        self.ask("select pg_reload_conf()")
        eventually(lambda: self.ask("select from pg_stat_wal_receiver") == [], what="the standby receives nothing")

    def kill_primary(self) -> None:
        """SIGKILL to the primary's parent process; its sessions end when they notice."""
        with self._superuser(self._primary_port) as primary:
            row = primary.execute("select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int").fetchone()
        assert row is not None
        sessions = psutil.Process(row[0]).children()
        os.kill(row[0], signal.SIGKILL)
        psutil.wait_procs(sessions)

    def promote(self) -> None:
        """It takes writes from now on."""
        assert self.ask("select pg_promote()") == [(True,)]

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """One statement, as the superuser."""
        with self._superuser(self.port) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def asked(self, text: str) -> int:
        """How many statements with this text it was given."""
        return self._log.read_text().count(text)

    def catch_up(self) -> None:
        """Return when it has replayed all that the primary has written."""
        with self._superuser(self._primary_port) as primary:
            row = primary.execute("select pg_switch_wal(), pg_current_wal_lsn()::text").fetchone()
        assert row is not None
        eventually(
            lambda: self.ask(f"select pg_last_wal_replay_lsn() >= '{row[1]}'::pg_lsn") == [(True,)],
            what="the standby has caught up",
        )

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return self.ask("select pg_is_in_recovery()") == [(True,)]
        except psycopg.OperationalError:
            return False

    def _primarys(self, setting: str) -> str:
        with self._superuser(self._primary_port) as primary:
            row = primary.execute("select current_setting(%s)", [setting]).fetchone()
        assert row is not None
        return str(row[0])

    def _superuser(self, port: int | None) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=port,
            user=_SUPERUSER,
            password=self._password,
            dbname=self._database,
            autocommit=True,
        )


@contextmanager
def standby_of(primary: HeldServers) -> Iterator[Standby]:
    """A standby that follows a test's own Postgres until the block ends."""
    account = servers_account()
    with tempfile.TemporaryDirectory(prefix="cnstra-standby-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711 if account.user is not None else 0o700)
        programs = postgres_programs(account, folder)
        if not (programs.folder / "pg_basebackup").exists():
            pytest.skip(f"{programs.folder} has no pg_basebackup, to make a standby with")
        account.give(folder)
        standby = Standby(primary, folder, account, programs)
        standby.make()
        standby.start()
        try:
            yield standby
        finally:
            standby.stop()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}

"""The account that the servers run under: ourselves, or for root somebody without rights.

Postgres refuses to run as root, and nothing is gained by running Valkey so. Root therefore hands both to the
user who called sudo, or to ``nobody``. This module says who that is and what they can reach; it creates no
users and changes the permissions of no folder that it did not make.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnstra.orchestrator.errors import ServersError

_INSTEAD = (
    "start the development servers as a normal user, or name your own in CNSTRA_DATABASE_URL and CNSTRA_BROKER_URL"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user to run a program as. Fields are None where nothing changes, as `subprocess.Popen` takes them."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None

    def reaches(self, folder: Path) -> bool:
        """Whether this account can step into `folder`, through all of its parents."""
        return self.user is None or self.can_run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)])

    def can_run(self, command: Sequence[str]) -> bool:
        """Whether this account can start `command`, and it ends well."""
        return self.run(command).returncode == 0

    def run(self, command: Sequence[str], *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `command` to its end as this account; a program that it cannot start ends with 126."""
        try:
            return subprocess.run(  # noqa: S603 - programs that we have found ourselves
                list(command),
                capture_output=True,
                check=False,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                env=env,
                cwd="/",
                user=self.user,
                group=self.group,
                extra_groups=self.extra_groups,
            )
        except OSError as error:
            return subprocess.CompletedProcess(list(command), 126, "", str(error))

    def give(self, path: Path) -> None:
        """Make `path` this account's own."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


def servers_account() -> Account:
    """The account for the servers of this process."""
    if os.geteuid() != 0:
        _require_name(os.geteuid())
        return Account()
    caller = os.environ.get("SUDO_UID", "0")
    found = _by_id(int(caller)) if caller.isdecimal() and caller != "0" else _by_name("nobody")
    if found is None or found.pw_uid == 0:
        raise ServersError(f"Postgres does not run as root, and there is no user 'nobody' to run it as; {_INSTEAD}")
    account = Account(user=found.pw_uid, group=found.pw_gid, extra_groups=())
    tried = account.run(["/bin/sh", "-c", ":"])
    if tried.returncode != 0:
        raise ServersError(
            f"Postgres does not run as root, and this root may not run it as {found.pw_name!r} "
            f"({tried.stderr.strip()}); {_INSTEAD}"
        )
    return account


def _require_name(uid: int) -> None:
    if _by_id(uid) is None:
        raise ServersError(
            f"Postgres does not start for a user without an entry in /etc/passwd, which {uid} has not; "
            "add one, or name your own servers in CNSTRA_DATABASE_URL and CNSTRA_BROKER_URL"
        )


def _by_id(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _by_name(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None

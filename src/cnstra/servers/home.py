"""The folder of one set of development servers, ``$CNSTRA_HOME``: which file lies where, and who may read it.

Owns the paths, the generated passwords and the remembered ports. It refuses a folder that belongs to somebody
else, since whoever can write there could hand us passwords and programs of their own. Starts and stops
nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from cnstra.orchestrator.errors import ServersError
from cnstra.servers.account import Account
from cnstra.servers.locks import is_locked

_OUTSIDE = Path("/var/tmp")  # noqa: S108 - survives a reboot, unlike /tmp; the folder's owner is checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The passwords of one home, and whether its data are meant to outlive the servers.

    Durability is settled when the home is made: what was promised to be kept is never thrown away later.
    """

    durable: bool
    superuser: str
    role: str
    valkey: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The paths below one ``$CNSTRA_HOME``."""

    path: Path

    @classmethod
    def at(cls, path: Path | None) -> Home:
        """The home at `path`; by default ``$CNSTRA_HOME``, or ``.cnstra`` in the current folder."""
        return cls(path=(path or Path(os.environ.get("CNSTRA_HOME") or ".cnstra")).resolve())

    @property
    def holders(self) -> Path:
        """Locked, shared, by each process that uses the servers."""
        return self.path / "holders.lock"

    @property
    def starting(self) -> Path:
        """Locked by the one process that starts, joins or stops the servers at this moment."""
        return self.path / "starting.lock"

    @property
    def supervisor(self) -> Path:
        """Locked by the supervisor for as long as it lives."""
        return self.path / "supervisor.lock"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor has to say, tracebacks for the most part."""
        return self.path / "supervisor.log"

    @property
    def control(self) -> Path:
        """Names the socket on which the supervisor listens."""
        return self.path / "control"

    @property
    def supervised(self) -> bool:
        """Whether a supervisor lives."""
        return is_locked(self.supervisor)

    def create(self) -> None:
        """Make the folder, unless it is there; refuse one that is not ours."""
        # Root's servers run under another account, which must be able to pass through, not to list.
        _own_folder(self.path, 0o711 if os.geteuid() == 0 else 0o700)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def check_owner(self) -> None:
        """Refuse a home that belongs to another user."""
        _check_owner(self.path)

    def data_folder(self, account: Account) -> Path:
        """Make the folder for the servers' data: here, or outside when `account` cannot reach this home."""
        folder = self._inside if account.reaches(self.path) else self._outside
        _own_folder(folder, 0o711)
        return folder

    def known_data_folders(self) -> list[Path]:
        """The folders of ours that may hold data of this home."""
        found = [folder for folder in (self._inside, self._outside) if folder.exists()]
        for folder in found:
            _check_owner(folder)
        return found

    def secrets(self, *, durable: bool) -> Secrets:
        """The passwords of this home, made with this `durable` when there are none yet."""
        found = self.known_secrets()
        if found is None:
            found = Secrets(
                durable=durable,
                superuser=secrets.token_urlsafe(24),
                role=secrets.token_urlsafe(24),
                valkey=secrets.token_urlsafe(24),
            )
            write_private(self._secrets, json.dumps(asdict(found)))
        return found

    def known_secrets(self) -> Secrets | None:
        """The passwords of this home, or None when none were made."""
        try:
            return Secrets(**json.loads(self._secrets.read_text()))
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # no home, or somebody else's
            return None
        except (OSError, ValueError, TypeError) as error:
            raise ServersError(
                f"{self._secrets} cannot be read ({error}); "
                f"delete {self.path} to begin anew, without the data that it holds"
            ) from error

    def last_port(self, server: str) -> int | None:
        """The port that `server` had when it last ran here: URLs that were copied somewhere stay true."""
        try:
            return int((self.path / f"{server}.port").read_text())
        except (OSError, ValueError):
            return None

    def remember_port(self, server: str, port: int) -> None:
        """Note the port of `server` for the next start."""
        write_private(self.path / f"{server}.port", str(port))

    def discard(self, data: Path) -> None:
        """Throw the servers' `data` away, with the passwords and ports that belong to them."""
        shutil.rmtree(data, ignore_errors=True)
        for path in (self._secrets, *self.path.glob("*.port")):
            path.unlink(missing_ok=True)

    @property
    def _inside(self) -> Path:
        return self.path / "data"

    @property
    def _outside(self) -> Path:
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return _OUTSIDE / f"cnstra-{name}"

    @property
    def _secrets(self) -> Path:
        return self.path / "secrets.json"


def write_private(path: Path, text: str, *, owner: Account | None = None) -> None:
    """Put `text` at `path` in one step, readable by its owner only from the first moment on."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    if owner is not None:
        owner.give(new)
    new.rename(path)


def _own_folder(path: Path, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        path.chmod(mode)  # not left to the umask
    except FileExistsError:
        _check_owner(path)
    except OSError as error:
        raise ServersError(f"the folder {path} cannot be made ({error}); set CNSTRA_HOME to one that can") from error


def _check_owner(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ServersError(f"{path} is not a folder; move it away, or set CNSTRA_HOME to another folder")
    if found.st_uid != os.geteuid():
        raise ServersError(
            f"{path} belongs to the user with the id {found.st_uid}, and this is {os.geteuid()}; "
            "run the command as that user, or set CNSTRA_HOME to a folder of your own"
        )
    if found.st_mode & 0o022:
        raise ServersError(f"others may write to {path}; mend it with: chmod go-w '{path}'")

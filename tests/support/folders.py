"""Temporary folders for servers: short paths that the account which runs the servers can pass through.

pytest's own are below a folder with 0700, which for root means that the servers' data go elsewhere.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnstra.servers import down


def new_home() -> Path:
    """A new folder to be a ``$CNSTRA_HOME``."""
    home = Path(tempfile.mkdtemp(prefix="cnstra-test-", dir="/tmp"))
    home.chmod(0o711)
    return home


def remove_home(home: Path) -> None:
    """Stop the servers of `home`, whoever holds them, and delete it."""
    down(home)
    shutil.rmtree(home)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A ``$CNSTRA_HOME`` for the length of the block; what runs there at its end is stopped."""
    home = new_home()
    try:
        yield home
    finally:
        remove_home(home)

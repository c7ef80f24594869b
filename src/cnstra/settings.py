"""Where the servers are: given by the caller, or by the environment, there as a value or as the name of a file that holds it.

Files are for the secrets of containers, which are mounted and not shown with the environment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cnstra.orchestrator.errors import ConfigurationError

DATABASE_URL = "CNSTRA_DATABASE_URL"
BROKER_URL = "CNSTRA_BROKER_URL"
REPLICA_URL = "CNSTRA_REPLICA_URL"

FILES = {
    DATABASE_URL: "CNSTRA_DATABASE_URL_FILE",
    BROKER_URL: "CNSTRA_BROKER_URL_FILE",
    REPLICA_URL: "CNSTRA_REPLICA_URL_FILE",
}
"""The variables that name a file instead."""


def database_url(given: str | None) -> str:
    """The database's URL. Raises ``ConfigurationError`` when nobody said it, or it was said twice, or its file cannot be read."""
    return said(DATABASE_URL, given) or _missing("database", "database=", DATABASE_URL)


def broker_url(given: str | None) -> str:
    """The broker's URL. Raises as ``database_url``."""
    return said(BROKER_URL, given) or _missing("broker", "broker=", BROKER_URL)


def said(variable: str, given: str | None = None) -> str | None:
    """What the caller gives; else what the environment says, by the variable or by its file. None when nobody says it."""
    if given is not None and not isinstance(given, str):
        raise ConfigurationError(f"a URL is a text, and no {type(given).__name__}; give one, or set {variable}")
    value, file = os.environ.get(variable), os.environ.get(FILES[variable])
    if given and given != value:
        return given
    if value and file:
        raise ConfigurationError(f"both {variable} and {FILES[variable]} are set, and may differ: unset one of them")
    return value or (_held_by(file, FILES[variable]) if file else None)


def _held_by(file: str, variable: str) -> str:
    """A file's one line. What it says is a secret, and in no message."""
    try:
        text = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{variable} names the file {file}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text.strip() or "\n" in text:
        raise ConfigurationError(f"{variable} names the file {file}, which does not hold a URL alone, in one line")
    return text


def replica_urls(given: str | Sequence[str] | None) -> list[str]:
    """The URLs of replicas, with spaces between where the environment, or its file, says them; none where nobody does. Raises as
    ``database_url``."""
    if given is None:
        return (said(REPLICA_URL) or "").split()
    urls = [given] if isinstance(given, str) else list(given)
    if urls:
        said(REPLICA_URL, " ".join(urls))  # the environment's own, passed on by an option, may be said twice
    return urls


def _missing(what: str, argument: str, variable: str) -> str:
    raise ConfigurationError(
        f"no {what} is given: pass {argument}, or set {variable} (or {FILES[variable]}); "
        "`cnstra up` starts servers for development and prints both"
    )

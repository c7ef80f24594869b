"""Where the servers are: given by the caller, or by the environment."""

from __future__ import annotations

import os

from cnstra.orchestrator.errors import ConfigurationError

DATABASE_URL = "CNSTRA_DATABASE_URL"
BROKER_URL = "CNSTRA_BROKER_URL"


def database_url(given: str | None) -> str:
    """The database's URL. Raises ``ConfigurationError`` when nobody said it."""
    return given or os.environ.get(DATABASE_URL) or _missing("database", "database=", DATABASE_URL)


def broker_url(given: str | None) -> str:
    """The broker's URL. Raises ``ConfigurationError`` when nobody said it."""
    return given or os.environ.get(BROKER_URL) or _missing("broker", "broker=", BROKER_URL)


def _missing(what: str, argument: str, variable: str) -> str:
    raise ConfigurationError(
        f"no {what} is given: pass {argument}, or set {variable}; `cnstra up` starts servers for development and prints both"
    )

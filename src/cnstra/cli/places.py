"""Where the servers are, for commands: as given by an option or the environment, else those that ``cnstra up`` started.

The library does not look for the latter: a program that forgot its URL must not find a developer's servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from cnstra import settings
from cnstra.loading import load_codec, load_context
from cnstra.orchestrator.blobs import USUAL_PLACE, BlobStore
from cnstra.orchestrator.codecs import Codec
from cnstra.orchestrator.sealing import Vault
from cnstra.servers import Servers, hold
from cnstra.servers.home import Home


def database(given: str | None) -> str:
    """The database's URL. Raises ``ConfigurationError`` when nobody said it and no development server runs."""
    url = settings.said(settings.DATABASE_URL, given)
    running = None if url else _running()
    return url or settings.database_url(running.database_url if running else None)


def broker(given: str | None) -> str:
    """The broker's URL. Raises ``ConfigurationError`` when nobody said it and no development server runs."""
    url = settings.said(settings.BROKER_URL, given)
    running = None if url else _running()
    return url or settings.broker_url(running.broker_url if running else None)


def replicas(given: Sequence[str] | None) -> list[str]:
    """The URLs of the database's standbys; none where nobody names any. Raises ``ConfigurationError``."""
    return settings.replica_urls(given or None)


def contexts(given: Sequence[str] | None) -> tuple[BlobStore | None, str]:
    """The store of contexts that a client is to have, and its name: the first of ``--context``, or none."""
    if not given:
        return None, USUAL_PLACE
    blobs = load_context(given[0])
    return blobs.store, blobs.place


def codec(given: str | None) -> Codec | None:
    """What opens and seals the data of runs, if anything does. Raises ``ConfigurationError``."""
    return None if given is None else load_codec(given)


def vault(given: str | None) -> Vault | None:
    """The same, for who reads the store by himself."""
    return None if given is None else Vault(load_codec(given))


@cache
def _running() -> Servers | None:
    """The development servers of the usual home, if they run; starts none."""
    if not Home.at(None).supervised:
        return None
    with hold(durable=False) as held:  # joins what runs, and asks for nothing to be kept
        return Servers(database_url=held.database_url, broker_url=held.broker_url)

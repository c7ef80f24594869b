"""Of several commands, replicas: which of them can be read in the place of the database, and how far each is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnstra.exits import line_of
from cnstra.orchestrator.errors import CnstraError
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.reaching import reach
from cnstra.stores.postgres.standing import STANDING, Seen, Standing, UnfitError, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One replica; ``problem`` is why it cannot be read, and ``behind`` how many bytes of the log it has not replayed.

    Both are None where it can be read, and where the primary does not say how far it is itself.
    """

    database_url: str
    name: str
    problem: str | None = None
    behind: int | None = None


def examined(database_url: str, replica_urls: Sequence[str]) -> Iterator[Examined]:
    """Replicas, in their order, as seen beside the database."""
    primary: Standing | None = None
    if replica_urls:
        primary = _stands(database_url)[0]
    for url in replica_urls:
        replica, problem = _stands(url)
        behind = None
        if replica is not None:
            problem = _unfit(replica, primary)
            if primary is not None and replica.lsn is not None and primary.lsn is not None:
                behind = max(primary.lsn - replica.lsn, 0)
        yield Examined(database_url=url, name=shown(url), problem=problem, behind=behind)


def _unfit(replica: Standing, primary: Standing | None) -> str | None:
    seen = Seen()
    if primary is not None:
        seen.settle(primary, seen.ticket())
    try:
        seen.check(replica)
    except UnfitError as problem:
        return str(problem)
    return None


def _stands(database_url: str) -> tuple[Standing | None, str | None]:
    """Where a server stands; or what keeps it from saying so."""
    store = PostgresStore(database_url, connections=1)
    try:
        reach(database_url)
        return store.run(STANDING), None
    except CnstraError as error:
        return None, line_of(error)
    finally:
        store.close()

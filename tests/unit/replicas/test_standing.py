"""Which replicas show what a client has seen, decided from what servers say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from cnstra.stores.postgres.migrating import migrations
from cnstra.stores.postgres.standing import BehindError, Seen, Standing, UnfitError, shown, standing_of

SCHEMA = migrations()[-1][0]


def primary(lsn: int = 1_000, timeline: int = 1, system: int = 7) -> Standing:
    return Standing(is_replica=False, system=system, timeline=timeline, lsn=lsn, schema=SCHEMA)


def replica(lsn: int | None = 1_000, timeline: int | None = 1, system: int = 7, schema: int = SCHEMA) -> Standing:
    return Standing(is_replica=True, system=system, timeline=timeline, lsn=lsn, schema=schema)


def seen_of(*servers: Standing) -> Seen:
    """A client that did something on these primaries, one after another."""
    seen = Seen()
    for server in servers:
        seen.owe()
        seen.settle(server, seen.ticket())
    return seen


def is_behind(seen: Seen, server: Standing) -> bool:
    try:
        seen.check(server)
    except BehindError:
        return True
    return False


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        (primary(), "no standby"),
        (replica(system=8), "another database system"),
        (replica(timeline=2), "on timeline 2, and the primary on timeline 1"),
        (replica(lsn=None), "does not say how far"),
        (replica(timeline=None), "does not say how far"),
        (replica(schema=SCHEMA - 1), f"at migration {SCHEMA - 1}, and this release needs {SCHEMA}"),
    ],
)
def test_what_is_no_replica_of_the_primary_is_not_read(server: Standing, problem: str) -> None:
    """The words say why."""
    with pytest.raises(UnfitError, match=problem):
        seen_of(primary()).check(server)


def test_a_newer_schema_serves_this_release() -> None:
    """As the primary's does."""
    seen_of(primary()).check(replica(schema=SCHEMA + 1))


def test_a_replica_must_have_what_was_done() -> None:
    """To the byte."""
    seen = seen_of(primary(lsn=500), primary(lsn=400))
    assert is_behind(seen, replica(lsn=499))
    assert not is_behind(seen, replica(lsn=500))


def test_a_replica_must_have_what_another_one_showed() -> None:
    """Which it may have shown up to where it was after the read."""
    seen = seen_of(primary(lsn=500))
    seen.read(replica(lsn=800))
    assert is_behind(seen, replica(lsn=799))
    seen.read(replica(lsn=600))
    assert is_behind(seen, replica(lsn=799))


def test_who_has_done_nothing_may_be_shown_anything_of_the_primary() -> None:
    """Its position alone is nothing that was seen; until it is demanded."""
    seen = Seen()
    seen.settle(primary(lsn=500), seen.ticket())
    assert not is_behind(seen, replica(lsn=1))
    seen.demand(500)
    assert is_behind(seen, replica(lsn=499))


def test_what_was_done_since_is_owed() -> None:
    """A position that was asked for before it does not stand for it."""
    seen = Seen()
    seen.owe()
    ticket = seen.ticket()
    seen.owe()
    seen.settle(primary(), ticket)
    assert seen.owes
    seen.settle(primary(), seen.ticket())
    assert not seen.owes


def test_a_transaction_of_the_users_own_is_owed_until_it_has_ended() -> None:
    """Then all of it lies before the position that the primary says."""
    seen = Seen()
    seen.await_end("12")
    seen.settle(primary(lsn=500), seen.ticket())
    assert (seen.owes, seen.transactions) == (True, ["12"])
    seen.settle(primary(lsn=600), seen.ticket(), ["12"])
    assert (seen.owes, seen.transactions) == (False, [])
    assert is_behind(seen, replica(lsn=599))


def test_after_a_failover_positions_count_in_the_new_log() -> None:
    """The old ones mean nothing there, and a replica that was left behind in the old log is not read, however far it got."""
    seen = seen_of(primary(lsn=5_000), primary(lsn=300, timeline=2))
    assert not is_behind(seen, replica(lsn=300, timeline=2))
    with pytest.raises(UnfitError):
        seen.check(replica(lsn=9_000))
    seen.read(replica(lsn=9_000))  # that had been read when the new primary was met
    assert not is_behind(seen, replica(lsn=300, timeline=2))


def test_where_the_primary_is_away_from_the_beginning_a_replica_says_which_log_it_is() -> None:
    """Others must be of the same one; the primary, when it is there, knows better."""
    seen = Seen()
    seen.check(replica(lsn=50))
    seen.read(replica(lsn=50))
    assert is_behind(seen, replica(lsn=49))
    with pytest.raises(UnfitError):
        seen.check(replica(lsn=50, system=8))
    seen.settle(primary(system=8), seen.ticket())
    assert not is_behind(seen, replica(lsn=1, system=8))


@pytest.mark.parametrize(
    ("said", "lsn"),
    [(8_192, 8_192), (8_192 + 24, 8_192), (16_777_216 + 40, 16_777_216), (8_192 + 48, 8_240), (None, None)],
)
def test_the_end_of_a_page_is_one_position(said: Any, lsn: Any) -> None:
    """A writer counts the next page's header in, a reader does not: of an idle primary a replica would be behind for ever."""
    assert standing_of([(False, 7, 1, said, SCHEMA)]).lsn == lsn


def test_a_url_is_shown_without_what_is_secret() -> None:
    """Where it is, and no more."""
    assert shown("postgresql://me:secret@db.example:6432/shop") == "db.example:6432/shop"

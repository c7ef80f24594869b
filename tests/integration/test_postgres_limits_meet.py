"""Claims of limited work that meet in Postgres: whose count is from before whose claim, and who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import UUID

import pytest

from cnstra.stores.postgres.statements import statements
from support.worlds import PostgresWorld, Threads, Worker, succeeded, target


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    world = PostgresWorld(database_url)
    yield world
    world.close()


def calls(world: PostgresWorld, number: int) -> list[UUID]:
    return [world.submit(target("bank", limited=True)) for _ in range(number)]


def limiting(world: PostgresWorld, most: int) -> Worker:
    return world.worker(limits={"bank": most})


def test_a_limit_that_somebody_counts_is_passed_over(world: PostgresWorld) -> None:
    """Nobody waits for it; who passed it over is told to come again, and other work is claimed meanwhile."""
    calls(world, 2)
    first, second = limiting(world, 2), limiting(world, 2)
    with world.under_way(world.store.claim(first.request(1))) as held:
        assert len(held) == 1
        other = world.submit("stock")
        claims = second.claim()
        assert [work.run_id for work in claims] == [other]
        assert claims.missed  # type: ignore[attr-defined]
    again = second.claim()
    assert len(again) == 1
    assert not again.missed  # type: ignore[attr-defined]


def test_a_limit_that_is_used_up_is_held_by_nobody(world: PostgresWorld) -> None:
    """Those who find it used up do not keep others from it, and are not told to come again."""
    calls(world, 2)
    worker = limiting(world, 1)
    worker.claim_one()
    with world.under_way(world.store.claim(worker.request())):
        claims = limiting(world, 1).claim()
    assert not claims.missed  # type: ignore[attr-defined]


def test_one_limit_keeps_nobody_from_another(world: PostgresWorld) -> None:
    """Each neuron's is locked by itself: what another one holds is not counted, and not claimed."""
    calls(world, 2)
    ship = world.submit(target("ship", limited=True))
    with world.under_way(world.store.claim(limiting(world, 1).request())):
        [work] = world.worker(limits={"bank": 1, "ship": 1}).claim()
    assert work.run_id == ship


def test_a_claim_that_is_undone_leaves_its_slot(world: PostgresWorld) -> None:
    """A worker that dies in the middle of its claim held nothing but its transaction."""
    calls(world, 1)
    worker = limiting(world, 1)
    with pytest.raises(ZeroDivisionError), world.under_way(world.store.claim(worker.request())) as held:
        assert len(held) == 1
        raise ZeroDivisionError
    worker.claim_one()


def test_a_claim_that_waited_counts_what_was_claimed_meanwhile(world: PostgresWorld) -> None:
    """It waits for its lease, with its transaction begun; the other claims and commits; then it goes on."""
    calls(world, 2)
    slow, fast = limiting(world, 1), limiting(world, 1)
    lease = f"update cnstra.worker set pid = pid where worker = '{slow.info.worker}'"
    with world.held(lease):
        threads = Threads([slow.claim])
        assert len(fast.claim()) == 1
    assert threads.results() == [[]]


def test_many_claimers_never_exceed_the_limit(world: PostgresWorld) -> None:
    """Threads that claim and settle as fast as they can; somebody else counts what is running all the time."""
    most, workers = 3, 6
    runs = calls(world, 60)
    claimers = [limiting(world, most) for _ in range(workers)]
    counted: list[int] = []
    ended = threading.Event()

    def claim_all(worker: Worker) -> int:
        done = 0
        while not ended.is_set():
            for work in worker.claim(2):
                world.apply(succeeded(work))
                done += 1
            if world.status(runs[-1]) == "completed" and all(world.status(one) == "completed" for one in runs):
                ended.set()
        return done

    def count() -> None:
        with world.connect() as connection:
            while not ended.is_set():
                row = connection.execute("select count(*) from cnstra.activation where status = 'running'").fetchone()
                counted.append(row[0] if row else 0)

    threads = Threads([*(lambda one=worker: claim_all(one) for worker in claimers), count])  # type: ignore[misc]
    done = threads.results()
    assert sum(one for one in done if one) == len(runs)
    assert max(counted) <= most
    assert max(counted) > 1


def test_no_statement_takes_a_limit_and_counts_for_its_own_claim() -> None:
    """A statement sees what was committed before it began: counted by the one that takes the lock, what the lock's last
    holder claimed could be missing. No test can stop a statement in between, so this holds the statements apart.
    """
    locking = {name for name, text in statements().items() if "advisory" in text}
    claiming = {name for name, text in statements().items() if "set status = 'running'" in text}
    assert {"lock_limits", "lock_all_limits"} <= locking
    assert {"claim", "claim_with_limits", "claim_suspects"} == claiming
    assert not locking & claiming

"""Workers and clients with the rights that they need, and no more: what they do is right, also when workers die.

The fault tests of a worker's whole life can be run so, too: ``CNSTRA_TESTS_ROLES=least``.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from cnstra import AccessRefused, RunStateError
from cnstra.stores import PostgresContextStore
from support import bank, saga_graphs
from support.graphs import backoffs, journeys, routes
from support.least_privilege import Users, users_of
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

pytestmark = pytest.mark.past_the_pooler


@pytest.fixture
def users(database_url: str) -> Iterator[Users]:
    """They outlive the stage."""
    with users_of(database_url) as users:
        yield users


@pytest.fixture
def stage(users: Users, stage: Stage) -> Stage:
    """Workers and clients are in their groups; the test's own questions are the owner's."""
    stage.workers_url, stage.clients_url = users.worker, users.client
    return stage


def test_g1_g4_a_worker_that_dies_is_followed_by_another_of_its_role(stage: Stage, users: Users) -> None:
    """The lease, the supervision of the lost one, and what it held, are all within the role's rights."""
    client = stage.client(routes.chain)
    doomed = stage.start(routes.chain, Fault(point="settle.begin", action="kill", activation=2), streak=0)
    runs = [client.submit(routes.set_out.create_signal(number), idempotency_key=str(number)) for number in range(20)]
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)

    stage.start(routes.chain)

    stage.all_completed(runs)
    for run in runs:
        assert_sound(stage, run.id)
    assert client.submit(routes.set_out.create_signal(0), idempotency_key="0").id == runs[0].id


def test_what_a_client_does_to_runs_is_within_its_role(stage: Stage, users: Users) -> None:
    """Submits, retries, pauses, cancels, clones, sends; reads what became of it."""
    stage.start(backoffs.moody)
    moody = stage.client(backoffs.moody)
    run = moody.submit(backoffs.ask.create_signal({"fails": 1}), tags={"who": "client"})
    assert stage.ended(run).status == "failed"
    run.retry()
    stage.completed(run)
    assert run.context() == {"tried in attempt 2": 2}
    assert [written.version for written in run.history()] == [1]
    assert [found.id for found in moody.list_runs(tag="who=client")] == [run.id]
    assert stage.ended(run.clone()).status == "failed"

    tomorrow = moody.submit(backoffs.ask_tomorrow.create_signal({}), delay=timedelta(days=1))
    tomorrow.pause()
    tomorrow.resume()
    tomorrow.cancel()
    assert tomorrow.wait(PATIENCE).status == "cancelled"
    with pytest.raises(RunStateError):
        tomorrow.retry()

    stage.start(saga_graphs.approval)
    asking = stage.client(saga_graphs.approval)
    key = uuid4().hex
    asked = asking.submit(saga_graphs.put_question.create_signal({"key": key}))
    eventually(lambda: stage.rows("select from cnstra.expectation"), PATIENCE, what="it is waited for")
    asking.send(saga_graphs.approval_given.create_signal(7), key=key)
    stage.completed(asked)
    by_run = asking.submit(saga_graphs.put_question.create_signal({}))
    by_run.send(saga_graphs.approval_given.create_signal(8))
    stage.completed(by_run)

    with ConnectionPool(users.client, min_size=0, max_size=1, open=True) as pool:
        store = PostgresContextStore(pool, uuid4(), ttl=60)
        store.set({"a": 1})
        store.update(lambda value: {**value, "b": 2})
        assert store.get() == {"a": 1, "b": 2}
        store.delete()


def test_g10_compensations_and_timers_are_within_the_workers_role(stage: Stage, users: Users) -> None:
    """What a worker does by itself."""
    stage.start(backoffs.patient)
    waits = stage.client(backoffs.patient).submit(backoffs.wait_a_second.create_signal(3))
    assert [output.payload for output in stage.completed(waits).outputs] == [6]

    stage.start(journeys.trip)
    travels = stage.client(journeys.trip).submit(journeys.plan_trip.create_signal({"goes_wrong": True}))
    assert stage.ended(travels).status == "compensated"


def test_g2_a_step_in_the_users_own_tables_needs_the_users_own_grants(stage: Stage, users: Users) -> None:
    """They are no tables of ours: whoever owns them gives the rights."""
    bank.tables(stage.database_url)
    with psycopg.connect(stage.database_url) as connection:
        connection.execute(f"grant select, update on public.account to {users.prefix}_worker".encode())
        connection.execute(f"grant select, insert on public.booking to {users.prefix}_worker".encode())
    stage.start(bank.bank)

    run = stage.client(bank.bank).submit(bank.asked.create_signal({"amount": 5, "colour": "sync"}))

    stage.completed(run)
    assert stage.row("select balance from public.account") == {"balance": 5}


def test_what_is_no_longer_kept_is_deleted_by_workers_and_by_no_client(stage: Stage, users: Users) -> None:
    """The rules are the owner's."""
    before = stage.start(routes.chain)
    client = stage.client(routes.chain)
    run = client.submit(routes.set_out.create_signal(1))
    stage.completed(run)

    assert "completed" in client.retention()
    with pytest.raises(AccessRefused, match="permission denied for table retention"):
        client.set_retention(completed=timedelta(hours=1))
    with pytest.raises(AccessRefused, match="permission denied for table"):
        client.prune(older_than=timedelta(0))
    with pytest.raises(AccessRefused, match="permission denied for table retention"):
        stage.client(routes.chain, database_url=users.worker).set_retention(completed=timedelta(hours=1))

    second = client.submit(routes.set_out.create_signal(2))
    stage.completed(second)
    by_hand = stage.client(routes.chain, database_url=users.worker).prune(older_than=timedelta(0))
    assert by_hand["completed"] == 2

    third = client.submit(routes.set_out.create_signal(3))
    stage.completed(third)
    before.drain()
    stage.rows("update cnstra.run set finished_at = finished_at - interval '1 year'")
    stage.start(routes.chain, expire_every=timedelta(milliseconds=50))
    eventually(lambda: not stage.rows("select from cnstra.run"), PATIENCE, what="a worker deletes what is a year old")

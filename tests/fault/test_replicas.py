"""Clients that read from streaming replicas: which are held back, stopped and promoted, and never show them the past again."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from cnstra import CNS, AsyncOrchestrator, Context, Orchestrator, Run, RunNotFound, StoreUnavailable, collateral, neuron
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.servers import HeldServers, hold
from cnstra.stores.postgres import migrate, replicas
from cnstra.testing.homes import temporary_home
from support.serving import serving
from support.standby import Standby, standby_of
from support.waiting import eventually

PATIENCE = 60.0
TIMES = 8
"""How often something is read again, to see whether it stays so."""

begin = collateral("begin", int)
out = {"on": collateral("on", int), "done": collateral("done", int)}
counter = neuron("counter", out)


@counter.dendrite(begin)
@counter.dendrite(out["on"])
def count(number: int, axon: Any, ctx: Context[Any]) -> Any:
    ctx["last"] = number
    return axon.on.create_signal(number - 1) if number else axon.done.create_signal(0)


cns = CNS([counter], name="counting")


class Pair:
    """A primary and its standby."""

    def __init__(self, primary: HeldServers, standby: Standby) -> None:
        self.primary, self.standby = primary, standby

    def client(self, *, replica: Any = None) -> Orchestrator:
        """One that reads from the standby, or from others, or from none."""
        urls = [self.standby.url] if replica is None else replica
        return Orchestrator(cns, database=self.primary.database_url, broker=self.primary.broker_url, replica=urls)


@pytest.fixture
def own_pair(own_servers: HeldServers) -> Iterator[Pair]:
    """For this test alone, to be stopped and promoted."""
    migrate(own_servers.database_url)
    with standby_of(own_servers) as standby:
        yield Pair(own_servers, standby)


@pytest.fixture(scope="module")
def shared_pair(no_servers_given: None) -> Iterator[Pair]:
    with temporary_home() as home, hold(home, durable=False) as held:
        migrate(held.database_url)
        with standby_of(held) as standby:
            yield Pair(held, standby)


@pytest.fixture
def pair(shared_pair: Pair) -> Iterator[Pair]:
    """For tests that only hold the standby back."""
    shared_pair.standby.catch_up()
    yield shared_pair
    shared_pair.standby.let_go()


def submitted(client: Orchestrator) -> Run:
    return client.submit(begin.create_signal(1))


def test_g5_a_replica_that_has_caught_up_answers_for_the_primary(own_pair: Pair) -> None:
    """Also when the primary is gone; what only the primary can do fails then."""
    with own_pair.client() as client:
        run = submitted(client)
        assert run.status() == "running"
        own_pair.standby.catch_up()
        before = own_pair.standby.asked("from cnstra.run")
        eventually(
            lambda: run.status() == "running" and own_pair.standby.asked("from cnstra.run") > before,
            what="the replica is read, which may have been behind a moment ago",
        )

        own_pair.primary.stop_postgres()
        assert [run.status() for _ in range(TIMES)] == ["running"] * TIMES
        assert [one.id for one in client.list_runs()] == [run.id]
        assert (run.context(), run.history(), run.describe()["status"]) == (None, [], "running")
        with pytest.raises(StoreUnavailable):
            run.pause()
        with pytest.raises(StoreUnavailable):  # it may have been paused all the same
            run.status()
        own_pair.primary.start_postgres()
        assert run.status() == "running"


def test_g5_who_did_something_sees_it_though_the_replica_is_behind(pair: Pair) -> None:
    """Submits, pauses, cancels: each is seen at once; and when the replica has it, it is read again."""
    with pair.client() as client:
        pair.standby.hold_back()
        run = submitted(client)
        assert run.status() == "running"
        assert run.id in [one.id for one in client.list_runs()]
        run.pause()
        assert run.status() == "paused"
        run.cancel()
        assert (run.status(), run.describe()["status"]) == ("cancelled", "cancelled")

        pair.standby.let_go()
        pair.standby.catch_up()
        before = pair.standby.asked("from cnstra.run")
        eventually(
            lambda: run.status() == "cancelled" and pair.standby.asked("from cnstra.run") > before,
            what="the replica is read again",
        )


def test_g5_it_is_the_same_awaited(pair: Pair) -> None:
    """With one replica that is behind, and with one that is not."""

    async def look() -> None:
        urls = {"database": pair.primary.database_url, "broker": pair.primary.broker_url}
        async with AsyncOrchestrator(cns, replica=pair.standby.url, **urls) as client:
            pair.standby.hold_back()
            run = await client.submit(begin.create_signal(1))
            await run.pause()
            assert [await run.status() for _ in range(TIMES)] == ["paused"] * TIMES
            pair.standby.let_go()
            pair.standby.catch_up()
            before = pair.standby.asked("from cnstra.run")
            while pair.standby.asked("from cnstra.run") == before:
                assert await run.status() == "paused"

    asyncio.run(asyncio.wait_for(look(), PATIENCE))


def test_g5_what_another_did_and_this_one_has_seen_stays_seen(own_pair: Pair) -> None:
    """Of two replicas one is held back. Once the other has shown something, nobody shows what was before: neither the one that is
    behind, when the other one is gone, nor, when the primary is gone, too, anybody."""
    with standby_of(own_pair.primary) as behind, own_pair.client(replica=[]) as other:
        run = submitted(other)
        for standby in (behind, own_pair.standby):
            standby.catch_up()
        behind.hold_back()
        run.pause()
        own_pair.standby.catch_up()
        with own_pair.client(replica=[own_pair.standby.url, behind.url]) as client:
            mine = client.get_run(run.id)
            seen = [mine.status() for _ in range(TIMES)]
            assert (seen == sorted(seen, reverse=True), seen[-1]) == (True, "paused")
            own_pair.standby.stop()
            assert [mine.status() for _ in range(TIMES)] == ["paused"] * TIMES
            own_pair.primary.stop_postgres()
            with pytest.raises(StoreUnavailable):
                mine.status()
            own_pair.primary.start_postgres()


def test_g5_after_a_failover_a_replica_of_the_old_primary_is_not_read(
    own_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is the one that was promoted, by who still takes it for a replica."""
    with standby_of(own_pair.primary) as left, own_pair.client() as client:
        run = submitted(client)
        for standby in (left, own_pair.standby):
            standby.catch_up()
        own_pair.standby.promote()
        run.pause()
        assert [run.status() for _ in range(TIMES)] == ["paused"] * TIMES
        assert caplog.text.count("it is no standby") == 1
        own_pair.primary.stop_postgres()
        new = own_pair.standby.url
        with Orchestrator(cns, database=new, broker=own_pair.primary.broker_url, replica=left.url) as moved:
            mine = moved.get_run(run.id)
            assert mine.status() == "running"  # the pause was on the old primary alone
            mine.cancel()
            assert [mine.status() for _ in range(TIMES)] == ["cancelled"] * TIMES
        assert "it is on timeline 1, and the primary on timeline 2" in caplog.text
        own_pair.primary.start_postgres()


def test_g5_a_run_of_the_users_own_transaction_is_seen_from_its_commit_on(pair: Pair) -> None:
    """Nobody tells the client of that commit; a transaction that is rolled back leaves nothing to wait for."""
    with pair.client() as client, psycopg.connect(pair.primary.database_url) as connection:
        pair.standby.hold_back()
        run = client.submit(begin.create_signal(1), connection=connection)
        connection.commit()
        assert run.id in [one.id for one in client.list_runs()]
        other = client.submit(begin.create_signal(1), connection=connection)
        connection.rollback()
        assert other.id not in [one.id for one in client.list_runs()]

        pair.standby.let_go()
        pair.standby.catch_up()
        before = pair.standby.asked("from cnstra.run")
        eventually(
            lambda: run.status() == "running" and pair.standby.asked("from cnstra.run") > before,
            what="the replica is read",
        )


def test_a_run_that_has_not_arrived_there_is_found(pair: Pair) -> None:
    """Somebody else submitted it, and told its id."""
    with pair.client() as client, pair.client(replica=[]) as other:
        pair.standby.hold_back()
        assert client.list_runs(tag="nobody") == []
        run = submitted(other)
        assert client.get_run(run.id).status() == "running"
        with pytest.raises(RunNotFound):
            client.get_run(SystemEntropy().run_id())


def test_a_replica_that_stays_behind_is_found_out(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has done nothing and seen nothing is not shown yesterday for ever."""
    monkeypatch.setattr(replicas, "STALEST", 0.0)
    with pair.client() as client, pair.client(replica=[]) as other:
        run = submitted(other)
        pair.standby.catch_up()
        mine = client.get_run(run.id)
        pair.standby.hold_back()
        other_run = other.get_run(run.id)
        other_run.pause()
        mine.status()
        mine.status()
        assert mine.status() == "paused"


def test_waiting_goes_by_the_primary(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that stands still must not make a run that has ended look as if it went on; its result is the newest."""
    monkeypatch.setattr(replicas, "STALEST", 1e9)  # or that would be found out, sooner or later
    with pair.client() as client:
        run = client.submit(begin.create_signal(3))
        pair.standby.catch_up()
        pair.standby.hold_back()
        with serving(cns, pair.primary.database_url, pair.primary.broker_url):
            result = run.wait(PATIENCE)
        assert (result.status, result.context) == ("completed", {"last": 0})
        assert [one.version for one in run.history()] == [1, 2, 3, 4]


def test_a_watch_over_a_replica_misses_nothing(pair: Pair) -> None:
    """It is held back in the middle."""
    with (
        pair.client() as client,
        pair.client(replica=[]) as other,
        serving(cns, pair.primary.database_url, pair.primary.broker_url),
    ):
        run = other.submit(begin.create_signal(20))
        pair.standby.catch_up()
        seen: list[int] = []
        follower = threading.Thread(
            target=lambda: seen.extend(one.written.version for one in client.watch(run.id) if one.written)
        )
        follower.start()
        pair.standby.hold_back()
        run.wait(PATIENCE)
        pair.standby.let_go()
        follower.join(PATIENCE)
        assert seen == list(range(1, 22))


def test_a_replica_that_cannot_be_reached_is_said_once(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """Without its password; and once more when it is there."""
    gone = "postgresql://somebody:very-secret@127.0.0.1:1/cnstra"
    with caplog.at_level(logging.INFO, "cnstra.replicas"), pair.client(replica=[gone]) as client:
        run = submitted(client)
        assert [run.status() for _ in range(TIMES)] == ["running"] * TIMES
    [record] = [record for record in caplog.records if record.name == "cnstra.replicas"]
    assert record.message.startswith("The replica 127.0.0.1:1/cnstra is not read: ")
    assert "very-secret" not in caplog.text


def test_a_replica_that_comes_back_is_read_again(
    own_pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped, and is started again."""
    monkeypatch.setattr(replicas, "_UNFIT_FOR", 0.0)
    with caplog.at_level(logging.INFO, "cnstra.replicas"), own_pair.client() as client:
        run = submitted(client)
        own_pair.standby.stop()
        assert run.status() == "running"
        own_pair.standby.start()
        own_pair.standby.catch_up()
        eventually(lambda: run.status() == "running" and "is read again" in caplog.text, what="it is read again")
    assert [record.levelname for record in caplog.records if record.name == "cnstra.replicas"] == ["WARNING", "INFO"]


def test_a_replica_of_an_older_schema_is_not_read(own_pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """The primary was migrated, and the replica is behind that."""
    with psycopg.connect(own_pair.primary.database_url) as connection:
        connection.execute(
            "update cnstra.migration set number = 0 where number = (select max(number) from cnstra.migration)"
        )
    own_pair.standby.catch_up()
    own_pair.standby.hold_back()
    with psycopg.connect(own_pair.primary.database_url) as connection:
        connection.execute(
            "update cnstra.migration set number = (select max(number) + 1 from cnstra.migration) where number = 0"
        )
    with own_pair.client() as client:
        assert client.list_runs() == []
    assert "its schema is at migration" in caplog.text


def test_without_a_replica_nobody_is_asked_for_a_position(pair: Pair) -> None:
    """It costs nothing who has none."""
    with psycopg.connect(pair.primary.database_url, autocommit=True) as postgres, ExitStack() as stack:

        def positions() -> Any:
            statement = "select coalesce(sum(calls), 0) from pg_stat_statements where query like '%pg_is_in_recovery%' "
            return postgres.execute((statement + "and query not like '%pg_stat_statements%'").encode()).fetchone()

        postgres.execute("create extension if not exists pg_stat_statements")
        before = positions()
        plain = stack.enter_context(pair.client(replica=[]))
        run = submitted(plain)
        run.pause()
        assert (run.status(), len(plain.list_runs(limit=1))) == ("paused", 1)
        assert positions() == before
        reader = stack.enter_context(pair.client())
        submitted(reader).status()
        assert positions() != before

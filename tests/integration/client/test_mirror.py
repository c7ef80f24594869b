"""A collection that is kept in step with runs: the newest version of each, forwards only, and the last one always."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cnstra import (
    AsyncOrchestrator,
    ConfigurationError,
    KeyMissing,
    Orchestrator,
    ReactiveError,
    Run,
    RunNotFound,
    RunStateError,
    StoreUnavailable,
)
from cnstra.orchestrator import mirroring
from cnstra.orchestrator.blobs import Blobs
from cnstra.orchestrator.ports import SystemEntropy, uuid7
from cnstra.servers import HeldServers
from cnstra.stores import EncryptedCodec
from cnstra.stores.postgres import migrate
from cnstra.stores.reactive import Collection, ContextRecord
from support.apps import counting
from support.blob_stores import MemoryBlobStore
from support.commands import Servers, WorkerCommand
from support.countdown import Countdown, begin
from support.seals import CODEC
from support.serving import serving
from support.waiting import eventually

PATIENCE = 60.0

UNLUCKY = 13
"""The step of this number fails in the first attempt."""

countdown = Countdown("counting by hand", unlucky=UNLUCKY)
cns, gates = countdown.cns, countdown.gates


@pytest.fixture(autouse=True)
def no_gates() -> Iterator[None]:
    with countdown.open_at_the_end():
        yield


@pytest.fixture
def client(database_url: str, broker_url: str) -> Iterator[Orchestrator]:
    with countdown.served(database_url, broker_url) as orchestrator:
        yield orchestrator


@pytest.fixture
def contexts() -> Collection[str, ContextRecord]:
    return Collection("run_id", name="contexts")


class Recorder:
    """A subscriber that writes down what it finds when it is told: versions, and None for a record that is not there."""

    def __init__(self, contexts: Collection[str, ContextRecord]) -> None:
        self.told: defaultdict[str, list[int | None]] = defaultdict(list)
        self.values: dict[tuple[str, int], Any] = {}
        self._contexts = contexts
        contexts.subscribe(self._note)

    def _note(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            record = self._contexts.select_by_primary_key(key)
            self.told[key].append(None if record is None else record.version)
            if record is not None:
                self.values[key, record.version] = record.data


def ended(run: Run) -> Run:
    assert run.wait(PATIENCE).status == "completed"
    return run


def held(client: Orchestrator, number: int, at: int) -> Run:
    """A run that stands before the step of a number, having written all before it."""
    gates[at] = threading.Event()
    run = client.submit(begin.create_signal(number))
    eventually(lambda: len(run.history()) == number - at, what="the run stands at the gate")
    return run


def test_runs_that_live_and_runs_that_come_are_mirrored(
    client: Orchestrator, contexts: Collection[str, ContextRecord]
) -> None:
    """At the beginning of the block the collection has what was committed; then all that follows, up to the last version."""
    before = held(client, 3, 1)
    with client.mirror(contexts, graph="counting by hand") as mirror:
        assert list(contexts) == [ContextRecord(run_id=str(before.id), data={"last": 2}, version=2)]
        gates[1].set()
        later = client.submit(begin.create_signal(2))
        mirror.wait_until(before.id, 4, PATIENCE)
        mirror.wait_until(str(later.id), 3, PATIENCE)

    assert {record.run_id: (record.version, record.data) for record in contexts} == {
        str(before.id): (4, {"last": 0}),
        str(later.id): (3, {"last": 0}),
    }


def test_runs_that_come_and_end_between_two_looks_are_not_missed(
    client: Orchestrator, contexts: Collection[str, ContextRecord]
) -> None:
    """A whole run is shorter than a pause; it is found among those that have ended."""
    with client.mirror(contexts) as mirror:
        runs = [client.submit(begin.create_signal(0)) for _ in range(30)]
        for run in runs:
            ended(run)
        mirror.catch_up(PATIENCE)
        assert {record.run_id: record.version for record in contexts} == {str(run.id): 1 for run in runs}


@pytest.mark.parametrize("asked", [True, False])
def test_a_run_whose_id_is_older_than_the_mirror_is_found_while_it_lives(
    client: Orchestrator, contexts: Collection[str, ContextRecord], monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """Its client's clock is behind, or its submit took long to commit: whole looks find it, from time to time, and when asked."""
    monkeypatch.setattr(mirroring, "_WHOLE_EVERY", 3600.0 if asked else 0.0)
    gates[0] = threading.Event()
    an_hour_ago = (time.time_ns() // 1_000_000) - 3_600_000
    with client.mirror(contexts) as mirror:
        run = client.submit(begin.create_signal(1), run_id=uuid7(an_hour_ago, os.urandom(10)))
        if asked:
            mirror.wait_until(run.id, 1, PATIENCE)
        eventually(lambda: contexts.has(str(run.id)), PATIENCE, what="the mirror has found it")
        assert run.status() == "running"


def test_what_ended_before_is_none_of_it(client: Orchestrator, contexts: Collection[str, ContextRecord]) -> None:
    """Who mirrors what lives does not read what ever was; a record that the collection has comes to its end, though."""
    one, other = ended(client.submit(begin.create_signal(1))), ended(client.submit(begin.create_signal(1)))
    contexts.upsert_one(ContextRecord(run_id=str(one.id), data={"last": 1}, version=1))
    contexts.upsert_one(ContextRecord(run_id="a flow in this process", data={}, version=1))

    with client.mirror(contexts) as mirror:
        mirror.catch_up(PATIENCE)
        with pytest.raises(ReactiveError, match=f"run {other.id} is not, or not any more, among those"):
            mirror.wait_until(other.id, 1, PATIENCE)

    assert {record.run_id: record.version for record in contexts} == {str(one.id): 2, "a flow in this process": 1}


def test_a_selection_is_by_tag_status_and_time(client: Orchestrator, contexts: Collection[str, ContextRecord]) -> None:
    """All of what is given must fit."""
    then = datetime.now(UTC) - timedelta(minutes=5)
    ours = client.submit(begin.create_signal(0), tags={"shop": "wien"})
    client.submit(begin.create_signal(0), tags={"shop": "berlin"}).wait(PATIENCE)
    ended(ours)
    records = {str(run.id): ContextRecord(run_id=str(run.id), data=0, version=0) for run in client.list_runs()}

    def mirrored(**which: Any) -> set[str]:
        into: Collection[str, ContextRecord] = Collection("run_id")
        into.upsert_many(records.values())
        with client.mirror(into, **which) as mirror:
            late = client.submit(begin.create_signal(0), tags={"shop": "wien"})
            ended(late)
            mirror.catch_up(PATIENCE)
        return {"late" if record.run_id == str(late.id) else record.run_id for record in into if record.version}

    assert mirrored(tag="shop=wien", since=then) == {str(ours.id), "late"}
    assert mirrored(tag="shop=berlin", status="completed") == set(records) - {str(ours.id)}
    assert mirrored(graph="another") == set()
    assert mirrored(tag="shop=wien", status="failed", graph=cns.name) >= {str(ours.id)}


def test_named_runs_are_followed_and_no_others(client: Orchestrator, contexts: Collection[str, ContextRecord]) -> None:
    """Those that have ended, too; a run that there is not is said at the door."""
    done, live = ended(client.submit(begin.create_signal(0))), held(client, 3, 2)
    with client.mirror(contexts, runs=[done.id, str(live.id)]) as mirror:
        other = client.submit(begin.create_signal(0))
        gates[2].set()
        mirror.wait_until(live.id, 4, PATIENCE)
        ended(other)
        mirror.catch_up(PATIENCE)
    assert {record.run_id: record.version for record in contexts} == {str(done.id): 1, str(live.id): 4}

    with pytest.raises(RunNotFound), client.mirror(contexts, runs=[SystemEntropy().run_id()]):
        pass
    with pytest.raises(ConfigurationError, match="leave out graph, status"):
        client.mirror(contexts, runs=[done.id], graph="counting", status="running")
    with pytest.raises(ConfigurationError, match="must be several ids"):
        client.mirror(contexts, runs=str(done.id))
    with pytest.raises(ConfigurationError, match="no run has status 'alive'"):
        client.mirror(contexts, status="alive")


def test_a_collection_of_something_else_is_refused(client: Orchestrator) -> None:
    """Its key must be the run's id."""
    by_version: Collection[Any, ContextRecord] = Collection("version", name="versions")
    with pytest.raises(ReactiveError, match="versions: the primary key of a collection that mirrors runs"):
        client.mirror(by_version)


def test_records_leave_with_their_runs_where_that_is_wanted(
    client: Orchestrator, contexts: Collection[str, ContextRecord]
) -> None:
    """Subscribers have seen the last version before; a run that is told of once more is not put in again."""
    recorder = Recorder(contexts)
    with client.mirror(contexts, keep_ended=False) as mirror:
        run = held(client, 1, 0)
        mirror.wait_until(run.id, 1, PATIENCE)
        gates[0].set()
        mirror.wait_until(run.id, 2, PATIENCE)
        ended(run)
        mirror.catch_up(PATIENCE)
        assert len(contexts) == 0
        mirror.catch_up(PATIENCE)
    assert recorder.told == {str(run.id): [1, 2, None]}


def test_a_run_that_is_pruned_leaves(
    client: Orchestrator, contexts: Collection[str, ContextRecord], database_url: str
) -> None:
    """It is not followed for ever."""
    run = held(client, 1, 0)
    with client.mirror(contexts, runs=[run.id], keep_ended=False) as mirror:
        assert len(contexts) == 1
        with psycopg.connect(database_url) as connection:
            connection.execute("delete from cnstra.run where run_id = %s", [run.id])
        mirror.catch_up(PATIENCE)
        assert len(contexts) == 0


def test_a_failed_run_that_is_retried_is_taken_up_again(
    client: Orchestrator, contexts: Collection[str, ContextRecord]
) -> None:
    """The record goes on from where it was."""
    with client.mirror(contexts) as mirror:
        run = client.submit(begin.create_signal(UNLUCKY + 1))
        assert run.wait(PATIENCE).status == "failed"
        with pytest.raises(RunStateError, match="has ended, or is gone, at version 1; version 2 will not come"):
            mirror.wait_until(run.id, 2, PATIENCE)
        run.retry()
        ended(run)
        mirror.catch_up(PATIENCE)
        assert [record.version for record in contexts] == [UNLUCKY + 2]


def test_it_is_the_same_awaited(client: Orchestrator, database_url: str, broker_url: str) -> None:
    """``async with orchestrator.mirror(contexts)``; the collection is written on the loop."""
    contexts: Collection[str, ContextRecord] = Collection("run_id")
    threads: set[int] = set()
    contexts.subscribe(lambda keys: threads.add(threading.get_ident()))

    async def follow() -> None:
        async with AsyncOrchestrator(cns, database=database_url, broker=broker_url) as other:
            async with other.mirror(contexts, graph=cns.name) as mirror:
                run = await other.submit(begin.create_signal(4))
                await mirror.wait_until(run.id, 5, PATIENCE)
                with pytest.raises(RunStateError):
                    await mirror.wait_until(run.id, 6, PATIENCE)
                with pytest.raises(TimeoutError, match="has not seen version 1"):
                    gates[7] = threading.Event()
                    blocked = await other.submit(begin.create_signal(7))
                    await mirror.wait_until(blocked.id, 1, 0.05)
                gates[7].set()
                await blocked.wait(PATIENCE)
                await mirror.catch_up(PATIENCE)
            with pytest.raises(ReactiveError, match="the mirror is not open"):
                await mirror.catch_up()

    asyncio.run(follow())
    assert [record.version for record in contexts] == [5, 8]
    assert threads == {threading.get_ident()}


def test_nothing_is_written_once_it_is_closed(client: Orchestrator, contexts: Collection[str, ContextRecord]) -> None:
    """Whatever the runs do then."""
    run = held(client, 3, 1)
    with client.mirror(contexts) as mirror:
        pass
    gates[1].set()
    ended(run)
    with pytest.raises(ReactiveError, match="the mirror is not open"):
        mirror.catch_up()
    assert [record.version for record in contexts] == [2]
    with client.mirror(contexts):
        assert [record.version for record in contexts] == [4]


def test_what_ends_a_mirror_is_raised(
    client: Orchestrator, contexts: Collection[str, ContextRecord], caplog: pytest.LogCaptureFixture
) -> None:
    """By who waits, and at the end of the block; not an outage, which it outlives."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("no such thing")

    run = held(client, 2, 1)
    with pytest.raises(ZeroDivisionError), client.mirror(contexts) as mirror:
        mirror._mirroring._sink.take = broken
        gates[1].set()
        with pytest.raises(ZeroDivisionError):
            mirror.wait_until(run.id, 2, PATIENCE)
    assert "A mirror has ended" in caplog.text


def test_contexts_elsewhere_are_read_from_there(
    database_url: str,
    broker_url: str,
    contexts: Collection[str, ContextRecord],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store that is away holds up nobody else, who comes later in the same look, and is asked again."""
    monkeypatch.setattr(mirroring, "_RUNS_AT_ONCE", 1)
    blobs, reading = MemoryBlobStore(), MemoryBlobStore()
    reading.blobs = blobs.blobs  # what workers put is there; the mirror reaches it by a way of its own
    with (
        Orchestrator(cns, database=database_url, broker=broker_url, context=reading) as client,
        Orchestrator(cns, database=database_url, broker=broker_url) as plain,
        serving(cns, database_url, broker_url, contexts=[Blobs(blobs)]),
        caplog.at_level(logging.INFO, "cnstra.mirror"),
        client.mirror(contexts) as mirror,
    ):
        run = ended(client.submit(begin.create_signal(2)))
        mirror.wait_until(run.id, 3, PATIENCE)
        reading.away = True
        late = client.submit(begin.create_signal(1))
        there = plain.submit(begin.create_signal(0))
        eventually(lambda: {late.status(), there.status()} == {"completed"}, what="both have ended")
        mirror.wait_until(there.id, 1, PATIENCE)
        eventually(lambda: "A mirror: the store of contexts" in caplog.text, what="the mirror says what is away")
        assert not contexts.has(str(late.id))
        reading.away = False
        mirror.wait_until(late.id, 2, PATIENCE)
    assert {record.run_id: (record.version, record.data) for record in contexts} == {
        str(run.id): (3, {"last": 0}),
        str(there.id): (1, {"last": 0}),
        str(late.id): (2, {"last": 0}),
    }


def test_a_run_whose_store_was_not_given_is_passed_over(
    database_url: str, broker_url: str, contexts: Collection[str, ContextRecord], caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and to who waits for it; the others are mirrored."""
    blobs = MemoryBlobStore()
    with (
        Orchestrator(cns, database=database_url, broker=broker_url, context=blobs) as client,
        Orchestrator(cns, database=database_url, broker=broker_url) as plain,
        serving(cns, database_url, broker_url, contexts=[Blobs(blobs)]),
    ):
        elsewhere, here = (ended(one.submit(begin.create_signal(2))) for one in (client, plain))
        with plain.mirror(contexts, runs=[elsewhere.id, here.id]) as mirror:
            assert [record.run_id for record in contexts] == [str(here.id)]
            with pytest.raises(ConfigurationError, match="which was not given here"):
                mirror.wait_until(elsewhere.id, 3, PATIENCE)
    assert caplog.text.count("passes over versions") == 1


def test_a_history_is_seen_forwards_once_and_to_its_end_from_another_process(
    database_url: str, broker_url: str, contexts: Collection[str, ContextRecord], tmp_path: Path
) -> None:
    """Workers of two processes write; a connection of the mirror is killed again and again. What subscribers saw is in the
    history, with the values of these versions; each version came once, none went back, and the last one came of every run."""
    recorder = Recorder(contexts)
    servers = Servers(database_url=database_url, broker_url=broker_url)
    with (
        Orchestrator(counting.cns, database=database_url, broker=broker_url) as client,
        psycopg.connect(database_url, autocommit=True) as killer,
        client.mirror(contexts, graph="counting") as mirror,
        WorkerCommand(tmp_path / "log", "counting:cns", "--processes", "2", servers=servers) as worker,
    ):
        worker.ready()
        runs = client.submit_many([counting.begin.create_signal(30) for _ in range(20)])
        for run in runs:
            killer.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                "and query like '%cnstra.context_head%' and pid <> pg_backend_pid()"
            )
            ended(run)
        mirror.catch_up(PATIENCE)
        histories = {str(run.id): run.history() for run in runs}

    assert set(recorder.told) == set(histories)
    for run_id, history in histories.items():
        told = recorder.told[run_id]
        assert told[-1] == len(history) == 31
        assert all(one < other for one, other in pairwise(told))
        assert {(version, recorder.values[run_id, version]["left"]) for version in told} <= {
            (one.version, one.written["left"]) for one in history
        }


def test_a_database_that_goes_away_is_outlived(
    own_servers: HeldServers, contexts: Collection[str, ContextRecord], caplog: pytest.LogCaptureFixture
) -> None:
    """It is stopped in the middle and started again: said once, and nothing is missed."""
    migrate(own_servers.database_url)
    recorder = Recorder(contexts)
    with (
        caplog.at_level(logging.INFO, "cnstra.mirror"),
        Orchestrator(cns, database=own_servers.database_url, broker=own_servers.broker_url) as client,
        serving(cns, own_servers.database_url, own_servers.broker_url),
    ):
        run = held(client, 5, 3)
        with client.mirror(contexts) as mirror:
            own_servers.stop_postgres()
            eventually(lambda: "A mirror:" in caplog.text, what="the mirror says that its store is away")
            gates[3].set()
            own_servers.start_postgres()
            mirror.wait_until(run.id, 6, PATIENCE)
            late = ended(client.submit(begin.create_signal(0)))
            mirror.catch_up(PATIENCE)
    told = recorder.told[str(run.id)]
    assert (told[0], told[-1], sorted(set(told), key=lambda one: one or 0)) == (2, 6, told)
    assert recorder.told[str(late.id)] == [1]
    assert [record.message for record in caplog.records if record.name == "cnstra.mirror"][1:] == [
        "A mirror: the store is back, and nothing was missed."
    ]


def test_a_database_that_is_away_from_the_beginning_is_an_error(contexts: Collection[str, ContextRecord]) -> None:
    """A URL that leads nowhere must not be waited for without a word."""
    with (
        Orchestrator(database="postgresql://nobody@127.0.0.1:1/nothing", broker="redis://127.0.0.1:1/0") as client,
        pytest.raises(StoreUnavailable),
        client.mirror(contexts),
    ):
        pass


def test_g14_an_idle_mirror_asks_twice_a_second_at_most(
    client: Orchestrator, contexts: Collection[str, ContextRecord], statements: Callable[[], tuple[int, float]]
) -> None:
    """Counted by the server, while runs live and nothing happens; the rate has an upper bound only."""
    held(client, 3, 1)
    with client.mirror(contexts):
        eventually(lambda: statements()[0] > 8, what="the mirror has become slow")
        before = statements()
        after = eventually(
            lambda: now if (now := statements())[0] >= before[0] + 6 else None, what="it has looked a few times"
        )
    assert (after[0] - before[0] - 1) / (after[1] - before[1]) <= 2


@pytest.fixture
def statements(database_url: str) -> Iterator[Callable[[], tuple[int, float]]]:
    """How often mirrors have asked, and when that was, by the server."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create extension if not exists pg_stat_statements")

        def ask() -> tuple[int, float]:
            row = connection.execute(
                "select coalesce(sum(calls), 0)::int, extract(epoch from clock_timestamp())::float8 from pg_stat_statements s "
                "join pg_database d on d.oid = s.dbid where d.datname = current_database() "
                "and s.query like '%as part,%' and s.query not like '%pg_stat%'"
            ).fetchone()
            assert row is not None
            return row

        yield ask


def test_ids_of_runs_are_checked_at_the_door(client: Orchestrator, contexts: Collection[str, ContextRecord]) -> None:
    """What is none is said where it is given."""
    with pytest.raises(RunNotFound, match="is no run id"):
        client.mirror(contexts, runs=["seven"])
    with client.mirror(contexts) as mirror, pytest.raises(RunNotFound, match="is no run id"):
        mirror.wait_until("seven")


def test_sealed_contexts_are_opened_and_one_that_cannot_be_is_passed_over(
    database_url: str, broker_url: str, contexts: Collection[str, ContextRecord]
) -> None:
    """Who asks for the one whose key is not at hand is told which; the others are in step."""
    strange = EncryptedCodec({"strange": b"s" * 32})
    with ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(Orchestrator(cns, database=database_url, broker=broker_url, codec=codec))
            for codec in (CODEC, strange)
        )
        for codec in (CODEC, strange):
            stack.enter_context(serving(cns, database_url, broker_url, codec=codec))
        opened, closed = (ended(client.submit(begin.create_signal(2))) for client in (ours, theirs))
        mirror = stack.enter_context(ours.mirror(contexts, runs=[opened.id, closed.id]))
        mirror.wait_until(opened.id, 3, PATIENCE)
        with pytest.raises(KeyMissing, match=rf"{closed.id}.*'strange'"):
            mirror.wait_until(closed.id, 3, PATIENCE)
    assert list(contexts) == [ContextRecord(run_id=str(opened.id), data={"last": 0}, version=3)]

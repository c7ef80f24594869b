"""Following a run from outside: every version of its context, once, in order, until it has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cnstra import (
    AsyncOrchestrator,
    Change,
    ContextError,
    ContextExpired,
    Orchestrator,
    RunNotFound,
    StoreUnavailable,
)
from cnstra.orchestrator.flows import Flows
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.servers import HeldServers
from cnstra.stores.postgres import migrate
from cnstra.testing.serving import serving
from support.countdown import Countdown, begin

countdown = Countdown("counting", writes=lambda number: number % 2)
cns, gates = countdown.cns, countdown.gates


@pytest.fixture(autouse=True)
def no_gates() -> Iterator[None]:
    with countdown.open_at_the_end():
        yield


@pytest.fixture
def client(database_url: str, broker_url: str) -> Iterator[Orchestrator]:
    with countdown.served(database_url, broker_url) as orchestrator:
        yield orchestrator


def versions(changes: list[Change]) -> list[tuple[int, Any]]:
    return [(change.version, change.written.written) for change in changes if change.written is not None]


def test_every_version_comes_once_and_then_the_end(client: Orchestrator) -> None:
    """Ten steps, of which every other one writes; steps that write nothing are no change."""
    run = client.submit(begin.create_signal(9))

    changes = list(client.watch(run.id))

    assert versions(changes) == [(n + 1, {"last": 9 - 2 * n}) for n in range(5)]
    assert changes[-1].status == "completed"
    assert [one.written for one in changes if one.written is not None] == run.history()


def test_what_has_gathered_comes_portion_by_portion(client: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that begins late, or whose reader is slow, holds no more than a portion; the last one is followed by the end."""
    asked: list[list[int]] = []
    written_of = Flows._written

    def noted(self: Flows, *arguments: Any) -> Any:
        written = yield from written_of(self, *arguments)
        asked.append([one.version for one in written])
        return written

    monkeypatch.setattr("cnstra.orchestrator.flows.contexts._PORTION", 2)
    monkeypatch.setattr(Flows, "_written", noted)
    run = client.submit(begin.create_signal(9))
    run.wait(60)

    changes = list(run.watch())

    assert asked == [[1, 2], [3, 4], [5]]
    assert versions(changes) == [(n + 1, {"last": 9 - 2 * n}) for n in range(5)]
    assert {change.status for change in changes} == {"completed"}


def test_who_waits_is_sent_no_data(client: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at a run that stands still costs the same, however large its payload and its outputs are."""
    gates[0] = threading.Event()
    run = client.submit(begin.create_signal(0))
    seen = run.watch()
    assert next(seen).status == "running"
    whole: list[Any] = []
    monkeypatch.setattr(Flows, "row", lambda self, run_id: whole.append(run_id))

    run.pause()
    assert next(seen).status == "paused"
    run.resume()
    gates[0].set()

    assert [change.status for change in seen][-1] == "completed"
    assert whole == []


@pytest.mark.parametrize("after", [-1, "3", 1.5, True, None])
def test_what_is_no_version_is_refused(client: Orchestrator, after: Any) -> None:
    """Before anything is asked."""
    run = client.submit(begin.create_signal(0))
    with pytest.raises(ContextError, match=f"after={after!r} is no version of a context"):
        next(run.watch(after=after))


def test_it_waits_for_what_comes(client: Orchestrator) -> None:
    """The first version is given while the second is not written yet; a watch that ended goes on where it was."""
    gates[1] = threading.Event()
    run = client.submit(begin.create_signal(3))
    first = next(change for change in run.watch() if change.written is not None)
    assert (first.version, first.status) == (1, "running")

    gates[1].set()
    rest = list(run.watch(after=first.version))

    assert versions(rest) == [(2, {"last": 1})]
    assert rest[-1].status == "completed"


def test_changes_of_the_status_alone_are_told(client: Orchestrator) -> None:
    """A run that writes nothing is paused and resumed, and ends."""
    gates[0] = threading.Event()
    run = client.submit(begin.create_signal(0))
    seen = run.watch()
    assert next(seen) == Change(status="running", version=0, written=None)

    run.pause()
    assert next(seen) == Change(status="paused", version=0, written=None)
    run.resume()
    gates[0].set()

    assert [change.status for change in seen][-1] == "completed"


def test_it_is_the_same_awaited(client: Orchestrator, database_url: str, broker_url: str) -> None:
    """``async for change in orchestrator.watch(run_id)``."""
    run = client.submit(begin.create_signal(5))

    async def follow() -> list[Change]:
        async with AsyncOrchestrator(cns, database=database_url, broker=broker_url) as other:
            return [change async for change in other.watch(str(run.id))]

    changes = asyncio.run(follow())

    assert versions(changes) == [(n + 1, {"last": 5 - 2 * n}) for n in range(3)]
    assert changes[-1].status == "completed"


def test_nothing_is_missed_and_nothing_comes_twice_though_postgres_is_away(own_servers: HeldServers) -> None:
    """It is stopped in the middle of the run, and of the watch, and started again."""
    migrate(own_servers.database_url)
    gates[3] = threading.Event()
    with (
        Orchestrator(cns, database=own_servers.database_url, broker=own_servers.broker_url) as client,
        serving(cns, own_servers.database_url, own_servers.broker_url),
    ):
        run = client.submit(begin.create_signal(5))
        seen = run.watch()
        first = next(change for change in seen if change.written is not None)
        rest: list[Change] = []
        follower = threading.Thread(target=lambda: rest.extend(seen))

        own_servers.stop_postgres()
        follower.start()
        gates[3].set()
        own_servers.start_postgres()
        follower.join(60)

        assert versions([first, *rest]) == [(n + 1, {"last": 5 - 2 * n}) for n in range(3)]
        assert rest[-1].status == "completed"


@pytest.mark.parametrize("operation", ["run_standing", "history"])
def test_an_outage_is_outlived_however_long_it_takes(
    client: Orchestrator, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The store gives up after some seconds, each time; the watch does not."""
    gates[1] = threading.Event()
    run = client.submit(begin.create_signal(3))
    seen = run.watch()
    first = next(change for change in seen if change.written is not None)
    answered, left = Flows._run, [StoreUnavailable("away")] * 3

    def away(self: Flows, asked: Any) -> Any:
        if asked.name == operation and left:
            raise left.pop()
        return (yield from answered(self, asked))

    monkeypatch.setattr(Flows, "_run", away)
    gates[1].set()

    assert versions([first, *seen]) == [(1, {"last": 3}), (2, {"last": 1})]
    assert left == []


def test_a_database_that_is_away_from_the_beginning_is_an_error() -> None:
    """A URL that leads nowhere must not be waited for without a word."""
    with (
        Orchestrator(database="postgresql://nobody@127.0.0.1:1/nothing", broker="redis://127.0.0.1:1/0") as client,
        pytest.raises(StoreUnavailable),
    ):
        next(client.watch(SystemEntropy().run_id()))


def test_a_run_that_there_is_not_cannot_be_watched(client: Orchestrator) -> None:
    """It is said at the first change."""
    with pytest.raises(RunNotFound):
        next(client.watch(SystemEntropy().run_id()))


def test_what_the_retention_has_taken_is_said_and_not_passed_over(
    client: Orchestrator, execute: Callable[..., None]
) -> None:
    """Whoever keeps something in step with the run must know that a part is gone."""
    run = client.submit(begin.create_signal(5))
    run.wait(60)
    execute("delete from cnstra.context_entry where run_id = %s and version = 1", run.id)

    with pytest.raises(ContextExpired, match="the oldest that is kept is version 2: begin after 1"):
        list(run.watch())
    assert versions(list(run.watch(after=1))) == [(2, {"last": 3}), (3, {"last": 1})]


@pytest.fixture
def execute(database_url: str) -> Callable[..., None]:
    import psycopg

    def run(statement: str, *parameters: Any) -> None:
        with psycopg.connect(database_url) as connection:
            connection.execute(statement.encode(), parameters)

    return run

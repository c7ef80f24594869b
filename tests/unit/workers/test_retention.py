"""The thread that deletes: when it begins, how long it goes on, and what it does with errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from cnstra import StoreUnavailable
from cnstra.orchestrator.store import Expired
from cnstra.stores.memory import MemoryStore
from cnstra.workers.retention import Retention
from support.waiting import eventually

ONE = UUID(int=7)
DONE = Expired(runs=(ONE,), contexts=(), more=False)
MORE = Expired(runs=(ONE,), contexts=(ONE,), more=True)


class Portions(MemoryStore):
    """A store that answers what it is told to; the last answer, again and again."""

    def __init__(self, *answers: Expired | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked = 0
        self.then: Callable[[], object] = lambda: None

    def run(self, operation: Any, /) -> Any:
        if operation.name == "now":
            return super().run(operation)
        assert operation.name == "expire"
        self.asked += 1
        self.then()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


Start = Callable[..., Retention]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one; stopped at the end."""
    started: list[Retention] = []

    def start(store: Portions, every: float = 3600.0) -> Retention:
        started.append(Retention(store, timedelta(seconds=every)))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop(10.0)


def test_it_deletes_nothing_before_it_is_asked(start: Start) -> None:
    """Only the supervisor's worker is asked."""
    store = Portions(DONE)
    retention = start(store)
    retention.stop(10.0)
    assert store.asked == 0


def test_it_goes_on_while_there_is_more(start: Start) -> None:
    """Portion by portion, to the end."""
    store = Portions(MORE, MORE, DONE)
    assert Retention(store, timedelta(hours=1)).sweep() is False
    assert store.asked == 3


def test_it_looks_again_only_after_a_while(start: Start) -> None:
    """The supervisor asks twice a second; what is due is looked for once in the time that was set."""
    store, seldom = Portions(DONE), 3600.0
    retention = start(store, seldom)
    retention.ask()
    eventually(lambda: store.asked == 1, what="it was asked")
    for _ in range(5):
        retention.ask()
    retention.stop(10.0)
    assert store.asked == 1


def test_it_stops_between_two_portions() -> None:
    """A worker that drains does not wait until all is deleted."""
    store = Portions(MORE)
    retention = Retention(store, timedelta(hours=1))
    store.then = lambda: store.asked == 2 and retention.stop()
    assert retention.sweep() is True
    assert store.asked == 2


@pytest.mark.parametrize("hours", [-2, 2, 24 * 365])
def test_nothing_is_deleted_by_the_word_of_a_wrong_clock(hours: int, caplog: pytest.LogCaptureFixture) -> None:
    """A database that comes back with its clock a year ahead would find everything too old; it says so instead."""
    store = Portions(DONE)
    here = datetime.now(UTC) - timedelta(hours=hours)
    assert Retention(store, timedelta(hours=1), lambda: here).sweep() is False
    assert store.asked == 0
    assert "apart, so one of them is wrong" in caplog.text
    assert Retention(store, timedelta(hours=1), lambda: datetime.now(UTC) + timedelta(minutes=50)).sweep() is False
    assert store.asked == 1


def test_errors_are_told_once_and_it_goes_on(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A database that is away for an hour makes one line, and deletion goes on when it is back."""
    store = Portions(StoreUnavailable("away"), StoreUnavailable("away"), DONE)
    back = threading.Event()
    store.then = lambda: store.asked == 3 and back.set()
    retention = start(store, every=1e-9)

    def asked() -> bool:
        retention.ask()
        return back.is_set()

    eventually(asked, what="it has come back")
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "what is no longer kept could not be deleted, and stays for now: away"
    ]

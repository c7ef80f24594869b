"""Progress on its way to the store: few statements, the newest of each claim, before the end of its try."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any
from uuid import UUID

import pytest

from cnstra import DataRefused, StoreUnavailable
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.store import Report
from cnstra.workers import progress
from cnstra.workers.progress import Reports

RUN = UUID("0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10")
PATIENCE = 60.0


def fence(number: int) -> Claimed:
    return Claimed(activation_id=number, epoch=1, nonce=1)


class HeldStore:
    """Takes each statement when the test lets it, and keeps it."""

    def __init__(self) -> None:
        self.begun: Queue[dict[int, str]] = Queue()
        self.answers: Queue[Callable[[list[Report]], list[Report]]] = Queue()
        self.kept: dict[int, str] = {}

    def report(self, reports: list[Report]) -> list[Report]:
        return reports

    def run(self, reports: list[Report]) -> list[Report]:
        self.begun.put({one.fence.activation_id: one.progress for one in reports})
        refused = self.answers.get(timeout=PATIENCE)(reports)
        for one in reports:
            if one not in refused:
                self.kept[one.fence.activation_id] = one.progress
        return refused

    def next(self) -> dict[int, str]:
        """The next statement that has begun."""
        return self.begun.get(timeout=PATIENCE)


def keeps(_: list[Report]) -> list[Report]:
    return []


def is_away(_: list[Report]) -> list[Report]:
    raise StoreUnavailable("away")


def cannot_hold(*numbers: int) -> Callable[[list[Report]], list[Report]]:
    def answer(reports: list[Report]) -> list[Report]:
        if {one.fence.activation_id for one in reports} & set(numbers):
            raise DataRefused("too much")
        return []

    return answer


class Reporting:
    def __init__(self) -> None:
        self.store = HeldStore()
        self.refused: list[int] = []
        self.reports = Reports(self.store, 0.01, lambda one: self.refused.append(one.fence.activation_id))  # type: ignore[arg-type]
        self.reports.start()

    def put(self, number: int, text: str) -> None:
        self.reports.put(RUN, fence(number), text)

    def before(self, *numbers: int) -> Queue[Any]:
        """Settle these claims on a thread of its own; how that ended."""
        ended: Queue[Any] = Queue()

        def run() -> None:
            try:
                ended.put(self.reports.write_before((RUN, fence(number)) for number in numbers))
            except BaseException as error:
                ended.put(error)

        threading.Thread(target=run, daemon=True).start()
        return ended


@pytest.fixture
def reporting() -> Iterator[Reporting]:
    reporting = Reporting()
    yield reporting
    for _ in range(10):
        reporting.store.answers.put(keeps)
    reporting.reports.stop(PATIENCE)


def test_what_is_reported_while_a_statement_is_under_way_goes_into_the_next(reporting: Reporting) -> None:
    """All claims' together, and only the newest of each."""
    reporting.put(1, "1")
    assert reporting.store.next() == {1: "1"}
    for text in ("2", "3"):
        reporting.put(1, text)
        reporting.put(2, text)
    reporting.store.answers.put(keeps)
    assert reporting.store.next() == {1: "3", 2: "3"}
    assert reporting.store.begun.empty()


def test_a_large_report_does_not_make_a_large_statement(reporting: Reporting, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much for one goes into the next, the longest waiting first."""
    monkeypatch.setattr(progress, "MOST_AT_ONCE", 10)
    reporting.put(1, "1")
    reporting.store.next()
    for number in (2, 3, 4):
        reporting.put(number, str(number) * 5)
    reporting.store.answers.put(keeps)
    assert reporting.store.next() == {2: "22222", 3: "33333"}
    reporting.store.answers.put(keeps)
    assert reporting.store.next() == {4: "44444"}


def test_progress_waits_for_a_store_that_is_away(reporting: Reporting) -> None:
    """Nothing is lost, and what was reported meanwhile goes before."""
    reporting.put(9, "busy")
    reporting.store.next()
    reporting.put(1, "1")
    reporting.put(2, "1")
    reporting.store.answers.put(keeps)
    assert reporting.store.next() == {1: "1", 2: "1"}
    reporting.put(1, "2")
    reporting.store.answers.put(is_away)
    assert reporting.store.next() == {1: "2", 2: "1"}


def test_a_claim_that_stands_no_more_is_told_of(reporting: Reporting) -> None:
    """Refused by the fence: whoever runs it works for nothing."""
    reporting.put(1, "1")
    reporting.store.next()
    reporting.store.answers.put(lambda reports: reports)
    reporting.put(2, "2")
    reporting.store.next()
    assert reporting.refused == [1]


def test_what_a_try_reported_is_written_before_its_end(reporting: Reporting) -> None:
    """Of the claims that are settled now, and of no other; one that has reported nothing waits for nothing."""
    reporting.put(9, "busy")
    reporting.store.next()  # the thread is in this statement
    reporting.put(1, "1")
    reporting.put(2, "2")
    assert reporting.before(3).get(timeout=PATIENCE) is None

    ended = reporting.before(1)

    reporting.store.answers.put(keeps)
    reporting.store.answers.put(keeps)
    assert ended.get(timeout=PATIENCE) is None
    assert reporting.store.kept[1] == "1"


def test_an_end_waits_for_the_report_that_is_under_way(reporting: Reporting) -> None:
    """Else it could come behind the end, and be refused."""
    reporting.put(1, "1")
    reporting.store.next()
    ended = reporting.before(1)
    reporting.put(2, "2")
    assert ended.empty()
    reporting.store.answers.put(keeps)
    assert ended.get(timeout=PATIENCE) is None
    assert reporting.store.kept == {1: "1"}


def test_a_store_that_is_away_holds_the_end_up_too(reporting: Reporting) -> None:
    """The committer tries again, as with the settlement itself; nothing is lost."""
    reporting.reports.stop(PATIENCE)  # so that only the settlement writes
    reporting.put(1, "1")
    ended = reporting.before(1)
    reporting.store.next()
    reporting.store.answers.put(is_away)
    assert isinstance(ended.get(timeout=PATIENCE), StoreUnavailable)

    ended = reporting.before(1)

    assert reporting.store.next() == {1: "1"}
    reporting.store.answers.put(keeps)
    assert ended.get(timeout=PATIENCE) is None
    assert reporting.store.kept == {1: "1"}


def test_a_report_that_cannot_be_stored_is_left_out(reporting: Reporting, caplog: pytest.LogCaptureFixture) -> None:
    """Alone: it is named in the log, the others are kept, and it holds no settlement up."""
    reporting.put(9, "busy")
    reporting.store.next()
    reporting.put(1, "1")
    reporting.put(2, "2")
    reporting.put(3, "3")
    for answer in (keeps, cannot_hold(2), keeps, cannot_hold(2), keeps):
        reporting.store.answers.put(answer)
    assert reporting.store.next() == {1: "1", 2: "2", 3: "3"}
    assert [reporting.store.next() for _ in range(3)] == [{1: "1"}, {2: "2"}, {3: "3"}]
    assert reporting.before(1, 2, 3).get(timeout=PATIENCE) is None
    assert reporting.store.kept == {9: "busy", 1: "1", 3: "3"}
    assert f"run {RUN}, activation 2: its progress could not be stored" in caplog.text

"""When a process asks the store for work: what one claim came to decides whether it asks again, though nobody rings."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from cnstra import CNS, collateral, neuron
from cnstra.orchestrator.errors import StoreUnavailable
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.orchestrator.store import ClaimRequest, Claims, Work
from cnstra.workers import claiming
from cnstra.workers.claiming import Claimer, Skills
from cnstra.workers.holding import Holdings, Job
from support.waiting import eventually
from support.works import work

begin = collateral("begin", int)
someone = neuron("someone", {})
ROOM = 2


@someone.dendrite(begin)
def take(_number: int) -> None: ...


cns = CNS([someone], name="claiming")


class Script:
    """A store that answers claims as it is told to."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[ClaimRequest] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
        self._numbers = iter(range(1, 1_000))

    def claim(self, request: ClaimRequest) -> ClaimRequest:
        return request

    def suspects_wait(self, _request: ClaimRequest) -> bool:
        return True

    def run(self, operation: Any) -> Any:
        if not isinstance(operation, ClaimRequest):
            return operation
        self.asked.put(operation)
        answer = self._answers.get(timeout=60)
        if isinstance(answer, Exception):
            raise answer
        return Claims(work(run_id=UUID(int=next(self._numbers))) for _ in range(answer))

    def answer(self, answer: int | Exception) -> ClaimRequest:
        """Wait for a claim, and answer it so."""
        request = self.asked.get(timeout=60)
        self._answers.put(answer)
        return request


class Process:
    """A claimer, and the claims that it took in."""

    def __init__(self) -> None:
        self.store = Script()
        self.holdings = Holdings(threads=1, coroutines=1)
        self.works: list[Work] = []
        self.breaks: Callable[[], None] = lambda: None
        self.claimer = Claimer(
            cns,
            Skills(cns, cns.queues),
            self.store,  # type: ignore[arg-type]
            SystemEntropy(),
            self.holdings,
            worker=lambda: UUID(int=1),
            shut=frozenset,
            places=lambda: (),
            take=self._take,
        )

    def _take(self, works: Sequence[Work]) -> None:
        jobs = [Job(work=one, claimed=0.0, streak=0, is_async=False) for one in works]
        self.holdings.take(jobs, waiting=True)
        self.works += works
        self.breaks()

    def end(self) -> None:
        """All that was claimed is called, and settled."""
        works, self.works = self.works, []
        self.holdings.let_go(works)

    def is_asleep(self) -> bool:
        """Whether it waits for room, or for nothing to be held."""
        with self.holdings.change:
            return self.holdings.wants_room > 0 or self.holdings.wants_none


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    monkeypatch.setattr(claiming, "_PAUSE", 0.0)
    process = Process()
    process.claimer.start()
    yield process
    process.claimer._going = False
    process.store._answers.put(0)
    process.claimer.stop()


def test_who_got_all_that_it_asked_for_asks_again_when_there_is_room(process: Process) -> None:
    """And until then it sleeps."""
    assert process.store.answer(ROOM).limit == ROOM
    eventually(process.is_asleep)
    assert process.claimer._hungry
    assert process.store.asked.empty()
    process.end()
    process.store.answer(ROOM - 1)
    eventually(lambda: not process.claimer._hungry)


def test_who_got_less_does_not_ask_before_somebody_nudges(process: Process) -> None:
    """There was no more; it knows of none."""
    process.store.answer(ROOM - 1)
    eventually(lambda: process.works and process.claimer._answered == 1)
    assert not process.claimer._hungry
    process.end()
    assert process.store.asked.empty()
    process.claimer.nudge()
    process.store.answer(0)


def test_a_claim_that_failed_is_made_again(process: Process) -> None:
    """Whatever it failed of."""
    process.store.answer(StoreUnavailable("away"))
    process.store.answer(ValueError("a bug"))
    process.store.answer(0)


def test_who_could_not_take_work_in_asks_again(process: Process) -> None:
    """Its thread lives on, and nobody may ring."""

    def breaks() -> None:
        process.breaks = lambda: None
        raise ValueError("a bug")

    process.breaks = breaks
    process.store.answer(1)
    process.store.answer(0)


def test_a_suspect_comes_alone_and_the_others_after_it(process: Process) -> None:
    """Into a process that holds nothing else; what was not claimed meanwhile is asked for, though nobody rings."""
    process.store.answer(1)
    eventually(lambda: process.works)
    process.claimer.look_for_suspects()
    assert not process.claimer.is_calm
    eventually(process.is_asleep)
    assert process.store.asked.empty()
    process.end()
    first = process.store.answer(1)
    assert (first.limit, first.suspects) == (1, True)
    eventually(process.is_asleep)
    process.end()
    assert process.store.answer(0).suspects
    after = process.store.answer(0)
    assert (after.limit, after.suspects) == (ROOM, False)
    assert process.claimer.is_calm


def test_a_suspect_that_could_not_be_taken_in_ends_the_quarantine(process: Process) -> None:
    """Something of it may be held for ever, and nothing else would be claimed."""

    def breaks() -> None:
        process.breaks = lambda: None
        raise ValueError("a bug")

    process.store.answer(0)
    process.breaks = breaks
    process.claimer.look_for_suspects()
    assert process.store.answer(1).suspects
    assert not process.store.answer(0).suspects

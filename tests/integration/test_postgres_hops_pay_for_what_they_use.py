"""The statements of a hop, counted: who uses neither retention nor a store of contexts pays nothing for them (G14)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, cast

import pytest

from cnstra.orchestrator.machine.records import Compensable
from cnstra.stores.postgres.transactions import Ask, PostgresOperation
from support.worlds import (
    PostgresWorld,
    cancel_asked,
    deadline_due,
    failed,
    pause_asked,
    resume_asked,
    succeeded,
    target,
)

_CLAIM = ["hold_lease", "claim", "run_facts", "load_contexts"]
_LOCK = ["lock_runs", "load_activations"]


class CountingWorld(PostgresWorld):
    """Writes down the statements that its store sends."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.sent: list[str] = []
        carry_out = self.postgres.run
        self.postgres.run = lambda one: carry_out(self._noted(cast("Any", one)))  # type: ignore[method-assign]

    def _noted(self, operation: PostgresOperation[Any]) -> PostgresOperation[Any]:
        def steps(repeated: bool) -> Generator[Ask, list[Any], Any]:
            asking, rows = operation.steps(repeated), None
            while True:
                try:
                    ask = asking.send(rows)  # type: ignore[arg-type]
                except StopIteration as stop:
                    return stop.value
                self.sent.append(ask.statement)
                rows = yield ask

        return PostgresOperation(operation.name, steps)

    def since(self) -> list[str]:
        """What was sent since this was asked last."""
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def world(database_url: str) -> Iterator[CountingWorld]:
    world = CountingWorld(database_url)
    yield world
    world.close()


def test_g14_an_ordinary_hop_sends_these_statements_and_no_others(world: CountingWorld) -> None:
    """A submit, a claim, a settlement that writes and goes on, and one that ends the run."""
    worker = world.worker()
    world.since()
    world.submit("stock")
    assert world.since() == ["clock", "insert_runs", "insert_activations"]
    work = worker.claim_one()
    assert world.since() == _CLAIM
    world.apply(succeeded(work, lambda ctx: ctx.set({"a": 1}), targets=[target("bank")]))
    written = ["insert_activations", "insert_entries", "update_heads"]
    assert world.since() == [*_LOCK, "load_heads", "clock", "update_runs", "update_activations", *written]
    work = worker.claim_one()
    world.since()
    world.apply(succeeded(work))
    assert world.since() == [*_LOCK, "clock", "update_runs", "update_activations"]


def test_g14_what_ends_and_undoes_runs_is_paid_for_by_those_that_it_happens_to(world: CountingWorld) -> None:
    """A compensation costs a hop and the two statements that begin it; a cancel reads what is open, a pause sweeps once."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=Compensable.DONE))
    done = succeeded(worker.claim_one(), targets=[target("bank")], compensable=Compensable.DONE)
    world.since()
    world.apply(done)
    written = ["clock", "update_runs", "update_activations"]
    assert world.since() == [*_LOCK, *written, "insert_activations"]
    work = worker.claim_one()
    world.since()
    world.apply(failed(work))
    assert world.since() == [*_LOCK, *written, "insert_tries", "note_done", "undo"]
    work = worker.claim_one()
    assert world.since() == [*_CLAIM, "emitted"]
    world.apply(succeeded(work))
    assert world.since() == [*_LOCK, *written]
    assert world.status(run_id) == "compensated"

    other = world.submit("stock")
    world.since()
    world.apply(pause_asked(other))
    assert world.since() == ["lock_runs", "clock", "update_runs", "hold"]
    world.apply(resume_asked(other))
    assert world.since() == ["lock_runs", "clock", "update_runs", "let_go"]
    world.apply(deadline_due(other))
    assert world.since() == ["lock_free_runs", "load_open", "clock"]
    world.apply(cancel_asked(other))
    assert world.since() == ["lock_runs", "load_open", *written]


def test_g14_a_graph_with_limits_pays_one_statement_a_claim(world: CountingWorld) -> None:
    """That finds and locks what may run of limited work; where nothing waits, or nothing may run, the claim is the plain one."""
    worker = world.worker(limits={"bank": 1})
    world.submit("stock")
    world.since()
    world.apply(succeeded(worker.claim_one(), targets=[target("bank", limited=True), target("bank", limited=True)]))
    assert world.since()[:5] == [_CLAIM[0], "lock_limits", *_CLAIM[1:]]
    worker.claim_one()
    assert world.since() == [_CLAIM[0], "lock_limits", "claim_with_limits", *_CLAIM[2:]]
    assert worker.claim() == []
    assert world.since() == [_CLAIM[0], "lock_limits", "claim"]

"""The fence stands in SQL, too: who plans from a row that is another meanwhile writes nothing, though Python was deceived."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.machine.records import Activation
from cnstra.orchestrator.machine.states import ActivationStatus
from cnstra.orchestrator.store import Work
from cnstra.stores.postgres import rows
from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.transactions import PostgresOperation, Steps, TransactionRunner
from support.worlds import PostgresWorld, failed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    postgres = PostgresWorld(database_url)
    yield postgres
    postgres.close()


def written(world: PostgresWorld, statement: str, work: Work, *, epoch: int) -> int:
    """How many rows a settlement writes by a statement, from a row that was running in an epoch."""
    before = Activation(
        activation_id=work.activation_id,
        status=ActivationStatus.RUNNING,
        queue="default",
        epoch=epoch,
        available_at=NOW,
    )
    after = replace(before, status=ActivationStatus.DONE, finished_at=NOW, finish=1, nonce=work.fence.nonce)
    changed = [(work.run_id, before, after)]

    def steps(_repeated: bool) -> Steps[int]:
        if statement == "write_hops":
            [(count, _)] = yield rows.write_hops([], changed, [], NOW)
            return int(count)
        return len((yield rows.update_activations(changed)))

    with world.connect() as connection:
        runner = TransactionRunner(lambda: nullcontext(connection), statements())
        return runner.run(PostgresOperation(statement, steps))


@pytest.mark.parametrize("statement", ["write_hops", "update_activations"])
def test_g3_another_epochs_settlement_writes_nothing(world: PostgresWorld, statement: str) -> None:
    """Nor does one from before the claim; the claim's own does."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    for epoch in (work.fence.epoch - 1, work.fence.epoch + 1):
        assert written(world, statement, work, epoch=epoch) == 0
    assert world.activations(run_id)[1]["status"] == "running"

    assert written(world, statement, work, epoch=work.fence.epoch) == 1
    assert world.activations(run_id)[1]["status"] == "done"


@pytest.mark.parametrize("statement", ["write_hops", "update_activations"])
def test_g4_what_does_not_run_any_more_is_not_settled(world: PostgresWorld, statement: str) -> None:
    """In the same epoch: its try has failed, and it waits for the next."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    world.apply(failed(work, retry_after=60.0))

    assert written(world, statement, work, epoch=work.fence.epoch) == 0
    assert world.activations(run_id)[1]["status"] == "scheduled"

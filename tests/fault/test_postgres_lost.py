"""Postgres crashes under load and comes back: every run ends, with exactly the results that it would have had."""

from __future__ import annotations

import pytest

from cnstra import CnstraError, Orchestrator, Run
from cnstra.orchestrator.ports import Ring, door
from cnstra.servers import HeldServers
from cnstra.workers.doorbell import DramatiqBell
from support.customers import Coming
from support.graphs import routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_WIDTH = 20


class _Customers(Coming):
    """Submits runs as long as its block lasts, each once; keeps what was accepted."""

    def __init__(self, database_url: str, client: Orchestrator) -> None:
        super().__init__(database_url)
        self.accepted: list[Run] = []
        self.refused = 0
        self._client = client

    def _come(self) -> None:
        number = 0
        while not self._enough.wait(0.02):
            if self._is_crowded(self.accepted):
                continue
            number += 1
            try:
                self.accepted.append(
                    self._client.submit(routes.deal_out.create_signal(_WIDTH), idempotency_key=f"customer {number}")
                )
            except CnstraError:
                self.refused += 1


def _ended(stage: Stage) -> int:
    return int(stage.row("select count(*) as number from cnstra.run where finished_at is not null")["number"])


def test_g1_g2_postgres_crashes_again_and_again_under_load(doomed_stage: Stage, doomed_servers: HeldServers) -> None:
    """Three workers, runs that keep coming, and a server that is killed in the middle of it, three times.

    What was accepted is kept and ends; an outage is nobody's failed try.
    """
    stage = doomed_stage
    workers = [stage.start(routes.fan, streak=streak) for streak in (0, 0, 100)]
    customers = _Customers(stage.database_url, stage.client(routes.fan))
    with customers.coming():
        for _ in range(3):
            ended = _ended(stage)
            eventually(lambda: _ended(stage) > ended + 2, PATIENCE, what="runs end")  # noqa: B023 - called at once
            doomed_servers.restart_postgres("immediate")

    assert len(customers.accepted) > 6
    for run in customers.accepted:
        result = stage.completed(run)
        assert sorted(signal.payload for signal in result.outputs) == list(range(_WIDTH))
        assert result.context == {"sum": sum(range(_WIDTH))}
        assert_sound(stage, run.id)
    # Runs whose submit was not answered may be there, too: then they have ended as well.
    eventually(
        lambda: _ended(stage) == stage.row("select count(*) as number from cnstra.run")["number"],
        PATIENCE,
        what="every run that is stored has ended",
    )
    assert stage.rows("select * from cnstra.try where error_type not like '%ContextConflict'") == []
    assert all(worker.alive for worker in workers)


@pytest.mark.parametrize("point", ["claim.begin", "claim.commit", "settle.begin", "settle.commit", "look.commit"])
def test_g1_g2_postgres_crashes_at_a_boundary_of_a_hop(
    doomed_stage: Stage, doomed_servers: HeldServers, point: str
) -> None:
    """The worker waits for it and goes on where it was: no step is called twice, none is missing."""
    stage = doomed_stage
    worker = stage.start(routes.chain, streak=0)
    worker.arm(Fault(point=point, action="block", activation=None if point.endswith("begin") or "look" in point else 2))
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    worker.reached(point)

    doomed_servers.restart_postgres("immediate")
    worker.release(point)

    assert stage.completed(run).context == {"step 1": 0, "step 2": 1, "step 3": 2, "steps": 3}
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert_sound(stage, run.id)


def test_g1_a_worker_outlives_a_long_outage(doomed_stage: Stage, doomed_servers: HeldServers) -> None:
    """Until everything that it tries has given up: the result of a handler waits in the worker, which is not called again,
    and doorbells find nothing to claim. When Postgres is back, both go on.
    """
    stage = doomed_stage
    client = stage.client(routes.chain)
    worker = stage.start(routes.chain, Fault(point="call.inside", action="block", activation=2))
    run = client.submit(routes.set_out.create_signal(10))
    worker.reached("call.inside")
    bell = DramatiqBell(stage.broker_url)
    doomed_servers.stop_postgres()
    try:
        worker.release("call.inside")
        bell.ring([Ring(door=door(routes.chain.durable_name, "default"), activations=((run.id, 3),))])
        for words in ("the store is away, 1 settlements wait for it", "claiming failed, the store is away"):
            eventually(lambda: words in worker.log(), PATIENCE, what=words)  # noqa: B023 - called at once
    finally:
        doomed_servers.start_postgres()
        bell.close()

    assert stage.completed(run).context["steps"] == 3
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert_sound(stage, run.id)
    assert stage.completed(client.submit(routes.set_out.create_signal(20))).context["steps"] == 3

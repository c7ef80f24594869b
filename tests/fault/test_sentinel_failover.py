"""A failover by Sentinels while runs are in flight: the new master never saw the last doorbells, and no run is the worse."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnstra import Run
from support.brokers import RedisBroker
from support.graphs import routes
from support.points import Fault
from support.sentinels import Watched, watched
from support.soundness import assert_sound
from support.stage import Stage, on_stage

_A_DOZEN = 12


@pytest.fixture
def servers() -> Iterator[Watched]:
    with watched() as servers:
        yield servers


@pytest.fixture
def stage(servers: Watched, database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Stage]:
    with on_stage(database_url, RedisBroker(servers.url), tmp_path, broker_url) as stage:
        yield stage


def test_g1_a_failover_that_loses_writes_costs_latency_and_nothing_else(stage: Stage, servers: Watched) -> None:
    """Every hop goes through the broker. Some ring at the old master when its replica hears nothing of it any more; one is in
    the middle of its handler when the master dies; others begin after that. Each is done, and done once."""
    client = stage.client(routes.chain)
    numbers = itertools.count()

    def submit() -> list[Run]:
        return [client.submit(routes.set_out.create_signal(number)) for number in itertools.islice(numbers, _A_DOZEN)]

    in_handler = stage.start(routes.chain, Fault(point="call.inside", action="block", activation=2), streak=0)
    runs = submit()
    in_handler.reached("call.inside")
    workers = [in_handler, *(stage.start(routes.chain, streak=0) for _ in range(2))]
    servers.lose_writes()
    runs += submit()
    servers.fail_over()
    runs += submit()
    in_handler.release("call.inside")

    stage.all_completed(runs)
    for number, run in enumerate(runs):
        assert [signal.payload for signal in stage.completed(run).outputs] == [number + 3]
    for run in runs[:: _A_DOZEN // 2]:
        assert_sound(stage, run.id)
    assert len(stage.ledger.entries()) == len(stage.ledger.effects()) == 3 * len(runs)
    assert all(worker.alive for worker in workers)

"""Whatever the broker loses, an accepted run ends: only latency may suffer."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.brokers import Kind
from support.graphs import routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_DOZENS = 40


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_kind(request: pytest.FixtureRequest) -> Kind:
    """What is lost here is each broker in turn."""
    kind: Kind = request.param
    return kind


def test_g1_runs_in_flight_survive_that_the_broker_forgets_everything_all_the_time(doomed_stage: Stage) -> None:
    """Every hop goes through the broker, which forgets everything again and again."""
    stage = doomed_stage
    client = stage.client(routes.chain)
    gate = stage.start(routes.chain, Fault(point="call.inside", action="block", activation=2), streak=0)
    first = client.submit(routes.set_out.create_signal(0))
    gate.reached("call.inside")  # from here on at least this run is in flight
    workers = [stage.start(routes.chain, streak=0) for _ in range(2)]
    runs = [first, *client.submit_many([routes.set_out.create_signal(number) for number in range(1, _DOZENS)])]

    def nearly_all_done() -> bool:
        stage.lose_doorbells()
        done = stage.row("select count(*) as number from cnstra.run where finished_at is not null")["number"]
        return int(done) >= _DOZENS - 1

    eventually(nearly_all_done, PATIENCE, what="all runs but the blocked one have ended")
    gate.release("call.inside")

    stage.all_completed(runs)
    for number, run in list(enumerate(runs))[::8]:
        assert [signal.payload for signal in stage.completed(run).outputs] == [number + 3]
        assert_sound(stage, run.id)
    assert len(stage.ledger.entries()) == len(stage.ledger.effects()) == 3 * _DOZENS
    assert all(worker.alive for worker in workers)


def test_g1_workers_finish_runs_though_the_broker_is_away_all_the_time(doomed_stage: Stage) -> None:
    """They start without it, hear no doorbell, and find the work by their sweeps; so does one that only looks on."""
    stage = doomed_stage
    stage.broker.stop()
    try:
        inside = Fault(point="call.inside", action="block")
        workers = [stage.start(routes.chain, inside, streak=0, threads=1) for _ in range(2)]
        runs = stage.client(routes.chain).submit_many([routes.set_out.create_signal(n) for n in range(_DOZENS)])
        for worker in workers:  # each has found some of it
            worker.reached("call.inside")
        for worker in workers:
            worker.release("call.inside")

        stage.all_completed(runs)
        for number, run in list(enumerate(runs))[::8]:
            assert [signal.payload for signal in stage.completed(run).outputs] == [number + 3]
            assert_sound(stage, run.id)
        entries = stage.ledger.entries()
        assert len(entries) == 3 * _DOZENS
        assert len({entry.pid for entry in entries}) == 2
    finally:
        stage.broker.start()


def test_g1_a_broker_that_was_killed_is_heard_again(doomed_stage: Stage) -> None:
    """Runs in flight go on without it; once it is back, doorbells wake the worker again."""
    stage = doomed_stage
    client = stage.client(routes.chain)
    worker = stage.start(routes.chain, Fault(point="call.inside", action="block", activation=2), streak=0)
    in_flight = client.submit(routes.set_out.create_signal(1))
    worker.reached("call.inside")
    stage.broker.stop()
    unheard = client.submit(routes.set_out.create_signal(2))
    worker.release("call.inside")
    assert [stage.completed(run).context["steps"] for run in (in_flight, unheard)] == [3, 3]

    stage.broker.start()

    worker.arm(Fault(point="doorbell.heard", action="block"))
    eventually(
        lambda: client.submit(routes.set_out.create_signal(3)) and worker.has_reached("doorbell.heard"),
        PATIENCE,
        what="a doorbell is heard again",
    )
    worker.release("doorbell.heard")


def test_g1_a_worker_without_sweeps_of_its_own_soon_wakes_by_doorbells(stage: Stage) -> None:
    """The broker is what makes it quick: with sweeps an hour apart, doorbells alone carry runs from hop to hop."""
    hour = timedelta(hours=1)
    for queue in ("fork", "left", "right"):
        stage.start(routes.fork, queues=(queue,), look_every=hour)
    runs = stage.client(routes.fork).submit_many([routes.split.create_signal(number) for number in range(_DOZENS)])

    stage.all_completed(runs)
    for number, run in list(enumerate(runs))[::8]:
        assert run.context() == {"left": number, "right": number}
        assert_sound(stage, run.id)
    assert len(stage.ledger.entries()) == len(stage.ledger.effects()) == 3 * _DOZENS

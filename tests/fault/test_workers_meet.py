"""What happens when everything comes at once: doorbells in dozens, the last branches of a run, batches over the same runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from cnstra import Run
from cnstra.orchestrator.ports import Ring, door
from cnstra.workers.doorbell import DramatiqBell
from support.graphs import routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_FIFTY = 50


def test_g4_one_doorbell_delivered_fifty_times_calls_the_handler_once(stage: Stage) -> None:
    """Rung before anybody listens, while the handler runs, and after it: a doorbell is a hint, not the work."""
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    bell = DramatiqBell(stage.broker_url)
    ring = [Ring(door=door(routes.chain.durable_name, "default"), activations=((run.id, 1),))]

    def fifty() -> None:
        for _ in range(_FIFTY):
            bell.ring(ring)

    fifty()
    inside = Fault(point="call.inside", action="block", activation=1)
    workers = [stage.start(routes.chain, inside) for _ in range(2)]
    eventually(lambda: any(worker.has_reached("call.inside") for worker in workers), PATIENCE, what="one is inside")
    fifty()
    eventually(lambda: bell.qsize(ring[0].door) == 0, PATIENCE, what="all doorbells were answered")
    (inside_pid,) = [entry.pid for entry in stage.ledger.entries(run.id)]
    next(worker for worker in workers if worker.pid == inside_pid).release("call.inside")
    stage.completed(run)
    fifty()
    eventually(lambda: bell.qsize(ring[0].door) == 0, PATIENCE, what="all doorbells were answered")
    bell.close()

    assert all(worker.drain() for worker in workers)
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert_sound(stage, run.id)


def test_the_doorbells_of_one_graph_wake_no_worker_of_another(stage: Stage) -> None:
    """Two graphs have a queue of the same name, on one broker; what is rung for the one waits for its own workers."""
    bell = DramatiqBell(stage.broker_url)
    stage.start(routes.fan)
    waiting = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    stage.completed(stage.client(routes.fan).submit(routes.deal_out.create_signal(3)))
    assert bell.qsize(door(routes.chain.durable_name, "default")) == 1
    stage.start(routes.chain)
    stage.completed(waiting)
    eventually(lambda: bell.qsize(door(routes.chain.durable_name, "default")) == 0, PATIENCE, what="it was answered")
    bell.close()


@contextmanager
def _locked(stage: Stage, run: Run, *, waiting: int) -> Iterator[None]:
    """Hold the run's row during the block, and then until so many transactions of workers wait for a lock."""
    with psycopg.connect(stage.database_url) as connection:
        connection.execute("select from cnstra.run where run_id = %s for no key update", [run.id])
        yield
        query = (
            "select count(*) as number from pg_stat_activity where datname = current_database() "
            "and application_name = 'cnstra' and wait_event_type = 'Lock'"
        )
        eventually(lambda: stage.row(query)["number"] >= waiting, PATIENCE, what=f"{waiting} transactions wait")


def test_g1_g2_the_last_two_branches_end_at_once_in_two_workers(stage: Stage) -> None:
    """Both settle in the same moment, each before it could see the other done: whoever comes second ends the run."""
    settling = Fault(point="settle.begin", action="block")
    stage.start(routes.fork, queues=("fork",))
    branches = [stage.start(routes.fork, settling, queues=(queue,)) for queue in ("left", "right")]
    run = stage.client(routes.fork).submit(routes.split.create_signal(7))
    for branch in branches:
        branch.reached("settle.begin")

    with _locked(stage, run, waiting=2):
        for branch in branches:
            branch.release("settle.begin")

    assert stage.completed(run).context == {"left": 7, "right": 7}
    assert set(stage.ledger.calls(run.id).values()) == {1}
    assert_sound(stage, run.id)


def test_g2_two_workers_settle_the_same_runs_in_opposite_order(stage: Stage) -> None:
    """One batch begins with the oldest run, the other with the newest; both wait for locks, and neither for the other."""
    settling = Fault(point="settle.begin", action="block")
    stage.start(routes.fork, queues=("fork",))
    branches = [
        stage.start(
            routes.fork,
            settling,
            queues=(queue,),
            threads=_FIFTY,
            tricks=[*tricks, "support.tricks:one_commit_at_a_time"],
        )
        for queue, tricks in {"left": (), "right": ["support.tricks:settle_backwards"]}.items()
    ]
    runs = stage.client(routes.fork).submit_many([routes.split.create_signal(number) for number in range(_FIFTY)])
    for branch in branches:
        branch.reached("settle.begin")  # while it waits, the others' settlements gather for one batch
    eventually(lambda: len(stage.ledger.entries()) == 3 * _FIFTY, PATIENCE, what="all handlers were called")
    for branch in branches:
        branch.arm(settling)
        branch.release("settle.begin")
        assert len(branch.reached("settle.begin")) > 1

    # Where locks are not taken in one order, each batch now comes to hold the half of the runs that the other one wants.
    with _locked(stage, runs[_FIFTY // 2], waiting=2):
        for branch in branches:
            branch.release("settle.begin")

    stage.all_completed(runs)
    for number, run in list(enumerate(runs))[::10]:
        assert run.context() == {"left": number, "right": number}
        assert_sound(stage, run.id)
    assert len(stage.ledger.entries()) == len(stage.ledger.effects()) == 3 * _FIFTY
    assert all(branch.drain() for branch in branches)
    with psycopg.connect(stage.database_url, autocommit=True) as connection:
        connection.execute("select pg_stat_force_next_flush()")
        deadlocks = connection.execute("select deadlocks from pg_stat_database where datname = current_database()")
        assert deadlocks.fetchone() == (0,)


@pytest.mark.beneath_the_seal
def test_g4_many_workers_share_many_runs_and_call_every_step_once(stage: Stage) -> None:
    """Three workers on two queues each, runs from four clients at once: no step is called twice, none is forgotten."""
    for queues in (("fork", "left"), ("left", "right"), ("right", "fork")):
        stage.start(routes.fork, queues=queues, streak=0)
    client = stage.client(routes.fork)
    threads = [
        threading.Thread(target=lambda: client.submit_many([routes.split.create_signal(n) for n in range(60)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    runs = client.list_runs(limit=1000)
    stage.all_completed(runs)
    assert stage.rows("select * from cnstra.context where data -> 'left' is distinct from data -> 'right'") == []
    assert len(stage.ledger.entries()) == len(stage.ledger.effects()) == 3 * 4 * 60
    for run in runs[::20]:
        assert_sound(stage, run.id)

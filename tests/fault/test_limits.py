"""``concurrency=`` of a neuron, with worker processes of which some are killed: never more at once, and all of it done."""

from __future__ import annotations

import signal
from uuid import UUID

from support.graphs import concurrency
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_INSIDE = Fault(point="call.inside", action="block")


def _held(stage: Stage) -> int:
    row = stage.row("select count(*) as held from cnstra.activation where neuron = 'desk' and status = 'running'")
    return int(row["held"])


def _at_once(stage: Stage, run_id: UUID, deaths: list[tuple[int, int]]) -> int:
    """The most calls that were under way at the same time, by the ledger.

    ``deaths`` are processes that died, each with how many lines there were when it was dead, and had not yet been taken for
    lost: from there on its calls are none.
    """
    under_way: dict[str, int] = {}
    most = 0
    for place, entry in enumerate(stage.ledger.entries(run_id)):
        gone = {pid for pid, line in deaths if line <= place}
        under_way = {key: pid for key, pid in under_way.items() if pid not in gone}
        if entry.what == "in":
            under_way[entry.key] = entry.pid
        else:
            under_way.pop(entry.key)
        most = max(most, len(under_way))
    return most


def test_a_limit_holds_over_processes_and_a_killed_one_leaves_its_slots(stage: Stage) -> None:
    """Three are inside their handlers, whatever else there is room for, until one process dies; then others take its place."""
    faults = [_INSIDE] * 4
    workers = [stage.start(concurrency.counter, *faults) for _ in range(2)]
    run = stage.client(concurrency.counter).submit(concurrency.open_up.create_signal(8))
    inside = {worker.pid: 0 for worker in workers}

    def count() -> int:
        for worker in workers:
            inside[worker.pid] += worker.has_reached("call.inside")
        return sum(inside.values())

    eventually(lambda: count() == concurrency.AT_ONCE, PATIENCE, what="as many as may are inside")
    third = stage.start(concurrency.counter, *faults, Fault(point="look.begin", action="block", after=5))
    inside[third.pid] = 0
    workers.append(third)
    third.reached("look.begin")  # each time before it has looked for work
    third.release("look.begin")
    assert stage.row("select blocked, status from cnstra.runs where run_id = %s", run.id) == {
        "blocked": "limited",
        "status": "running",
    }
    assert (count(), _held(stage)) == (concurrency.AT_ONCE, concurrency.AT_ONCE)

    doomed = max(workers, key=lambda worker: inside[worker.pid])
    lost = inside.pop(doomed.pid)
    workers.remove(doomed)
    doomed.kill()
    assert count() == concurrency.AT_ONCE - lost  # its slots are taken until it is known to be lost
    stage.lose(doomed)
    eventually(lambda: count() == concurrency.AT_ONCE, PATIENCE, what="others are inside in the place of the lost ones")
    assert _held(stage) == concurrency.AT_ONCE

    for worker in workers:
        worker.kill()
        stage.lose(worker)
    stage.start(concurrency.counter)
    assert [one.payload for one in stage.completed(run).outputs] == [8]
    assert_sound(stage, run.id, same_try_twice=True)  # both ends of a call stand in the ledger


def test_a_limit_holds_while_workers_are_killed_one_after_the_other(stage: Stage) -> None:
    """SIGKILL in the middle of handlers, claims and settlements: never more at once, and each member done."""
    size = 60
    kills = [("call.inside", 6), ("claim.commit", 4), ("settle.commit", 5), ("settle.done", 4)]
    run = stage.client(concurrency.counter).submit(concurrency.open_up.create_signal(size))
    deaths: list[tuple[int, int]] = []
    for point, after in kills:
        doomed = stage.launch(concurrency.counter, Fault(point=point, action="kill", after=after))
        ended = "select finished_at from cnstra.run where run_id = %s"
        eventually(
            lambda: not doomed.alive or stage.row(ended, run.id)["finished_at"],  # noqa: B023 - called at once
            PATIENCE,
            what="the worker is killed, or the run has ended",
        )
        if doomed.alive:
            break
        assert doomed.died() == -signal.SIGKILL
        deaths.append((doomed.pid, len(stage.ledger.entries(run.id))))
        stage.lose(doomed)
        if (
            len(deaths) == 1
        ):  # the first one dies alone, whatever the machine; from then on there is another beside them
            stage.start(concurrency.counter)

    result = stage.completed(run)

    assert deaths
    assert [one.payload for one in result.outputs] == [size]
    assert 1 < _at_once(stage, run.id, deaths) <= concurrency.AT_ONCE
    begun = [(entry.activation_id, entry.try_number) for entry in stage.ledger.entries(run.id) if entry.what == "in"]
    assert len(begun) == len(set(begun))
    assert len({number for number, _ in begun}) == size
    assert_sound(stage, run.id, same_try_twice=True)

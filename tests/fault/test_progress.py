"""Progress: seen in SQL while a handler runs, found again after its worker died, refused of one that lost its claim."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cnstra import Collateral
from support.graphs import interrupted
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

BOTH = pytest.mark.parametrize("begin", [interrupted.import_rows, interrupted.import_rows_async], ids=["sync", "async"])


@pytest.mark.beneath_the_seal
@BOTH
def test_progress_shows_while_the_handler_runs_and_survives_its_worker(stage: Stage, begin: Collateral[int]) -> None:
    """The next try goes on from what the last one reported: no row is worked through twice."""
    worker = stage.start(interrupted.imports, Fault(point="call.reported", action="block", activation=2))
    run = stage.client(interrupted.imports).submit(begin.create_signal(5))
    worker.reached("call.reported")
    eventually(
        lambda: stage.activation(run, 1)["progress"] == {"rows": 3, "try": 1}, PATIENCE, what="the progress shows"
    )
    assert stage.activation(run, 1)["status"] == "running"

    worker.kill()
    stage.lose(worker)
    stage.start(interrupted.imports)

    result = stage.completed(run)
    assert [signal.payload for signal in result.outputs] == [[3, 5]]
    calls = [(entry.try_number, entry.details["begun"]) for entry in stage.ledger.entries(run.id)]
    assert calls == [(1, 0), (2, 3)]
    assert stage.activation(run, 1)["progress"] == {"rows": 5, "try": 2}
    assert_sound(stage, run.id)


@pytest.mark.beneath_the_seal
@BOTH
def test_g3_a_zombies_progress_is_refused_by_the_fence(stage: Stage, begin: Collateral[int]) -> None:
    """Stopped past its lease, it comes back and reports: that of the one who took over stays."""
    zombie = stage.start(interrupted.imports, Fault(point="call.reported", action="stop", activation=1), lease=_LEASE)
    run = stage.client(interrupted.imports).submit(begin.create_signal(5))
    zombie.reached("call.reported")
    zombie.frozen()
    stage.lose(zombie)
    heir = stage.start(interrupted.imports, Fault(point="call.reported", action="block", activation=4))
    heir.reached("call.reported")
    eventually(
        lambda: stage.activation(run, 1)["progress"] == {"rows": 5, "try": 2}, PATIENCE, what="the heir's progress"
    )

    zombie.thaw()

    eventually(lambda: "its result was refused" in zombie.log(), PATIENCE, what="the zombie has ended")
    refused = f"run {run.id}, activation 1: its claim was taken away, so its progress was refused"
    assert refused in zombie.log()
    assert stage.activation(run, 1)["progress"] == {"rows": 5, "try": 2}
    heir.release("call.reported")
    stage.completed(run)
    assert stage.activation(run, 1)["tries"] == 2
    assert_sound(stage, run.id)


_LEASE = timedelta(seconds=6)  # it is renewed, and its loss noticed, every two seconds

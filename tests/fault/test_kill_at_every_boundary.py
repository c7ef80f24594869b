"""SIGKILL of a worker at every boundary of a hop: the run ends exactly as if nobody had died."""

from __future__ import annotations

import signal

import pytest

from support.graphs import routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import Stage

# Where the second of three steps dies, and how often its handler is called in all. Claims are made for the first step
# only where successors stay in the process.
_BEFORE_THE_CALL = ["claim.begin", "claim.commit", "claim.done", "call.begin"]
_AFTER_THE_CALL = ["call.inside", "call.end", "settle.begin", "settle.commit"]
_AFTER_THE_COMMIT = ["settle.done", "ring.begin", "ring.done"]


def _die_and_resume(stage: Stage, fault: Fault, *, streak: int) -> dict[int, int]:
    """Let a worker die of the fault during a run, another take over; how often each step was called."""
    client = stage.client(routes.chain)
    doomed = stage.start(routes.chain, streak=streak)
    doomed.arm(fault)
    run = client.submit(routes.set_out.create_signal(10))

    doomed.reached(fault.point)
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)
    stage.start(routes.chain, streak=streak)

    result = stage.completed(run)
    assert [signal.payload for signal in result.outputs] == [13]
    assert result.context == {"step 1": 0, "step 2": 1, "step 3": 2, "steps": 3}
    assert [(written.version, written.activation_id) for written in run.history()] == [(1, 1), (2, 2), (3, 3)]
    assert_sound(stage, run.id)
    assert len(stage.ledger.effects()) == 3
    return stage.ledger.calls(run.id)


@pytest.mark.parametrize("point", [*_BEFORE_THE_CALL, *_AFTER_THE_CALL, *_AFTER_THE_COMMIT])
def test_g1_g2_g4_a_hop_that_came_through_the_broker_survives_its_worker(stage: Stage, point: str) -> None:
    """Before the commit the step is called again, under the same key; after the commit never. What that made ready the worker may
    have found itself, and begun, before it dies.
    """
    number = 3 if point.startswith("ring") else 2  # a ring is for what the second step started
    calls = _die_and_resume(stage, Fault(point=point, action="kill", activation=_about(point, number)), streak=0)

    third = calls.pop(3)
    assert calls == {1: 1, 2: 2 if point in _AFTER_THE_CALL else 1}
    assert third in ((1, 2) if point in _AFTER_THE_COMMIT else (1,))


@pytest.mark.parametrize("point", ["call.begin", *_AFTER_THE_CALL, "settle.done"])
def test_g1_g2_g4_a_hop_that_stayed_in_the_process_survives_its_worker(stage: Stage, point: str) -> None:
    """A kept successor is as durable as one that travels: it is claimed with the commit that makes it."""
    calls = _die_and_resume(stage, Fault(point=point, action="kill", activation=2), streak=100)

    assert calls == {1: 1, 2: 2 if point in _AFTER_THE_CALL else 1, 3: 1}


@pytest.mark.parametrize("point", ["doorbell.heard", "doorbell.answered"])
def test_g1_a_worker_that_dies_with_the_doorbell_in_its_hand_takes_no_work_along(stage: Stage, point: str) -> None:
    """The doorbell is gone with it; the work is in Postgres."""
    calls = _die_and_resume(stage, Fault(point=point, action="kill"), streak=100)

    assert set(calls) == {1, 2, 3}


def _about(point: str, number: int) -> int | None:
    return None if point == "claim.begin" else number

"""How much of each member is outstanding as a scatter begins, and as its members follow each other."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.events import Scattered, Succeeded
from cnstra.orchestrator.machine.fold import fold
from cnstra.orchestrator.machine.plans import Loaded, Verdict
from cnstra.orchestrator.machine.records import Activation, Claimed, Gathering, Group, Member, Output, Run, Target
from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus


@pytest.mark.parametrize(
    ("limit", "outstanding"), [(None, [2, 2, 2]), (1, [2, 0, 0]), (2, [2, 2, 0]), (3, [2, 2, 2]), (9, [2, 2, 2])]
)
def test_of_a_member_that_has_not_begun_nothing_is_outstanding(limit: int | None, outstanding: list[int]) -> None:
    """Of the others there is an activation for each who hears; and the run counts these."""
    targets = tuple(
        Target(ordinal=0, neuron=neuron, dendrite="d", collateral="c", queue="default", payload="null")
        for neuron in ("one", "two")
    )
    event = Succeeded(
        fence=Claimed(activation_id=1, epoch=1, nonce=5),
        scattered=(Scattered(ordinal=0, collateral="c", payloads=("1", "2", "3"), targets=targets, limit=limit),),
    )
    run = Run(run_id=UUID(int=7), graph="g", status=RunStatus.RUNNING, outstanding=1, active=1, last_activation=1)
    held = Activation(activation_id=1, status=ActivationStatus.RUNNING, queue="default", epoch=1, nonce=5, tries=1)

    plan = fold(run, Loaded(activations={1: held}), [event], datetime(2026, 1, 1, tzinfo=UTC))

    assert [plan.members.get((1, one.member), one).outstanding for one in plan.new_members] == outstanding
    assert plan.run.outstanding == plan.run.active == len(plan.created) == sum(outstanding)


def test_a_member_gives_no_second_result_whatever_else_the_hop_emits() -> None:
    """What another gather would collect, further up or nowhere, says nothing of those that follow."""
    gathering = Gathering(activation_id=2, neuron="n", collateral="result", failures=False)
    group = Group(
        group_id=1,
        parent=1,
        ordinal=0,
        collateral="c",
        size=1,
        limit=None,
        path=(),
        targets=(),
        gatherings=(gathering,),
        started=1,
        running=1,
    )
    emitted = [Output(ordinal=0, collateral="other", payload="0")]
    emitted += [Output(ordinal=number, collateral="result", payload="1") for number in (1, 2)]
    event = Succeeded(fence=Claimed(activation_id=3, epoch=1, nonce=5), results=tuple(emitted), outputs=tuple(emitted))
    run = Run(run_id=UUID(int=7), graph="g", status=RunStatus.RUNNING, outstanding=1, active=1, last_activation=3)
    held = Activation(
        activation_id=3, status=ActivationStatus.RUNNING, queue="default", epoch=1, nonce=5, tries=1, path=((1, 0),)
    )
    loaded = Loaded(
        activations={3: held}, groups={1: group}, members={(1, 0): Member(group_id=1, member=0, outstanding=1)}
    )

    [answer] = fold(run, loaded, [event], datetime(2026, 1, 1, tzinfo=UTC)).answers

    assert answer.verdict is Verdict.REFUSED
    assert answer.problem is not None
    assert "two results on 'result'" in answer.problem.error

"""What is decided on a foothold, and what leaves one: whatever else a worker knows, and however it came to know it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.footholds import footholds_after, is_plain, plans_ahead, settled_ahead
from cnstra.orchestrator.machine.events import Succeeded
from cnstra.orchestrator.machine.plans import Answer, Plan, Sweep, TryEnded, Verdict
from cnstra.orchestrator.machine.records import (
    Activation,
    Claimed,
    Ending,
    Expectation,
    Group,
    Late,
    Letter,
    Member,
    NewActivation,
    Run,
    Target,
)
from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus
from cnstra.orchestrator.slots import Changes, OnStale, Slot, SlotWrite, Snapshot
from cnstra.orchestrator.store import Foothold, RunEvent, Work
from support import works

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = BEGAN + timedelta(seconds=3)
RUN, WORKER = UUID(int=7), UUID(int=8)
FENCE = Claimed(activation_id=3, epoch=1, nonce=11)
SNAPSHOT = Snapshot(version=2, slots={"s:a": Slot(2, "1"), "s:b": Slot(1, None)})
GOING = Run(
    run_id=RUN,
    graph="g",
    status=RunStatus.RUNNING,
    outstanding=1,
    active=1,
    last_activation=3,
    last_finish=2,
    context_version=2,
    started_at=BEGAN,
)
HELD = Activation(
    activation_id=3,
    status=ActivationStatus.RUNNING,
    queue="default",
    epoch=1,
    nonce=11,
    worker=WORKER,
    tries=1,
    started_at=BEGAN,
)
TARGET = Target(ordinal=0, neuron="n", dendrite="d", collateral="c", queue="default", payload="5", here=True)
NEW = NewActivation(
    activation_id=4,
    parent=3,
    target=TARGET,
    attempt=1,
    status=ActivationStatus.RUNNING,
    worker=WORKER,
    nonce=11,
    available_at=NOW,
)


def work(**changes: Any) -> Work:
    """A claim that stands on a foothold."""
    foothold = Foothold(run=GOING, activation=HELD, mark="old")
    stands = works.work(3, RUN)
    return replace(stands, **{"fence": FENCE, "snapshot": SNAPSHOT, "foothold": foothold} | changes)


def ended(stands: Work, *writes: SlotWrite, fence: Claimed = FENCE) -> RunEvent:
    """Its end, which starts one other that stays."""
    event = Succeeded(fence=fence, targets=(TARGET,), changes=Changes(writes=writes), version_read=2)
    return RunEvent(run_id=RUN, event=event, work=stands)


def write(slot: str, text: str | None, base: int) -> SlotWrite:
    return SlotWrite(slot=slot, text=text, base=base, on_stale=OnStale.CONFLICT)


def test_what_stays_stands_on_what_was_written_under_the_new_mark() -> None:
    """The next hop is decided on the run, the context and the time of this one's settlement."""
    stands = work()
    [ahead] = plans_ahead([ended(stands, write("s:a", None, 2), write("s:b", "9", 1))]).values()

    [kept] = settled_ahead(ahead, NOW, "new").kept

    assert kept.snapshot == Snapshot(version=3, slots={"s:a": Slot(3, None), "s:b": Slot(3, "9")})
    assert kept.foothold is not None
    assert kept.foothold.mark == "new"
    assert kept.foothold.run == replace(GOING, last_activation=4, last_finish=3, context_version=3)
    assert (kept.foothold.activation.activation_id, kept.foothold.activation.started_at) == (4, NOW)
    assert (kept.fence, kept.payload, kept.run_elapsed) == (Claimed(activation_id=4, epoch=1, nonce=11), "5", 3.0)
    assert SNAPSHOT.version == stands.snapshot.version == 2


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"foothold": None}, id="it knows nothing of the run"),
        pytest.param({"snapshot": Snapshot(version=1, slots={})}, id="it read a version before the run's"),
        pytest.param({"snapshot": Snapshot(version=3, slots={})}, id="it read a version after the run's"),
        pytest.param({"place": "elsewhere"}, id="the context is kept elsewhere"),
    ],
)
def test_g6_nothing_is_decided_on_another_context_than_that_of_the_foothold(changes: dict[str, Any]) -> None:
    """A write that the worker has not seen could be lost, and what stays would be given another context than there is."""
    assert len(plans_ahead([ended(work())])) == 1
    assert plans_ahead([ended(work(**changes))]) == {}


@pytest.mark.parametrize("many", [2, 3])
def test_runs_of_several_events_are_decided_with_all_of_them(many: int) -> None:
    """However many, and also where each by itself would do."""
    assert plans_ahead([ended(work())] * many) == {}


def test_a_removed_slot_is_in_conflict_as_any_other() -> None:
    """That of a key which this hop has not seen removed."""
    assert plans_ahead([ended(work(), write("s:b", "1", 0))]) == {}
    assert len(plans_ahead([ended(work(), write("s:b", "1", 1))])) == 1


def test_what_had_been_removed_is_not_removed_again_with_the_whole_value() -> None:
    """Its tombstone stays as old as it is: the history says when a key went."""
    event = Succeeded(fence=FENCE, changes=Changes(replaces=OnStale.OVERWRITE), version_read=2)
    [ahead] = plans_ahead([RunEvent(run_id=RUN, event=event, work=work())]).values()
    assert [(entry.slot, entry.text) for entry in ahead.plan.entries] == [("s:a", None)]


REST: dict[str, Any] = {
    "tries": [TryEnded(activation_id=3, try_number=1, worker=WORKER, started_at=BEGAN, failure=None)],
    "sweeps": [Sweep.CLOSE],
    "delivered": {3: "1"},
    "expectations": [
        Expectation(expectation_id=4, collateral="c", key=None, activations=(4,), expires_at=None, late=Late())
    ],
    "closed": [4],
    "letters": [object()],
    "taken": [(Letter(number=1, collateral="c", payload="1"), 4)],
    "scattered": [object()],
    "groups": {
        1: Group(
            group_id=1, parent=1, ordinal=0, collateral="c", size=1, limit=None, path=(), targets=(), gatherings=()
        )
    },
    "new_members": [Member(group_id=1, member=0)],
    "members": {(1, 0): Member(group_id=1, member=0)},
    "fired": [object()],
    "abandoned": [((1, 0),)],
}
PLAIN = {"run", "changed", "created", "entries", "heads", "answers"}


def plan(**changes: Any) -> Plan:
    made = Plan(run=GOING, changed={3: HELD}, created=[NEW], answers=[Answer(verdict=Verdict.APPLIED, kept=(4,))])
    return replace(made, **changes)


def test_a_plan_with_anything_else_in_it_is_not_plain() -> None:
    """Each of its fields is looked at, those too that come later: a foothold knows nothing of them."""
    assert set(REST) == set(Plan.__struct_fields__) - PLAIN
    assert is_plain(plan(), GOING)
    for name, value in REST.items():
        assert not is_plain(plan(**{name: value}), GOING), name


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"changed": {}}, id="nothing ended"),
        pytest.param({"changed": {2: HELD, 3: HELD}}, id="two ended"),
        pytest.param({"created": [NEW, NEW]}, id="two began"),
        pytest.param({"answers": []}, id="no event"),
        pytest.param({"answers": [Answer(verdict=Verdict.REFUSED)]}, id="it was refused"),
        pytest.param({"run": replace(GOING, alone=3)}, id="the run does not go on plainly"),
    ],
)
def test_a_plan_of_more_or_less_than_one_hop_is_not_plain(changes: dict[str, Any]) -> None:
    """It is the end of one activation, and the beginning of one other at most."""
    assert not is_plain(plan(**changes), GOING)


@pytest.mark.parametrize(
    ("run", "new", "leaves"),
    [
        pytest.param({}, {}, True, id="the run's only one stays"),
        pytest.param({"outstanding": 2}, {}, False, id="another is outstanding"),
        pytest.param({"status": RunStatus.PAUSED}, {}, False, id="the run is paused"),
        pytest.param({"ending": Ending.CANCELLED}, {}, False, id="the run is ended"),
        pytest.param({"failed": 1}, {}, False, id="one has failed"),
        pytest.param(
            {}, {"status": ActivationStatus.READY, "worker": None, "nonce": None}, False, id="it does not stay"
        ),
        pytest.param({}, {"path": ((1, 0),)}, False, id="it is part of a group"),
    ],
)
def test_only_what_alone_can_move_its_run_stands_on_a_foothold(
    run: dict[str, Any], new: dict[str, Any], leaves: bool
) -> None:
    """What ends in a group moves that as well, and of that the foothold knows nothing."""
    made = plan(run=replace(GOING, **run), created=[replace(NEW, **new)])
    assert bool(dict(footholds_after({RUN: made}, NOW, "mark"))) is leaves

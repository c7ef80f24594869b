"""The short way for plain hops decides what ``fold`` decides, and leaves to it whatever is not plain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cnstra.orchestrator.footholds import is_plain
from cnstra.orchestrator.machine.events import Expected, Scattered, Succeeded
from cnstra.orchestrator.machine.fold import fold
from cnstra.orchestrator.machine.plain import plain_hop
from cnstra.orchestrator.machine.plans import Loaded, Verdict
from cnstra.orchestrator.machine.records import (
    Activation,
    BlobRef,
    Claimed,
    Compensable,
    Ending,
    Failure,
    Output,
    Run,
    Target,
)
from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus
from cnstra.orchestrator.slots import Changes, OnStale, SlotWrite

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN, WORKER = UUID(int=7), UUID(int=8)
FENCE = Claimed(activation_id=3, epoch=1, nonce=11)
SLOTS = ("s:a", "s:b", "w")

times = st.sampled_from([None, NOW - timedelta(seconds=5), NOW, NOW + timedelta(seconds=5)])

runs = st.builds(
    Run,
    run_id=st.just(RUN),
    graph=st.just("g"),
    status=st.just(RunStatus.RUNNING),
    attempt=st.integers(1, 3),
    outstanding=st.just(1),
    active=st.just(1),
    last_activation=st.integers(3, 5),
    last_finish=st.integers(0, 4),
    context_version=st.integers(0, 4),
    last_group=st.integers(0, 1),
    idled=st.sampled_from([0.0, 2.5]),
    started_at=times,
    deadline_at=times,
    undoable=st.integers(0, 2),
)
activations = st.builds(
    Activation,
    activation_id=st.just(3),
    status=st.just(ActivationStatus.RUNNING),
    queue=st.just("default"),
    epoch=st.just(1),
    nonce=st.just(11),
    worker=st.just(WORKER),
    tries=st.integers(1, 2),
    started_at=st.sampled_from([NOW - timedelta(seconds=9), NOW]),
    failure=st.sampled_from([None, Failure(error_type="E", error="before")]),
    compensable=st.sampled_from(Compensable),
    gathers=st.sampled_from([None, 1]),
    limited=st.booleans(),
)
targets = st.builds(
    Target,
    ordinal=st.integers(0, 1),
    neuron=st.just("n"),
    dendrite=st.just("d"),
    collateral=st.just("c"),
    queue=st.just("default"),
    payload=st.just("1"),
    here=st.booleans(),
    limited=st.booleans(),
    compensable=st.sampled_from(Compensable),
)
outputs = st.builds(Output, ordinal=st.just(0), collateral=st.just("c"), payload=st.just("1"))
writes = st.builds(
    SlotWrite,
    slot=st.sampled_from(SLOTS),
    text=st.sampled_from(["1", None]),
    base=st.integers(0, 4),
    on_stale=st.sampled_from(OnStale),
)
changes = st.builds(
    Changes,
    writes=st.lists(writes, max_size=2, unique_by=lambda write: write.slot).map(tuple),
    replaces=st.sampled_from([None, None, None, OnStale.OVERWRITE, OnStale.CONFLICT]),
)
heads = st.dictionaries(st.sampled_from(SLOTS), st.sampled_from([-4, -1, 1, 2, 4]))


def few(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(elements, max_size=1).map(tuple)


events = st.builds(
    Succeeded,
    fence=st.just(FENCE),
    targets=few(targets),
    outputs=few(outputs),
    results=few(outputs),
    changes=changes,
    version_read=st.integers(0, 4),
    compensable=st.sampled_from(Compensable),
)
TARGET = Target(ordinal=0, neuron="n", dendrite="d", collateral="c", queue="default", payload="1")
SPOILT: tuple[tuple[dict[str, Any], dict[str, Any], dict[str, Any]], ...] = (
    # what is another of the run, of the activation, of the event: each by itself makes the hop no plain one
    ({"status": RunStatus.WAITING}, {}, {}),
    ({"status": RunStatus.PAUSED}, {}, {}),
    ({"outstanding": 2}, {}, {}),
    ({"active": 2}, {}, {}),
    ({"failed": 1}, {}, {}),
    ({"alone": 3}, {}, {}),
    ({"alone": 2}, {}, {}),
    ({"ending": Ending.CANCELLED}, {}, {}),
    ({}, {"status": ActivationStatus.DONE}, {}),
    ({}, {"epoch": 2}, {}),
    ({}, {"nonce": None}, {}),
    ({}, {"undo": True}, {}),
    ({}, {"path": ((1, 0),)}, {}),
    ({}, {}, {"fence": Claimed(activation_id=4, epoch=1, nonce=11)}),
    ({}, {}, {"targets": (TARGET, TARGET)}),
    ({}, {}, {"targets": (replace(TARGET, delay=timedelta(seconds=1)),)}),
    ({}, {}, {"targets": (replace(TARGET, at=NOW),)}),
    ({}, {}, {"expected": (Expected(collateral="c", targets=()),)}),
    ({}, {}, {"scattered": (Scattered(ordinal=0, collateral="c", payloads=(), targets=()),)}),
    ({}, {}, {"blob": BlobRef(place="p", key="k")}),
    ({}, {}, {"wasted": (BlobRef(place="p", key="k"),)}),
)


@given(run=runs, held=activations, event=events, heads=heads)
def test_a_plain_hop_is_what_fold_makes_of_it(
    run: Run, held: Activation, event: Succeeded, heads: dict[str, int]
) -> None:
    """Field by field the same plan; only where others have written what it read, nothing is decided."""
    folded = fold(run, Loaded(activations={3: held}, heads=heads), [event], NOW)
    plan = plain_hop(run, held, event, heads, NOW)
    note(folded.answers[0].verdict.value)
    if folded.answers[0].verdict is Verdict.APPLIED:
        assert plan == folded
        assert is_plain(folded, run)
    else:
        assert plan is None


@pytest.mark.parametrize("which", range(len(SPOILT)))
@given(run=runs, held=activations, event=events)
@settings(max_examples=10)
def test_what_is_not_plain_is_left_to_fold(which: int, run: Run, held: Activation, event: Succeeded) -> None:
    """Whatever it is that makes it so."""
    of_run, of_activation, of_event = SPOILT[which]
    run, held, event = replace(run, **of_run), replace(held, **of_activation), replace(event, **of_event)
    assert plain_hop(run, held, event, {}, NOW) is None

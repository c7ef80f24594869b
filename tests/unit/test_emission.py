"""What a handler's emissions come to in a durable run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cnstra import CNS, OutputError, collateral, neuron
from cnstra.orchestrator.emission import Emitter
from cnstra.orchestrator.graph.expectations import make_expectation
from cnstra.orchestrator.machine.events import Succeeded
from cnstra.orchestrator.machine.records import Claimed
from cnstra.workers.calling import size_of

item, done, approved = collateral("item", int), collateral("done", int), collateral("approved", int)
splitter, worker, report = neuron("splitter", {"item": item}), neuron("worker", {"done": done}), neuron("report", {})


@splitter.dendrite(collateral("start"))
def split(_: None, axon: Any) -> Any:
    return axon.item.scatter([1])


@worker.dendrite(item)
def work(number: int) -> None:
    """Emits nothing."""


@worker.dendrite(approved)
def go_on(number: int) -> None:
    """Emits nothing."""


@report.gather(done)
def gather(results: list[int]) -> None:
    """Emits nothing."""


def test_what_a_timeout_emits_on_a_gathered_collateral_is_a_result() -> None:
    """It is told beside the outputs, as that of a hop is: else no member would ever have it."""
    cns = CNS([splitter, worker, report], name="late")
    late = make_expectation(approved, key=None, timeout=timedelta(seconds=5), on_timeout=done.create_signal(7))
    [expected] = Emitter(cns).emitted([late], "here").expected
    assert [output.payload for output in expected.late.results] == ["7"]
    assert expected.late.outputs == expected.late.results


def test_g15_a_result_that_is_to_wait_is_refused_as_a_result() -> None:
    """A gather does hear it, so it is not told that nobody does."""
    cns = CNS([splitter, worker, report], name="late")
    with pytest.raises(OutputError, match=r"'done' is to wait, and a gather collects .* have a dendrite wait before"):
        Emitter(cns).emitted([done.create_signal(7, delay=timedelta(seconds=5))], "here")


def test_g15_what_timeouts_emit_counts_in_the_size_of_a_hop() -> None:
    """It is written with the hop, which is refused when it is too large."""
    cns = CNS([splitter, worker, report], name="late")
    number = 10**30
    late = [
        make_expectation(approved, key=None, timeout=timedelta(seconds=5), on_timeout=done.create_signal(number))
        for _ in range(3)
    ]
    event = Succeeded(
        fence=Claimed(activation_id=1, epoch=1, nonce=1), expected=tuple(Emitter(cns).emitted(late, "here").expected)
    )
    assert size_of(event) >= 3 * 31

"""Scatters: which payloads make one, and that only a durable run carries it out."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from cnstra import CNS, CnstraError, OutputError, PayloadError, Scatter, StimulationError, collateral, neuron

item = collateral("item", int)


@pytest.mark.parametrize(
    ("given", "payloads"),
    [
        ([1, 2, 2], (1, 2, 2)),
        ((1,), (1,)),
        (range(3), (0, 1, 2)),
        ((number for number in (5, 4)), (5, 4)),
        ([], ()),
        (iter(()), ()),
    ],
)
def test_a_scatter_keeps_its_payloads_in_order(given: Any, payloads: tuple[int, ...]) -> None:
    """From any iterable, a generator or an empty one among them; what stands twice is there twice."""
    scatter = item.scatter(given)

    assert isinstance(scatter, Scatter)
    assert (scatter.collateral, scatter.payloads, scatter.limit) == (item, payloads, None)


def test_a_scatter_is_fixed_and_keeps_its_payloads_out_of_logs() -> None:
    """It cannot be changed on its way, nor by a change of the list that it was made from."""
    numbers = [41, 42]
    scatter = item.scatter(numbers, limit=7)
    numbers.append(43)

    assert (scatter.payloads, scatter.limit) == ((41, 42), 7)
    assert "41" not in repr(scatter)
    with pytest.raises(FrozenInstanceError):
        scatter.limit = 1  # type: ignore[misc]


def test_a_collateral_that_carries_nothing_scatters_nothing_several_times() -> None:
    """Its payload is None."""
    assert collateral("tick").scatter([None, None]).payloads == (None, None)
    with pytest.raises(PayloadError, match="payload 1 of 2"):
        collateral("tick").scatter([None, 1])  # type: ignore[list-item]


def test_the_error_of_a_payload_names_its_place() -> None:
    """And the collateral, what it carries, and what it got."""
    with pytest.raises(PayloadError) as caught:
        item.scatter([1, 2, "three", "four"])  # type: ignore[list-item]
    assert str(caught.value).startswith("a scatter on 'item', payload 2 of 4: collateral 'item' carries int, got str")


@pytest.mark.parametrize("given", ["abc", b"abc", bytearray(b"abc"), {"a": 1}, 3, None, item.create_signal(1)])
def test_what_is_one_thing_is_not_scattered(given: Any) -> None:
    """A text or a dict would come apart into what nobody meant; also where the collateral takes anything."""
    for wanted in (item, collateral("anything", Any)):
        with pytest.raises(
            PayloadError, match=f"takes a list of payloads, .* got {type(given).__name__}; for a single"
        ):
            wanted.scatter(given)


@pytest.mark.parametrize("limit", [0, -1, 1.0, "2", True])
def test_a_limit_is_a_whole_number_from_one(limit: Any) -> None:
    """Or None."""
    assert item.scatter([1], limit=1).limit == 1
    with pytest.raises(OutputError, match="a scatter on 'item': limit=") as caught:
        item.scatter([1], limit=limit)
    assert "None" in str(caught.value)
    assert isinstance(caught.value, CnstraError)


def test_within_one_process_nothing_is_scattered() -> None:
    """A stimulation does not start with one; a handler that returns one, alone or among signals, has failed."""
    start, more = collateral("start", bool), item.scatter([1])
    heard: list[int] = []
    splitter, worker = neuron("splitter", {"item": item}), neuron("worker")
    splitter.dendrite(start)(lambda alone: more if alone else [item.create_signal(0), more])
    worker.dendrite(item)(heard.append)
    cns = CNS([splitter, worker])

    for refused in (lambda: cns.stimulate(more), lambda: cns.run([more])):  # type: ignore[arg-type, list-item]
        with pytest.raises(StimulationError, match="a scatter on 'item' is for durable runs"):
            refused()
    for alone in (True, False):
        [failure] = cns.stimulate(start.create_signal(alone)).failed_tasks
        assert isinstance(failure.error, StimulationError)
        assert "a scatter on 'item'" in str(failure.error)
    assert heard == []

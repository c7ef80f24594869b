"""What a handler returns within one process is checked as in a durable run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cnstra import CNS, OutputError, collateral, neuron

go, out, foreign = collateral("go"), collateral("out", int), collateral("foreign", int)

WRONG: list[Any] = [
    [SimpleNamespace(collateral=out, payload="never checked")],
    [out.create_signal(1), foreign.create_signal(1)],
    (out.create_signal(1), None),
    foreign.create_signal(1),
    out,
    "text",
    {"out": 1},
]


@pytest.mark.parametrize("returned", WRONG, ids=lambda value: type(value).__name__)
def test_what_is_no_signal_of_the_axon_fails_the_task_and_starts_nothing(returned: Any) -> None:
    """Also where it stands among others that are right: a hop emits all that it returned, or nothing."""
    emitter, hearer = neuron("emitter", {"out": out}), neuron("hearer")
    heard: list[int] = []
    emitter.dendrite(go)(lambda payload: returned)
    hearer.dendrite(out)(lambda payload: heard.append(payload))

    [failure] = CNS([emitter, hearer]).stimulate(go.create_signal()).failed_tasks

    assert isinstance(failure.error, OutputError)
    assert heard == []

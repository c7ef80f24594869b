"""An error that nobody asks for does not go without a word."""

from __future__ import annotations

import gc
import logging

import pytest

from cnstra import CNS, StimulationFailed, collateral, neuron

go = collateral("go", str)
broken = neuron("broken")


@broken.dendrite(go)
def fail(secret: str) -> None:
    raise ValueError(f"cannot take {secret}")


cns = CNS([broken])


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_failure_that_nobody_waited_for_is_logged_when_the_stimulation_goes(caplog: pytest.LogCaptureFixture) -> None:
    """It names the stimulation, the neuron, and the type of the error; neither the payload nor the error's text."""
    with caplog.at_level(logging.ERROR, logger="cnstra.stimulation"):
        stimulation_id = cns.stimulate(go.create_signal("4711")).id
        gc.collect()  # the error's traceback knows the stimulation

    [line] = said(caplog)
    assert stimulation_id in line
    assert "'broken'" in line
    assert "ValueError" in line
    assert "4711" not in line


def test_a_failure_that_somebody_knows_of_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever ran it, looked at its failed tasks, or listened, knows."""
    with caplog.at_level(logging.ERROR, logger="cnstra.stimulation"):
        with pytest.raises(StimulationFailed):
            cns.run(go.create_signal("a"))
        assert cns.stimulate(go.create_signal("b")).failed_tasks
        cns.stimulate(go.create_signal("c"), on_response=lambda response: None)
        gc.collect()

    assert said(caplog) == []

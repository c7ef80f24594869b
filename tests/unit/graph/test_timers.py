"""Signals that wait: what they may wait for, and that only a durable run lets them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cnstra import CNS, PayloadError, StimulationError, Task, TimerError, collateral, neuron
from cnstra.orchestrator.graph import Signal, TimedSignal

reminder = collateral("reminder", str)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "timer",
    [
        {"delay": timedelta(0)},
        {"delay": timedelta(milliseconds=1)},
        {"delay": timedelta(days=36_525)},
        {"at": NOON},
        {"at": datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=-11)))},
    ],
)
def test_a_signal_waits_for_a_while_or_until_a_time(timer: dict[str, Any]) -> None:
    """From nothing to a century, and for any moment, also one that has passed."""
    signal = reminder.create_signal("call Ann", **timer)

    assert isinstance(signal, TimedSignal)
    assert (signal.collateral, signal.payload) == (reminder, "call Ann")
    assert (signal.delay, signal.at) == (timer.get("delay"), timer.get("at"))


def test_a_signal_that_does_not_wait_is_a_plain_one() -> None:
    """Also where None is said; and it is not equal to one that waits."""
    signal = reminder.create_signal("call Ann", delay=None, at=None)

    assert type(signal) is Signal
    assert signal != reminder.create_signal("call Ann", delay=timedelta(0))


@pytest.mark.parametrize(
    ("timer", "problem"),
    [
        ({"delay": timedelta(seconds=-1)}, "from nothing to a century"),
        ({"delay": timedelta(days=36_526)}, "from nothing to a century"),
        ({"delay": 5}, "must be a timedelta"),
        ({"at": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001 - what is to be refused
        ({"at": "2030-01-01"}, "must be a datetime"),
        ({"at": NOON, "delay": timedelta(1)}, "both given"),
    ],
)
def test_g8_what_nothing_can_wait_for_is_refused_at_once(timer: dict[str, Any], problem: str) -> None:
    """Naive datetimes above all; the error names the collateral."""
    with pytest.raises(TimerError, match=problem) as caught:
        reminder.create_signal("call Ann", **timer)
    assert "'reminder'" in str(caught.value)


def test_the_payload_of_a_signal_that_waits_is_checked() -> None:
    """As that of any other."""
    with pytest.raises(PayloadError):
        reminder.create_signal(7, delay=timedelta(1))  # type: ignore[call-overload]


def test_within_one_process_nothing_waits() -> None:
    """Initial signals and tasks are refused at the door; a handler that emits one has failed; the collateral is named."""
    start = collateral("start")
    sender, hearer = neuron("sender", {"reminder": reminder}), neuron("hearer")
    late = reminder.create_signal("call Ann", delay=timedelta(1))
    sender.dendrite(start)(lambda payload: [late])
    hearer.dendrite(reminder)(lambda text: None)
    cns = CNS([sender, hearer])

    for refused in (lambda: cns.stimulate(late), lambda: cns.run([late])):
        with pytest.raises(StimulationError, match="'reminder' has a delay"):
            refused()
    with pytest.raises(StimulationError, match="'reminder' has a delay"):
        cns.activate([Task(neuron=hearer, collateral=reminder, signal=late)])
    [failure] = cns.stimulate(start.create_signal()).failed_tasks
    assert isinstance(failure.error, StimulationError)
    assert failure.task.neuron is sender

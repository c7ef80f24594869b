"""Expectations: what may be awaited, for how long and under which key, and that only a durable run waits."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest

from cnstra import CNS, Axon, Context, Expectation, ExpectationError, StimulationError, collateral, neuron
from cnstra.orchestrator.graph.expectations import make_expectation

approved = collateral("approved", str)


class AskAxon(Axon):
    """What asks may emit."""

    expired = collateral("expired", str)


late = AskAxon.expired.create_signal("too late")
soon = timedelta(days=3)


def expect(wanted: Any = approved, *, key: Any = None, timeout: Any = None, on_timeout: Any = None) -> Expectation:
    """What a handler's ``ctx.expect`` gives."""
    return Context.expect(None, wanted, key=key, timeout=timeout, on_timeout=on_timeout)  # type: ignore[arg-type]


def test_an_expectation_keeps_what_it_was_asked_for() -> None:
    """Without anything it waits without end, for the run's own sender."""
    plain = expect()
    assert (plain.collateral, plain.key, plain.timeout, plain.on_timeout) == (approved, None, None, None)
    full = expect(key="order-17", timeout=soon, on_timeout=late)
    assert (full.collateral, full.key, full.timeout, full.on_timeout) == (approved, "order-17", soon, late)
    assert full == make_expectation(approved, key="order-17", timeout=soon, on_timeout=late)
    with pytest.raises(FrozenInstanceError):
        full.key = "another"  # type: ignore[misc]


def test_the_signal_of_a_timeout_may_wait_itself() -> None:
    """From the moment when nobody has answered in time."""
    later = AskAxon.expired.create_signal("too late", delay=timedelta(hours=1))
    assert expect(timeout=soon, on_timeout=later).on_timeout is later


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(microseconds=1), timedelta(days=36_525)])
def test_a_timeout_is_from_nothing_to_a_century(timeout: timedelta) -> None:
    """Both ends included: one of nothing has it answered already, or not at all."""
    assert expect(timeout=timeout, on_timeout=late).timeout == timeout


@pytest.mark.parametrize("key", ["a", "order-17", "Größe 3", " ", "x" * 400])
def test_a_key_is_any_printable_text(key: str) -> None:
    """Of 1 to 400 characters."""
    assert expect(key=key).key == key


def test_a_key_of_a_str_enum_is_its_plain_text() -> None:
    """As it will be compared, and stored."""

    class Kind(StrEnum):
        ORDER = "order"

    assert type(expect(key=Kind.ORDER).key) is str
    assert expect(key=Kind.ORDER).key == "order"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"wanted": "approved"}, "takes the collateral to wait for, got str"),
        ({"wanted": None}, "takes the collateral to wait for, got NoneType"),
        ({"wanted": approved.create_signal("x")}, "got Signal; what is awaited is its collateral"),
        ({"key": ""}, "key= is empty"),
        ({"key": 17}, "key= must be a string, got int"),
        ({"key": b"order"}, "key= must be a string, got bytes"),
        ({"key": "x" * 401}, "key= has 401 characters, at most 400 fit"),
        ({"key": "a\0b"}, "holds a character that cannot be printed"),
        ({"key": "a\nb"}, "holds a character that cannot be printed"),
        ({"key": "\ud800"}, "holds a character that cannot be printed"),
        ({"timeout": 30, "on_timeout": late}, "timeout=30 must be a timedelta from nothing to a century"),
        ({"timeout": timedelta(seconds=-1), "on_timeout": late}, "from nothing to a century"),
        ({"timeout": timedelta(days=36_526), "on_timeout": late}, "from nothing to a century"),
        ({"timeout": soon}, "what is to happen when nobody answers in time is said by on_timeout="),
        ({"timeout": timedelta(0)}, "what is to happen when nobody answers in time is said by on_timeout="),
        ({"on_timeout": late}, "on_timeout= was given alone"),
        ({"timeout": soon, "on_timeout": AskAxon.expired}, "on_timeout= must be a signal .* got Collateral"),
        ({"timeout": soon, "on_timeout": [late]}, "on_timeout= must be a signal .* got list"),
        ({"timeout": soon, "on_timeout": AskAxon.expired.scatter([])}, "on_timeout= must be a signal .* got Scatter"),
    ],
)
def test_what_cannot_be_awaited_is_refused_at_once(given: dict[str, Any], problem: str) -> None:
    """In the handler, where it can be found; the error says what to do, and names what is awaited."""
    with pytest.raises(ExpectationError, match=problem) as caught:
        expect(**given)
    assert "ctx.expect()" in str(caught.value)
    assert "wanted" in given or "'approved'" in str(caught.value)


def test_within_one_process_nothing_is_expected() -> None:
    """A stimulation does not start with one; a handler that returns one, alone or among signals, has failed."""
    start = collateral("start", bool)
    asks, hears = neuron("asks", AskAxon), neuron("hears")
    heard: list[str] = []

    @asks.dendrite(start)
    def ask(alone: bool, axon: AskAxon, ctx: Context) -> Any:
        return ctx.expect(approved) if alone else [axon.expired.create_signal("now"), ctx.expect(approved)]

    hears.dendrite(AskAxon.expired)(heard.append)
    cns = CNS([asks, hears])

    with pytest.raises(StimulationError, match="an expectation of 'approved' is for durable runs"):
        cns.stimulate(expect())  # type: ignore[arg-type]
    for alone in (True, False):
        [failure] = cns.stimulate(start.create_signal(alone)).failed_tasks
        assert isinstance(failure.error, StimulationError)
        assert "an expectation of 'approved'" in str(failure.error)
    assert heard == []

"""Expectations: a handler's wish that the run waits for a signal from outside, and what is to happen if none comes.

It describes the wait; a durable run carries it out. Refused are keys that cannot be stored or read, waits backwards or
above a century, and a timeout that does not say what happens then, because it would end in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cnstra.orchestrator.errors import ExpectationError
from cnstra.orchestrator.graph.collaterals import Collateral, Signal
from cnstra.orchestrator.graph.timers import LONGEST_DELAY

LONGEST_KEY = 400
"""Characters of the key of an expectation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A wait for a signal from outside, to be returned by a handler. Made by ``Context.expect``."""

    collateral: Collateral[Any]
    """What is awaited."""
    key: str | None
    """By which ``orchestrator.send(signal, key=...)`` finds it; None when only ``run.send`` can."""
    timeout: timedelta | None
    """How long it waits, from the commit of the hop; None is without end."""
    on_timeout: Signal[Any] | None = field(repr=False)
    """What is emitted when nothing came in time; given where ``timeout`` is."""


def make_expectation(collateral: Any, *, key: Any, timeout: Any, on_timeout: Any) -> Expectation:
    """A checked expectation. Raises ExpectationError."""
    if not isinstance(collateral, Collateral):
        hint = "; what is awaited is its collateral" if isinstance(collateral, Signal) else ""
        raise ExpectationError(f"ctx.expect() takes the collateral to wait for, got {type(collateral).__name__}{hint}")
    where = f"ctx.expect() of {collateral.name!r}"
    if on_timeout is not None and not isinstance(on_timeout, Signal):
        raise ExpectationError(
            f"{where}: on_timeout= must be a signal (axon.<name>.create_signal(payload)), got "
            f"{type(on_timeout).__name__}"
        )
    checked = _checked_timeout(timeout, where)
    if checked is not None and on_timeout is None:
        raise ExpectationError(
            f"{where}: timeout= was given alone; what is to happen when nobody answers in time is said by on_timeout="
        )
    if checked is None and on_timeout is not None:
        raise ExpectationError(
            f"{where}: on_timeout= was given alone; when nobody answers in time is said by timeout=, a timedelta"
        )
    return Expectation(collateral=collateral, key=_checked_key(key, where), timeout=checked, on_timeout=on_timeout)


def _checked_timeout(timeout: Any, where: str) -> timedelta | None:
    if timeout is None:
        return None
    if not isinstance(timeout, timedelta) or not timedelta(0) <= timeout <= LONGEST_DELAY:
        raise ExpectationError(f"{where}: timeout={timeout!r} must be a timedelta from nothing to a century")
    return timeout


def _checked_key(key: Any, where: str) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str):
        raise ExpectationError(f"{where}: key= must be a string, got {type(key).__name__}")
    if not key:
        raise ExpectationError(f"{where}: key= is empty; give it 1 to {LONGEST_KEY} characters, or leave it out")
    if len(key) > LONGEST_KEY:
        raise ExpectationError(f"{where}: key= has {len(key)} characters, at most {LONGEST_KEY} fit: {key[:50]!r}…")
    if not key.isprintable():
        raise ExpectationError(f"{where}: key={key!r} holds a character that cannot be printed; remove it")
    return str.__str__(key)  # of a str enum the plain value

"""What tenacity would see of a stored try: its call state, rebuilt from numbers, and one question about it.

Owns: the words for a try (`Tried`), how it ended (`Failure`, `Returned`), the `RetryCallState` made of them,
and the guard around each call into a policy.
Refuses: to read a clock, to sleep, to call what is retried; interrupts as failures; answers that are none.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenacity import BaseRetrying, Future, RetryCallState

from cnstra.orchestrator.errors import PolicyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One try, as its stored numbers tell it. All times are seconds.

    Attributes:
        attempt_number: which try this is, from 1; counted anew in each attempt of a run.
        started: how long ago the first try of the attempt began: at the end of this try when it is judged, at
            its beginning when it is announced.
        idle_for: the sum of all waits that the policy has asked for before this try.
        last_wait: the wait that it asked for right before this try; 0 for the first.
        fn: the handler, for policies that log its name.
        args: what the handler was called with, for policies that look at it.
        kwargs: the same, by keyword.
    """

    attempt_number: int
    started: float
    idle_for: float = 0.0
    last_wait: float = 0.0
    fn: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Admits only numbers that a run of tries can have."""
        if self.attempt_number < 1:
            raise PolicyError(f"attempt_number is {self.attempt_number}; tries are counted from 1")
        for name in ("started", "idle_for", "last_wait"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise PolicyError(f"{name} is {seconds}; it is a time in seconds, from 0")


# The outcomes have one field each and are matched by position: `case Failure(error)`.
@dataclass(frozen=True, slots=True)
class Failure:
    """The try raised. Interrupts are no failure of a handler: no policy is ever asked about them."""

    exception: Exception

    def __post_init__(self) -> None:
        """Refuses interrupts: KeyboardInterrupt, SystemExit, CancelledError, those of a broker."""
        if not isinstance(self.exception, Exception):
            raise PolicyError(
                f"{type(self.exception).__name__} is no failure of a handler but an interrupt of its worker;"
                " let it pass, and do not ask a policy about it"
            )


@dataclass(frozen=True, slots=True)
class Returned:
    """The try returned this value."""

    value: object


Outcome = Failure | Returned


def call_state(policy: BaseRetrying, tried: Tried, outcome: Outcome | None) -> RetryCallState:
    """The state that tenacity would have at this point, had the tries all run in one process.

    Its clock starts with the first try: `start_time` is 0, so `seconds_since_start` is exactly what was
    stored. Without an outcome it is the state before the try. `policy.statistics`, which are the thread's
    own, are set too.
    """
    # The constructor looks at the clock. What it saw is overwritten, so that nothing depends on it.
    state = RetryCallState(retry_object=policy, fn=tried.fn, args=tried.args, kwargs=dict(tried.kwargs))
    state.start_time = 0.0
    state.attempt_number = tried.attempt_number
    state.idle_for = tried.idle_for
    state.upcoming_sleep = tried.last_wait
    match outcome:
        case Failure(exception):
            state.outcome = Future.construct(tried.attempt_number, exception, has_exception=True)
        case Returned(value):
            state.outcome = Future.construct(tried.attempt_number, value, has_exception=False)
    if outcome is not None:
        state.outcome_timestamp = float(tried.started)
    policy.statistics.update(
        start_time=0.0,
        attempt_number=tried.attempt_number,
        idle_for=tried.idle_for,
        delay_since_first_attempt=tried.started,
    )
    return state


def ask(part: str, question: Callable[[RetryCallState], Any], state: RetryCallState) -> Any:
    """Puts one question to one part of the policy.

    Raises:
        PolicyError: naming the part, when it raises, or answers with an awaitable that nobody would await.
    """
    try:
        answer = question(state)
    except Exception as error:
        raise PolicyError(
            f"{part} of the retry policy raised {type(error).__name__}: {error}; a policy has to answer for"
            f" every outcome (this was try {state.attempt_number})"
        ) from error
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise PolicyError(
            f"{part} of the retry policy answered with a {type(answer).__name__}, and a policy is asked"
            " without an event loop; make it a plain function"
        )
    return answer

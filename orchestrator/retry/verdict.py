"""What becomes of a try: the questions of tenacity's own loop, in its order, about numbers from a database.

Owns: `announce` (before a try), `judge` (after it), the verdicts.
Refuses: to run, to repeat or to delay anything. The verdict is stored with the settlement, and whoever claims
the activation next carries it out.

The order is that of `tenacity.BaseRetrying.iter`: retry, after, wait, stop, before_sleep. `wait` comes before
`stop` because `stop_before_delay` needs to know how long the wait would be.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import tenacity
from tenacity import BaseRetrying, RetryAction, RetryCallState, RetryError, TryAgain, before_nothing

from cnstra.orchestrator.errors import PolicyError, ResultRefused
from cnstra.orchestrator.retry.asking import Failure, Outcome, Returned, Tried, ask, call_state
from cnstra.orchestrator.retry.door import is_no_wait

# A wait beyond this is a slip in the policy, and far beyond it the next try's time is no date any more.
LONGEST_WAIT = 100 * 365.25 * 24 * 3600.0

# They answer False to every result. What they hold is asked about exceptions only.
_NEVER_ABOUT_RESULTS = frozenset(
    {
        type(tenacity.retry_never),
        tenacity.retry_if_exception,
        tenacity.retry_if_exception_type,
        tenacity.retry_if_not_exception_type,
        tenacity.retry_if_exception_message,
        tenacity.retry_if_exception_cause_type,
    }
)


@dataclass(frozen=True, slots=True)
class Accept:
    """The try counts: what it returned is the activation's result."""


# The verdicts have at most one field and are matched by position: `case RetryAfter(seconds)`.
@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again, this many seconds after the try ended. Finite, not negative."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The activation has failed for good, with this error."""

    error: Exception


Verdict = Accept | RetryAfter | GiveUp


def announce(policy: BaseRetrying, tried: Tried) -> None:
    """Tells the policy's `before` that a try is about to begin.

    Raises:
        PolicyError: when `before` raises.
    """
    if announces(policy):
        ask("before", policy.before, call_state(policy, tried, None))


def announces(policy: BaseRetrying) -> bool:
    """Whether the policy wants to be told that a try begins."""
    return _is_enabled(policy) and policy.before not in (None, before_nothing)


def takes_any_result(policy: BaseRetrying) -> bool:
    """Whether the policy accepts whatever a handler returns: it need not be asked, then."""
    return not _is_enabled(policy) or _never_about_results(policy.retry)


def judge(policy: BaseRetrying, tried: Tried, outcome: Outcome) -> Verdict:
    """Asks the policy what becomes of a try that has ended.

    Args:
        policy: one that `check_policy` has let in.
        tried: the try, with the numbers as they stood when it ended.
        outcome: how it ended.

    Raises:
        PolicyError: naming the part that raised or gave no usable answer. The activation has then failed for
        good.
    """
    if not _is_enabled(policy):
        return GiveUp(outcome.exception) if isinstance(outcome, Failure) else Accept()
    if isinstance(outcome, Returned) and takes_any_result(policy):
        return Accept()
    state = call_state(policy, tried, outcome)
    if not _wants_another(policy, state, outcome):
        return GiveUp(outcome.exception) if isinstance(outcome, Failure) else Accept()
    if policy.after is not None:
        ask("after", policy.after, state)
    state.upcoming_sleep = 0.0 if is_no_wait(policy.wait) else _number(ask("wait", policy.wait, state))
    if ask("stop", policy.stop, state):
        return GiveUp(_last_error(policy, state, outcome))
    return _retry(policy, state)


def _is_enabled(policy: BaseRetrying) -> bool:
    """Tenacity 9.2 has a switch that makes a policy call once and ask nothing."""
    return bool(getattr(policy, "enabled", True))


def _never_about_results(retry: object) -> bool:
    """Whether no result can be retried, so that success, the common case, need not rebuild a state."""
    if type(retry) in (tenacity.retry_any, tenacity.retry_all):
        parts = getattr(retry, "retries", ())
        return bool(parts) and all(_never_about_results(part) for part in parts)
    return type(retry) in _NEVER_ABOUT_RESULTS


def _wants_another(policy: BaseRetrying, state: RetryCallState, outcome: Outcome) -> bool:
    if isinstance(outcome, Failure) and isinstance(outcome.exception, TryAgain):
        return True
    return bool(ask("retry", policy.retry, state))


def _retry(policy: BaseRetrying, state: RetryCallState) -> RetryAfter:
    seconds = _in_bounds(state)
    state.next_action = RetryAction(seconds)
    state.idle_for += seconds
    policy.statistics["idle_for"] += seconds
    policy.statistics["attempt_number"] += 1
    if policy.before_sleep is not None:
        ask("before_sleep", policy.before_sleep, state)
    # Read again: as in tenacity, before_sleep may have set another.
    return RetryAfter(_in_bounds(state))


def _number(answer: Any) -> Any:
    """A wait, before `stop` has been asked: until then it may have any size, since nobody waits yet."""
    if not isinstance(answer, Real):
        raise PolicyError(
            f"wait of the retry policy answered a {type(answer).__name__}; it has to be a number of seconds"
        )
    return answer


def _in_bounds(state: RetryCallState) -> float:
    if not 0 <= state.upcoming_sleep <= LONGEST_WAIT:
        raise PolicyError(
            f"wait of the retry policy asks for less than nothing or more than {LONGEST_WAIT:.0f} seconds (a"
            f" century) after try {state.attempt_number}; give it bounds, with max= or min= for example"
        )
    return float(state.upcoming_sleep)


def _last_error(policy: BaseRetrying, state: RetryCallState, outcome: Outcome) -> Exception:
    """The error of an activation whose tries have run out.

    It is the handler's own, with or without `reraise`: a record says more with it than with a RetryError.
    Only an error class that somebody chose takes its place.
    """
    if policy.retry_error_cls is not RetryError and not (policy.reraise and isinstance(outcome, Failure)):
        return _chosen_error(policy, state)
    if isinstance(outcome, Failure):
        return _beneath(outcome.exception)
    return ResultRefused(
        f"the retry policy refused what try {state.attempt_number} returned, as it did with the tries before,"
        " and allows no more; look at its retry and stop"
    )


def _chosen_error(policy: BaseRetrying, state: RetryCallState) -> Exception:
    def make(state: RetryCallState) -> object:
        return policy.retry_error_cls(state.outcome)  # type: ignore[arg-type]

    error = ask("retry_error_cls", make, state)
    if not isinstance(error, Exception):
        raise PolicyError(f"retry_error_cls of the retry policy made {error!r}, which is no exception")
    error.__cause__ = None if state.outcome is None else state.outcome.exception()
    return error


def _beneath(error: Exception) -> Exception:
    """What a TryAgain was raised for: it says itself nothing about what went wrong."""
    if isinstance(error, TryAgain):
        beneath = error.__cause__ or error.__context__
        if isinstance(beneath, Exception):
            return beneath
    return error

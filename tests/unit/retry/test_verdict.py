"""What `judge` and `announce` make of one try: the cases that the comparison with tenacity does not reach."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import tenacity
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    Retrying,
    TryAgain,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_before_delay,
    wait_fixed,
)

from cnstra.orchestrator.errors import PolicyError, ResultRefused
from cnstra.orchestrator.retry import (
    DEFAULT_POLICY,
    Accept,
    Failure,
    GiveUp,
    RetryAfter,
    Returned,
    Tried,
    announce,
    judge,
)

FIRST = Tried(attempt_number=1, started=0.5)
BOOM = ValueError("boom")


def tried(number: int) -> Tried:
    return Tried(attempt_number=number, started=10.0 * number)


def test_the_default_policy_gives_three_tries_with_a_growing_wait() -> None:
    """About 1 s and 2 s, each with up to a second of jitter, and the third failure is the last."""
    first, second, third = (judge(DEFAULT_POLICY, tried(number), Failure(BOOM)) for number in (1, 2, 3))

    assert isinstance(first, RetryAfter)
    assert 1 <= first.seconds <= 2
    assert isinstance(second, RetryAfter)
    assert 2 <= second.seconds <= 3
    assert third == GiveUp(BOOM)


def test_the_default_policy_never_waits_longer_than_a_minute() -> None:
    """The exponential has a ceiling: a policy with more tries that uses the same wait stays under it."""
    verdict = judge(Retrying(wait=DEFAULT_POLICY.wait), tried(30), Failure(BOOM))

    assert verdict == RetryAfter(60.0)


def test_a_result_is_accepted_without_asking_a_policy_that_is_only_about_exceptions() -> None:
    """Success is the common case: neither stop nor wait nor a callback hears of it."""

    def refuse(state: RetryCallState) -> Any:
        raise AssertionError(state)

    policy = Retrying(
        stop=refuse,
        wait=refuse,
        after=refuse,
        retry=retry_if_exception_type(OSError) | tenacity.retry_if_exception_message(match="busy"),
    )

    assert judge(policy, FIRST, Returned("ok")) == Accept()


def test_a_result_that_the_policy_wants_again_is_retried_and_then_refused() -> None:
    """Running out over a result has an error of its own: there is no exception to give."""
    policy = Retrying(retry=retry_if_result(lambda value: value == "pending"), stop=stop_after_attempt(2))

    assert judge(policy, tried(1), Returned("pending")) == RetryAfter(0.0)
    last = judge(policy, tried(2), Returned("pending"))
    assert isinstance(last, GiveUp)
    assert isinstance(last.error, ResultRefused)
    assert "try 2" in str(last.error)
    assert judge(policy, tried(2), Returned("done")) == Accept()


def test_a_retry_all_of_nothing_retries_a_result_as_in_tenacity() -> None:
    """All of no conditions hold, for a result as for an exception."""
    assert judge(Retrying(retry=tenacity.retry_all()), FIRST, Returned("ok")) == RetryAfter(0.0)
    assert judge(Retrying(retry=tenacity.retry_any()), FIRST, Returned("ok")) == Accept()


def test_an_exception_that_the_policy_does_not_retry_is_given_up_with_as_it_is() -> None:
    """The record shows the handler's own error."""
    policy = Retrying(retry=retry_if_exception_type(OSError))

    verdict = judge(policy, FIRST, Failure(BOOM))

    assert isinstance(verdict, GiveUp)
    assert verdict.error is BOOM


@pytest.mark.parametrize("reraise", [False, True])
def test_tries_that_ran_out_end_with_the_handlers_own_error(reraise: bool) -> None:
    """With or without reraise: a RetryError would only hide the type that a record is searched by."""
    policy = Retrying(stop=stop_after_attempt(1), reraise=reraise)

    verdict = judge(policy, FIRST, Failure(BOOM))

    assert isinstance(verdict, GiveUp)
    assert verdict.error is BOOM


class OutOfTries(RetryError):
    """An error class that somebody chose."""


@pytest.mark.parametrize(
    ("outcome", "reraise", "error"),
    [
        (Failure(BOOM), False, OutOfTries),
        (Failure(BOOM), True, ValueError),
        (Returned(0), False, OutOfTries),
        (Returned(0), True, OutOfTries),
    ],
)
def test_a_chosen_error_class_takes_the_place_of_the_handlers_error_as_in_tenacity(
    outcome: Failure | Returned, reraise: bool, error: type[Exception]
) -> None:
    """`retry_error_cls` is honoured, and `reraise` puts the handler's own error first where there is one."""
    policy = Retrying(
        stop=stop_after_attempt(1), retry=tenacity.retry_always, retry_error_cls=OutOfTries, reraise=reraise
    )

    verdict = judge(policy, FIRST, outcome)

    assert isinstance(verdict, GiveUp)
    assert type(verdict.error) is error
    if isinstance(verdict.error, OutOfTries):
        assert verdict.error.last_attempt.attempt_number == 1
        assert verdict.error.__cause__ is (BOOM if isinstance(outcome, Failure) else None)


def test_try_again_forces_a_retry_that_the_policy_would_not_grant() -> None:
    """As in tenacity, the predicate is not even asked; the stop still is."""
    policy = Retrying(retry=tenacity.retry_never, stop=stop_after_attempt(2), wait=wait_fixed(4))

    assert judge(policy, tried(1), Failure(TryAgain())) == RetryAfter(4.0)
    assert isinstance(judge(policy, tried(2), Failure(TryAgain())), GiveUp)


def test_a_try_again_that_ran_out_is_recorded_as_what_it_was_raised_for() -> None:
    """TryAgain says nothing about what went wrong; its cause, or the error that was being handled, does."""

    def raised(with_cause: bool) -> Exception:
        try:
            try:
                raise BOOM
            except ValueError as error:
                raise TryAgain from (error if with_cause else None)
        except TryAgain as error:
            return error

    policy = Retrying(stop=stop_after_attempt(1))
    bare = TryAgain()

    assert judge(policy, FIRST, Failure(raised(with_cause=True))) == GiveUp(BOOM)
    assert judge(policy, FIRST, Failure(raised(with_cause=False))) == GiveUp(BOOM)
    assert judge(policy, FIRST, Failure(bare)) == GiveUp(bare)


def test_the_wait_is_known_when_the_stop_is_asked() -> None:
    """A stop_before_delay of 10 s allows a wait of 4 s at 5 s, and refuses one of 6 s."""
    at_five = Tried(attempt_number=1, started=5.0)

    def verdict(wait: float) -> object:
        return judge(Retrying(stop=stop_before_delay(10), wait=wait_fixed(wait)), at_five, Failure(BOOM))

    assert verdict(4) == RetryAfter(4.0)
    assert verdict(6) == GiveUp(BOOM)


def test_before_sleep_may_set_another_wait() -> None:
    """Tenacity reads the wait after this callback, and so does the engine."""

    def patience(state: RetryCallState) -> None:
        state.upcoming_sleep = 7.0

    assert judge(Retrying(before_sleep=patience), FIRST, Failure(BOOM)) == RetryAfter(7.0)


@pytest.mark.parametrize("make", [Retrying, AsyncRetrying])
def test_before_is_told_of_a_try_that_is_about_to_begin(make: Callable[..., Any]) -> None:
    """It sees the number of the try and the handler, and no outcome yet."""
    seen: list[RetryCallState] = []

    announce(make(before=seen.append), Tried(attempt_number=2, started=9.0, fn=print, args=("payload",)))

    [state] = seen
    assert (state.attempt_number, state.fn, state.args) == (2, print, ("payload",))
    assert state.outcome is None
    assert state.seconds_since_start is None


@pytest.mark.skipif(not hasattr(Retrying(), "enabled"), reason="tenacity 9.1 has no switch")
def test_a_policy_that_is_switched_off_calls_once_and_asks_nothing() -> None:
    """With enabled=False tenacity calls the function as if it were not there."""

    def refuse(state: RetryCallState) -> Any:
        raise AssertionError(state)

    policy = Retrying(enabled=False, retry=refuse, before=refuse)

    announce(policy, FIRST)
    assert judge(policy, FIRST, Failure(BOOM)) == GiveUp(BOOM)
    assert judge(policy, FIRST, Returned(1)) == Accept()


class Interrupt(BaseException):
    """As a broker raises it in the thread of a handler."""


@pytest.mark.parametrize(
    "interrupt",
    [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError(), GeneratorExit(), Interrupt()],
    ids=lambda interrupt: type(interrupt).__name__,
)
def test_no_policy_is_asked_about_an_interrupt(interrupt: BaseException) -> None:
    """A policy that retries everything would swallow it; so it never gets that far."""
    with pytest.raises(PolicyError, match="let it pass"):
        judge(Retrying(retry=tenacity.retry_always), FIRST, Failure(interrupt))


def _raise(state: object) -> Any:
    raise LookupError("no such thing")


@pytest.mark.parametrize(
    ("part", "policy"),
    [
        ("retry", Retrying(retry=_raise)),
        ("after", Retrying(after=_raise)),
        ("wait", Retrying(wait=_raise)),
        ("stop", Retrying(stop=_raise)),
        ("before_sleep", Retrying(before_sleep=_raise)),
        ("retry_error_cls", Retrying(stop=stop_after_attempt(1), retry_error_cls=_raise)),
    ],
)
def test_a_part_that_raises_is_named(part: str, policy: Retrying) -> None:
    """The policy's own error is kept as the cause, and the message says which part it came from."""
    with pytest.raises(PolicyError, match=rf"^{part} of the retry policy raised LookupError") as raised:
        judge(policy, FIRST, Failure(BOOM))

    assert isinstance(raised.value.__cause__, LookupError)


def test_a_before_that_raises_is_named() -> None:
    """It stops the try before it began."""
    with pytest.raises(PolicyError, match=r"^before of the retry policy raised LookupError"):
        announce(Retrying(before=_raise), FIRST)


@pytest.mark.parametrize("answer", [None, "3", -0.5, float("nan"), float("inf"), 10**400, 3.2e9])
def test_a_wait_that_is_no_time_to_wait_is_refused(answer: object) -> None:
    """The database could not store it, or nobody could mean it."""
    with pytest.raises(PolicyError, match=r"^wait of the retry policy"):
        judge(Retrying(wait=lambda state: answer), FIRST, Failure(BOOM))


def test_a_wait_of_any_size_does_no_harm_when_nobody_waits_for_it() -> None:
    """Tenacity asks wait before stop; a backoff that has outgrown all bounds then stops like any other."""
    policy = Retrying(stop=stop_after_attempt(90), wait=tenacity.wait_exponential())

    assert judge(policy, tried(90), Failure(BOOM)) == GiveUp(BOOM)


@pytest.mark.filterwarnings("error")
def test_an_answer_that_wants_to_be_awaited_is_refused() -> None:
    """A lambda around a coroutine function passes the door, and its coroutine is always true."""

    async def later(state: object) -> bool:
        return False

    with pytest.raises(PolicyError, match=r"^retry of the retry policy answered with a coroutine"):
        judge(Retrying(retry=lambda state: later(state)), FIRST, Failure(BOOM))


@pytest.mark.parametrize(
    "numbers",
    [
        {"attempt_number": 0, "started": 0.0},
        {"attempt_number": 1, "started": -1.0},
        {"attempt_number": 1, "started": float("nan")},
        {"attempt_number": 2, "started": 1.0, "idle_for": -0.1},
        {"attempt_number": 2, "started": 1.0, "last_wait": float("inf")},
    ],
)
def test_numbers_that_no_run_of_tries_can_have_are_refused(numbers: dict[str, Any]) -> None:
    """A wrong stored number is found where it comes in."""
    with pytest.raises(PolicyError):
        Tried(**numbers)


def test_nothing_is_kept_in_the_policy_between_two_activations() -> None:
    """One policy serves all activations of a dendrite: what one asks does not change what another is told."""
    seen: list[object] = []
    policy = Retrying(wait=wait_fixed(5), before_sleep=lambda state: seen.append(dict(policy.statistics)))

    judge(policy, Tried(attempt_number=4, started=60.0, idle_for=15.0, last_wait=5.0), Failure(BOOM))
    judge(policy, FIRST, Failure(BOOM))

    assert seen == [
        {"start_time": 0.0, "attempt_number": 5, "idle_for": 20.0, "delay_since_first_attempt": 60.0},
        {"start_time": 0.0, "attempt_number": 2, "idle_for": 5.0, "delay_since_first_attempt": 0.5},
    ]

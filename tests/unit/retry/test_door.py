"""The door refuses what cannot be kept, by name, and lets in everything else."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import Any

import pytest
import tenacity
from tenacity import AsyncRetrying, Retrying, stop_after_attempt, wait_fixed
from tenacity import asyncio as tenacity_asyncio

from cnstra.orchestrator.errors import PolicyError
from cnstra.orchestrator.retry import DEFAULT_POLICY, check_policy

WHERE = "dendrite payment <- reserved"


async def _async_function(*_: Any) -> bool:
    return True


class _AsyncCallable:
    async def __call__(self, state: Any) -> bool:
        return True


class _Patient(Retrying):
    """Overrides a method of tenacity's loop."""

    def iter(self, retry_state: Any) -> Any:
        return super().iter(retry_state)


class _Named(Retrying):
    """Only makes the constructor shorter, and adds a method of its own."""

    def __init__(self) -> None:
        super().__init__(stop=stop_after_attempt(7))

    def describe(self) -> str:
        return "seven"


def _nested(depth: int) -> Any:
    stop: Any = stop_after_attempt(3)
    for _ in range(depth):
        stop = tenacity.stop_any(stop)
    return stop


@pytest.mark.parametrize(
    "policy",
    [
        DEFAULT_POLICY,
        Retrying(),
        AsyncRetrying(stop=stop_after_attempt(2)),
        AsyncRetrying(sleep=asyncio.sleep),
        Retrying(sleep=time.sleep),
        Retrying(wait=None),
        Retrying(before=None, after=None, before_sleep=None),
        Retrying(stop=lambda state: state.attempt_number > 3, wait=lambda state: 1.5),
        Retrying(retry=tenacity.retry_if_exception(lambda error: "busy" in str(error))),
        Retrying(retry=tenacity.retry_any(tenacity.retry_if_exception_type(OSError), lambda state: False)),
        Retrying(retry=tenacity.retry_if_exception_type(ConnectionError | TimeoutError)),
        Retrying(retry=tenacity.retry_if_not_exception_type(KeyboardInterrupt)),
        Retrying(before=print, after=print, before_sleep=functools.partial(print, "again")),
        Retrying(reraise=True, retry_error_cls=type("OutOfTries", (tenacity.RetryError,), {})),
        Retrying(stop=_nested(40)),
        _Named(),
    ],
)
def test_a_policy_that_can_be_kept_is_let_in(policy: object) -> None:
    """Functions, callbacks and tenacity's defaults are all fine on a dendrite."""
    check_policy(policy, WHERE)


@pytest.mark.parametrize(
    ("policy", "part", "advice"),
    [
        (3, "not 3", "Retrying(...)"),
        (None, "not None", "Retrying(...)"),
        (Retrying, "tenacity.Retrying", "Retrying(...)"),
        (stop_after_attempt(3), "a stop_after_attempt", "Retrying(...)"),
        (tenacity.retry(stop=stop_after_attempt(3)), "retry.<locals>.wrap", "Retrying(...)"),
        (_Patient(), "overrides iter", "stop, wait, retry"),
        (Retrying(sleep=lambda seconds: None), "sleep is", "leave sleep out"),
        (Retrying(sleep=tenacity.sleep_using_event(threading.Event())), "sleep is", "leave sleep out"),
        (Retrying(retry_error_callback=lambda state: None), "retry_error_callback", "compensation"),
        (Retrying(retry_error_cls=str), "retry_error_cls is builtins.str", "exception class"),
        (Retrying(stop=None), "stop is None", "strategy"),
        (Retrying(stop=3), "stop is 3", "strategy"),
        (Retrying(stop=stop_after_attempt), "the class stop_after_attempt", "call it"),
        (Retrying(retry=tenacity.retry_if_exception_type), "the class retry_if", "call it"),
        (Retrying(stop=wait_fixed(3)), "stop is a wait_fixed", "give it as wait="),
        (Retrying(stop=tenacity.stop_any(wait_fixed(3))), "stop.parts[0] is a wait_fixed", "wait="),
        (
            Retrying(stop=tenacity.stop_when_event_set(threading.Event())),
            "stop_when_event_set",
            "run.cancel()",
        ),
        (Retrying(stop=stop_after_attempt("3")), "stop.max_attempt_number is '3'", "number"),
        (Retrying(stop=stop_after_attempt(True)), "stop.max_attempt_number is True", "number"),
        (Retrying(wait=wait_fixed(float("nan"))), "wait.wait is nan", "number"),
        (Retrying(stop=_nested(60)), "nested deeper than 50", "side by side"),
        (Retrying(wait=_async_function), "wait: ", "is async"),
        (Retrying(stop=_AsyncCallable()), "stop: ", "is async"),
        (Retrying(after=functools.partial(_async_function, 1)), "after: ", "is async"),
        (AsyncRetrying(before_sleep=_async_function), "before_sleep: ", "is async"),
        (Retrying(retry=tenacity.retry_if_exception(_async_function)), "retry: ", "is async"),
        (AsyncRetrying(retry=tenacity_asyncio.retry_if_result(_async_function)), "retry: ", "is async"),
        (Retrying(retry=tenacity.retry_all(_async_function)), "retry.parts[0]: ", "is async"),
        (Retrying(retry=tenacity.retry_if_exception_type([OSError])), "exception_types is a list", "tuple"),
        (Retrying(retry=tenacity.retry_if_exception_type(BaseException)), "BaseException", "interrupt"),
        (
            Retrying(retry=tenacity.retry_if_exception_type((OSError, asyncio.CancelledError))),
            "CancelledError",
            "interrupt",
        ),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused_by_name(policy: object, part: str, advice: str) -> None:
    """The error names the place, the part, and what to do instead."""
    with pytest.raises(PolicyError) as refused:
        check_policy(policy, WHERE)

    message = str(refused.value)
    assert message.startswith(WHERE)
    assert part in message
    assert advice in message


def test_a_chain_without_a_strategy_is_refused() -> None:
    """Tenacity 9.1 makes an empty wait_chain, which then fails at the first wait."""
    chain = tenacity.wait_chain(wait_fixed(1))
    chain.strategies = ()

    with pytest.raises(PolicyError, match=r"wait\.parts: a wait_chain without a strategy"):
        check_policy(Retrying(wait=chain), WHERE)


def test_a_strategy_whose_parameter_is_not_where_tenacity_keeps_it_is_refused() -> None:
    """Another layout in some later tenacity is an error at the door, not a wrong decision later."""
    stop = stop_after_attempt(3)
    del stop.max_attempt_number

    with pytest.raises(PolicyError, match=r"stop\.max_attempt_number is None, not a number"):
        check_policy(Retrying(stop=stop), WHERE)

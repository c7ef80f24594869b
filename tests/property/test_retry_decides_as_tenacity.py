"""Any policy made of tenacity's parts decides about stored tries as tenacity does in its own loop.

The reference is `tenacity.Retrying` itself, run with a clock and a sleep of the test's own. Against it stands
a loop that keeps nothing between two tries but a row of JSON, as workers that die after each try would.
"""

from __future__ import annotations

import inspect
import json
import random
import re
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryCallState, Retrying, TryAgain

from cnstra.orchestrator.errors import PolicyError, ResultRefused
from cnstra.orchestrator.retry import (
    Accept,
    Failure,
    GiveUp,
    RetryAfter,
    Returned,
    Tried,
    announce,
    from_data,
    judge,
    to_data,
)

MOST_TRIES = 9

seconds = st.integers(0, 80).map(lambda quarters: quarters / 4) | st.integers(0, 20)
durations = seconds | seconds.map(lambda value: timedelta(seconds=value))
factors = st.sampled_from([0.5, 1, 1.0, 2, 3.7])
exception_types = st.sampled_from(
    [
        Exception,
        ValueError,
        (OSError, KeyError),
        ((ConnectionError,), TimeoutError),
        OSError | LookupError,
        (),
    ]
)
texts = st.sampled_from(["boom", "bo", "", "BOOM", "again?"])
patterns = texts.map(re.escape) | texts.map(lambda text: re.compile(re.escape(text), re.IGNORECASE))
MULTIPLIER = (
    "multiplier" if "multiplier" in inspect.signature(tenacity.wait_exponential_jitter).parameters else "initial"
)


def combined(leaves: st.SearchStrategy[Any], *combinations: Callable[..., Any]) -> st.SearchStrategy[Any]:
    """These strategies, and what the combinations make of some of them, nested."""

    def combine(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        parts = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(*(st.builds(lambda given, made=made: made(*given), parts) for made in combinations))

    return st.recursive(leaves, combine, max_leaves=4)


stops = combined(
    st.just(tenacity.stop_never)
    | st.builds(tenacity.stop_after_attempt, st.integers(0, 6))
    | st.builds(tenacity.stop_after_delay, durations)
    | st.builds(tenacity.stop_before_delay, durations),
    tenacity.stop_any,
    tenacity.stop_all,
    lambda first, *rest: first | rest[0] if rest else first,
)
waits = combined(
    st.builds(tenacity.wait_none)
    | st.builds(tenacity.wait_fixed, durations)
    | st.builds(tenacity.wait_random, min=durations, max=durations)
    | st.builds(tenacity.wait_incrementing, start=durations, increment=durations, max=durations)
    | st.builds(tenacity.wait_exponential, multiplier=factors, max=durations, exp_base=factors, min=durations)
    | st.builds(tenacity.wait_random_exponential, multiplier=factors, max=durations, min=durations)
    | st.builds(tenacity.wait_exponential, multiplier=factors)
    | st.builds(
        lambda factor, **rest: tenacity.wait_exponential_jitter(**{MULTIPLIER: factor}, **rest),
        factors,
        max=seconds,
        exp_base=factors,
        jitter=seconds,
    ),
    tenacity.wait_combine,
    tenacity.wait_chain,
    lambda *parts: sum(parts),
)
retries = combined(
    st.sampled_from([tenacity.retry_never, tenacity.retry_always, tenacity.retry_if_exception_type()])
    | st.builds(tenacity.retry_if_exception_type, exception_types)
    | st.builds(tenacity.retry_if_not_exception_type, exception_types)
    | st.builds(tenacity.retry_unless_exception_type, exception_types)
    | st.builds(tenacity.retry_if_exception_cause_type, exception_types)
    | st.builds(tenacity.retry_if_exception_message, message=texts.filter(bool))
    | st.builds(tenacity.retry_if_exception_message, match=patterns.filter(lambda pattern: pattern != ""))
    | st.builds(tenacity.retry_if_not_exception_message, message=texts.filter(bool))
    | st.builds(tenacity.retry_if_not_exception_message, match=patterns.filter(lambda pattern: pattern != "")),
    tenacity.retry_any,
    tenacity.retry_all,
    lambda first, *rest: first & rest[0] if rest else first,
)

# What only a policy on a dendrite can have: functions that look at the whole state.
functions_of = {
    "stop": st.sampled_from(
        [lambda state: state.idle_for > 7, lambda state: state.upcoming_sleep > 5, lambda state: 1 / 0]
    ),
    "wait": st.sampled_from(
        [
            lambda state: state.upcoming_sleep * 2 + 0.25,  # as tenacity leaves it: the wait before this try
            lambda state: state.seconds_since_start,
            getattr(tenacity, "wait_exception", lambda ask: ask)(lambda error: len(str(error))),
        ]
    ),
    "retry": st.sampled_from(
        [
            tenacity.retry_if_result(lambda value: value < 3),
            tenacity.retry_if_not_result(lambda value: value > 1),
            tenacity.retry_if_exception(lambda error: "o" in str(error)),
            lambda state: state.attempt_number < 3,
            tenacity.retry_if_result(lambda value: value.no_such_attribute),
        ]
    ),
}

data_policies = st.builds(Retrying, stop=stops, wait=waits, retry=retries, reraise=st.booleans())
any_policies = data_policies | st.builds(
    Retrying,
    stop=stops | functions_of["stop"],
    wait=waits | functions_of["wait"] | st.none(),
    retry=retries | functions_of["retry"],
    reraise=st.booleans(),
)


def _error(kind: Callable[[str], Exception], text: str, cause: Exception | None) -> Exception:
    error = kind(text)
    error.__cause__ = cause
    return error


errors = st.builds(
    _error,
    st.sampled_from([ValueError, KeyError, ConnectionError, TimeoutError, RuntimeError]),
    texts,
    st.sampled_from([None, KeyError("below"), ConnectionError("below")]),
) | st.builds(TryAgain)


class Enough(BaseException):
    """Ends tenacity's loop when a policy would retry for ever."""


class World:
    """A clock, what each call of the handler does to it and how it ends, and a transcript."""

    def __init__(self, ends: list[tuple[float, Exception | int]]) -> None:
        self.now = 5000.0
        self.ends = ends
        self.calls = 0
        self.transcript: list[Any] = []

    def handler(self, payload: str) -> int:
        took, end = self.ends[min(self.calls, len(self.ends) - 1)]
        self.calls += 1
        self.now += took
        self.transcript.append(("call", payload))
        if isinstance(end, Exception):
            raise end
        return end

    def wait(self, wait: float) -> None:
        self.now += wait
        self.transcript.append(("wait", wait))
        if self.calls >= MOST_TRIES:
            raise Enough

    def watched(self, policy: Retrying) -> Retrying:
        """The policy with callbacks that write down all that tenacity shows them."""
        return policy.copy(
            before=self._watcher("before"),
            after=self._watcher("after"),
            before_sleep=self._watcher("before_sleep"),
        )

    def _watcher(self, name: str) -> Callable[[RetryCallState], None]:
        def watch(state: RetryCallState) -> None:
            outcome = state.outcome
            statistics = state.retry_object.statistics
            self.transcript.append(
                {
                    "callback": name,
                    "attempt_number": state.attempt_number,
                    "idle_for": state.idle_for,
                    "upcoming_sleep": state.upcoming_sleep,
                    "seconds_since_start": state.seconds_since_start,
                    "next_action": state.next_action and state.next_action.sleep,
                    "outcome": outcome and (outcome.exception() or outcome.result()),
                    "outcome_number": outcome and outcome.attempt_number,
                    "statistics": (statistics["attempt_number"], statistics["idle_for"]),
                    "called": (state.fn.__name__ if state.fn else None, state.args, state.kwargs),
                }
            )

        return watch


def run_by_tenacity(policy: Retrying, world: World, seed: int) -> list[Any]:
    """What tenacity's own loop does."""
    random.seed(seed)
    with mock.patch.object(tenacity, "time", SimpleNamespace(monotonic=lambda: world.now)):
        try:
            result = policy.copy(sleep=world.wait)(world.handler, "payload")
        except Enough:
            end: Any = "enough"
        except tenacity.RetryError as error:
            end = ("gave up", error.last_attempt.exception() or "a result")
        except Exception as error:
            raised_by_handler = any(error is end for _, end in world.ends)
            end = ("gave up", error) if raised_by_handler else ("the policy raised", type(error))
        else:
            end = ("accepted", result)
    return [*world.transcript, end]


def run_by_rows(policy_again: Callable[[], Retrying], world: World, seed: int) -> list[Any]:
    """The same with nothing kept between two tries but a row of JSON; the policy is made anew each time."""
    random.seed(seed)
    row = json.dumps({"try": 1, "first_at": world.now, "idle_for": 0.0, "last_wait": 0.0})
    while True:
        stored, policy = json.loads(row), policy_again()

        def tried(stored: dict[str, Any] = stored) -> Tried:
            return Tried(
                attempt_number=stored["try"],
                started=world.now - stored["first_at"],
                idle_for=stored["idle_for"],
                last_wait=stored["last_wait"],
                fn=world.handler,
                args=("payload",),
            )

        announce(policy, tried())
        try:
            outcome: Failure | Returned = Returned(world.handler("payload"))
        except Exception as error:
            outcome = Failure(error)
        try:
            verdict = judge(policy, tried(), outcome)
        except PolicyError as error:
            return [*world.transcript, ("the policy raised", type(error.__cause__))]
        match verdict:
            case Accept():
                return [
                    *world.transcript,
                    ("accepted", outcome.value if isinstance(outcome, Returned) else None),
                ]
            case GiveUp(error):
                what = "a result" if isinstance(error, ResultRefused) else error
                return [*world.transcript, ("gave up", what)]
            case RetryAfter(wait):
                try:
                    world.wait(wait)
                except Enough:
                    return [*world.transcript, "enough"]
                row = json.dumps(
                    {
                        "try": stored["try"] + 1,
                        "first_at": stored["first_at"],
                        "idle_for": stored["idle_for"] + wait,
                        "last_wait": wait,
                    }
                )


ends = st.lists(st.tuples(seconds, errors | st.integers(0, 4)), min_size=1, max_size=MOST_TRIES)
failing = st.lists(st.tuples(seconds, errors), min_size=MOST_TRIES, max_size=MOST_TRIES)
seeds = st.integers(0, 2**32)


@given(any_policies, ends | failing, seeds)
def test_G12_a_policy_decides_about_stored_tries_as_in_tenacitys_own_loop(
    policy: Retrying, ends: list[tuple[float, Exception | int]], seed: int
) -> None:
    """Calls, waits, order and contents of every callback, and the end are the same, whatever the policy."""
    by_tenacity, by_rows = World(ends), World(ends)
    expected = run_by_tenacity(by_tenacity.watched(policy), by_tenacity, seed)

    assert run_by_rows(lambda: by_rows.watched(policy), by_rows, seed) == expected


@given(data_policies, ends | failing, seeds)
def test_G12_a_policy_that_went_through_json_before_each_try_decides_as_the_one_that_was_submitted(
    policy: Retrying, ends: list[tuple[float, Exception | int]], seed: int
) -> None:
    """Written, stored, and made again by another worker for every single try, it still decides the same."""
    stored = json.dumps(to_data(policy, "a run"), allow_nan=False)
    world = World(ends)

    by_rows = run_by_rows(lambda: from_data(json.loads(stored), "a run"), world, seed)

    assert by_rows == run_by_tenacity(policy, World(ends), seed)


@given(data_policies)
def test_a_policy_that_was_read_writes_the_same_data_again(policy: Retrying) -> None:
    """Nothing is lost on the way: what is read is written as it was."""
    data = to_data(policy, "a run")

    assert to_data(from_data(data, "a run"), "a run") == data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in inner for place in _places(value, (*path, key)))]


@given(data_policies, st.data())
def test_data_that_was_tampered_with_is_a_policy_or_a_policy_error(policy: Retrying, draw: st.DataObject) -> None:
    """Whatever stands at any one place of the data, reading it ends in one of two ways."""
    data = to_data(policy, "a run")
    path = draw.draw(st.sampled_from(_places(data)))
    value = draw.draw(json_values)
    if path:
        holder = data
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
    else:
        data = value

    try:
        read = from_data(data, "a run")
    except PolicyError as error:
        assert str(error).startswith("a run")  # noqa: PT017  both ends are right; the message has to say where
    else:
        assert isinstance(read, Retrying)

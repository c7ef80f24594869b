"""The options of neurons, dendrites and graphs: each is checked when it is given.

An option of the wrong kind is refused with what it must be; none is corrected or passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from tenacity import BaseRetrying

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.handlers import inspect_merge

OnConflict = Literal["retry", "overwrite", "fail"] | Callable[[Any, Any], Any] | Callable[[Any, Any, Any], Any]
_NAMED_POLICIES = ("retry", "overwrite", "fail")


def check_retry(retry: object, where: str) -> BaseRetrying | None:
    """A tenacity policy, or None."""
    if retry is None:
        return None
    if not isinstance(retry, BaseRetrying):
        raise GraphError(
            f"{where}: retry= must be a tenacity policy such as Retrying(stop=stop_after_attempt(5)), got "
            f"{retry.__name__ + ' itself' if isinstance(retry, type) else type(retry).__name__}"
        )
    from cnstra.orchestrator.retry import check_policy

    check_policy(retry, where)
    return retry


def check_max_duration(max_duration: object, where: str) -> timedelta | None:
    """A positive timedelta, or None."""
    if max_duration is None:
        return None
    if not isinstance(max_duration, timedelta):
        raise GraphError(
            f"{where}: max_duration= must be a timedelta such as timedelta(seconds=30), got "
            f"{type(max_duration).__name__}"
        )
    if max_duration <= timedelta(0):
        raise GraphError(f"{where}: max_duration={max_duration} must be longer than nothing")
    return max_duration


def check_concurrency(concurrency: object, where: str) -> int | None:
    """A whole number from 1, or None for no limit."""
    if concurrency is None:
        return None
    if not isinstance(concurrency, int) or isinstance(concurrency, bool):
        raise GraphError(f"{where}: concurrency= must be an int or None, got {type(concurrency).__name__}")
    if concurrency < 1:
        raise GraphError(f"{where}: concurrency={concurrency} must be at least 1; None is no limit")
    return int(concurrency)


def check_transaction(transaction: object, where: str) -> bool:
    """True or False, and nothing that only counts as one."""
    if not isinstance(transaction, bool):
        raise GraphError(f"{where}: transaction= must be True or False, got {type(transaction).__name__}")
    return transaction


def check_on_conflict(on_conflict: Any, where: str) -> Callable[[Any, Any, Any], Any] | None:
    """The merge function ``(mine, theirs, base)`` of a conflict policy; None for a policy that has a name."""
    if isinstance(on_conflict, str) and on_conflict in _NAMED_POLICIES:
        return None
    return inspect_merge(on_conflict, where)

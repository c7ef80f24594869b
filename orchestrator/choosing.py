"""Which runs something is to be done to, checked at the door: one set of words for all that is done to many runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.orchestrator.graph.timers import LONGEST_DELAY
from cnstra.orchestrator.machine.states import RunStatus
from cnstra.orchestrator.store import RunChoice
from cnstra.orchestrator.submitting import aware, graph_name, tag_filter

CANCELLABLE = (RunStatus.RUNNING.value, RunStatus.WAITING.value, RunStatus.PAUSED.value)
"""Runs in one of these can be cancelled. Of those that are undone, or have ended, nothing is left to cancel."""


class ChoiceOptions(TypedDict, total=False):
    """Which runs are meant: those that fit all of what is given.

    ``graph``: its name. ``tag``: ``"key"``, ``"key=value"`` or a pair. ``since``: an aware datetime; submitted then or later.
    ``older_than``: a timedelta; submitted longer ago than that.
    """

    graph: str | None
    tag: str | tuple[str, str] | None
    since: datetime | None
    older_than: timedelta | None


class OpenChoiceOptions(ChoiceOptions, total=False):
    """``status``: one or several of running, waiting and paused. The others are those of ``ChoiceOptions``."""

    status: str | Sequence[str] | None


def choice_of(options: ChoiceOptions, now: datetime) -> RunChoice:
    """Which runs are meant, at a time. Raises ``ConfigurationError`` for what no run can be."""
    old = options.get("older_than")
    return RunChoice(
        graph=graph_name(options.get("graph")),
        tag=tag_filter(options.get("tag")),
        since=aware(options.get("since")),
        before=None if old is None else now - _length(old),
    )


def cancellable(options: OpenChoiceOptions) -> tuple[str, ...] | None:
    """The statuses that are meant; None is any. Raises ``ConfigurationError`` for one of runs that cannot be cancelled, and
    where nothing at all says which runs are meant.
    """
    if all(value is None for value in options.values()):
        raise ConfigurationError(
            "nothing says which runs are to be cancelled; name a graph, a tag, since, older_than or a status: "
            f"status={CANCELLABLE!r} are all"
        )
    given: Any = options.get("status")
    if given is None:
        return None
    if not isinstance(given, str | Sequence):
        raise ConfigurationError(f"status={given!r} must be one or several of {', '.join(CANCELLABLE)}")
    statuses = (given,) if isinstance(given, str) else tuple(given)
    for status in statuses:
        if status not in CANCELLABLE:
            raise ConfigurationError(f"no run of status {status!r} can be cancelled; {', '.join(CANCELLABLE)} can")
    return statuses


def _length(old: timedelta) -> timedelta:
    if not isinstance(old, timedelta) or not timedelta(0) <= old <= LONGEST_DELAY:
        raise ConfigurationError(f"older_than={old!r} must be a timedelta from nothing to a century")
    return old

"""How long what has ended is kept: the rules, and what may be said of them, checked at the door.

A rule says for how long a run is kept after it has ended, by its status; one more, for how long its context is, and one for how
long signals are that were sent by key. None is for ever. Only what has ended is ever deleted: rules for anything else are
refused here, and by the store once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypedDict

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.orchestrator.machine.states import ENDED, FINAL, RunStatus

CONTEXT = "context"
"""The rule for contexts of runs that will never move again. A failed run's stays with it: a retry goes on from there."""

SENT = "sent"
"""The rule for signals that were sent by key, whether a run has taken them or not: from then on, their keys are forgotten."""

FINAL_STATUSES = tuple(status.value for status in RunStatus if status in FINAL)
ENDED_STATUSES = tuple(status.value for status in RunStatus if status in ENDED)
RULES = (*ENDED_STATUSES, CONTEXT, SENT)

Rules = Mapping[str, timedelta | None]

DEFAULTS: Rules = {
    RunStatus.COMPLETED.value: timedelta(days=30),
    RunStatus.FAILED.value: None,
    RunStatus.COMPENSATED.value: timedelta(days=90),
    RunStatus.CANCELLED.value: timedelta(days=90),
    CONTEXT: None,
    SENT: timedelta(days=30),
}
"""What a new store begins with. Failed runs wait for somebody to deal with them."""

LEAST = timedelta(minutes=1)
"""The shortest that a rule may keep something: who waits for a run must find it when it has ended."""

MOST = timedelta(days=36_525)


class KeepOptions(TypedDict, total=False):
    """How long to keep what has ended, as timedeltas, None for ever. What is left out stays as it is.

    ``context`` is for contexts of runs that are final, with their history: None keeps them as long as their runs. ``sent`` is
    for signals that were sent by key, from the sending on, whether a run has taken them or not.
    """

    completed: timedelta | None
    failed: timedelta | None
    compensated: timedelta | None
    cancelled: timedelta | None
    context: timedelta | None
    sent: timedelta | None


def rules_of(options: KeepOptions) -> Rules:
    """The rules that are to change. Raises ``ConfigurationError`` for one that there is not, or a time that cannot be."""
    rules: dict[str, timedelta | None] = {}
    for what, keep in options.items():
        if what not in RULES:
            raise ConfigurationError(f"nothing is kept by a rule {what!r}; the rules are {', '.join(RULES)}")
        if keep is not None and not (isinstance(keep, timedelta) and LEAST <= keep <= MOST):
            raise ConfigurationError(
                f"{what} cannot be kept for {keep!r}; give a timedelta from a minute to a century, or None for ever"
            )
        rules[what] = keep
    return rules


def prunable(statuses: Sequence[str] | None) -> tuple[str, ...]:
    """The statuses whose runs are to be pruned; without any, the final ones.

    Raises ``ConfigurationError`` for runs that have not ended: they are never pruned.
    """
    if statuses is None:
        return FINAL_STATUSES
    given = (statuses,) if isinstance(statuses, str) else tuple(statuses)
    for status in given:
        if status not in ENDED_STATUSES:
            raise ConfigurationError(
                f"runs that are {status!r} cannot be pruned, only such as have ended: {', '.join(ENDED_STATUSES)}"
            )
    return tuple(dict.fromkeys(given))


def age(older_than: timedelta) -> timedelta:
    """How long ago a run must have ended. Raises ``ConfigurationError`` for what is no age."""
    if not isinstance(older_than, timedelta) or not timedelta(0) <= older_than <= MOST:
        raise ConfigurationError(f"older_than={older_than!r} must be a timedelta from nothing to a century")
    return older_than

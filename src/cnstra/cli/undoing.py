"""What was undone of a run, in which order, and what was lost with an activation that is given up as poisonous."""

from __future__ import annotations

from collections.abc import Iterator

from cnstra.cli.printing import when
from cnstra.cli.wording import called, cut, first_line, times
from cnstra.stores.postgres.diagnosing import Row, Story

_POISONED = "cnstra.Poisoned"
_LOST = "cnstra.WorkerLost"


def undone(story: Story) -> str:
    """The activations whose compensation was called, in the order in which they were undone; then the one that is not."""
    begun = [activation for activation in story.activations if activation["undo"]]
    if not begun:
        return ""
    ended = [activation for activation in begun if activation["status"] == "compensated"]
    ended.sort(key=lambda activation: activation["finished_at"])
    lines = [
        f"  {place}. {called(one)}, {when(one['finished_at'])}, by {_calls(story, one)}"
        for place, one in enumerate(ended, start=1)
    ]
    lines += [f"  {called(one)} is not: {_state(story, one)}" for one in begun if one not in ended]
    if story.run["status"] == "compensating":
        lines.append("  then what else is done and has a compensation")
    return "\n".join(["undone, in this order:", *lines])


def _calls(story: Story, activation: Row) -> str:
    number = activation["activation_id"]
    made = sum(1 for found in story.tries if found["undo"] and found["activation_id"] == number)
    return f"{times(made, 'call')} of its compensation"


def _state(story: Story, activation: Row) -> str:
    state = {
        "running": f"its compensation runs since {when(activation['started_at'])}",
        "ready": f"its compensation is ready since {when(activation['available_at'])}",
        "scheduled": f"its compensation is called again {when(activation['available_at'])}",
        "failed": f"its compensation has failed for good, after {_calls(story, activation)}",
    }.get(activation["status"], f"it is {activation['status']}")
    if activation["error_type"]:
        state += f": {cut(first_line(activation['error_type'], activation['error']))}"
    return state


def poisoned(story: Story) -> str:
    """Those that were given up because workers were lost with them, and which workers these were."""
    lines = [line for one in story.activations if one["error_type"] == _POISONED for line in _losses(story, one)]
    return "\n".join(["given up, for the workers that were lost with it:", *lines]) if lines else ""


def _losses(story: Story, activation: Row) -> Iterator[str]:
    lost = [
        found
        for found in story.tries
        if found["activation_id"] == activation["activation_id"]
        and found["undo"] == activation["undo"]
        and found["error_type"] == _LOST
    ]
    what = "the compensation of " if activation["undo"] else ""
    yield f"  {what}{called(activation)}: {times(len(lost), 'worker')}"
    for found in lost:
        yield f"    {when(found['finished_at'])}: {found['error']}"

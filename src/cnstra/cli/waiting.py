"""What a run that has not ended waits for, and what somebody can do about a run as it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cnstra.cli.printing import when
from cnstra.cli.wording import called
from cnstra.orchestrator.sealing import envelope_of
from cnstra.stores.postgres.diagnosing import Row, Story

_ENDED = ("completed", "failed", "compensated", "cancelled")


def waits(story: Story) -> str:
    """What has to happen before it moves: each in a line; nothing of a run that has ended."""
    if story.run["status"] in _ENDED:
        return ""
    lines = [*_asked(story.run), *_open(story)]
    counts = story.run["ending"] is None and story.run["status"] != "paused"  # a pause holds the deadline back, too
    if story.run["deadline_at"] is not None and counts:
        lines.append(f"or its deadline, {when(story.run['deadline_at'])}")
    return "\n".join(["it waits for:", *(f"  {line}" for line in lines)]) if lines else ""


def _asked(run: Row) -> Iterator[str]:
    """What somebody, or its policy, has asked of the run as a whole."""
    if run["status"] == "paused":
        yield "somebody to resume it: it is paused, and none of its handlers is called"
    elif run["ending"] is not None and run["status"] != "compensating":
        yield "the end of what runs: it is being cancelled, and nothing follows"
    if run["blocked"] == "unknown":
        yield "a worker that has the code for what comes next, and the store of its context"
    if run["blocked"] == "limited":
        yield "a place within the limit of a neuron: as many of it run as may at once"
    if run["next_retry_at"] is not None:
        yield f"its next attempt, {when(run['next_retry_at'])}"


def _open(story: Story) -> Iterator[str]:
    """The first of each kind of what is open, and how many others there are."""
    for status, said in _KINDS.items():
        found = [activation for activation in story.activations if activation["status"] == status]
        if found and not (status == "ready" and (story.run["status"] == "paused" or story.run["blocked"])):
            first = min(found, key=lambda activation: (activation["available_at"], activation["activation_id"]))
            others = f", and {len(found) - 1} more" if len(found) > 1 else ""
            yield f"{said(first)}{others}"


def _what(activation: Row) -> str:
    return f"{'the compensation of ' if activation['undo'] else ''}{called(activation)}"


def _scheduled(activation: Row) -> str:
    what = "the next try of" if activation["error_type"] else "the timer of"
    return f"{what} {_what(activation)}, {when(activation['available_at'])}"


def awaited(activation: Row) -> str:
    """What an activation waits for that nobody who works here can bring about."""
    group = activation["gathers_group_id"]
    return "its signal" if group is None else f"the end of scatter {group}"


_KINDS: dict[str, Callable[[Row], str]] = {
    "running": lambda found: f"{_what(found)}, which runs since {when(found['started_at'])}",
    "ready": lambda found: f"a worker that is free, for {_what(found)} on queue {found['queue']}",
    "scheduled": _scheduled,
    "waiting": lambda found: f"{awaited(found)}, for {_what(found)}",
}


def advice(story: Story) -> str:
    """What somebody can do."""
    run = story.run
    if run["status"] == "failed":
        return _of_failed(run)
    if run["status"] == "paused":
        return f"to let it go on: cnstra resume {run['run_id']}; to end it: cnstra cancel {run['run_id']}"
    if story.expectations:
        return f"to answer it: cnstra send {run['run_id']} {story.expectations[0]['collateral']} JSON"
    if run["blocked"] == "unknown":
        place = run.get("context_place")
        store = f" --context {place}=STORE" if place is not None else ""
        ready = (activation for activation in story.activations if activation["status"] == "ready")
        codec = " --codec CODEC" if any(envelope_of(one["payload"]) is not None for one in ready) else ""
        return f"it goes on as soon as a worker is up with {run['graph']}: cnstra worker APP{store}{codec}"
    if run["status"] in ("cancelled", "compensated"):
        return f"to do all of it again, as a new run: cnstra clone APP {run['run_id']}"
    return ""


def _of_failed(run: Row) -> str:
    if run["compensation_error_type"] is not None:
        return f"to call the compensation that failed again, and undo the rest: cnstra retry {run['run_id']}"
    if run["ending"] is not None:
        return (
            f"its deadline has passed, so that it cannot be retried; to do all of it again, as a new run: "
            f"cnstra clone APP {run['run_id']}"
        )
    return f"to go on from here, on this context: cnstra retry {run['run_id']}"

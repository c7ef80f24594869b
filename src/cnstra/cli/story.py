"""A run in words, for somebody at 3 a.m.: how it stands and why first, what can be done about it last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from cnstra.cli.printing import compact, duration, table, when
from cnstra.cli.undoing import poisoned, undone
from cnstra.cli.waiting import advice, awaited, waits
from cnstra.cli.wording import called, cut, first_line, indented, times
from cnstra.stores.postgres.diagnosing import Row, Story

_TRACEBACKS = 5
_DONE = ("done", "cancelled", "compensated")


def told(story: Story) -> str:
    """The whole story."""
    parts = [
        _headline(story),
        waits(story),
        _frontier(story),
        _handled(story),
        _signals(story),
        _scatters(story),
        undone(story),
        poisoned(story),
        _activations(story),
        _errors(story),
        _context(story),
        advice(story),
    ]
    return "\n\n".join(part for part in parts if part)


def _headline(story: Story) -> str:
    run = story.run
    facts = [
        ("error", f"{run['error_type']}: {run['error']}" if run["error_type"] else None),
        ("undoing", _of_undoing(run)),
        ("begun by", f"{run['entry_collateral']} {cut(compact(run['entry_payload']))}"),
        ("submitted", _moments(run)),
        ("next retry", when(run["next_retry_at"])),
        ("deadline", when(run["deadline_at"])),
        ("blocked", _BLOCKED.get(run["blocked"], run["blocked"])),
        ("tags", compact(run["tags"]) if run["tags"] else None),
        ("key", run["idempotency_key"]),
        ("clone of", run["cloned_from"] and str(run["cloned_from"])),
        ("outputs", "\n".join(f"{out['collateral']} {cut(compact(out['payload']))}" for out in run["outputs"])),
    ]
    lines = [f"run {run['run_id']} of {run['graph']}: {run['status'].upper()}, attempt {run['attempt']}"]
    for name, text in facts:
        lines += [indented(f"{name + ':':<12}{text}", 2, 14)] if text else []
    return "\n".join(lines)


def _of_undoing(run: Row) -> str | None:
    """The error of a compensation is told apart from that which made the run undo what it had done."""
    kind = run["compensation_error_type"]
    return f"failed for good, with {kind}: {run['compensation_error']}" if kind else None


_BLOCKED = {
    "unknown": "unknown: no worker is up that has the code for what comes next, and the store of the context",
    "limited": "limited: it waits for others to make room",
}


def _moments(run: Row) -> str:
    text = when(run["submitted_at"])
    if run["started_at"] is not None:
        text += f", started {when(run['started_at'])}"
    if run["finished_at"] is not None:
        took = (run["finished_at"] - run["submitted_at"]).total_seconds()
        text += f", finished {when(run['finished_at'])} after {duration(took)}"
    return text


def _frontier(story: Story) -> str:
    left = [
        activation
        for activation in story.activations
        if activation["status"] not in _DONE and not activation["undo"] and not activation["handled"]
    ]
    if not left:
        return ""
    lines = [f"  {called(activation)} is {activation['status']}{_why(activation)}" for activation in left]
    return "\n".join([f"not done ({len(left)} of {len(story.activations)}):", *lines])


def _handled(story: Story) -> str:
    """What has failed and is nobody's duty any more."""
    found = [f"#{activation['activation_id']}" for activation in story.activations if activation["handled"]]
    return f"failed, and taken by a gather ({len(found)}): {cut(', '.join(found))}" if found else ""


def _why(activation: Row) -> str:
    text = {
        "running": f" by worker {activation['worker']} since {when(activation['started_at'])}",
        "scheduled": f" for {when(activation['available_at'])}",
        "ready": f" since {when(activation['available_at'])}, on queue {activation['queue']}",
        "failed": f" after {times(activation['tries'])}",
        "waiting": f" for {awaited(activation)}",
    }.get(activation["status"], "")
    if activation["error_type"]:
        text += f": {cut(first_line(activation['error_type'], activation['error']))}"
    return text


def _signals(story: Story) -> str:
    """The signals from outside that it waits for, and until when."""
    if not story.expectations:
        return ""
    lines = ["waits for signals:"]
    for one in story.expectations:
        key = f" by key {one['key']!r}" if one["key"] is not None else ""
        until = "without end" if one["expires_at"] is None else f"until {when(one['expires_at'])}"
        asked = f"asked for by #{one['activation_id']} {one['neuron']}"
        lines.append(f"  {one['collateral']}{key}, {until}, {asked}")
    return "\n".join(lines)


def _scatters(story: Story) -> str:
    """How many members of each scatter have ended, run, have failed, and have not begun."""
    if not story.scatters:
        return ""
    lines = ["scatters:"]
    for one in story.scatters:
        counts = [f"{one['ended']} of {one['size']} members have ended", f"{one['running']} run"]
        counts += [f"{one['failed']} failed"] if one["failed"] else []
        waiting = one["size"] - one["started"]
        counts += [f"{waiting} not begun (at most {one['member_limit']} at once)"] if waiting else []
        within = (
            "" if one["parent_group_id"] is None else f", in member {one['parent_member']} of {one['parent_group_id']}"
        )
        lines.append(f"  {one['group_id']} of {one['collateral']}{within}: {', '.join(counts)}")
    return "\n".join(lines)


def _activations(story: Story) -> str:
    columns = ("#", "after", "neuron", "collateral", "status", "tries", "started", "finished", "context")
    return "activations:\n" + indented(table(columns, ([*_row(activation)] for activation in story.activations)), 2, 2)


def _row(activation: Row) -> Iterator[Any]:
    for column in ("activation_id", "parent_activation_id", "neuron", "collateral", "status", "tries"):
        undoing = activation["undo"] and activation["status"] != "compensated"
        more = " (undo)" if undoing else " (handled)" if activation["handled"] else ""
        yield f"{activation[column]}{more}" if column == "status" else activation[column]
    yield _clock(activation["started_at"])
    yield _clock(activation["finished_at"])
    read, written = activation["context_version_read"], activation["context_version_written"]
    yield "" if read is None else f"{read} → {written}" if written is not None else f"{read}"


def _errors(story: Story) -> str:
    """Every failed try in a line; the traceback of the last one of each activation, of the first few of these.

    What nobody has handled comes first among them.
    """
    failed = [found for found in story.tries if found["error_type"]]
    if not failed:
        return ""
    handled = {activation["activation_id"]: activation["handled"] for activation in story.activations}
    last = {(found["activation_id"], found["undo"]): found for found in failed if found["error_traceback"]}
    shown = set(sorted(last, key=lambda which: (handled[which[0]], *which))[:_TRACEBACKS])
    names = {activation["activation_id"]: called(activation) for activation in story.activations}
    lines = ["failed tries:"]
    for found in failed:
        problem = cut(first_line(found["error_type"], found["error"]))
        name = f"{'the compensation of ' if found['undo'] else ''}{names[found['activation_id']]}"
        lines.append(f"  {name}, try {found['try_number']}, {when(found['finished_at'])}: {problem}")
        which = (found["activation_id"], found["undo"])
        if which in shown and last[which] is found:
            lines.append(indented(found["error_traceback"].rstrip(), 6, 6))
    if len(last) > len(shown):
        lines.append(f"  the tracebacks of {len(last) - len(shown)} more are in error_traceback of cnstra.tries")
    return "\n".join(lines)


def _context(story: Story) -> str:
    context = story.context
    if not context["version"]:
        return ""
    if context["expired"]:
        return f"context, version {context['version']}: no longer kept, since {when(context['expires_at'])}"
    if "note" in context:
        return f"context, version {context['version']}:\n  {context['note']}"
    lines = [f"context, version {context['version']}:", f"  {cut(compact(context['data']))}"]
    lines += [f"  of {neuron} alone: {cut(compact(value))}" for neuron, value in (context["local"] or {}).items()]
    return "\n".join(lines)


def _clock(moment: datetime | None) -> str:
    return when(moment)[11:]

"""A run in words, for the output of a test that has failed: where it stands, and what each of its activations came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_LONGEST = 200
_FIRST = 10
_LAST = 40
_OVER = frozenset({"done", "failed", "cancelled", "compensated"})


def told(run: Row, activations: Sequence[Row]) -> str:
    """The whole story, an activation a line."""
    done = sum(activation["status"] == "done" for activation in activations)
    head = f"run {run['run_id']} of {run['graph']}: {run['status']}, attempt {run['attempt']}, {done} of {len(activations)} done"
    lines = [head + _error(run)]
    told = [f"  {_name(activation)}: {_state(activation)}" for activation in activations]
    if len(told) > _FIRST + _LAST:
        told[_FIRST:-_LAST] = [f"  … {len(told) - _FIRST - _LAST} more …"]
    return "\n".join([*lines, *told])


def what_it_waits_for(run: Row, activations: Sequence[Row]) -> str:
    """Why a run has not ended, in a line."""
    waits = [f"{_name(one)} is {_state(one)}" for one in activations if one["status"] not in _OVER]
    if run["next_retry_at"] is not None:
        waits.append(f"its next attempt is due at {run['next_retry_at']}")
    shown = "; ".join(waits[:5]) + (f"; and {len(waits) - 5} more" if len(waits) > 5 else "")
    return f"run {run['run_id']} of {run['graph']} is {run['status']}" + (f": {shown}" if shown else "")


def _name(activation: Row) -> str:
    return f"{activation['activation_id']} {activation['neuron']} on {activation['collateral']}"


def _state(activation: Row) -> str:
    text = str(activation["status"])
    if activation["status"] == "scheduled":
        text += f" for {activation['available_at']}"
    if activation["status"] != "done" or activation["tries"] > 1:
        text += f", {activation['tries']} {'try' if activation['tries'] == 1 else 'tries'}"
    if activation["outputs"]:
        text += " → " + ", ".join(output["collateral"] for output in activation["outputs"])
    return text + _error(activation)


def _error(row: Row) -> str:
    if not row["error_type"]:
        return ""
    lines = str(row["error"] or "").splitlines()
    text = f"{row['error_type']}: {lines[0]}" if lines else str(row["error_type"])
    return f": {text}" if len(text) <= _LONGEST else f": {text[:_LONGEST]}…"

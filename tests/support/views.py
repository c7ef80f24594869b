"""The columns of the views, word for word as users may rely on them; a release may add to them, and take none away."""

from __future__ import annotations

_COLUMNS = """
runs: run_id, graph, graph_version, status, attempt, entry_collateral, entry_payload, outputs, error, error_type,
    context_version, outstanding, submitted_at, started_at, finished_at, next_retry_at, deadline_at, priority, tags,
    idempotency_key, gate, parent_run_id, blocked, context_place, ending, compensation_error, compensation_error_type,
    cloned_from
activations: run_id, activation_id, parent_activation_id, attempt, neuron, dendrite, collateral, payload, outputs, status,
    tries, epoch, queue, worker, error, error_type, created_at, available_at, started_at, finished_at,
    context_version_read, context_version_written, group_id, progress, undo, member, gathers_group_id, handled
tries: run_id, activation_id, try_number, worker, started_at, finished_at, error, error_type, error_traceback, undo
context: run_id, version, data, local, updated_at, expires_at
context_history: run_id, version, activation_id, neuron, written, removed, at
context_blobs: run_id, version, context_place, key, slots
workers: worker, host, pid, graphs, queues, started_at, last_seen_at, running
queue_depth: queue, ready, running, scheduled, oldest_ready_age
graph_queue_depth: graph, queue, ready, running, scheduled, oldest_ready_age
expectations: run_id, expectation_id, graph, collateral, key, expires_at, activation_id, neuron, starts, created_at
scatters: run_id, group_id, parent_activation_id, collateral, size, member_limit, started, running, ended, failed, closed,
    gathers, parent_group_id, parent_member
"""


def _parsed() -> dict[str, list[str]]:
    views: dict[str, list[str]] = {}
    for line in _COLUMNS.replace(",\n    ", ", ").strip().splitlines():
        view, columns = line.split(": ")
        views[view] = columns.split(", ")
    return views


VIEWS = _parsed()

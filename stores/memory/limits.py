"""Limits of neurons: how many activations of one run, over all workers, and how many more may.

Stores nothing: what runs is counted from the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from cnstra.orchestrator.machine.folding import BLOCKED_LIMITED
from cnstra.orchestrator.machine.states import ActivationStatus
from cnstra.orchestrator.store import WorkerInfo
from cnstra.stores.memory.state import ActivationRow, State

Neuron = tuple[str, str]
"""A graph, and one of its neurons."""

Able = Callable[[WorkerInfo, ActivationRow], bool]
"""Whether a worker could run an activation."""


def neuron_of(state: State, row: ActivationRow) -> Neuron:
    """Whose limit counts an activation."""
    return state.runs[row.run_id].submission.graph, row.target.neuron


def in_use(state: State) -> Counter[Neuron]:
    """How many slots of each neuron are in use."""
    running = state.with_status(ActivationStatus.RUNNING)
    return Counter(neuron_of(state, row) for row in running if row.activation.limited)


def within(
    state: State, graph: str, rows: Iterable[ActivationRow], limits: Mapping[str, int]
) -> Iterator[ActivationRow]:
    """Of these activations of a graph, in their order, those that may run by the limits of whoever claims.

    What only such claims may have is passed over by one that has no limit for it: see ``lift_limits``.
    """
    used = in_use(state)
    for row in rows:
        most = limits.get(row.target.neuron)
        if most is not None and row.activation.limited:
            if used[graph, row.target.neuron] >= most:
                continue
            used[graph, row.target.neuron] += 1
        elif is_limited(row):
            continue
        yield row


def limit_of(row: ActivationRow, workers: Iterable[WorkerInfo], able: Able) -> int | None:
    """The highest limit among the workers that could run an activation, of those that have one for it."""
    limits = (worker.limits.get(row.target.neuron) for worker in workers if able(worker, row))
    return max((most for most in limits if most is not None), default=None)


def is_limited(row: ActivationRow) -> bool:
    """Whether an activation is ready, and nothing but its neuron's limit may keep it back."""
    return row.activation.status is ActivationStatus.READY and row.activation.blocked == BLOCKED_LIMITED

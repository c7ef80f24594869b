"""When a local context cannot be needed any more: the neuron's strongly connected component, and all that can reach it,
have no task left.
"""

from __future__ import annotations

from cnstra.orchestrator.stimulation.context import Locals
from cnstra.orchestrator.stimulation.plan import Plan, Route


class Components:
    """How many tasks each component of one stimulation has. A task that failed stays: it may be activated again."""

    __slots__ = ("_plan", "_tasks")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tasks = [0] * len(plan.members)

    def enter(self, route: Route) -> None:
        """A task was made."""
        self._tasks[route.component] += 1

    def leave(self, route: Route, locals_: Locals | None) -> None:
        """A task has ended well, and what it started was made. Deletes the local contexts that nothing reaches now."""
        left = route.component
        self._tasks[left] -= 1
        if self._tasks[left] or not locals_:
            return
        for component, ancestors in enumerate(self._plan.ancestors):
            if (component == left or left in ancestors) and self._is_over(component):
                for neuron in self._plan.members[component]:
                    locals_.pop(neuron, None)

    def _is_over(self, component: int) -> bool:
        tasks = self._tasks
        return not tasks[component] and not any(tasks[ancestor] for ancestor in self._plan.ancestors[component])
